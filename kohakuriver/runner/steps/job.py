"""The step that turns an assignment into the job that a backend is told. Makes nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kohakuriver.errors import Invalid
from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.values import Grant, Job, Mount, Net
from kohakuriver.runner.steps.devices import devices as cards
from kohakuriver.runner.steps.image import image
from kohakuriver.wire import codec
from kohakuriver.wire.link import Assign, WireDevice
from kohakuriver.wire.machine import device_of


def grant(assign: Assign, devices: Mapping[str, WireDevice]) -> Grant:
    """What was reserved. Raises Invalid for a device that this node does not have."""
    reserved = assign.reserved
    unknown = [name for name in reserved.devices if name not in devices]
    if unknown:
        raise Invalid(
            f"attempt {assign.attempt}: this node has no device {unknown[0]}", field="devices", value=unknown[0]
        )
    return Grant(
        cpu_milli=reserved.cpu_limit_milli,
        cpus=tuple(reserved.cpus) or None,
        numa=reserved.cell if reserved.cpus else None,
        memory=reserved.memory_limit,
        devices=tuple(device_of(devices[name]) for name in reserved.devices),
        device_share_milli=reserved.share_milli,
    )


def job(
    assign: Assign,
    backend: Backend,
    *,
    directory: Path,
    devices: Mapping[str, WireDevice],
    env: Mapping[str, str],
    argv: Sequence[str],
    mounts: Sequence[Mount] = (),
) -> Job:
    """Everything that the backend is told. Raises Invalid for options that it does not take."""
    granted = None if backend.features.remote else grant(assign, devices)
    return Job(
        instance=assign.instance,
        attempt=assign.attempt,
        owner=assign.owner,
        persistent=assign.kind == "vps",
        argv=tuple(argv),
        workdir=assign.workdir,
        env=env if granted is None else {**env, **cards(granted.devices)},
        secrets=dict(assign.secrets),
        mounts=tuple(mounts),
        image=image(assign, backend),
        net=network(backend),
        grant=granted,
        directory=directory,
        options=codec.convert(assign.options, backend.Options),
    )


def network(backend: Backend) -> Net:
    """A network apart from the node's where the backend has one."""
    return Net(mode="private" if "private" in backend.features.nets else "host")
