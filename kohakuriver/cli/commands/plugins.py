"""`kohakuriver plugins`: what is installed on the host and on the nodes, and whether it works."""

import argparse

from kohakuriver.cli.connect import connect
from kohakuriver.cli.output import Column, Output, Row
from kohakuriver.cli.paging import print_list
from kohakuriver.wire import urls

HELP = "what is installed on the host and on the nodes"
PLUGINS = (
    Column("name", "NAME"),
    Column("state", "STATE"),
    Column("version", "VERSION"),
    Column("api", "API"),
    Column("provides", "PROVIDES", lambda row: ", ".join(row.get("provides") or ())),
    Column("distribution", "PACKAGE"),
    Column("nodes", "NODES", lambda row: ", ".join(row.get("nodes") or ())),
    Column("problem", "PROBLEM", lambda row: "; ".join(_problems(row))),
)


def add(parser: argparse.ArgumentParser) -> None:
    """`list` is the only verb, and may be left out."""
    parser.add_argument("verb", nargs="?", choices=("list",), help="the same")
    parser.set_defaults(run=list_plugins)


def list_plugins(args: argparse.Namespace, out: Output) -> int:
    """As the host found them, and as the nodes tell of theirs."""
    return print_list(connect(args, out), urls.PLUGINS, out, columns=PLUGINS, name="name")


def _problems(row: Row) -> list[str]:
    found = [row["problem"]] if row.get("problem") else []
    return found + [said for said in row.get("probes") or () if not said.endswith(": ok")]
