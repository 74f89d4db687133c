"""`kohakuriver status`: the cluster in a few numbers, and what runs."""

import argparse

from kohakuriver.cli.connect import connect
from kohakuriver.cli.exits import OK
from kohakuriver.cli.output import Output
from kohakuriver.cli.paging import collect
from kohakuriver.cli.shown import TASKS_COMPACT, size
from kohakuriver.wire import urls

HELP = "the cluster in a few numbers"
#: running tasks that people are shown
RUNNING = 10


def add(parser: argparse.ArgumentParser) -> None:
    """There are no verbs."""
    parser.set_defaults(run=show)


def show(args: argparse.Namespace, out: Output) -> int:
    """Numbers; for people also the first running tasks."""
    client = connect(args, out)
    status = client.get(urls.STATUS)
    if out.machine or out.style.quiet or out.style.format == "name":
        out.data(status, name="cluster")
        return OK
    out.data(
        {
            "cluster": status["cluster"],
            "host": f"{client.place.url}, version {status['version']}",
            "user": status["user"],
            "nodes": _counts(status["nodes"]),
            "cores": f"{status['cores_reserved']:g} of {status['cores']} reserved",
            "memory": f"{size(status['memory_reserved'])} of {size(status['memory'])} reserved",
            "gpus": f"{status['gpus_reserved']} of {status['gpus']} reserved",
            "tasks": _counts(status["tasks"]),
        }
    )
    running, _more = collect(client, urls.TASKS, {"status": "running"}, limit=RUNNING)
    if running:
        out.text("")
        out.data(running, columns=TASKS_COMPACT)
    return OK


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {word}" for word, number in counts.items() if number) or "none"
