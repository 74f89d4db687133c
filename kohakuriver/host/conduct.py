"""How a runner behaves on its link: what it says unasked and too fast, and what no runner that works would do.

In memory, one a node, over its sessions. Times are monotonic seconds.
"""

from collections import deque

from kohakuriver.host.throttle import Buckets

WINDOW = 60.0
#: violations within the window that quarantine a node
MOST_FAULTS = 100
#: what a session weighs that had to be closed for breaking the order
CLOSED = 10
#: messages besides reports, which are bounded by their acknowledgements: heartbeats, progress, refreshes
RATE = 100.0
BURST = 1000
MISBEHAVED = "it broke the rules of the link too often; look at its runner, then `kohakuriver node undrain`"


class Conduct:
    """What is held against one runner."""

    def __init__(self) -> None:
        self._faults: deque[float] = deque(maxlen=MOST_FAULTS)
        self.messages = Buckets(rate=RATE, burst=BURST)

    def fault(self, now: float, count: int = 1) -> None:
        """Counts violations."""
        self._faults.extend([now] * min(count, MOST_FAULTS))

    def misbehaves(self, now: float) -> bool:
        """Whether there were so many within the last minute that it shall get no new work."""
        return len(self._faults) == MOST_FAULTS and now - self._faults[0] <= WINDOW

    def forgive(self) -> None:
        """Begins anew."""
        self._faults.clear()
