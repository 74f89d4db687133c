"""What a submission is run by: the backend it means, and which of its options only operators may give.

Knows what nodes announced of their backends and no plugin: an option is marked in the JSON Schema of its backend.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from kohakuriver.domain.access import Action, Actor, authorize
from kohakuriver.domain.environments import check_image
from kohakuriver.errors import Invalid, NotAllowed
from kohakuriver.host.environments.base import base_name, is_base
from kohakuriver.host.environments.builder import NoBuilder
from kohakuriver.host.host import Host
from kohakuriver.wire.link import BackendInfo

#: the predecessor's word for a plain process
NO_CONTAINER = "NULL"
#: of an option in a schema: true, or the values of it that need the role operator
MARK = "x-operator"


def backend_of(host: Host, *, backend: str | None, image: str | None, container: str | None) -> str | None:
    """The name of the backend that a submission means; None where any will do. Raises Invalid when there is none."""
    if container == NO_CONTAINER:
        return backend or _named(host, images=False)
    if container is not None or image is not None:
        return _with_images(host, backend)
    if backend is not None or _named(host, images=True) is None:
        return backend
    plain = _named(host, images=False)
    if plain is not None:
        return plain
    try:
        base_name(host)
    except NoBuilder as error:
        raise Invalid(
            f"this cluster runs no plain processes now: say which image to run in; {error.message}",
            field="image",
            limit="such as --image debian:12",
        ) from None
    return _with_images(host, None)


def container_of(host: Host, *, backend: str | None, image: str | None, container: str | None) -> str | None:
    """The version of an environment that a submission for this backend means, as NAME:NUMBER; of the default one it
    may be that it is still to be made. Raises Invalid, NotFound that says what there is.
    """
    if container == NO_CONTAINER:
        return None
    if image is not None:
        if container is not None:
            raise Invalid("an image and an environment: a task runs in one of them", field="container", value=container)
        check_image(image)
        return None
    if container is not None:
        return base_name(host) if is_base(host, container) else host.environments.catalog.find(container).name
    if backend is None or backend not in _with_those(host):
        return None
    try:
        return base_name(host)
    except NoBuilder:
        # the backend says itself what it lacks
        return None


def check_options(host: Host, actor: Actor, backend: str | None, options: Mapping[str, Any]) -> bool:
    """Whether there are options that only operators may give, and this one may. Raises NotAllowed, Invalid."""
    infos = [info for info in _announced(host) if backend is None or info.name == backend]
    unknown = bool(options) and not infos
    marked = sorted(name for name, value in options.items() if any(_is_marked(info, name, value) for info in infos))
    if not marked and not unknown:
        return False
    try:
        return authorize(actor, Action.TASK_SUBMIT_PRIVILEGED).audited
    except NotAllowed as error:
        if unknown:
            raise Invalid(
                "no node has told of this backend's options yet, so nobody can say who may give them; try again later",
                field="options",
                value=backend,
            ) from None
        raise NotAllowed(f"option {marked[0]}: {error.message}", field=f"options.{marked[0]}") from None


def _with_images(host: Host, backend: str | None) -> str:
    able = _with_those(host)
    if not able or (backend is not None and backend not in able):
        raise Invalid(
            "no node has a backend that runs images", field="image", limit="a command without image or container"
        )
    return backend or min(able, key=lambda name: (not able[name], name))


def _with_those(host: Host) -> dict[str, bool]:
    """The backends that run images, and whether they are usable somewhere."""
    return {info.name: info.usable for info in sorted(_announced(host), key=lambda info: info.usable) if info.images}


def _named(host: Host, *, images: bool) -> str | None:
    """A usable backend that takes images, or that runs on the node's own files."""
    return min((i.name for i in _announced(host) if i.usable and bool(i.images) == images), default=None)


def _announced(host: Host) -> Iterator[BackendInfo]:
    for member in host.roster.live():
        yield from member.backends


def _is_marked(info: BackendInfo, name: str, value: object) -> bool:
    """`false`, nothing and empty ask for nothing; whatever else a marked option says needs the role."""
    schema = info.options
    name_of_root = str(schema.get("$ref", "")).rpartition("/")[2]
    root = schema.get("$defs", {}).get(name_of_root, schema)
    mark = root.get("properties", {}).get(name, {}).get(MARK)
    if isinstance(mark, list):
        return value in mark
    return bool(mark) and bool(value)
