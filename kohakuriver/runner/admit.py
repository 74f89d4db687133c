"""Whether an assignment is taken on: what can never run here, and what would exceed this journal's own sum."""

import asyncio
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kohakuriver.domain.resources import MILLI, WHOLE
from kohakuriver.errors import KohakuRiverError, PluginError
from kohakuriver.hooks.backend import Backend
from kohakuriver.runner.desk import Desk
from kohakuriver.wire.link import Assign, WireCell, WireReserved

log = logging.getLogger(__name__)

#: attempts and instances name files and directories
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why not. `for_good`: trying again is of no use."""

    reason: str
    for_good: bool


def choose(desk: Desk, assign: Assign) -> Backend | Refusal:
    """The backend for an assignment: the one it names, else this node's default, else the one that can do what it asks
    for, an image or the node's own files.
    """
    name = assign.backend or desk.settings.default_backend
    if name is None:
        return _able(desk, assign)
    backend = desk.backends.get(name)
    if backend is None:
        known = ", ".join(sorted(desk.backends)) or "none"
        return Refusal(reason=f"this node has no backend {name}; it has {known}", for_good=True)
    return backend


def _able(desk: Desk, assign: Assign) -> Backend | Refusal:
    wants_image = assign.image is not None or assign.container is not None or assign.environment is not None
    able = [backend for backend in desk.backends.values() if bool(backend.features.images) == wants_image]
    if len(able) == 1 or len(desk.backends) == 1:
        return next(iter(able or desk.backends.values()))
    if not able:
        return Refusal(reason=f"no backend of this node takes {'an' if wants_image else 'no'} image", for_good=True)
    return Refusal(reason="no backend is named and this node has no default one", for_good=True)


def proper(assign: Assign) -> bool:
    """Whether its names can be used as names of files."""
    return NAME.fullmatch(assign.attempt) is not None and NAME.fullmatch(assign.instance) is not None


def too_much(
    asked: WireReserved, held: Iterable[WireReserved], cells: Sequence[WireCell], *, outbox_full: bool = False
) -> str | None:
    """Why this does not fit beside what is held, in numbers; None when it does."""
    if outbox_full:
        return "too many reports wait for the host"
    parts = list(held)
    cores = sum(len(cell.cpus) for cell in cells) * MILLI
    memory = sum(cell.memory for cell in cells)
    used_cores = sum(part.cpu_milli for part in parts)
    used_memory = sum(part.memory for part in parts)
    if used_cores + asked.cpu_milli > cores:
        return (
            f"cores: {asked.cpu_milli / MILLI:g} asked for, {(cores - used_cores) / MILLI:g} of {cores / MILLI:g} free"
        )
    if used_memory + asked.memory > memory:
        return f"memory: {asked.memory} bytes asked for, {memory - used_memory} of {memory} free"
    taken = sorted(set(asked.cpus) & {cpu for part in parts for cpu in part.cpus})
    if taken:
        return f"cpu {taken[0]} is given to another attempt"
    return _device_taken(asked, parts, cells)


def _device_taken(asked: WireReserved, parts: Sequence[WireReserved], cells: Sequence[WireCell]) -> str | None:
    known = {device.id: device for cell in cells for device in cell.devices}
    for device in asked.devices:
        if device not in known:
            return f"device {device} is not known here now"
        if known[device].fault is not None:
            return f"device {device}: {known[device].fault}"
        share = sum(part.share_milli for part in parts if device in part.devices)
        if share + asked.share_milli > WHOLE:
            return f"device {device} is given to another attempt"
    return None


async def problems(desk: Desk, backend: Backend, assign: Assign) -> Refusal | None:
    """What the backend itself says, before anything exists, and what its image is missing."""
    never = desk.environments.refusal(backend, assign)
    if never is not None:
        return Refusal(reason=never, for_good=True)
    try:
        async with asyncio.timeout(desk.settings.check_limit):
            found = await backend.check(desk.plan(assign, backend))
    except TimeoutError:
        return Refusal(reason=f"backend {backend.name} does not answer", for_good=False)
    except KohakuRiverError as error:
        field = f"{error.field}: " if error.field else ""
        return Refusal(reason=f"{field}{error.message}", for_good=not isinstance(error, PluginError))
    except OSError as error:
        return Refusal(reason=f"backend {backend.name} does not answer: {error}", for_good=False)
    except Exception as error:  # a plugin's fault is its own: logged, and the host is told
        log.exception("a backend's check crashed", extra={"attempt": assign.attempt, "backend": backend.name})
        return Refusal(reason=f"backend {backend.name} failed: {error!r}", for_good=True)
    return Refusal(reason="; ".join(found), for_good=True) if found else None
