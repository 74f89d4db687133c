"""NVML as plain values: which cards there are, how they do. A call may block for ever: `gpu.py` asks from a thread.

The functions are those of nvidia-ml-py under the names of nvml.h; numbers and meanings: NVML API reference.
"""

import contextlib
import ctypes
import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kohakuriver.runner.probes import pci
from kohakuriver.runner.probes.reading import Missing
from kohakuriver.wire.cards import DeviceProcess, DeviceUse
from kohakuriver.wire.link import (
    WireDevice,
)

LIBRARY = "libnvidia-ml.so.1"
#: UNINITIALIZED, DRIVER_NOT_LOADED, LIB_RM_VERSION_MISMATCH: only a new beginning helps
OVER = frozenset({1, 9, 18})
#: IRQ_ISSUE, GPU_IS_LOST, RESET_REQUIRED: the card itself is of no use before somebody acts
LOST = frozenset({11, 15, 16})
#: UNKNOWN: what some drivers answer of a card that fell off the bus, when its handle is asked for
UNKNOWN = 999
#: critical errors after which a card needs a reset: double-bit ECC error, row remapping failed, fallen off the bus,
#: uncontained ECC error (NVIDIA: XID errors)
FATAL = frozenset({48, 64, 79, 95})
#: events taken in one pass
MOST_EVENTS = 64
#: processes told of one card
MOST_PROCESSES = 64


class Unanswered(Exception):
    """NVML answered with an error; `lost` when it is about a card that is of no use."""

    def __init__(self, text: str, *, lost: bool = False) -> None:
        super().__init__(text)
        self.lost = lost


@dataclass(kw_only=True)
class Seen:
    """One place of NVML's list: a card or its MIG parts, or why it cannot say who it is."""

    index: int
    devices: list[WireDevice] = field(default_factory=list)
    uses: list[DeviceUse] = field(default_factory=list)
    fault: str | None = None
    #: whether it said everything about itself
    whole: bool = True


