"""`task submit`: from flags to a request, and what follows it. Ctrl-C never ends a task."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from kohakuriver.cli import words
from kohakuriver.cli.connect import connect
from kohakuriver.cli.exits import INTERRUPTED, OK, OUR_FAILURE, UsageError
from kohakuriver.cli.output import Output
from kohakuriver.wire import urls

#: the predecessor's word for a plain process
NO_CONTAINER = "NULL"
PROCESS = "process"


def submit_tasks(args: argparse.Namespace, out: Output) -> int:
    """Submit all or nothing; print the ids, or wait and answer with the task's code."""
    waits = args.wait or args.logs
    body = build_request(args)
    if args.logs and (args.copies > 1 or len(args.target) > 1 or args.array is not None or args.span):
        raise UsageError(
            "the output of several tasks would mix; submit them, then: kohakuriver task logs", field="--logs"
        )
    until = _seconds(args.timeout, "--timeout")
    client = connect(args, out)
    if args.dry_run:
        from kohakuriver.cli.foreseen import print_plan

        return print_plan(client.post(urls.PLAN, body), out)
    if waits:
        args.own_failure = OUR_FAILURE
    try:
        answer = client.post(urls.TASKS, body)
    except KeyboardInterrupt:
        out.say("interrupted before the host answered; look whether it was taken: kohakuriver task list --mine")
        return INTERRUPTED
    if not waits:
        _print_ids(answer, out, many=args.array is not None or args.span)
        return OK
    from kohakuriver.cli.waiting import wait_after_submit

    return wait_after_submit(
        client, answer["tasks"], out, logs=args.logs, seconds=until, again=bool(args.retries or args.requeue)
    )


def build_request(args: argparse.Namespace) -> dict[str, Any]:
    """The body. Raises Invalid for what can be seen to be wrong without the host."""
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command and args.script is None:
        raise UsageError(
            "there is no command; it stands after two dashes: kohakuriver task submit -c 2 -- python train.py"
        )
    body: dict[str, Any] = {"command": command, "cores": _number(args.cores, "--cores", 0, 65_536)}
    backend, container = _place(args)
    wishes: Mapping[str, Any] = {
        "script": words.script_text(args.script) if args.script is not None else None,
        "name": args.name,
        "env": words.assignments(args.env, "--env"),
        "secrets": words.assignments(args.secret, "--secret"),
        "workdir": args.workdir,
        "targets": _targets(args.target),
        "constraints": _constraints(args.constraint),
        "copies": _number(args.copies, "--copies", 1, 5000) if args.copies != 1 else None,
        "array": _array(args),
        "span": _span(args, command),
        "at_once": None if args.at_once is None else _number(args.at_once, "--at-once", 1, 5000),
        **_retries(args),
        "requeue": args.requeue,
        "after": args.after,
        "after_any": args.after_any,
        "pin": args.pin,
        "memory": _size(args.memory),
        "devices": words.devices(args.gpus) if args.gpus is not None else None,
        "backend": backend,
        "options": _options(args),
        "container": container,
        "image": args.image,
        "pull": args.pull,
        "time_limit": _seconds(args.time_limit, "--time-limit", least=1),
        "grace": _seconds(args.grace, "--grace"),
        "priority": _number(args.priority, "--priority", -1000, 1000) or None,
    }
    return body | {key: value for key, value in wishes.items() if _said(value)}


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Those of `--option`, and what has a flag of its own."""
    flags = {"mounts": args.mount, "network": args.network, "privileged": args.privileged}
    return words.options(args.option) | {key: value for key, value in flags.items() if _said(value)}


def _said(value: object) -> bool:
    """Whether the command line said it; 0 is something said."""
    return value is not None and value is not False and value not in ({}, [])


def _place(args: argparse.Namespace) -> tuple[str | None, str | None]:
    """Backend and container; `--container NULL` is a plain process."""
    if args.container and args.image:
        raise UsageError("--container and --image exclude each other: both name what to run in", field="--image")
    if args.container != NO_CONTAINER:
        return args.backend, args.container
    if args.backend not in {None, PROCESS}:
        raise UsageError("--container NULL is a plain process", field="--backend", value=args.backend, limit=PROCESS)
    return PROCESS, None


def _targets(given: Sequence[str]) -> list[str]:
    if not given:
        return []
    from kohakuriver.domain.targets import format_target, parse_target

    return [format_target(parse_target(text)) for text in given]


def _array(args: argparse.Namespace) -> str | None:
    """The text as it was given, once it is known to mean something."""
    if args.array is None:
        return None
    for flag, count in (("--copies", args.copies), ("--target", len(args.target))):
        if count > 1:
            raise UsageError("an array has one task for each index", field=flag, value=count, limit="1 with --array")
    from kohakuriver.domain.arrays import parse_array

    parse_array(args.array, field="--array")
    return str(args.array)


def _span(args: argparse.Namespace, command: Sequence[str]) -> bool:
    """Whether the host is to expand the command, once that is known to mean something."""
    if args.span:
        from kohakuriver.domain.spans import combinations

        combinations(command, most=5000, field="command")
    return bool(args.span)


def _retries(args: argparse.Namespace) -> dict[str, Any]:
    """How often, after what, and how much later; the last two only make sense with the first."""
    on = [cause for word in args.retry_on for cause in word.split(",")]
    delay = _seconds(args.retry_delay, "--retry-delay")
    if not _number(args.retries, "--retries", 0, 1000):
        for flag, given in (("--retry-on", on), ("--retry-delay", delay)):
            if given:
                raise UsageError("this says when to try again, and not how often", field=flag, limit="with --retries")
        return {}
    from kohakuriver.domain.retries import CAUSES

    for cause in on:
        if cause not in CAUSES:
            raise UsageError("no reason to try again", field="--retry-on", value=cause, limit=", ".join(CAUSES))
    return {"retries": args.retries, "retry_on": on, "retry_delay": delay}


def _constraints(given: Sequence[str]) -> list[str]:
    if not given:
        return []
    from kohakuriver.domain.labels import parse_constraints

    return [str(constraint) for constraint in parse_constraints(given, field="--constraint")]


def _size(text: str | None) -> int | None:
    if text is None:
        return None
    from kohakuriver.domain.units import parse_size

    return parse_size(text, field="--memory", least=1)


def _seconds(text: str | None, flag: str, least: int = 0) -> int | None:
    if text is None:
        return None
    from kohakuriver.domain.units import parse_duration

    return parse_duration(text, field=flag, least=least)


def _number(value: int, flag: str, least: int, most: int) -> int:
    if not least <= value <= most:
        raise UsageError("this number is out of range", field=flag, value=value, limit=f"{least} to {most}")
    return value


def _print_ids(answer: Mapping[str, Any], out: Output, *, many: bool) -> None:
    tasks = answer["tasks"]
    if out.style.format in {"json", "yaml"} and not out.style.quiet:
        out.data(answer)
    elif out.machine or out.style.quiet or out.style.format == "name":
        out.data([{"id": task} for task in tasks])
    elif many:
        out.text(f"submitted {len(tasks)} {'task' if len(tasks) == 1 else 'tasks'} as batch {answer['batch']}")
    else:
        for task in tasks:
            out.text(f"submitted task {task}")
