"""`node join`: this machine becomes a node. The one client command that needs the runner's code."""

import argparse
import os
import sys
from pathlib import Path

from kohakuriver.cli.connect import place_of
from kohakuriver.cli.exits import OK, UsageError
from kohakuriver.cli.output import Output
from kohakuriver.client.place import check_token, my_surroundings
from kohakuriver.client.secretfile import read_secret
from kohakuriver.domain.targets import parse_node_name

VARIABLE = "KOHAKURIVER_JOIN_TOKEN"


def join_this_machine(args: argparse.Namespace, out: Output) -> int:
    """Trade the token for a credential, and say how to serve. Joining twice is refused by the runner's own file."""
    from kohakuriver.config.load import load
    from kohakuriver.serve.node import join_cluster

    name = parse_node_name(args.node)
    token = _token(args, out)
    args.token_file = None
    place = place_of(args, out)
    data_dir = Path(args.data_dir) if args.data_dir else load("runner").config.runner.data_dir
    joined = join_cluster(place.url, place.fingerprint, token, name, data_dir)
    where = f" --data-dir {args.data_dir}" if args.data_dir else ""
    facts = {"name": joined.name, "node": joined.node, "cluster": joined.cluster, "data_dir": str(data_dir)}
    out.done(facts, f"this machine is node {joined.name} now", name="name")
    out.note(
        f"start it: kohakuriver serve --role runner{where}\n"
        "or as a service, started with the machine: kohakuriver init service --runner"
    )
    return OK


def _token(args: argparse.Namespace, out: Output) -> str:
    """From standard input, a 0600 file or the environment; never a word of the command."""
    if args.token_stdin:
        return check_token(sys.stdin.readline().strip(), "standard input")
    if args.token_file:
        text = read_secret(Path(args.token_file), my_surroundings(out.note).tell)
        if text is None:
            raise UsageError("there is no such file", field="--token-file", value=args.token_file)
        return check_token(text.strip(), args.token_file)
    if os.environ.get(VARIABLE):
        return check_token(os.environ[VARIABLE].strip(), VARIABLE)
    raise UsageError(
        f"the join token is missing: --token-stdin, --token-file or {VARIABLE}; "
        "make one on the host: kohakuriver node token NAME",
        field="token",
    )
