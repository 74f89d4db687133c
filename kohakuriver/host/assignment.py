"""A task as the runner is told of it."""

from kohakuriver.domain.resources import Reserved
from kohakuriver.domain.tasks import Task
from kohakuriver.wire.link import Assign, WireReserved, WireVersion


def assignment(task: Task, reserved: Reserved, owner: str, environment: WireVersion | None = None) -> Assign:
    """Everything that the node needs for the current attempt. `environment` is the version that it runs in."""
    spec = task.spec
    return Assign(
        attempt=task.attempt,
        instance=task.instance,
        kind=spec.kind.value,
        name=task.name,
        owner=owner,
        backend=spec.backend,
        argv=list(spec.argv),
        script=spec.script,
        env={**spec.env, **_array(task)},
        secrets=dict(spec.secrets),
        workdir=spec.workdir,
        container=spec.container,
        environment=environment,
        image=spec.image,
        pull=spec.pull,
        options=dict(spec.options),
        reserved=_reserved(task, reserved),
        time_limit=spec.time_limit,
        lease=spec.lease,
        grace=spec.grace,
        wanted=task.wanted.value,
        revision=task.wish,
    )


def _array(task: Task) -> dict[str, str]:
    """Where it stands in its array, as its command reads it."""
    element = task.spec.array
    if element is None:
        return {}
    values = {
        "INDEX": element.index,
        "MIN": element.least,
        "MAX": element.greatest,
        "COUNT": element.count,
        "BATCH": task.batch,
    }
    return {f"KOHAKURIVER_ARRAY_{name}": str(value) for name, value in values.items()}


def _reserved(task: Task, reserved: Reserved) -> WireReserved:
    request = task.spec.request
    return WireReserved(
        cpu_milli=reserved.cpu_milli,
        cpu_limit_milli=request.cores * 1000 or None,
        cpus=list(reserved.cpus),
        cell=reserved.cell,
        memory=reserved.memory,
        memory_limit=request.memory,
        devices=list(reserved.devices),
        share_milli=reserved.share_milli,
    )
