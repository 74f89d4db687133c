"""Whole submissions on the command line: end, pause, resume, wait for all tasks of one."""

import argparse
from typing import Any

from kohakuriver.cli.connect import connect
from kohakuriver.cli.exits import OK, OUR_FAILURE, UsageError
from kohakuriver.cli.output import Output
from kohakuriver.wire import urls


def change_batch(args: argparse.Namespace, out: Output, template: str) -> int:
    """Ask for the change of the whole batch; tasks that have ended stay as they are."""
    from kohakuriver.cli.taskview import wish

    batch = _batch(args)
    answer = connect(args, out).post(urls.fill(template, batch=batch), wish(args))
    out.done(answer, f"batch {answer['batch']}: {answer['changed']} of {answer['tasks']} tasks {args.sentence}")
    return OK


def wait_for_batch(args: argparse.Namespace, out: Output) -> int:
    """Until every task of the batch has ended; the code of the first that did not end well."""
    from kohakuriver.cli.paging import collect
    from kohakuriver.cli.waiting import wait_command

    batch = _batch(args)
    args.own_failure = OUR_FAILURE
    query: dict[str, Any] = {"batch": batch, "sort": "id"}
    rows, _ = collect(connect(args, out), urls.TASKS, query, limit=None)
    if not rows:
        raise UsageError(f"there is no batch {batch!r}; kohakuriver task list shows tasks", field="--batch")
    args.tasks = [row["id"] for row in rows]
    return wait_command(args, out)


def _batch(args: argparse.Namespace) -> str:
    """Raises UsageError unless a batch alone is named."""
    if args.batch is None:
        raise UsageError("which tasks? name some, or a whole submission with --batch", field="TASK")
    if args.tasks:
        raise UsageError("name tasks or a batch, not both", field="--batch")
    return str(args.batch)
