"""`kohakuriver docker`: environment containers on the builder, their versions, and the images of nodes."""

import argparse
import json
import os
from typing import Any

from kohakuriver.cli.connect import connect
from kohakuriver.cli.exits import OK
from kohakuriver.cli.operating import add_detach, see_through
from kohakuriver.cli.output import Column, Output
from kohakuriver.cli.paging import print_list
from kohakuriver.cli.shown import moment, of, size
from kohakuriver.wire import urls
from kohakuriver.wire.link import STREAM_PROTOCOL

HELP = "environment containers, what is packaged of them, and images"
CONTAINERS = (
    Column("name", "NAME"),
    Column("state", "STATE"),
    Column("origin", "FROM"),
    of("size", "CHANGED", size),
    Column("shells", "SHELLS"),
    of("created", "CREATED", moment),
)
IMAGES = (
    Column("node", "NODE"),
    Column("environment", "ENVIRONMENT", lambda row: row.get("environment") or ""),
    Column("names", "NAMES", lambda row: ", ".join(row.get("names") or ()) or row.get("problem") or ""),
    Column("digest", "DIGEST", lambda row: str(row.get("digest") or "").removeprefix("sha256:")[:12]),
    of("size", "SIZE", size),
    Column("used", "USED", lambda row: "yes" if row.get("used") else ""),
)
_SHELL = """A terminal in an environment container; it ends with the program, whose exit code is that of the command.

  kohakuriver docker container shell my-env
  kohakuriver docker container shell my-env -- apt-get install -y vim"""


def add(parser: argparse.ArgumentParser) -> None:
    """Build the verbs."""
    verbs = parser.add_subparsers(metavar="VERB")
    _add_container(verbs.add_parser("container", help="containers in which environments are set up"))
    _add_tar(verbs.add_parser("tar", help="versions that were packaged of them"))
    images = verbs.add_parser("images", help="images that the nodes hold")
    images.add_argument("--node", "-n", metavar="NODE", help="of this node alone")
    images.set_defaults(run=list_images)


def _add_container(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(metavar="VERB")
    verbs.add_parser("list", aliases=["ls"], help="all of them").set_defaults(run=list_containers)
    create = verbs.add_parser("create", help="make one, and start it")
    create.add_argument("image", metavar="IMAGE", help="image of a registry, or env:NAME[:VERSION] for an environment")
    create.add_argument("name", metavar="NAME", help="of the container, and of the environment that it becomes")
    create.add_argument(
        "--pull", choices=("missing", "always", "never"), default="missing", help="fetch the image when"
    )
    add_detach(create)
    create.set_defaults(run=create_container)
    _one(verbs, "start", "let it run", start_container)
    _one(verbs, "stop", "stop it; what is in it stays", stop_container)
    _one(verbs, "delete", "remove it with everything in it", delete_container, ["rm"])
    shell = _one(verbs, "shell", "a terminal in it", open_shell)
    shell.description = _SHELL
    shell.add_argument("command", metavar="CMD", nargs=argparse.REMAINDER, help="instead of its shell")


def _add_tar(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(metavar="VERB")
    create = _one(verbs, "create", "package the container as the next version of its environment", package)
    create.add_argument("--note", metavar="WORDS", default="", help="what is new in it")
    create.add_argument("--force", action="store_true", help="also while terminals are open in it")
    add_detach(create)
    listing = verbs.add_parser("list", aliases=["ls"], help="all versions")
    listing.add_argument("name", metavar="NAME", nargs="?", help="of this environment alone")
    listing.set_defaults(run=list_versions)
    delete = _one(verbs, "delete", "remove the versions of an environment that no task uses", delete_versions, ["rm"])
    delete.add_argument("--version", metavar="N", type=int, help="this one alone")


def _one(verbs: Any, name: str, text: str, handler: Any, aliases: Any = ()) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, aliases=list(aliases))
    parser.add_argument("name", metavar="NAME")
    parser.set_defaults(run=handler)
    return parser


def list_containers(args: argparse.Namespace, out: Output) -> int:
    """Those of the builder."""
    return print_list(connect(args, out), urls.CONTAINERS, out, columns=CONTAINERS, name="name")


def create_container(args: argparse.Namespace, out: Output) -> int:
    """Of an image, or of a version of an environment."""
    client = connect(args, out)
    kind, _, version = args.image.partition("env:")
    origin = {"environment": version} if not kind and version else {"image": args.image}
    operation = client.post(urls.CONTAINERS, {"name": args.name, "pull": args.pull, **origin})
    return see_through(
        client, operation, args, out,
        f"container {args.name} runs; next: kohakuriver docker container shell {args.name}",
    )  # fmt: skip


def start_container(args: argparse.Namespace, out: Output) -> int:
    """Nothing happens to one that runs."""
    view = connect(args, out).post(urls.fill(urls.CONTAINER_START, container=args.name))
    out.done(view, f"container {args.name} runs", name="name")
    return OK


def stop_container(args: argparse.Namespace, out: Output) -> int:
    """Nothing happens to one that is stopped."""
    view = connect(args, out).post(urls.fill(urls.CONTAINER_STOP, container=args.name))
    out.done(view, f"container {args.name} is stopped; what is in it stays", name="name")
    return OK


def delete_container(args: argparse.Namespace, out: Output) -> int:
    """Its versions stay."""
    connect(args, out).delete(urls.fill(urls.CONTAINER, container=args.name))
    out.done({"name": args.name}, f"container {args.name} is gone; its versions stay", name="name")
    return OK


def open_shell(args: argparse.Namespace, out: Output) -> int:
    """The exit code is the program's."""
    from kohakuriver.client.terminal import relay, size_of

    columns, rows = size_of(1)
    words = args.command[1:] if args.command[:1] == ["--"] else args.command
    query: dict[str, object] = {
        "columns": columns, "rows": rows, "argv": json.dumps(words) if words else None,
        "term": os.environ.get("TERM") or None,
    }  # fmt: skip
    path = urls.fill(urls.CONTAINER_SHELL, query, container=args.name)
    with connect(args, out).upgrade(path, STREAM_PROTOCOL) as (connection, early):
        return relay(connection, early)


def package(args: argparse.Namespace, out: Output) -> int:
    """The container is stopped meanwhile."""
    client = connect(args, out)
    path = urls.fill(urls.CONTAINER_PACKAGE, container=args.name)
    operation = client.post(path, {"note": args.note, "force": args.force})
    sentence = f"{args.name}:{{number}} is there; run in it: kohakuriver run --container {args.name} -- CMD"
    return see_through(client, operation, args, out, sentence)


def list_versions(args: argparse.Namespace, out: Output) -> int:
    """As `env list` and `env show`."""
    from kohakuriver.cli.commands.env import print_versions

    return print_versions(connect(args, out), args.name, out)


def delete_versions(args: argparse.Namespace, out: Output) -> int:
    """One, or all that no task uses."""
    from kohakuriver.cli.commands.env import remove

    return remove(connect(args, out), args, args.name, args.version, out)


def list_images(args: argparse.Namespace, out: Output) -> int:
    """Of one node or of all."""
    path = urls.IMAGES if args.node is None else urls.fill(urls.NODE_IMAGES, node=args.node)
    return print_list(connect(args, out), path, out, columns=IMAGES, name="digest")
