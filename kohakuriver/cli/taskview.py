"""Showing and changing single tasks."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from kohakuriver.cli.connect import connect
from kohakuriver.cli.exits import OK, exit_code
from kohakuriver.cli.output import Column, Output
from kohakuriver.cli.paging import print_list
from kohakuriver.cli.shown import command, ended, held_up, moment, of, reason, seconds, size, status
from kohakuriver.errors import KohakuRiverError
from kohakuriver.wire import urls

ATTEMPTS = (
    Column("attempt", "ATTEMPT"),
    Column("node", "NODE"),
    of("started", "STARTED", moment),
    of("finished", "FINISHED", moment),
    Column("exit", "EXIT", ended),
    of("running_seconds", "RAN", seconds),
    of("cpu_seconds", "CPU", seconds),
    of("memory_peak", "PEAK", size),
    of("stdout_bytes", "STDOUT", size),
    of("stderr_bytes", "STDERR", size),
)
HISTORY = (
    of("at", "TIME", moment),
    Column("what", "WHAT"),
    Column("actor", "BY"),
    Column("detail", "DETAIL", lambda row: " ".join(f"{k}={v}" for k, v in (row.get("detail") or {}).items())),
)
CANDIDATES = (
    Column("node", "NODE"),
    Column("takes", "FITS", lambda row: "chosen" if row.get("chosen") else "yes" if row.get("takes") else "no"),
    Column("reason", "REASON"),
)
SHOWN: dict[str, Any] = {
    "status": status, "reason": reason, "exit": ended, "command": command,
    "memory": lambda row: size(row.get("memory")),
    "submitted": lambda row: moment(row.get("submitted")),
    "started": lambda row: moment(row.get("started")),
    "finished": lambda row: moment(row.get("finished")),
    "time_limit": lambda row: seconds(row["time_limit"]) if row.get("time_limit") is not None else "",
    "grace": lambda row: seconds(row["grace"]) if row.get("grace") is not None else "",
    "env": lambda row: " ".join(f"{key}={value}" for key, value in (row.get("env") or {}).items()),
    "secrets": lambda row: " ".join(row.get("secrets") or ()),
    "array": lambda row: _array(row.get("array") or {}),
    "after": lambda row: " ".join(map(_after, row.get("after") or ())),
    "retry": lambda row: _retry(row.get("retry") or {}),
    "ready": lambda row: moment(row.get("ready")),
    "lease": lambda row: seconds(row["lease"]) if row.get("lease") is not None else "",
}  # fmt: skip


def _array(place: Mapping[str, Any]) -> str:
    if not place:
        return ""
    most = f", at most {place['most']} at once" if place.get("most") else ""
    return f"{place['index']} of {place['least']} to {place['greatest']}, {place['count']} tasks{most}"


def _after(one: Mapping[str, Any]) -> str:
    return f"{'batch:' if one['batch'] else ''}{one['id']}{' (any end)' if one['always'] else ''}"


def _retry(policy: Mapping[str, Any]) -> str:
    if not policy:
        return ""
    later = f", {seconds(policy['delay'])} later" if policy["delay"] else ""
    return f"{policy['retried']} of {policy['most']} after {', '.join(policy['on'])}{later}"


def print_task(task: Mapping[str, Any], out: Output) -> int:
    """Everything about it: as it came for programs, readable for people."""
    if out.machine or out.style.quiet or out.style.format == "name" or out.style.columns:
        out.data(task)
        return OK
    readable = {key: SHOWN[key](task) if key in SHOWN else value for key, value in task.items()}
    out.data({key: value for key, value in readable.items() if value})
    return OK


def explain_task(args: argparse.Namespace, out: Output) -> int:
    """Why it waits, and each node's answer."""
    answer = connect(args, out).get(urls.fill(urls.TASK_EXPLAIN, task=args.task))
    if out.machine or out.style.quiet or out.style.format == "name":
        out.data(answer, name="task")
        return OK
    why = held_up(answer)
    out.text(f"task {answer['task']} is {answer['status']}{': ' + why if why else ''}")
    if answer.get("window"):
        out.text(f"start: {answer['window']['text']}")
    if answer["candidates"]:
        out.data(answer["candidates"], columns=CANDIDATES, name="node")
    return OK


def list_of_task(
    args: argparse.Namespace, out: Output, template: str, columns: Sequence[Column], *, name: str = "id"
) -> int:
    """A list that belongs to the task."""
    return print_list(connect(args, out), urls.fill(template, task=args.task), out, columns=columns, name=name)


def change_tasks(args: argparse.Namespace, out: Output) -> int:
    """Ask for each; every refusal is told, the first decides the exit code."""
    body = wish(args)
    client = connect(args, out)
    failure = OK
    for task in args.tasks:
        try:
            answer = client.post(urls.fill(args.template, task=task), body)
        except KohakuRiverError as error:
            code = exit_code(error)
            if len(args.tasks) == 1:
                raise
            out.error(error, exit_code=code)
            failure = failure or code
        else:
            view = answer if isinstance(answer, dict) and "id" in answer else {"id": task}
            out.done(view, f"task {view['id']} {args.sentence}")
    return failure


def wish(args: argparse.Namespace) -> dict[str, Any]:
    """The body that the verb asks with."""
    if args.verb == "kill" and args.grace is not None:
        from kohakuriver.domain.units import parse_duration

        return {"grace": parse_duration(args.grace, field="--grace")}
    if args.verb in {"reject", "lose"} and args.reason:
        return {"reason": args.reason}
    return {}
