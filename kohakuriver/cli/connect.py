"""From the command line to a client of the host."""

import argparse

from kohakuriver.cli.output import Output
from kohakuriver.client.http import Client
from kohakuriver.client.patience import Patience
from kohakuriver.client.place import Place, Wishes, find_place, my_surroundings


def connect(args: argparse.Namespace, out: Output) -> Client:
    """A client for the host that flags, environment and files name. Connects with its first request."""
    return Client(place_of(args, out), look_again=lambda: place_of(args, out))


def place_of(args: argparse.Namespace, out: Output) -> Place:
    """Where the host is, and the credential for it. Raises Invalid or ConfigError."""
    wishes = Wishes(
        url=args.url, host=args.host, port=args.port, token_file=args.token_file, fingerprint=args.fingerprint
    )
    return find_place(wishes, my_surroundings(out.note))


def patience(out: Output) -> Patience:
    """How long a command bears a host that restarts while it waits."""
    return Patience(out.note)
