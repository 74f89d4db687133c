"""Nodes as people ask for them, and what operators do to them."""

from collections.abc import Mapping

from kohakuriver.domain.access import Action, Actor, Role, authorize
from kohakuriver.errors import Conflict, NotFound
from kohakuriver.host import records
from kohakuriver.host.cards import cordon_views
from kohakuriver.host.cause import by
from kohakuriver.host.host import Host
from kohakuriver.host.roster import Member
from kohakuriver.store.models import NodeRow
from kohakuriver.store.write import update
from kohakuriver.wire.api import GpuView, NodeView, Page, SampleView
from kohakuriver.wire.cards import DeviceUse
from kohakuriver.wire.link import (
    Heartbeat,
)
from kohakuriver.wire.use import CardSampleView

REVOKED = "revoked"


async def list_nodes(host: Host, actor: Actor) -> Page[NodeView]:
    """Every node that is not revoked, by name."""
    authorize(actor, Action.NODE_LIST)
    return Page(items=[_view(host, actor, member) for member in host.roster.live()])


async def show_node(host: Host, actor: Actor, ref: str) -> NodeView:
    """One node. Raises NotFound."""
    authorize(actor, Action.NODE_LIST)
    return _view(host, actor, host.roster.find(ref))


async def node_health(host: Host, actor: Actor, ref: str) -> Page[SampleView]:
    """Its heartbeats of the last minutes, oldest first."""
    authorize(actor, Action.NODE_LIST)
    samples = [
        SampleView(
            at=at,
            cpu=beat.cpu,
            memory_used=beat.memory_used,
            memory_total=beat.memory_total,
            load=beat.load,
            temperature=beat.temperature,
            disk_used=beat.disk_used,
            running=beat.running,
            gpus=[_sample(use) for use in beat.devices],
        )
        for at, beat in host.roster.find(ref).history
    ]
    return Page(items=samples)


async def drain(host: Host, actor: Actor, ref: str, reason: str) -> NodeView:
    """No new work goes there; what runs goes on. A second call changes the reason."""
    return await _set(host, actor, ref, {"draining": True, "drain_reason": reason}, what="node_drained", reason=reason)


async def undrain(host: Host, actor: Actor, ref: str) -> NodeView:
    """Work goes there again, also where the node was quarantined."""
    columns = {"draining": False, "drain_reason": "", "quarantine": None}
    return await _set(host, actor, ref, columns, what="node_undrained", reason=None)


async def revoke(host: Host, actor: Actor, ref: str, reason: str) -> NodeView:
    """Cuts the node off at once and for ever; its name is free again. Its tasks wait to be declared lost."""
    authorize(actor, Action.NODE_REMOVE)
    member = host.roster.find(ref)
    if member.revoked:
        raise Conflict(f"node {member.name} is revoked already", field="node", value=ref)
    view = await _change(host, actor, member, {"state": REVOKED}, what="node_revoked", reason=reason)
    host.links.revoke(member)
    return view


async def _set(
    host: Host, actor: Actor, ref: str, columns: Mapping[str, object], *, what: str, reason: str | None
) -> NodeView:
    authorize(actor, Action.NODE_DRAIN)
    member = host.roster.find(ref)
    if member.revoked:
        raise NotFound(f"there is no node {ref!r}", field="node", value=ref)
    return await _change(host, actor, member, columns, what=what, reason=reason)


async def _change(
    host: Host, actor: Actor, member: Member, columns: Mapping[str, object], *, what: str, reason: str | None
) -> NodeView:
    now = host.clock.now()
    event = records.event(host.ids.next(), now, what, by(actor, reason=reason, name=member.name), node=member.id)

    def then() -> None:
        member.draining = bool(columns.get("draining", member.draining))
        member.drain_reason = str(columns.get("drain_reason", member.drain_reason))
        if "quarantine" in columns:
            member.quarantine = None
            member.conduct.forgive()
        member.revoked = member.revoked or columns.get("state") == REVOKED
        host.changes.publish("node", member.id)
        host.scheduler.wake()

    statement = update(NodeRow, where={"id": member.id, "state": "active"}, set=dict(columns), expect=1)
    await host.commits.write([statement, *records.events([event])], then)
    return _view(host, actor, member)


def _view(host: Host, actor: Actor, member: Member) -> NodeView:
    now = host.clock.monotonic()
    reserved = host.board.reserved(member.id)
    beat = member.beat or Heartbeat()
    holders = {device: task for task, held in reserved.items() for device in held.devices}
    view = NodeView(
        id=str(member.id),
        name=member.name,
        status=member.status(now).value,
        draining=member.draining,
        drain_reason=member.drain_reason or None,
        full=member.full_reason(now) or None,
        cores=len(member.inventory.cpus),
        cores_reserved=sum(held.cpu_milli for held in reserved.values()) / 1000,
        memory=member.inventory.memory,
        memory_reserved=sum(held.memory for held in reserved.values()),
        gpus=[
            GpuView(
                id=device.id,
                index=device.index,
                model=device.model,
                memory=device.memory,
                task=str(holders[device.id]) if device.id in holders else None,
            )
            for device in member.inventory.devices
        ],
        cordons=cordon_views(member),
        labels=member.every_label,
        backends=sorted(backend.name for backend in member.backends if backend.usable),
        tasks=len(reserved),
        silent=member.silent(now),
        cpu=beat.cpu,
        memory_used=beat.memory_used,
        temperature=beat.temperature,
        load=beat.load,
        disk_used=beat.disk_used,
        disk_total=beat.disk_total,
    )
    if actor.role >= Role.OPERATOR:
        _detail(view, member)
    return view


def _sample(use: DeviceUse) -> CardSampleView:
    return CardSampleView(
        id=use.id,
        utilization=use.utilization,
        memory_used=use.memory_used,
        temperature=use.temperature,
        power=use.power,
    )


def _detail(view: NodeView, member: Member) -> None:
    view.version = member.version
    view.skew = member.skew
    view.numa = [{"id": c.id, "cpus": list(c.cpus), "memory": c.memory} for c in member.inventory.cells]
    missing = member.beat.missing if member.beat else {}
    problems = [f"{b.name}: {problem}" for b in member.backends for problem in b.problems]
    view.problems = problems + [f"{probe}: {why}" for probe, why in missing.items()]
