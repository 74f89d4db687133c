"""Every card of the cluster: how it does, who has it, what speaks against it. Owner, status and resources of a task are
for everybody; its command is not told here.
"""

from kohakuriver.domain.access import Action, Actor, authorize
from kohakuriver.domain.attempts import attempt_or_none
from kohakuriver.domain.nodes import Cordon, NodeStatus
from kohakuriver.domain.resources import Device
from kohakuriver.domain.tasks import Task
from kohakuriver.host.host import Host
from kohakuriver.host.roster import Member
from kohakuriver.host.use import UNUSED_SECONDS
from kohakuriver.wire.api import Page
from kohakuriver.wire.cards import DeviceProcess, DeviceUse
from kohakuriver.wire.use import CardProcessView, CardView, CordonView


async def list_cards(host: Host, actor: Actor) -> Page[CardView]:
    """All cards by node and index; also those that are cordoned and not there."""
    authorize(actor, Action.NODE_LIST)
    return Page(items=[view for member in host.roster.live() for view in _of_node(host, member)])


def cordon_views(member: Member) -> list[CordonView]:
    """The cordons of a node, by device id."""
    return [_cordon_view(member, name, mark) for name, mark in sorted(member.cordons.items())]


def cordon_of(member: Member, device: str) -> Cordon | None:
    """What cordons the card, itself or as a part of the whole."""
    return member.cordons.get(device) or member.cordons.get(device.partition("/")[0])


def idle_seconds(host: Host, member: Member, device: str, holder: Task | None) -> float | None:
    """For how long nothing has run on the card; for one that is held, since its task began at most."""
    idle = member.use.card_idle(device, host.clock.monotonic())
    if idle is None or member.status(host.clock.monotonic()) is not NodeStatus.ONLINE:
        return None
    if holder is not None and holder.started is not None:
        return min(idle, max(0.0, (host.clock.now() - holder.started).total_seconds()))
    return idle


def is_unused(holder: Task | None, idle: float | None) -> bool:
    """Whether a reservation lies idle for so long that people should know."""
    return holder is not None and idle is not None and idle >= UNUSED_SECONDS


def _of_node(host: Host, member: Member) -> list[CardView]:
    held = host.board.reserved(member.id)
    holders = {device: task for task, reserved in held.items() for device in reserved.devices}
    devices = sorted(member.inventory.devices, key=lambda d: (d.index is None, d.index or 0, d.id))
    there = {name for device in devices for name in (device.id, device.id.partition("/")[0])}
    gone = [Device(id=name, modes=frozenset()) for name in sorted({*member.cordons, *holders} - there)]
    return [_card(host, member, device, host.board.get(holders.get(device.id, 0))) for device in [*devices, *gone]]


def _card(host: Host, member: Member, device: Device, holder: Task | None) -> CardView:
    use = member.use.cards.get(device.id) or DeviceUse(id=device.id)
    idle = idle_seconds(host, member, device.id, holder)
    mark = cordon_of(member, device.id)
    return CardView(
        node=member.name,
        node_status=member.status(host.clock.monotonic()).value,
        id=device.id,
        index=device.index,
        model=device.model,
        uuid=device.uuid,
        driver=device.driver,
        numa=device.numa,
        usable="host" in device.modes,
        memory=device.memory,
        memory_used=use.memory_used,
        utilization=use.utilization,
        temperature=use.temperature,
        power=use.power,
        power_limit=use.power_limit,
        uncorrected=use.uncorrected,
        xid=use.xid,
        task=None if holder is None else str(holder.id),
        name=None if holder is None else holder.name,
        owner=None if holder is None else host.owners.name(holder.owner),
        status=None if holder is None else holder.status.value,
        idle=idle,
        unused=is_unused(holder, idle),
        cordon=None if mark is None else _cordon_view(member, device.id, mark),
        processes=[_process(host, member, process) for process in use.processes],
    )


def _process(host: Host, member: Member, process: DeviceProcess) -> CardProcessView:
    """The runner's word counts only for a task that this node holds."""
    number, generation = attempt_or_none(process.attempt) or (0, 0)
    task = host.board.get(number) if number in host.board.reserved(member.id) else None
    if task is not None and task.generation != generation:
        task = None
    return CardProcessView(
        pid=process.pid,
        memory=process.memory,
        task=None if task is None else str(task.id),
        owner=None if task is None else host.owners.name(task.owner),
    )


def _cordon_view(member: Member, device: str, mark: Cordon) -> CordonView:
    card = device.partition("/")[0]
    index = next((d.index for d in member.inventory.devices if d.id.partition("/")[0] == card), None)
    return CordonView(device=device, index=index, reason=mark.reason, since=mark.since, by=mark.by)
