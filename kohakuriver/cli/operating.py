"""Commands that start an operation of the host and stay until its end."""

import argparse
from collections.abc import Mapping
from typing import Any

from kohakuriver.cli.connect import patience
from kohakuriver.cli.exits import INTERRUPTED, OK
from kohakuriver.cli.output import Output
from kohakuriver.cli.progress import Progress
from kohakuriver.client.http import Client
from kohakuriver.client.operations import follow


def add_detach(parser: argparse.ArgumentParser) -> None:
    """The flag of all of them."""
    parser.add_argument("--detach", "-d", action="store_true", help="print the operation's id and do not wait for it")


def see_through(
    client: Client, operation: Mapping[str, Any], args: argparse.Namespace, out: Output, sentence: str
) -> int:
    """Follows it to its end, then says the sentence, in which `{number}` is the version that it made."""
    if getattr(args, "detach", False):
        out.done(
            operation, f"operation {operation['id']} goes on; follow it: kohakuriver env operations {operation['id']}"
        )
        return OK
    progress = Progress(out)
    bears = patience(out)
    bears.worked()
    try:
        ended = follow(client, operation, progress.show, bears)
    except KeyboardInterrupt:
        progress.close()
        out.say(f"it goes on; follow it again: kohakuriver env operations {operation['id']}")
        return INTERRUPTED
    finally:
        progress.close()
    out.done(ended, sentence.format(number=ended.get("number")), name="id")
    return OK
