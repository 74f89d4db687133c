"""What a node says of its machine: judged, committed, taken over. Here a card is cordoned for what speaks against it.

A cordon is for each new piece of evidence and is lifted by people alone, so the same words do not cordon twice.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec import structs

from kohakuriver.domain.labels import sound_labels, stored_labels
from kohakuriver.domain.nodes import Cordon
from kohakuriver.errors import KohakuRiverError
from kohakuriver.host import cause, records
from kohakuriver.host.changes import Changes
from kohakuriver.host.clock import Clock, Ids
from kohakuriver.host.commits import Change, Commits, nothing
from kohakuriver.host.inventory import MOST_DEVICES
from kohakuriver.host.roster import Member
from kohakuriver.store.columns import micros
from kohakuriver.store.models import NodeRow
from kohakuriver.store.write import Statement, update
from kohakuriver.wire import codec, link
from kohakuriver.wire.link import WireCell, WireDevice

log = logging.getLogger(__name__)

LONGEST_FAULT = 300
RETRY_SECONDS = 1.0


@dataclass(kw_only=True)
class Stock:
    """Takes hello and refresh. `woken` is called when what can be placed has changed."""

    clock: Clock
    ids: Ids
    commits: Commits
    changes: Changes
    woken: Callable[[], None]

    async def greet(self, hello: link.Hello, member: Member) -> None:
        """Commits what hello says of the machine; the cells have no fault. A new epoch begins its numbers anew; in the
        same one they are left alone, for a report of the session before may be on its way to the disk.
        """
        now = self.clock.now()
        boot, version, labels = word(hello.boot), word(hello.version), sound_labels(hello.labels)

        def change() -> Change:
            anew = {"acknowledged": 0} if hello.epoch != member.epoch else {}
            cells, cordons = _judge(member, hello.cells, hello.devices_told, now)
            columns = {
                "epoch": hello.epoch,
                "boot": boot,
                "version": version,
                "labels": codec.encode(stored_labels(labels, member.given)).decode(),
                "seen": micros(now),
                **anew,
                **_machine(cells, hello.backends),
            }

            def then() -> None:
                member.acknowledged = 0 if anew else member.acknowledged
                member.epoch, member.boot, member.version = hello.epoch, boot, version
                member.labels = labels
                member.cordons = {**member.cordons, **cordons}
                member.learn(cells, hello.backends, hello.pinnable)
                member.syncers = hello.syncers

            return self._rows(member, cordons, now, columns), then

        await self.commits.write_alone(member.changing, change)

    async def refresh(self, refresh: link.Refresh, member: Member) -> None:
        """Takes over what changed while the node is linked, at once, and returns when it is stored. Cancelled before,
        it still holds in memory, and the next hello stores it.
        """
        now = self.clock.now()
        async with member.changing:
            cells, cordons = _judge(member, refresh.cells, refresh.devices_told, now)
            same = (cells, refresh.backends) == (member.cells, member.backends)
            member.cordons = {**member.cordons, **cordons}
            member.learn(cells, refresh.backends, refresh.pinnable)
            member.syncers = refresh.syncers
        self.woken()
        self.changes.publish("node", member.id)

        def change() -> Change:
            fresh = {name: mark for name, mark in cordons.items() if member.cordons.get(name) == mark}
            return self._rows(member, fresh, now, _machine(cells, refresh.backends)), nothing

        while not same:
            try:
                await self.commits.write_alone(member.changing, change)
            except KohakuRiverError as error:
                log.warning("a refresh waits: %s", error, extra={"action": "refresh", "node": member.name})
                await asyncio.sleep(RETRY_SECONDS)
                continue
            return

    def _rows(
        self, member: Member, cordons: Mapping[str, Cordon], now: datetime, columns: Mapping[str, object]
    ) -> list[Statement]:
        changed = {**columns, "cordons": codec.encode({**member.cordons, **cordons}).decode()}
        events = [
            records.event(
                self.ids.next(), now, "gpu_cordoned", cause.node(member.name), node=member.id,
                detail={"name": member.name, "device": device, "reason": cordon.reason},
            )
            for device, cordon in cordons.items()
        ]  # fmt: skip
        return [update(NodeRow, where={"id": member.id}, set=changed), *records.events(events)]


def _machine(cells: Sequence[WireCell], backends: Sequence[link.BackendInfo]) -> dict[str, object]:
    return {"cells": codec.encode(cells).decode(), "backends": codec.encode(backends).decode()}


def _judge(
    member: Member, cells: Sequence[WireCell], told: bool, now: datetime
) -> tuple[list[WireCell], dict[str, Cordon]]:
    """The cells to go on with, and the new cordons by device id."""
    found = evidence(member.cells, cells, told)
    room = MOST_DEVICES - len(member.cordons)
    fresh = [(device, why) for device, why in found.items() if device not in member.cordons][: max(0, room)]
    who = cause.node(member.name).actor
    cordons = {device: Cordon(reason=word(why, LONGEST_FAULT), since=now, by=who) for device, why in fresh}
    for device, cordon in cordons.items():
        extra = {"action": "cordon", "node": member.name, "device": device, "reason": cordon.reason}
        log.warning("a card is cordoned", extra=extra)
    return (list(cells) if told else with_unnamed(member.cells, cells)), cordons


def evidence(before: Iterable[WireCell], cells: Iterable[WireCell], told: bool) -> dict[str, str]:
    """What newly speaks against cards, by PCI address. `told`: what is not named any more has vanished."""
    old, new = _by_card(before), _by_card(cells)
    found = {}
    for address, devices in new.items():
        fault = next((device.fault for device in devices if device.fault), None)
        if fault is not None and fault not in {device.fault for device in old.get(address, ())}:
            found[address] = fault
    for address, (first, *_) in old.items():
        if told and address not in new and first.fault is None:
            found[address] = f"it vanished: its node does not name it any more (GPU {first.index}, {first.model})"
    return found


def with_unnamed(before: Sequence[WireCell], cells: Sequence[WireCell]) -> list[WireCell]:
    """The cells with the cards that were known and are not named now, of which none can be given out for the time."""
    named = _by_card(cells).keys()
    kept = [d for cell in before for d in cell.devices if _address(d) not in named]
    waiting = [structs.replace(device, modes=[]) for device in kept]
    if not waiting or not cells:
        return list(cells)
    first, *others = cells
    return [structs.replace(first, devices=[*first.devices, *waiting]), *others]


def word(text: str, most: int = 64) -> str:
    """Text of a runner as a short column holds it."""
    return "".join(letter for letter in text[:most] if letter.isprintable())


def _by_card(cells: Iterable[WireCell]) -> dict[str, list[WireDevice]]:
    found: dict[str, list[WireDevice]] = {}
    for cell in cells:
        for device in cell.devices:
            found.setdefault(_address(device), []).append(device)
    return found


def _address(device: WireDevice) -> str:
    return device.id.partition("/")[0]
