"""`kohakuriver gpus`: every card of the cluster, how it does, and who has it."""

import argparse
from collections.abc import Mapping
from typing import Any

from kohakuriver.cli.connect import connect
from kohakuriver.cli.exits import OK
from kohakuriver.cli.output import Column, Output
from kohakuriver.cli.shown import of, seconds, size
from kohakuriver.wire import urls

HELP = "every card of the cluster: how it does, and who has it"


def add(parser: argparse.ArgumentParser) -> None:
    """There are no verbs."""
    parser.add_argument("-n", "--node", metavar="NODE", help="only those of this node")
    parser.add_argument("--free", action="store_true", help="only those that a task could get now")
    parser.set_defaults(run=show)


def show(args: argparse.Namespace, out: Output) -> int:
    """A row for each card; part of a parted card has a row of its own."""
    cards = connect(args, out).get(urls.GPUS)["items"]
    chosen = [card for card in cards if args.node in {None, card["node"]} and (not args.free or is_free(card))]
    out.data(chosen, columns=CARDS)
    return OK


def is_free(card: Mapping[str, Any]) -> bool:
    """Whether a task could get it now."""
    return bool(card["usable"] and not card["task"] and not card["cordon"] and card["node_status"] == "online")


def share(value: object) -> str:
    """A fraction in percent."""
    return f"{value:.0%}" if isinstance(value, int | float) else ""


def _memory(card: Mapping[str, Any]) -> str:
    used = card.get("memory_used")
    return f"{'?' if used is None else size(used)}/{size(card.get('memory'))}" if card.get("memory") else ""


def _state(card: Mapping[str, Any]) -> str:
    """What a person should know of it first."""
    if card.get("cordon"):
        return f"cordoned: {card['cordon']['reason']}"
    if not card.get("usable"):
        return "cannot be used now"
    if card.get("unused"):
        return f"{card['status']}, unused for {seconds(card['idle'])}"
    if card.get("status"):
        return str(card["status"])
    strangers = sum(not process.get("task") for process in card.get("processes") or ())
    return f"free, but {strangers} unknown process{'es' * (strangers > 1)} on it" if strangers else "free"


CARDS = (
    Column("node", "NODE"),
    Column("index", "GPU", lambda card: str(card["id"] if card.get("index") is None else card["index"])),
    Column("model", "MODEL"),
    Column("memory", "MEMORY", _memory),
    of("utilization", "USE", share),
    of("temperature", "°C", lambda value: "" if value is None else f"{value:.0f}"),
    Column("task", "TASK", lambda card: str(card.get("name") or card.get("task") or "")),
    Column("owner", "OWNER"),
    Column("state", "STATE", _state),
)
