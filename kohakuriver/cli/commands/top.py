"""`kohakuriver top`: the whole cluster at one look, again and again on a terminal."""

import argparse
import time
from collections.abc import Mapping
from typing import Any

from kohakuriver.cli.commands.gpus import share
from kohakuriver.cli.connect import connect, patience
from kohakuriver.cli.exits import OK
from kohakuriver.cli.output import Column, Output
from kohakuriver.cli.shown import command, moment, of, seconds, size
from kohakuriver.client.patience import PASSING
from kohakuriver.wire import urls

HELP = "the whole cluster: what is reserved, what is in use, and by whom"
#: tasks where no terminal says how many fit
MOST = 200
#: lines besides nodes and tasks
FRAME = 7
LEAST = 5
CLEAR = "\x1b[H\x1b[J"


def add(parser: argparse.ArgumentParser) -> None:
    """There are no verbs."""
    often = parser.add_mutually_exclusive_group()
    often.add_argument("--every", metavar="TIME", help="look again so often (5s on a terminal, else once)")
    often.add_argument("--once", action="store_true", help="look once")
    parser.set_defaults(run=show)


def show(args: argparse.Namespace, out: Output) -> int:
    """Once, or until Ctrl-C; a restart of the host is waited out."""
    terminal = out.stdout.isatty() and not out.machine
    pause = _pause(args, terminal)
    client, bears = connect(args, out), patience(out)
    while True:
        try:
            view = client.get(urls.fill(urls.USE, {"limit": _room(terminal)}))
        except PASSING as error:
            bears.failed(error)
            continue
        bears.worked()
        if terminal and pause is not None:
            out.stdout.write(CLEAR)
        _print(view, out, stream=pause is not None)
        if pause is None:
            return OK
        time.sleep(pause)


def _pause(args: argparse.Namespace, terminal: bool) -> int | None:
    """Seconds between two looks; None: one is enough."""
    if args.once or (args.every is None and not terminal):
        return None
    from kohakuriver.domain.units import parse_duration

    return parse_duration(args.every or "5s", field="--every", least=1)


def _room(terminal: bool) -> int:
    """How many tasks fit on the screen, with a node or two."""
    if not terminal:
        return MOST
    from shutil import get_terminal_size

    return max(LEAST, min(MOST, get_terminal_size().lines - FRAME))


def _print(view: Mapping[str, Any], out: Output, *, stream: bool) -> None:
    if out.machine and stream:
        out.line(view)
    elif out.style.format in {"json", "yaml"} and not out.style.quiet:
        out.data(view)
    elif out.machine or out.style.quiet or out.style.format == "name":
        out.data(view["tasks"])
    else:
        out.text(f"{moment(view['at'])}  {_sum(view)}\n")
        out.data(view["nodes"], columns=NODES)
        if view["tasks"]:
            out.text("")
            out.data(view["tasks"], columns=TASKS)
        if view["more"]:
            out.text(f"and {view['more']} more")
        out.stdout.flush()


def _sum(view: Mapping[str, Any]) -> str:
    unused = sum(task["unused"] for task in view["tasks"])
    words = f"{len(view['tasks']) + view['more']} tasks, {view['waiting']} waiting"
    return words + (f", {unused} with an unused reservation" if unused else "")


def _of(used: object, reserved: object, whole: object) -> str:
    return f"{'?' if used is None else used}/{reserved}/{whole}"


def _cores(node: Mapping[str, Any]) -> str:
    used = None if node["cpu"] is None else f"{node['cpu'] * node['cores']:.1f}"
    return _of(used, f"{node['cores_reserved']:g}", node["cores"])


def _memory(node: Mapping[str, Any]) -> str:
    used = None if node["memory_used"] is None else size(node["memory_used"])
    return _of(used, size(node["memory_reserved"]), size(node["memory"]))


def _gpus(node: Mapping[str, Any]) -> str:
    if not node["gpus"]:
        return ""
    cordoned = f" ({node['gpus_cordoned']} cordoned)" if node["gpus_cordoned"] else ""
    return f"{node['gpus_reserved']}/{node['gpus']}{cordoned}"


def _pair(used: object, whole: object, show: Any) -> str:
    return "" if not whole else f"{'?' if used is None else show(used)}/{show(whole)}"


def _plain(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else ""


NODES = (
    Column("name", "NODE"),
    Column("status", "STATUS", lambda row: f"{row['status']}{' (draining)' if row['draining'] else ''}"),
    Column("cores", "CORES used/res/all", _cores),
    Column("memory", "MEMORY used/res/all", _memory),
    Column("gpus", "GPUS res/all", _gpus),
    of("gpu_utilization", "GPU USE", share),
    Column("gpu_memory", "GPU MEMORY", lambda row: _pair(row["gpu_memory_used"], row["gpu_memory"], size)),
    Column("tasks", "TASKS"),
)
TASKS = (
    Column("id", "TASK", lambda row: str(row.get("name") or row["id"])),
    Column("owner", "OWNER"),
    Column("node", "NODE"),
    Column("status", "STATUS"),
    Column("cpu", "CORES", lambda row: _pair(row["cpu"], row["cores"], _plain)),
    Column("memory", "MEMORY", lambda row: _pair(row["memory_used"], row["memory"], size) or size(row["memory_used"])),
    of("gpus", "GPUS", lambda value: ",".join(value or ())),
    of("gpu_utilization", "GPU USE", share),
    of("gpu_memory_used", "GPU MEMORY", size),
    Column("idle", "UNUSED FOR", lambda row: seconds(row["idle"]) if row["unused"] else ""),
    Column("command", "COMMAND", command),
)
