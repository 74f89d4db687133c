"""Time and chance as the runner sees them, handed in so that a test holds both."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


def boottime() -> float:
    """Seconds since boot, time asleep included: clock_gettime(2), CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _wall() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Where time and chance come from."""

    #: for people only
    wall: Callable[[], datetime] = _wall
    #: for limits and deadlines
    boot: Callable[[], float] = boottime
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    #: evenly from 0 to 1
    chance: Callable[[], float] = random.random


def boot_id(path: Path = Path("/proc/sys/kernel/random/boot_id")) -> str:
    """The name of this machine's boot (random(4)); "unknown" where the kernel does not tell."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def heed_cancellation() -> None:
    """Raises CancelledError in a task that was asked to end. A TaskGroup that fails in the moment of its cancellation
    raises its failure alone (Python 3.11), and a loop that catches that would go on for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
