"""The whole cluster at one look: nodes and tasks that hold something, with what is reserved and what is in use."""

from collections.abc import Iterable

from kohakuriver.domain.access import Action, Actor, authorize, visible
from kohakuriver.domain.nodes import NodeStatus
from kohakuriver.domain.resources import MILLI, Device, Reserved
from kohakuriver.domain.tasks import Task
from kohakuriver.host.cards import cordon_of, idle_seconds, is_unused
from kohakuriver.host.host import Host
from kohakuriver.host.roster import Member
from kohakuriver.wire.cards import DeviceUse
from kohakuriver.wire.use import NodeUseView, TaskUseView, UseView


async def show_use(host: Host, actor: Actor, limit: int) -> UseView:
    """Nodes by name; tasks by what they hold, cards first, at most `limit` of them."""
    authorize(actor, Action.TASK_LIST)
    members = host.roster.live()
    held = [(member, task, reserved) for member in members for task, reserved in _held(host, member)]
    held.sort(key=lambda one: (-len(one[2].devices), -one[2].cpu_milli, -one[2].memory, one[1].id))
    return UseView(
        at=host.clock.now(),
        nodes=[_node(host, member) for member in members],
        tasks=[_task(host, actor, *one) for one in held[:limit]],
        more=max(0, len(held) - limit),
        waiting=host.board.waiting,
    )


def _held(host: Host, member: Member) -> list[tuple[Task, Reserved]]:
    pairs = [(host.board.get(task), reserved) for task, reserved in host.board.reserved(member.id).items()]
    return [(task, reserved) for task, reserved in pairs if task is not None]


def _node(host: Host, member: Member) -> NodeUseView:
    reserved = host.board.reserved(member.id).values()
    status = member.status(host.clock.monotonic())
    beat = member.beat if status is NodeStatus.ONLINE else None
    devices = member.inventory.devices
    uses = _uses(member, (device.id for device in devices)) if status is NodeStatus.ONLINE else []
    return NodeUseView(
        name=member.name,
        status=status.value,
        draining=member.draining,
        tasks=len(reserved),
        cores=len(member.inventory.cpus),
        cores_reserved=sum(held.cpu_milli for held in reserved) / MILLI,
        cpu=None if beat is None else beat.cpu,
        memory=member.inventory.memory,
        memory_reserved=sum(held.memory for held in reserved),
        memory_used=None if beat is None else beat.memory_used,
        gpus=len(devices),
        gpus_reserved=sum(len(held.devices) for held in reserved),
        gpus_cordoned=sum(cordon_of(member, device.id) is not None for device in devices),
        gpu_utilization=_mean(uses),
        gpu_memory=sum(device.memory for device in devices),
        gpu_memory_used=_used(uses),
    )


def _task(host: Host, actor: Actor, member: Member, task: Task, reserved: Reserved) -> TaskUseView:
    there = member.status(host.clock.monotonic()) is NodeStatus.ONLINE
    work = member.use.attempts.get(task.attempt) if there else None
    uses = _uses(member, reserved.devices) if there else []
    idle = _idle(host, member, task, reserved) if there else None
    by_id = {device.id: device for device in member.inventory.devices}
    return TaskUseView(
        id=str(task.id),
        name=task.name,
        owner=host.owners.name(task.owner),
        status=task.status.value,
        node=member.name,
        cores=reserved.cpu_milli / MILLI,
        cpu=None if work is None else work.cores,
        memory=reserved.memory,
        memory_used=None if work is None else work.memory,
        gpus=[_short(name, by_id.get(name)) for name in reserved.devices],
        gpu_utilization=_mean(uses),
        gpu_memory_used=_used(uses),
        started=task.started,
        idle=idle,
        unused=is_unused(task, idle),
        command=list(task.spec.argv) if visible(actor, task.owner) else None,
    )


def _idle(host: Host, member: Member, task: Task, reserved: Reserved) -> float | None:
    """A task with cards is at work while one of them is; another while it uses a processor."""
    if task.started is None:
        return None
    if reserved.devices:
        idle = [idle_seconds(host, member, device, task) for device in reserved.devices]
        known = [seconds for seconds in idle if seconds is not None]
        return min(known) if len(known) == len(idle) else None
    still = member.use.attempt_idle(task.attempt, host.clock.monotonic())
    return None if still is None else min(still, max(0.0, (host.clock.now() - task.started).total_seconds()))


def _short(name: str, device: Device | None) -> str:
    return name if device is None or device.index is None else str(device.index)


def _uses(member: Member, devices: Iterable[str]) -> list[DeviceUse]:
    return [use for device in devices if (use := member.use.cards.get(device)) is not None]


def _mean(uses: Iterable[DeviceUse]) -> float | None:
    told = [use.utilization for use in uses if use.utilization is not None]
    return sum(told) / len(told) if told else None


def _used(uses: Iterable[DeviceUse]) -> int | None:
    told = [use.memory_used for use in uses if use.memory_used is not None]
    return sum(told) if told else None
