"""Cards into a container: by NVIDIA's runtime hook or by CDI, named by UUID; and no card for anybody else."""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kohakuriver.hooks.values import Device
from kohakuriver_docker.info import Info

Way = Literal["cdi", "hook"]
KIND = "gpu"
HOOK = "nvidia-container-runtime-hook"
VENDOR = "nvidia.com/gpu"
NO_WAY = "this node's Docker cannot give cards to containers: it has neither CDI nor NVIDIA's runtime hook"


def way(wanted: str, info: Info) -> Way | None:
    """How this daemon gets cards into a container; None when it cannot."""
    cdi: Way | None = "cdi" if any(VENDOR in name for name in info.cdi_devices) else None
    hook: Way | None = "hook" if "nvidia" in info.runtimes or shutil.which(HOOK) else None
    if wanted == "auto":
        return cdi or hook
    if wanted == "cdi":
        return "cdi" if info.cdi_folders else None
    return hook if wanted == "hook" else None


def refusals(devices: Sequence[Device], how: Way | None) -> list[str]:
    """Why these devices cannot be given to a container."""
    found = [
        f"device {device.id} is a {device.kind}: containers take cards alone"
        for device in devices
        if device.kind != KIND
    ]
    found += [
        f"card {device.id} has no UUID: it is not in the hands of its driver" for device in devices if not device.uuid
    ]
    if devices and how is None:
        found.append(NO_WAY)
    return found


def requests(devices: Sequence[Device], how: Way | None) -> list[dict[str, Any]]:
    """`HostConfig.DeviceRequests` (Engine API)."""
    names = [device.uuid for device in devices if device.uuid]
    if not names:
        return []
    if how == "cdi":
        return [{"Driver": "cdi", "DeviceIDs": [f"{VENDOR}={name}" for name in names]}]
    return [{"Driver": "nvidia", "DeviceIDs": names, "Capabilities": [["gpu"]]}]


def environment(devices: Sequence[Device], how: Way | None) -> Mapping[str, str]:
    """What stands above the task's own values: an image or a task that asks for `all` must not get every card.

    `void` is what NVIDIA's hook and runtime take as none (NVIDIA container toolkit, NVIDIA_VISIBLE_DEVICES).
    """
    names = ",".join(device.uuid for device in devices if device.uuid)
    return {"NVIDIA_VISIBLE_DEVICES": names if names and how != "cdi" else "void"}
