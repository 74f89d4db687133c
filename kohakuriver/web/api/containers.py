"""Environment containers and their files over HTTP: decode, call, encode."""

import asyncio

from aiohttp import web

from kohakuriver.host.environments import containers, files, orders
from kohakuriver.web.call import Call
from kohakuriver.web.uploads import pieces_of, size_of
from kohakuriver.wire import api, envs_api, queries

#: seconds after which a reader that takes nothing is left
STALLED_SECONDS = 60.0
BYTES = "application/octet-stream"

NoBody = Call[queries.Query, None]
AtPath = Call[envs_api.PathQuery, None]


async def list_containers(call: Call[queries.Paging, None]) -> api.Page[envs_api.ContainerView]:
    """All of them; there are few enough for one page."""
    return await containers.list_containers(call.host, call.actor)


async def create_container(call: Call[queries.Query, envs_api.NewContainer]) -> envs_api.OperationView:
    """Of an image or a version."""
    return await containers.create_container(call.host, call.actor, call.body)


async def start_container(call: NoBody) -> None:
    """Lets it run."""
    await containers.start_container(call.host, call.actor, call.part("container"))


async def stop_container(call: NoBody) -> None:
    """Stops it; its files stay."""
    await containers.stop_container(call.host, call.actor, call.part("container"))


async def delete_container(call: NoBody) -> None:
    """Removes it with all that is in it."""
    await containers.delete_container(call.host, call.actor, call.part("container"))


async def package_container(call: Call[queries.Query, envs_api.PackageAsk]) -> envs_api.OperationView:
    """It becomes a version."""
    return await orders.package_container(call.host, call.actor, call.part("container"), call.body)


async def list_files(call: AtPath) -> api.Page[envs_api.FileView]:
    """The entries of a directory."""
    return await files.list_files(call.host, call.actor, call.part("container"), call.query.path)


async def stat_file(call: AtPath) -> envs_api.FileView:
    """What lies there."""
    return await files.stat_file(call.host, call.actor, call.part("container"), call.query.path)


async def make_folder(call: Call[queries.Query, envs_api.FolderAsk]) -> None:
    """A directory."""
    await files.make_folder(call.host, call.actor, call.part("container"), call.body.path)


async def rename_file(call: Call[queries.Query, envs_api.RenameAsk]) -> None:
    """Another name."""
    await files.rename_file(call.host, call.actor, call.part("container"), call.body.path, call.body.to)


async def delete_file(call: Call[envs_api.DeleteQuery, None]) -> None:
    """A file, or a directory."""
    query = call.query
    await files.delete_file(call.host, call.actor, call.part("container"), query.path, recursive=query.recursive)


async def write_file(call: Call[envs_api.WriteQuery, None]) -> None:
    """The body goes to the container as it comes."""
    pieces = pieces_of(call.request, call.host.settings.upload_most)
    query, size = call.query, size_of(call.request)
    name = call.part("container")
    await files.write_file(call.host, call.actor, name, query.path, size=size, mode=query.mode, pieces=pieces)


async def read_file(call: AtPath) -> web.StreamResponse:
    """The bytes as they come. One that breaks off has no end."""
    async with files.reading(call.host, call.actor, call.part("container"), call.query.path) as pieces:
        response = web.StreamResponse(headers={"Content-Type": BYTES})
        await response.prepare(call.request)
        async for piece in pieces:
            try:
                async with asyncio.timeout(STALLED_SECONDS):
                    await response.write(piece)
            except TimeoutError:
                raise ConnectionResetError("the reader of the file takes nothing") from None
        await response.write_eof()
        return response
