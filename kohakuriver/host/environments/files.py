"""Files in environment containers, by way of the builder. Bytes stay bytes, and every look is in the history."""

import posixpath
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kohakuriver.domain.access import Actor
from kohakuriver.domain.environments import check_environment
from kohakuriver.errors import Invalid, PluginError, TooLarge, Unreachable
from kohakuriver.host.environments.asks import LONG, SHORT, Conversation, failure
from kohakuriver.host.environments.audit import audited
from kohakuriver.host.host import Host
from kohakuriver.wire.api import Page
from kohakuriver.wire.environments import File, FileAsk, FileList
from kohakuriver.wire.envs_api import FileView
from kohakuriver.wire.frames import MOST_PAYLOAD, Kind

MOST_FILES = 10_000
LONGEST_PATH = 4096


async def stat_file(host: Host, actor: Actor, name: str, path: str) -> FileView:
    """What lies at the path."""
    found = await _ask(host, actor, FileAsk(name=name, verb="stat", path=path))
    if len(found.files) != 1:
        raise PluginError(f"the builder answered with {len(found.files)} files")
    return _view(found.files[0])


async def list_files(host: Host, actor: Actor, name: str, path: str) -> Page[FileView]:
    """The entries of a directory, by name."""
    found = await _ask(host, actor, FileAsk(name=name, verb="list", path=path))
    return Page(items=[_view(file) for file in found.files[:MOST_FILES]])


async def make_folder(host: Host, actor: Actor, name: str, path: str) -> None:
    """A new directory. Raises Conflict when there is something."""
    await _ask(host, actor, FileAsk(name=name, verb="mkdir", path=path))


async def rename_file(host: Host, actor: Actor, name: str, path: str, to: str) -> None:
    """Another name in the same container."""
    await _ask(host, actor, FileAsk(name=name, verb="rename", path=path, to=check_path(to, "to")))


async def delete_file(host: Host, actor: Actor, name: str, path: str, *, recursive: bool) -> None:
    """With everything in it, or refused where it is a directory with something in it."""
    await _ask(host, actor, FileAsk(name=name, verb="delete", path=path, recursive=recursive))


async def write_file(
    host: Host, actor: Actor, name: str, path: str, *, size: int, mode: int | None, pieces: AsyncIterator[bytes]
) -> None:
    """Replaces or makes a regular file of exactly so many bytes. Raises TooLarge, Invalid."""
    most = host.settings.upload_most
    if size > most:
        raise TooLarge(f"a file of {size} bytes; at most {most}", value=size, limit=most)

    async def feed(talk: Conversation) -> None:
        async for piece in pieces:
            for at in range(0, len(piece), MOST_PAYLOAD):
                await talk.send(Kind.DATA, piece[at : at + MOST_PAYLOAD])
        await talk.send(Kind.END)

    question = FileAsk(name=name, verb="write", path=path, size=size, mode=mode)
    await _audited(host, actor, question)
    parts = host.environments
    await parts.asker.ask(parts.builder().id, question, FileList, feed=feed, limit=LONG)


@asynccontextmanager
async def reading(host: Host, actor: Actor, name: str, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of a regular file. What cannot be read is raised before the block begins; what breaks off, in it."""
    question = FileAsk(name=name, verb="read", path=path)
    await _audited(host, actor, question)
    parts = host.environments
    async with parts.asker.opened(parts.builder().id, question) as talk:
        pieces = _pieces(talk)
        first = await anext(pieces, b"")

        async def all_of_it() -> AsyncIterator[bytes]:
            yield first
            async for piece in pieces:
                yield piece

        yield all_of_it()


async def _pieces(talk: Conversation) -> AsyncIterator[bytes]:
    async for kind, payload in talk.frames():
        if kind is Kind.DATA:
            yield payload
        elif kind is Kind.RESULT:
            return
        elif kind is Kind.ERROR:
            raise failure(payload)
    raise Unreachable("the node ended before the file did; try again")


async def _ask(host: Host, actor: Actor, question: FileAsk) -> FileList:
    await _audited(host, actor, question)
    parts = host.environments
    answer: FileList = await parts.asker.ask(parts.builder().id, question, FileList, limit=SHORT)
    return answer


async def _audited(host: Host, actor: Actor, question: FileAsk) -> None:
    check_environment(question.name, "container")
    check_path(question.path)
    host.environments.builder()
    detail = {"container": question.name, "path": question.path, "to": question.to}
    await audited(host, actor, f"file_{question.verb}", **detail)


def check_path(path: str, field: str = "path") -> str:
    """The path, if it is absolute and says where it leads. Raises Invalid."""
    parts = path.split("/")
    if not path.startswith("/") or len(path) > LONGEST_PATH or ".." in parts or "\0" in path:
        raise Invalid("a path here is absolute, without `..`", field=field, value=path, limit="such as /srv/data")
    return posixpath.normpath(path)


def _view(file: File) -> FileView:
    return FileView(
        name=file.name[:LONGEST_PATH],
        kind=file.kind[:16],
        size=file.size,
        mode=file.mode,
        uid=file.uid,
        gid=file.gid,
        modified=file.modified,
        target=file.target[:LONGEST_PATH],
    )
