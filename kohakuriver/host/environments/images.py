"""Which images lie on which node: asked of the nodes, some at a time. Changes nothing."""

import asyncio

from kohakuriver.domain.access import Action, Actor, authorize
from kohakuriver.domain.environments import version_name
from kohakuriver.errors import KohakuRiverError
from kohakuriver.host.host import Host
from kohakuriver.host.roster import Member
from kohakuriver.wire.api import Page
from kohakuriver.wire.environments import Images, ListImages, NodeImage
from kohakuriver.wire.envs_api import ImageView

#: nodes that are asked at once
AT_ONCE = 8
SECONDS = 30.0
#: images and names that one node may tell of
MOST_IMAGES, MOST_NAMES, LONGEST_NAME = 10_000, 50, 400
CAPABILITY = "CanPackage"


async def node_images(host: Host, actor: Actor, node: str) -> Page[ImageView]:
    """What one node holds; nothing where no backend takes images apart. Raises NotFound, Unreachable, PluginError."""
    authorize(actor, Action.ENVIRONMENT_USE)
    member = host.roster.find(node)
    return Page(items=await _of(host, member) if _packages(member) else [])


async def all_images(host: Host, actor: Actor) -> Page[ImageView]:
    """What every node holds that has images at all; of one that could not be asked, why not."""
    authorize(actor, Action.ENVIRONMENT_USE)
    members = [member for member in host.roster.live() if _packages(member)]
    room = asyncio.Semaphore(AT_ONCE)

    async def ask(member: Member) -> list[ImageView]:
        async with room:
            try:
                return await _of(host, member)
            except KohakuRiverError as error:
                return [_problem(member, error.message)]

    found = await asyncio.gather(*map(ask, members))
    return Page(items=[view for views in found for view in views])


async def _of(host: Host, member: Member) -> list[ImageView]:
    answer = await host.environments.asker.ask(member.id, ListImages(), Images, limit=SECONDS)
    return [_view(member, image) for image in answer.images[:MOST_IMAGES]]


def _view(member: Member, image: NodeImage) -> ImageView:
    return ImageView(
        node=member.name,
        digest=image.digest[:200],
        names=[name[:LONGEST_NAME] for name in image.names[:MOST_NAMES]],
        size=image.size,
        created=image.created,
        used=image.used,
        environment=version_name(image.environment[:63], image.number) if image.environment else None,
    )


def _problem(member: Member, words: str) -> ImageView:
    return ImageView(
        node=member.name, digest="", names=[], size=0, created=None, used=False, environment=None, problem=words
    )


def _packages(member: Member) -> bool:
    return any(CAPABILITY in backend.capabilities for backend in member.backends)
