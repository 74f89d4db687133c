"""At the start: the journal and what the backends still hold are joined. Starts and stops nothing by itself."""

import asyncio
import logging

from kohakuriver.errors import PluginError, StorageFull, StoreError
from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.values import Handle, Seen
from kohakuriver.runner.accept import Attempts
from kohakuriver.runner.admit import NAME
from kohakuriver.runner.desk import LONGEST_RETRY, Desk
from kohakuriver.runner.entry import Entry, nothing_assigned
from kohakuriver.wire.link import Report

log = logging.getLogger(__name__)


def adopt(desk: Desk, attempts: Attempts) -> None:
    """Lets every attempt of the journal that has not ended go on from its row.

    A supervisor looks at the body first: there is one (it goes on), or it is gone (its end is reported with the
    reason: another boot, or the body is gone). Without a handle nothing can have been started.
    """
    for entry in list(desk.journal.open_entries()):
        if entry.backend not in desk.backends:
            log.error(
                "a held attempt's backend is not here", extra={"attempt": entry.attempt, "backend": entry.backend}
            )
        attempts.supervise(entry.attempt)


async def recover(desk: Desk, attempts: Attempts, backend: Backend) -> None:
    """Takes in the bodies of one backend that the journal does not know; tries until the backend answers."""
    wait, told = 1.0, ""
    while True:
        try:
            async with asyncio.timeout(desk.settings.see_limit):
                found = await backend.found()
            break
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises: logged, and asked again
            if repr(error) != told:
                told = repr(error)
                log.warning("a backend cannot say what it holds", extra={"backend": backend.name, "error": told})
            await desk.clock.sleep(wait)
            wait = min(wait * 2, LONGEST_RETRY)
    known = {entry.instance for entry in desk.journal.attempts.values()}
    for instance, handle in found:
        if instance not in known and NAME.fullmatch(instance):
            await _take_in(desk, backend, instance, handle)
            if instance in desk.journal.attempts:
                attempts.supervise(instance)


async def _take_in(desk: Desk, backend: Backend, instance: str, handle: Handle) -> None:
    """Journals a body that nobody assigned, and reports it. It is held until a wish ends it."""
    seen = await _see(desk, backend, handle)
    if instance in desk.journal.attempts or seen.phase == "gone":  # assigned or removed meanwhile
        return
    facts = {"instance": instance, "backend": backend.name, "phase": seen.phase, "note": seen.note[:200]}
    entry = Entry(
        attempt=instance,
        instance=instance,
        backend=backend.name,
        assign=nothing_assigned(instance, instance),
        phase="created",
        handle=handle,
        boot=desk.boot,
        recovered=True,
    )
    log.warning("a body without a journal row is held", extra={"instance": instance, "backend": backend.name})
    await _add(desk, entry, desk.report(instance, "recovered", found=facts))


async def _add(desk: Desk, entry: Entry, report: Report) -> None:
    wait = 1.0
    while True:
        try:
            await desk.journal.add(entry, report)
        except StorageFull as error:
            log.warning("a body cannot be journaled yet", extra={"attempt": entry.attempt, "error": error.message})
            await desk.clock.sleep(wait)
            wait = min(wait * 2, LONGEST_RETRY)
        except StoreError as error:  # an assignment of it was faster: it is held already
            log.info("a body was journaled before", extra={"attempt": entry.attempt, "error": error.message})
            return
        else:
            return


async def _see(desk: Desk, backend: Backend, handle: Handle) -> Seen:
    try:
        async with asyncio.timeout(desk.settings.see_limit):
            return await backend.see(handle)
    except (PluginError, TimeoutError, OSError) as error:
        return Seen(phase="created", note=f"cannot be seen: {error}")
