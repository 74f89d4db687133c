"""Cards in a heartbeat: how they do at this moment, and whose processes are on them."""

import msgspec

from kohakuriver.wire.numbers import Count


class DeviceProcess(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A process that has a context on a card."""

    pid: Count
    #: bytes of the card's memory
    memory: Count | None = None
    #: the attempt that it belongs to; "": of none, or that cannot be told
    attempt: str = ""


class DeviceUse(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How a card does at this moment; None where it does not tell."""

    id: str
    #: fraction of the last sample period in which something ran, 0 to 1
    utilization: float | None = None
    memory_used: Count | None = None
    temperature: float | None = None
    #: watts
    power: float | None = None
    power_limit: float | None = None
    #: uncorrectable ECC errors since the driver was loaded
    uncorrected: Count | None = None
    #: the last critical XID that this runner saw
    xid: Count | None = None
    processes: list[DeviceProcess] = []
