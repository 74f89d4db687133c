"""`kohakuriver version`: of this program; with `--server` of the host too."""

import argparse

from kohakuriver import __version__
from kohakuriver.cli.connect import connect
from kohakuriver.cli.exits import OK
from kohakuriver.cli.output import Output
from kohakuriver.wire import urls

HELP = "the version of this program, and of the host"


def add(parser: argparse.ArgumentParser) -> None:
    """There are no verbs."""
    parser.add_argument("--server", action="store_true", help="ask the host too")
    parser.set_defaults(run=show)


def show(args: argparse.Namespace, out: Output) -> int:
    """Asks nobody unless told to."""
    versions = {"client": __version__}
    if args.server:
        versions["host"] = connect(args, out).get(urls.VERSION)["version"]
    if out.machine or out.style.quiet or out.style.format == "name":
        out.data(versions, name="client")
    else:
        out.text(f"kohakuriver {__version__}" + (f"\nhost {versions['host']}" if args.server else ""))
    return OK
