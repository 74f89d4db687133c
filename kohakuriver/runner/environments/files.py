"""Files of an environment container over one stream: what is asked, its bytes, the answer."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from kohakuriver.errors import Invalid
from kohakuriver.hooks.environments import Files
from kohakuriver.runner.environments import spool, words
from kohakuriver.runner.environments.channel import Channel
from kohakuriver.wire.environments import FileAsk, FileList


async def serve(
    files: Files, ask: FileAsk, channel: Channel, spools: Path, in_thread: Callable[..., Awaitable[Any]]
) -> FileList:
    """Does one of the verbs. Raises Invalid for an unknown one, and what the backend raises."""
    match ask.verb:
        case "stat":
            return FileList(files=[words.file(await files.stat(ask.path))])
        case "list":
            return FileList(files=[words.file(one) for one in await files.list(ask.path)])
        case "read":
            async for data in files.read(ask.path):
                await channel.send_data(data)
        case "write":
            await _write(files, ask, channel, spools, in_thread)
        case "mkdir":
            await files.mkdir(ask.path)
        case "rename":
            await files.rename(ask.path, ask.to)
        case "delete":
            await files.delete(ask.path, recursive=ask.recursive)
        case _:
            known = "stat, list, read, write, mkdir, rename, delete"
            raise Invalid("no such verb for a file", field="verb", value=ask.verb, limit=known)
    return FileList()


async def _write(
    files: Files, ask: FileAsk, channel: Channel, spools: Path, in_thread: Callable[..., Awaitable[Any]]
) -> None:
    """A file that has come whole is written; one that was cut off on the way changes nothing."""
    async with spool.folder(spools, in_thread) as folder:
        path = folder / "file"
        size = await spool.spool(channel.data(), path, ask.size, in_thread)
        if size != ask.size:
            raise Invalid("the file has another size than was said", field="size", value=size, limit=ask.size)
        await files.write(ask.path, spool.pieces(path, in_thread), size, ask.mode)
