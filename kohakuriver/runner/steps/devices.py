"""The step that says in the environment which cards a job may use, in the words that CUDA reads."""

from collections.abc import Mapping, Sequence

from kohakuriver.hooks.values import Device


def devices(granted: Sequence[Device]) -> Mapping[str, str]:
    """The granted cards and MIG parts by UUID, in the order of nvidia-smi; without any, none is visible.

    CUDA numbers what is listed from 0 in this order (CUDA C Programming Guide, environment variables).
    """
    ordered = sorted(granted, key=lambda device: (device.index is None, device.index or 0, device.id))
    return {
        "CUDA_VISIBLE_DEVICES": ",".join(device.uuid for device in ordered if device.uuid is not None),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
