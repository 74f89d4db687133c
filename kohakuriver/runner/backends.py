"""The backends of this node as a whole: opened, looked at, closed; and the machine's cells with their devices."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import psutil

from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.capabilities import capabilities
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.manager import brought_by
from kohakuriver.hooks.values import API_VERSION, Device, Probe
from kohakuriver.runner.probes import numa
from kohakuriver.runner.settings import RunnerSettings
from kohakuriver.wire import codec
from kohakuriver.wire.link import BackendInfo, WireCell, WireDevice
from kohakuriver.wire.machine import wire_device

log = logging.getLogger(__name__)

OPEN_LIMIT = 30.0
CLOSE_LIMIT = 5.0


async def open_all(
    backends: Sequence[Backend], context: Callable[[str], Context], broken: list[BackendInfo]
) -> list[Backend]:
    """The backends that could be opened; the others go into `broken` with their reason."""
    opened = []
    for backend in backends:
        try:
            async with asyncio.timeout(OPEN_LIMIT):
                await backend.open(context(backend.name))
            opened.append(backend)
        except Exception as error:  # a plugin's failure is its own: logged, and told to the host as its problem
            log.exception("a backend cannot be opened", extra={"backend": backend.name})
            problem = f"cannot be opened: {str(error) or type(error).__name__}"
            broken.append(BackendInfo(name=backend.name, usable=False, problems=[problem]))
    return opened


async def close_all(backends: Sequence[Backend]) -> None:
    """Lets go of all; a backend that hangs or fails is left behind."""
    for backend in backends:
        try:
            async with asyncio.timeout(CLOSE_LIMIT / max(1, len(backends))):
                await backend.close()
        except Exception:  # the process ends anyway; logged here
            log.exception("a backend cannot be closed", extra={"backend": backend.name})


async def look(
    backends: Mapping[str, Backend], before: Sequence[BackendInfo]
) -> tuple[list[BackendInfo], list[WireDevice]]:
    """What the backends can do now, and the devices that they found."""
    infos = [info for info in before if info.name not in backends]
    devices: dict[str, Device] = {}
    for backend in backends.values():
        probe = await _probe(backend)
        devices.update({device.id: device for device in probe.devices})
        infos.append(_info(backend, probe))
    found = [wire_device(devices[name]) for name in sorted(devices)]
    return sorted(infos, key=lambda info: info.name), found


def trouble(infos: Iterable[BackendInfo], name: str) -> str | None:
    """Why this backend cannot be used, as it was last looked at; None when it can."""
    for info in infos:
        if info.name == name and not info.usable:
            return "; ".join(info.problems) or f"backend {name} cannot be used"
    return None


def machine(settings: RunnerSettings) -> Callable[[], list[WireCell]]:
    """The cells of this machine, less what is kept for the system. Blocks."""
    return lambda: numa.cells(
        reserved_cores=settings.reserved_cores,
        reserved_memory=settings.reserved_memory,
        total=int(psutil.virtual_memory().total),
    )


async def _probe(backend: Backend) -> Probe:
    try:
        async with asyncio.timeout(OPEN_LIMIT):
            return await backend.probe()
    except Exception as error:  # as above
        log.exception("a backend's probe failed", extra={"backend": backend.name})
        return Probe(usable=False, problems=(f"probe failed: {str(error) or type(error).__name__}",))


def _info(backend: Backend, probe: Probe) -> BackendInfo:
    plugin, package = brought_by(type(backend))
    return BackendInfo(
        name=backend.name,
        usable=probe.usable,
        problems=list(probe.problems),
        images=sorted(backend.features.images),
        persistent=backend.features.persistent,
        capabilities=list(capabilities(backend)),
        options=codec.schema(backend.Options),
        facts=dict(probe.facts),
        plugin=plugin,
        package=package,
        api=API_VERSION,
    )


def furnish(cells: Sequence[WireCell], *found: Iterable[WireDevice]) -> list[WireCell]:
    """The cells with each device in its own, in the order given; one whose cell is not known lies in the first.

    Of a device that was found twice the last counts.
    """
    devices = {device.id: device for some in found for device in some}.values()
    numbers = {cell.id for cell in cells}
    result = []
    for index, cell in enumerate(cells):
        mine = [d for d in devices if d.numa == cell.id or (index == 0 and d.numa not in numbers)]
        result.append(WireCell(id=cell.id, cpus=cell.cpus, siblings=cell.siblings, memory=cell.memory, devices=mine))
    return result