class Session:
    """NVML from its initialisation on. Belongs to one thread. `doing` names the call that is being made."""

    def __init__(self, sysfs: Path = Path("/sys")) -> None:
        """Loads and initialises NVML. Raises Missing when there is none."""
        self.doing = "nvmlInit"
        self._sysfs = sysfs
        self._where = ""
        self._nvml = _load()
        self._watched: set[str] = set()
        self._events: Any = None
        #: the last critical XID and the last fatal one, by PCI address
        self._xids: dict[str, int] = {}
        self._fatal: dict[str, int] = {}
        self._open()

    def read(self) -> list[Seen]:
        """Every card in NVML's order, which is nvidia-smi's. Raises Missing when NVML must be begun anew."""
        driver = _text(self._ask("nvmlSystemGetDriverVersion"))
        self._take_events()
        return [self._look(index, driver) for index in range(self._ask("nvmlDeviceGetCount"))]

    def close(self) -> None:
        """Lets go of the driver, so that it can be unloaded."""
        with contextlib.suppress(Unanswered, Missing):
            if self._events is not None:
                self._ask("nvmlEventSetFree", self._events)
            self._ask("nvmlShutdown")

    def _open(self) -> None:
        try:
            self._ask("nvmlInit")
        except Unanswered as error:
            raise Missing(str(error)) from None
        self._events = self._maybe("nvmlEventSetCreate")

    def _look(self, index: int, driver: str) -> Seen:
        seen = Seen(index=index)
        try:
            with self._at(f"GPU {index}"):
                handle = self._ask("nvmlDeviceGetHandleByIndex", index)
                address = pci.normal(_text(self._ask("nvmlDeviceGetPciInfo", handle).busId))
            with self._at(address):
                self._watch(handle, address)
                self._tell(seen, handle, address, driver)
        except Unanswered as error:
            seen.fault, seen.whole = str(error), False
        return seen

    def _tell(self, seen: Seen, handle: Any, address: str, driver: str) -> None:
        place = pci.look(address, self._sysfs)

        def device(one: Any, name: str, *, modes: list[str]) -> WireDevice:
            return WireDevice(
                id=name,
                model=_text(self._ask("nvmlDeviceGetName", one)),
                memory=0 if (memory := self._maybe("nvmlDeviceGetMemoryInfo", one)) is None else int(memory.total),
                uuid=_text(self._ask("nvmlDeviceGetUUID", one)),
                index=seen.index,
                numa=place.numa,
                group=place.group,
                modes=modes,
                driver=driver,
            )

        parts = self._parts(handle)
        if not parts:  # with MIG on and no part made, nothing can run on it
            whole = device(handle, address, modes=["host"] if parts is None else [])
            seen.devices.append(whole)
            seen.uses.append(self._use(handle, whole.id, address))
        for part in parts or ():
            one = device(part, f"{address}/{_text(self._ask('nvmlDeviceGetUUID', part))}", modes=["host"])
            seen.devices.append(one)
            seen.uses.append(self._use(part, one.id, address, whole=handle))
        seen.fault = self._fault(handle, address)

    def _parts(self, handle: Any) -> list[Any] | None:
        """The MIG parts of a card in their order; None for a card that is not parted."""
        mode = self._maybe("nvmlDeviceGetMigMode", handle)
        if not mode or not mode[0]:
            return None
        most = self._maybe("nvmlDeviceGetMaxMigDeviceCount", handle) or 0
        found = [self._maybe("nvmlDeviceGetMigDeviceHandleByIndex", handle, at) for at in range(most)]
        return [part for part in found if part is not None]

    def _use(self, handle: Any, name: str, address: str, whole: Any = None) -> DeviceUse:
        """A part has no utilisation of its own, and temperature and power are the whole card's."""
        card = whole or handle
        busy = self._maybe("nvmlDeviceGetUtilizationRates", handle)
        memory = self._maybe("nvmlDeviceGetMemoryInfo", handle)
        return DeviceUse(
            id=name,
            utilization=None if busy is None else min(1.0, busy.gpu / 100),
            memory_used=None if memory is None else int(memory.used),
            temperature=_scaled(self._maybe("nvmlDeviceGetTemperature", card, self._nvml.NVML_TEMPERATURE_GPU), 1),
            power=_scaled(self._maybe("nvmlDeviceGetPowerUsage", card), 1000),
            power_limit=_scaled(self._maybe("nvmlDeviceGetEnforcedPowerLimit", card), 1000),
            uncorrected=self._uncorrected(card),
            xid=self._xids.get(address),
            processes=self._processes(handle),
        )

    def _processes(self, handle: Any) -> list[DeviceProcess]:
        found: dict[int, DeviceProcess] = {}
        for name in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
            for one in self._maybe(name, handle) or ():
                found.setdefault(int(one.pid), DeviceProcess(pid=int(one.pid), memory=one.usedGpuMemory))
        return list(found.values())[:MOST_PROCESSES]

    def _uncorrected(self, handle: Any) -> int | None:
        nvml = self._nvml
        count = self._maybe(
            "nvmlDeviceGetTotalEccErrors", handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        )
        return None if count is None else int(count)

    def _fault(self, handle: Any, address: str) -> str | None:
        """The evidence against the card."""
        found = []
        errors = self._uncorrected(handle)
        if errors:
            found.append(f"{errors} uncorrectable ECC error{'s' * (errors > 1)} since its driver was loaded")
        rows = self._maybe("nvmlDeviceGetRemappedRows", handle)
        if rows and rows[3]:
            found.append("a row of its memory could not be remapped")
        if address in self._fatal:
            found.append(f"critical error XID {self._fatal[address]}")
        return "; ".join(found) or None

    def _watch(self, handle: Any, address: str) -> None:
        """Asks for the card's critical errors, once."""
        if address not in self._watched and self._events is not None:
            self._watched.add(address)
            kind = self._nvml.nvmlEventTypeXidCriticalError
            self._maybe("nvmlDeviceRegisterEvents", handle, kind, self._events)

    def _take_events(self) -> None:
        """Critical errors since the last pass; waits for none."""
        for _ in range(MOST_EVENTS if self._watched else 0):
            event = self._maybe("nvmlEventSetWait_v2", self._events, 0)
            if event is None:
                return
            xid = int(event.eventData)
            try:
                address = pci.normal(_text(self._ask("nvmlDeviceGetPciInfo", event.device).busId))
            except Unanswered:
                continue  # a card that cannot even say where it sits is told as lost by the pass itself
            self._xids[address] = xid
            if xid in FATAL:
                self._fatal[address] = xid

    def _maybe(self, name: str, *arguments: Any) -> Any:
        """The answer; None where the card does not tell. A lost card is told all the same."""
        try:
            return self._ask(name, *arguments)
        except Unanswered as error:
            if error.lost:
                raise
            return None

    @contextlib.contextmanager
    def _at(self, card: str) -> Iterator[None]:
        self._where = f" on {card}"
        try:
            yield
        finally:
            self._where = ""

    def _ask(self, name: str, *arguments: Any) -> Any:
        self.doing = f"{name}{self._where}"
        try:
            return getattr(self._nvml, name)(*arguments)
        except self._nvml.NVMLError as error:
            code = int(error.value)
            text = f"NVML says {str(error).rstrip('.').lower()!r} (error {code})"
            if code in OVER:
                raise Missing(text) from None
            unknown = code == UNKNOWN and name == "nvmlDeviceGetHandleByIndex"
            raise Unanswered(text, lost=code in LOST or unknown) from None


def _load() -> Any:
    """The binding, loaded only where there is a driver: it takes some MiB, and most machines have none."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        raise Missing(f"there is no NVIDIA driver here: {LIBRARY} is not found") from None
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        raise Missing("the Python package nvidia-ml-py is missing") from None


def _scaled(value: int | None, by: int) -> float | None:
    return None if value is None else value / by


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
