"""Waiting for tasks, with or without their output, and watching one. A break of the host's is no end of a task."""

import argparse
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from kohakuriver.cli.connect import connect, patience
from kohakuriver.cli.exits import INTERRUPTED, OK, OUR_FAILURE, TimedOut, task_exit_code
from kohakuriver.cli.output import Output
from kohakuriver.cli.shown import ended, reason, status
from kohakuriver.client.follow import ENDED, OutputReader, Part, changes, wait_for
from kohakuriver.client.http import Client
from kohakuriver.client.patience import Patience
from kohakuriver.wire import urls


def wait_command(args: argparse.Namespace, out: Output) -> int:
    """`task wait`: the code of the first task, in the order given, that did not end well."""
    seconds = None
    if args.timeout is not None:
        from kohakuriver.domain.units import parse_duration

        seconds = parse_duration(args.timeout, field="--timeout")
    args.own_failure = OUR_FAILURE
    client = connect(args, out)
    return _wait_all(client, args.tasks, out, patience(out), seconds)


def wait_after_submit(
    client: Client, tasks: Sequence[str], out: Output, *, logs: bool, seconds: int | None, again: bool = False
) -> int:
    """As `wait_command`, for tasks that the host has just taken; with `logs` the output of the only one, of all its
    attempts where it may be tried `again`.
    """
    bears = patience(out)
    bears.worked()
    if out.style.quiet and not logs:
        out.data([{"id": task} for task in tasks])
    out.note(f"submitted {' '.join(f'task {task}' for task in tasks)}")
    try:
        if logs:
            _show_output(client, tasks[0], out, seconds, again=again)
        return _wait_all(client, tasks, out, bears, seconds, quiet=logs)
    except KeyboardInterrupt:
        ids = " ".join(tasks)
        out.say(f"not ended: task {ids}\nwait again: kohakuriver task wait {ids}\nend it: kohakuriver task kill {ids}")
        return INTERRUPTED


def watch_task(args: argparse.Namespace, out: Output) -> int:
    """`task watch`: a line for each change until the end; JSON lines for programs."""
    client = connect(args, out)
    task = client.get(urls.fill(urls.TASK, task=args.task))
    shown: tuple[object, ...] = ()
    for change in changes(client, patience(out)):
        if change["kind"] != "hello" and (change["kind"], change.get("ref")) != ("task", task["id"]):
            continue
        task = client.get(urls.fill(urls.TASK, task=task["id"]))
        now = (task["status"], task.get("node"), task.get("attempt"), reason(task), task.get("unreachable"))
        if now != shown:
            shown = now
            _print_change(task, out)
        if task["status"] in ENDED:
            break
    return OK


def _wait_all(
    client: Client, tasks: Sequence[str], out: Output, bears: Patience, seconds: int | None, *, quiet: bool = False
) -> int:
    until = None if seconds is None else bears.clock() + seconds
    views = []
    for task in tasks:
        view = wait_for(client, task, patience=bears, until=until)
        if view is None:
            raise TimedOut(
                f"task {task} has not ended within {seconds} s and goes on; wait again: kohakuriver task wait {task}"
            )
        views.append(view)
        how = f" ({ended(view)})" if ended(view) else ""
        out.note(f"task {view['id']} {view['status']}{how}")
    if out.machine and not (quiet or out.style.quiet):
        out.data(views[0] if len(views) == 1 else views)
    return next((code for code in map(task_exit_code, views) if code), OK)


class _Follower(threading.Thread):
    """Copies one stream; what stops it is raised by `check` in the thread that waits."""

    def __init__(self, client: Client, task: str, stream: str, out: Output, *, again: bool) -> None:
        super().__init__(name=f"{stream} of {task}", daemon=True)
        bears = patience(out)
        bears.worked()
        self._failure: Exception | None = None
        self._again = again
        write = out.raw if stream == "stdout" else out.raw_error
        self._reader = OutputReader(
            Client(client.place, look_again=client.look_again),
            task,
            Part(stream=stream, offset=0),
            write=write,
            patience=bears,
        )

    def run(self) -> None:
        try:
            if self._again:
                self._reader.follow_attempts()
            else:
                self._reader.follow_to_end()
        except Exception as error:  # noqa: BLE001  told to the waiting thread, which raises it
            self._failure = error

    def check(self) -> None:
        """Raises what stopped the copying."""
        if self._failure is not None:
            raise self._failure


def _show_output(client: Client, task: str, out: Output, seconds: int | None, *, again: bool) -> None:
    followers = [_Follower(client, task, stream, out, again=again) for stream in ("stdout", "stderr")]
    clock = patience(out).clock
    until = None if seconds is None else clock() + seconds
    for follower in followers:
        follower.start()
    while any(follower.is_alive() for follower in followers):
        for follower in followers:
            follower.join(0.2)
            follower.check()
        if until is not None and clock() >= until:
            raise TimedOut(
                f"task {task} has not ended within {seconds} s and goes on; see: kohakuriver task logs -f {task}"
            )
    for follower in followers:
        follower.check()


def _print_change(task: Mapping[str, Any], out: Output) -> None:
    if out.machine:
        out.line(task)
        return
    details = [str(task.get("node") or ""), reason(task), ended(task)]
    out.text(f"{_now()}  {status(task):18}  {'  '.join(filter(None, details))}".rstrip())
    out.stdout.flush()


def _now() -> str:
    from time import strftime

    return strftime("%H:%M:%S")
