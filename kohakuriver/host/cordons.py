"""Operators cordon cards and lift cordons. What cordons a card by itself stands in `stock.py`."""

from collections.abc import Mapping

from kohakuriver.domain.access import Action, Actor, authorize
from kohakuriver.domain.nodes import Cordon
from kohakuriver.errors import Conflict, NotFound
from kohakuriver.host import records
from kohakuriver.host.cause import Cause, by
from kohakuriver.host.commits import Change, nothing
from kohakuriver.host.host import Host
from kohakuriver.host.inventory import MOST_DEVICES
from kohakuriver.host.nodes import show_node
from kohakuriver.host.roster import Member
from kohakuriver.store.models import NodeRow
from kohakuriver.store.write import update
from kohakuriver.wire import codec
from kohakuriver.wire.api import NodeView


async def cordon(host: Host, actor: Actor, ref: str, card: str, reason: str) -> NodeView:
    """The card gets no new work; what runs on it goes on. A second call changes the reason.

    `card` is an index, a PCI address, or a UUID; a whole card stands for its parts as well. Raises NotFound.
    """
    authorize(actor, Action.NODE_DRAIN)
    member = _node(host, ref)
    device = find_card(member, card)

    def change() -> Change:
        if device not in member.cordons and len(member.cordons) >= MOST_DEVICES:
            raise Conflict(f"node {member.name} has {MOST_DEVICES} cordons; lift one first", field="device", value=card)
        mark = Cordon(reason=reason, since=host.clock.now(), by=actor.name)
        cause = by(actor, reason=reason, name=member.name, device=device)
        return _kept(host, member, {**member.cordons, device: mark}, "gpu_cordoned", cause)

    await host.commits.write_alone(member.changing, change)
    return await show_node(host, actor, ref)


async def uncordon(host: Host, actor: Actor, ref: str, card: str) -> NodeView:
    """The card gets work again, if it is there. No error where it does already. Raises NotFound for no such card."""
    authorize(actor, Action.NODE_DRAIN)
    member = _node(host, ref)
    device = find_card(member, card)

    def change() -> Change:
        if device not in member.cordons:
            return [], nothing
        left = {name: mark for name, mark in member.cordons.items() if name != device}
        return _kept(host, member, left, "gpu_uncordoned", by(actor, name=member.name, device=device))

    await host.commits.write_alone(member.changing, change)
    return await show_node(host, actor, ref)


def find_card(member: Member, word: str) -> str:
    """The id of the card, or of the part, that the word means: one that is there, or a cordoned one that is not."""
    text, devices = word.strip().lower(), member.inventory.devices
    found = {device.id for device in devices if text and text in {device.id.lower(), (device.uuid or "").lower()}}
    found |= {name for name in member.cordons if name.lower() == text}
    wholes = {device.id.partition("/")[0] for device in devices if str(device.index) == text}
    wholes |= {device.id.partition("/")[0] for device in devices if device.id.lower().startswith(text + "/")}
    found = found or wholes
    if len(found) == 1:
        return found.pop()
    has = ", ".join(f"{device.index} ({device.id})" for device in devices) or "none"
    raise NotFound(f"node {member.name} has no card {word!r}; it has {has}", field="device", value=word)


def _node(host: Host, ref: str) -> Member:
    member = host.roster.find(ref)
    if member.revoked:
        raise NotFound(f"there is no node {ref!r}", field="node", value=ref)
    return member


def _kept(host: Host, member: Member, cordons: Mapping[str, Cordon], what: str, cause: Cause) -> Change:
    """The cordons with the event, and how they are taken over."""
    event = records.event(host.ids.next(), host.clock.now(), what, cause, node=member.id)

    def then() -> None:
        member.cordons = dict(cordons)
        host.changes.publish("node", member.id)
        host.scheduler.wake()

    text = codec.encode(dict(cordons)).decode()
    statement = update(NodeRow, where={"id": member.id, "state": "active"}, set={"cordons": text}, expect=1)
    return [statement, *records.events([event])], then
