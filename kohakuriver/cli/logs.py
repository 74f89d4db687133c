"""`task logs`: the bytes that a task wrote, as they are."""

import argparse

from kohakuriver.cli.connect import connect, patience
from kohakuriver.cli.exits import OK, UsageError
from kohakuriver.cli.output import Output
from kohakuriver.client.follow import OutputReader, Part, last_lines, look


def print_logs(args: argparse.Namespace, out: Output) -> int:
    """From an offset, the last lines, or all; with `--follow` until the task has ended."""
    for flag, value in (("--tail", args.tail), ("--offset", args.offset), ("--attempt", args.attempt)):
        if value is not None and value < 0:
            raise UsageError("this number is out of range", field=flag, value=value, limit="0 or more")
    if args.tail is not None and args.offset is not None:
        raise UsageError("--tail and --offset exclude each other", field="--tail")
    client = connect(args, out)
    part = Part(stream="stderr" if args.stderr else "stdout", attempt=args.attempt, offset=args.offset)
    if args.tail is not None:
        data, offset = last_lines(client, args.task, part, args.tail)
        out.raw(data)
        if not args.follow:
            return OK
        part = part._replace(offset=offset)
    reader = OutputReader(client, args.task, part, write=out.raw, patience=patience(out))
    if args.follow:
        view = {} if args.attempt is not None else look(client, args.task, patience(out))
        if view.get("retry") or view.get("requeue"):
            reader.follow_attempts()
        else:
            reader.follow_to_end()
    else:
        reader.read()
    return OK
