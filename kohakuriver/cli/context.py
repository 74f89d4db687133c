"""A directory as the tar that a build is given, made while it is sent."""

import io
import os
import tarfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path

from kohakuriver.errors import Invalid

BLOCK = 512
IGNORE = ".dockerignore"


def tar_of(context: Path, piece: int, dockerfile: str = "Dockerfile") -> Iterator[bytes]:
    """Everything in the directory that `.dockerignore` does not name, and the Dockerfile even if it does; owners are
    root, links stay links.

    Raises Invalid for a file that changes its size meanwhile, OSError for one that cannot be read.
    """
    ignored = _patterns(context / IGNORE)
    needed = os.path.normpath(dockerfile)
    if _is_ignored(needed, ignored):
        ignored.append((True, escape(needed)))
    reader = tarfile.TarFile(fileobj=io.BytesIO(), mode="w", format=tarfile.PAX_FORMAT)
    for path, name in _walk(context, "", ignored):
        info = reader.gettarinfo(path, arcname=name)
        if info is None:  # a socket
            continue
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        yield info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
        if info.isreg():
            yield from _content(path, info.size, piece)
    yield bytes(2 * BLOCK)


def _walk(folder: Path, prefix: str, ignored: list[tuple[bool, str]]) -> Iterator[tuple[Path, str]]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = f"{prefix}{entry.name}"
        below = entry.is_dir(follow_symlinks=False)
        if not _is_ignored(name, ignored):
            yield folder / entry.name, name
        elif not below or not any(keeps for keeps, _ in ignored):
            continue
        if below:
            yield from _walk(folder / entry.name, f"{name}/", ignored)


def _content(path: Path, size: int, piece: int) -> Iterator[bytes]:
    left = size
    with path.open("rb") as file:
        while left:
            data = file.read(min(piece, left))
            if not data:
                raise Invalid(f"{path} has become shorter while it was sent", field="CONTEXT")
            left -= len(data)
            yield data
    yield bytes(-size % BLOCK)


def _patterns(file: Path) -> list[tuple[bool, str]]:
    """(whether it is kept, pattern), in the order in which the last that fits counts."""
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
    except FileNotFoundError:
        return []
    lines = [line for line in lines if line and not line.startswith("#")]
    return [(line.startswith("!"), line.removeprefix("!").strip().strip("/")) for line in lines]


def _is_ignored(name: str, ignored: list[tuple[bool, str]]) -> bool:
    verdict = False
    for keeps, pattern in ignored:
        if _fits(name.split("/"), pattern.removeprefix("./").split("/")):
            verdict = not keeps
    return verdict


def _fits(name: list[str], pattern: list[str]) -> bool:
    """Whether the pattern names this path or a directory above it; `**` is any number of directories."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_fits(name[at:], pattern[1:]) for at in range(len(name) + 1)) and bool(name)
    return bool(name) and fnmatchcase(name[0], pattern[0]) and _fits(name[1:], pattern[1:])
