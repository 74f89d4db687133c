"""`kohakuriver env`: environments and their versions, made of Dockerfiles, archives and images too."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from kohakuriver.cli.connect import connect
from kohakuriver.cli.context import tar_of
from kohakuriver.cli.exits import OK, UsageError
from kohakuriver.cli.operating import add_detach, see_through
from kohakuriver.cli.output import Column, Output, Row
from kohakuriver.cli.paging import print_list
from kohakuriver.cli.progress import Progress, sent
from kohakuriver.cli.shown import moment, of, size
from kohakuriver.client.http import Client
from kohakuriver.wire import urls

HELP = "environments: what tasks run in, version by version"
PIECE = 256 * 1024
VERSIONS = (
    Column("name", "VERSION", lambda row: f"{row['environment']}:{row['number']}"),
    of("size", "SIZE", size),
    Column("author", "AUTHOR"),
    of("created", "CREATED", moment),
    Column("tasks", "TASKS", lambda row: str(row.get("tasks") or "")),
    Column("note", "NOTE", lambda row: "(being removed)" if row.get("removing") else row.get("note") or ""),
)
STORED = (
    Column(
        "name", "VERSION", lambda row: f"{row['environment']}:{row['number']}" if row["known"] else row["environment"]
    ),
    of("size", "SIZE", size),
    of("created", "CREATED", moment),
    Column("known", "", lambda row: "" if row["known"] else "another system's" if row["foreign"] else "not ours"),
)
OPERATIONS = (
    Column("id", "ID"),
    Column("kind", "KIND"),
    Column("name", "NAME"),
    Column("status", "STATE", lambda row: row["state"]),
    Column("note", "NOTE", lambda row: (row.get("error") or {}).get("detail") or row.get("note") or ""),
    Column("by", "BY"),
    of("started", "STARTED", moment),
)


def add(parser: argparse.ArgumentParser) -> None:
    """Build the verbs."""
    verbs = parser.add_subparsers(metavar="VERB")
    verbs.add_parser("list", aliases=["ls"], help="all versions of all environments").set_defaults(run=list_all)
    show = verbs.add_parser("show", help="the versions of one")
    show.add_argument("name", metavar="NAME")
    show.set_defaults(run=show_one)
    build = _making(verbs, "build", "build the next version from a Dockerfile", build_version)
    build.add_argument("context", metavar="CONTEXT", nargs="?", default=".", help="directory that it may use (.)")
    build.add_argument("-f", "--file", metavar="FILE", default="Dockerfile", help="path in the context (Dockerfile)")
    take = _making(verbs, "import", "make the next version of an archive of `docker save`", import_version)
    take.add_argument("archive", metavar="FILE", help="plain, gzip or zstd; - is standard input")
    image = _making(verbs, "add", "make the next version of an image of a registry, as it is", add_reference)
    image.add_argument("image", metavar="IMAGE")
    delete = verbs.add_parser("delete", aliases=["rm"], help="remove a version, or all that no task uses")
    delete.add_argument("name", metavar="NAME[:VERSION]")
    delete.set_defaults(run=delete_version)
    stored = verbs.add_parser("stored", help="what lies where the syncer keeps versions, other systems' too")
    stored.add_argument("--syncer", metavar="NAME", help="another than the one in use")
    stored.set_defaults(run=list_stored)
    operations = verbs.add_parser("operations", help="what is under way, or one of them to its end")
    operations.add_argument("operation", metavar="ID", nargs="?")
    operations.set_defaults(run=show_operations)


def _making(verbs: Any, name: str, text: str, handler: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    parser.add_argument("name", metavar="NAME", help="of the environment; it need not be there yet")
    parser.add_argument("--note", metavar="WORDS", default="", help="what is new in it")
    add_detach(parser)
    parser.set_defaults(run=handler)
    return parser


def list_all(args: argparse.Namespace, out: Output) -> int:
    """A row for each version."""
    return print_versions(connect(args, out), None, out)


def show_one(args: argparse.Namespace, out: Output) -> int:
    """A row for each version."""
    return print_versions(connect(args, out), args.name, out)


def print_versions(client: Client, name: str | None, out: Output) -> int:
    """Of one environment or of all."""
    if name is None:
        found = client.get(urls.ENVIRONMENTS)["items"]
    else:
        found = [client.get(urls.fill(urls.ENVIRONMENT, environment=name))]
    out.data([_named(version) for each in found for version in each["versions"]], columns=VERSIONS, name="name")
    return OK


def build_version(args: argparse.Namespace, out: Output) -> int:
    """The context goes to the builder as a tar."""
    context = Path(args.context)
    if not (context / args.file).is_file():
        raise UsageError(f"there is no {args.file} in {context}", field="--file", value=args.file)
    client = connect(args, out)
    path = urls.fill(
        urls.ENVIRONMENT_BUILD, {"dockerfile": args.file, "note": args.note or None}, environment=args.name
    )
    return _send(client, path, _Upload(tar_of(context, PIECE, args.file)), args, out)


def import_version(args: argparse.Namespace, out: Output) -> int:
    """The archive goes to the builder as it is."""
    client = connect(args, out)
    path = urls.fill(urls.ENVIRONMENT_IMPORT, {"note": args.note or None}, environment=args.name)
    if args.archive == "-":
        with open(0, "rb", closefd=False) as file:
            return _send(client, path, _Upload(_pieces(file)), args, out)
    with Path(args.archive).open("rb") as file:
        return _send(client, path, _Upload(_pieces(file), os.fstat(file.fileno()).st_size), args, out)


def add_reference(args: argparse.Namespace, out: Output) -> int:
    """The builder fetches it; later changes of the reference change nothing."""
    client = connect(args, out)
    path = urls.fill(urls.ENVIRONMENT_REFERENCE, environment=args.name)
    operation = client.post(path, {"image": args.image, "note": args.note})
    return see_through(client, operation, args, out, _there(args.name))


def delete_version(args: argparse.Namespace, out: Output) -> int:
    """NAME:VERSION removes that one."""
    name, colon, number = args.name.partition(":")
    if colon and not number.isdecimal():
        raise UsageError("a version is a number", field="NAME", value=args.name, limit="such as my-env:3")
    return remove(connect(args, out), args, name, int(number) if colon else None, out)


def remove(client: Client, args: argparse.Namespace, name: str, number: int | None, out: Output) -> int:
    """One version, or each that no open task uses; the ones that stay are told."""
    numbers = [number]
    if number is None:
        view = client.get(urls.fill(urls.ENVIRONMENT, environment=name))
        numbers = [version["number"] for version in view["versions"] if not version["tasks"]]
        kept = [version["number"] for version in view["versions"] if version["tasks"]]
        if kept:
            out.say(f"tasks use {', '.join(f'{name}:{one}' for one in kept)}: not removed")
    for one in numbers:
        path = urls.fill(urls.ENVIRONMENT_VERSION, environment=name, version=str(one))
        code = see_through(client, client.delete(path), args, out, f"{name}:{one} is gone")
        if code != OK:
            return code
    return OK


def list_stored(args: argparse.Namespace, out: Output) -> int:
    """What the builder sees there."""
    path = urls.fill(urls.ENVIRONMENTS_STORED, {"syncer": args.syncer})
    return print_list(connect(args, out), path, out, columns=STORED, name="environment")


def show_operations(args: argparse.Namespace, out: Output) -> int:
    """With an id, it is followed to its end."""
    client = connect(args, out)
    if args.operation is None:
        return print_list(client, urls.OPERATIONS, out, columns=OPERATIONS)
    operation = client.get(urls.fill(urls.OPERATION, operation=args.operation))
    return see_through(client, operation, args, out, f"{operation['kind']} of {operation['name']}: done")


class _Upload(NamedTuple):
    pieces: Iterator[bytes]
    #: bytes, where they are known before
    size: int | None = None


def _send(client: Client, path: str, upload: _Upload, args: argparse.Namespace, out: Output) -> int:
    progress = Progress(out)
    try:
        pieces = sent(upload.pieces, upload.size, progress, "sending")
        operation = client.upload("POST", path, pieces, size=upload.size)
    finally:
        progress.close()
    return see_through(client, operation, args, out, _there(args.name))


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece


def _there(name: str) -> str:
    return f"{name}:{{number}} is there; run in it: kohakuriver run --container {name} -- CMD"


def _named(version: Row) -> dict[str, Any]:
    return {"name": f"{version['environment']}:{version['number']}", **version}
