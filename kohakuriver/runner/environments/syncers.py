"""The syncers of this node as a whole: opened, looked at, closed. A broken one is told and stops nothing."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from kohakuriver.hooks.syncer import SyncContext, Syncer
from kohakuriver.hooks.values import Probe
from kohakuriver.wire.link import SyncerInfo

log = logging.getLogger(__name__)

OPEN_LIMIT = 30.0
CLOSE_LIMIT = 5.0


async def open_all(
    syncers: Iterable[Syncer], context: Callable[[str], SyncContext], broken: list[SyncerInfo]
) -> dict[str, Syncer]:
    """The syncers that could be opened, by name; the others go into `broken` with their reason."""
    opened: dict[str, Syncer] = {}
    for syncer in syncers:
        try:
            async with asyncio.timeout(OPEN_LIMIT):
                await syncer.open(context(syncer.name))
            opened[syncer.name] = syncer
        except Exception as error:  # a plugin's failure is its own: logged, and told to the host as its problem
            log.exception("a syncer cannot be opened", extra={"syncer": syncer.name})
            problem = f"cannot be opened: {str(error) or type(error).__name__}"
            broken.append(SyncerInfo(name=syncer.name, usable=False, problems=[problem]))
    return opened


async def close_all(syncers: Mapping[str, Syncer]) -> None:
    """Lets go of all; a syncer that hangs or fails is left behind."""
    for syncer in syncers.values():
        try:
            async with asyncio.timeout(CLOSE_LIMIT / max(1, len(syncers))):
                await syncer.close()
        except Exception:  # the process ends anyway; logged here
            log.exception("a syncer cannot be closed", extra={"syncer": syncer.name})


async def look(syncers: Mapping[str, Syncer], before: Sequence[SyncerInfo]) -> list[SyncerInfo]:
    """How the syncers are now."""
    infos = [info for info in before if info.name not in syncers]
    for syncer in syncers.values():
        probe = await _probe(syncer)
        infos.append(
            SyncerInfo(name=syncer.name, usable=probe.usable, problems=list(probe.problems), facts=dict(probe.facts))
        )
    return sorted(infos, key=lambda info: info.name)


async def _probe(syncer: Syncer) -> Probe:
    try:
        async with asyncio.timeout(OPEN_LIMIT):
            return await syncer.probe()
    except Exception as error:  # a plugin's failure is its own: logged, and told to the host
        log.exception("a syncer's probe failed", extra={"syncer": syncer.name})
        return Probe(usable=False, problems=(f"probe failed: {str(error) or type(error).__name__}",))
