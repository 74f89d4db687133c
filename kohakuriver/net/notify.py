"""Words to systemd (sd_notify(3)): ready, alive, stopping. Datagrams, never waiting; without systemd, nothing."""

import socket
from collections.abc import MutableMapping
from dataclasses import dataclass

SOCKET_VARIABLE = "NOTIFY_SOCKET"
PERIOD_VARIABLE = "WATCHDOG_USEC"
PROCESS_VARIABLE = "WATCHDOG_PID"


@dataclass(frozen=True, kw_only=True)
class Notifier:
    """Speaks to the service manager. Every call may be repeated; a word that cannot be sent is lost, not an error."""

    #: "" where no service manager listens
    address: str = ""
    #: seconds within which `alive` must be called, None without a watchdog
    watchdog: float | None = None

    @classmethod
    def take(cls, environ: MutableMapping[str, str], pid: int) -> "Notifier":
        """What the environment names. The variables are removed, so that no task speaks in our name."""
        address = environ.pop(SOCKET_VARIABLE, "")
        period = environ.pop(PERIOD_VARIABLE, "")
        process = environ.pop(PROCESS_VARIABLE, "") or str(pid)
        mine = period.isascii() and period.isdigit() and int(period) > 0 and process == str(pid)
        return cls(
            address=address if address[:1] in {"/", "@"} else "", watchdog=int(period) / 1_000_000 if mine else None
        )

    @property
    def period(self) -> float | None:
        """Seconds between two calls of `alive`: half of what systemd allows, as sd_watchdog_enabled(3) advises."""
        return None if self.watchdog is None else self.watchdog / 2

    def ready(self, status: str = "") -> bool:
        """The service is up."""
        return self.send("READY=1", *_status(status))

    def alive(self) -> bool:
        """The loop still turns."""
        return self.send("WATCHDOG=1")

    def stopping(self, status: str = "") -> bool:
        """The service is on its way down."""
        return self.send("STOPPING=1", *_status(status))

    def send(self, *lines: str) -> bool:
        """Whether the words were handed over."""
        if not self.address:
            return False
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError:
            return False
        return True


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={' '.join(text.split())}",) if text else ()
