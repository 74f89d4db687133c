"""How often somebody may try: growing waits after wrong passwords, and buckets of requests. In memory, bounded.

Knows no account: its keys are text that the caller makes. Never a permanent lock.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from math import ceil

from kohakuriver.errors import TooMany

FREE_FAILURES = 5
#: a room full of people mistypes more often than one of them
FREE_NETWORK_FAILURES = 20
LONGEST_WAIT = 900
FORGET_AFTER = 3600.0
MOST_KEYS = 20_000


@dataclass(slots=True)
class _Failures:
    count: int
    last: float
    until: float


class Throttle:
    """After `free` failures under one key each further one doubles the wait: 1, 2, 4 … 900 seconds."""

    def __init__(self, *, free: int, most_keys: int = MOST_KEYS) -> None:
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._free = free
        self._most = most_keys

    def check(self, key: str, now: float) -> None:
        """Raises TooMany while the key has to wait. `now` is monotonic."""
        entry = self._failures.get(key)
        if entry is not None and entry.until > now:
            wait = ceil(entry.until - now)
            raise TooMany(f"too many wrong attempts; try again in {wait} s", retry_after=wait)

    def failed(self, key: str, now: float) -> None:
        """Counts one failure."""
        entry = self._failures.pop(key, None)
        if entry is None or now - entry.last > FORGET_AFTER:
            entry = _Failures(0, now, now)
        entry.count += 1
        entry.last = now
        over = entry.count - self._free
        if over >= 0:
            entry.until = now + min(2 ** min(over, 16), LONGEST_WAIT)
        self._failures[key] = entry
        if len(self._failures) > self._most:
            self._failures.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """Forgets the failures."""
        self._failures.pop(key, None)


class Attempts:
    """Both throttles of one attempt: on the account from this address, and on the address's neighbourhood."""

    def __init__(self) -> None:
        self._accounts = Throttle(free=FREE_FAILURES)
        self._networks = Throttle(free=FREE_NETWORK_FAILURES)

    def check(self, account: str, address: str, now: float) -> None:
        """Raises TooMany while either has to wait."""
        self._accounts.check(f"{account}@{address}", now)
        self._networks.check(network(address), now)

    def failed(self, account: str, address: str, now: float) -> None:
        self._accounts.failed(f"{account}@{address}", now)
        self._networks.failed(network(address), now)

    def succeeded(self, account: str, address: str) -> None:
        """Forgets the account's failures; the neighbourhood's only fade with time."""
        self._accounts.succeeded(f"{account}@{address}")


class Buckets:
    """Token buckets by key: `rate` a second, `burst` at once. A rate of 0 is no limit."""

    def __init__(self, *, rate: float, burst: int, most_keys: int = MOST_KEYS) -> None:
        self.rate = rate
        self.burst = burst
        self._most = most_keys
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def limit(self, *, rate: float, burst: int) -> None:
        """Sets another limit; what was taken so far stays taken."""
        self.rate, self.burst = rate, burst

    def take(self, key: str, now: float) -> None:
        """Takes one. Raises TooMany when the bucket is empty. `now` is monotonic."""
        if not self.rate:
            return
        left, at = self._left.pop(key, (float(self.burst), now))
        left = min(float(self.burst), left + (now - at) * self.rate)
        if left < 1:
            self._left[key] = (left, now)
            raise TooMany("too many requests; slow down", retry_after=max(1, ceil((1 - left) / self.rate)))
        self._left[key] = (left - 1, now)
        if len(self._left) > self._most:
            self._left.popitem(last=False)


def network(address: str) -> str:
    """The neighbourhood of an address: its /24, or /64 for IPv6. An unreadable address is its own."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 64), strict=False))
