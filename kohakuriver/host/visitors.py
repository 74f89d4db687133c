"""What the host keeps in memory about those who knock: credentials that were looked up, wrong attempts, rates, and the
providers that know passwords. May be empty at any time; `accounts.py` fills it.
"""

from kohakuriver.errors import ConfigError
from kohakuriver.hooks.auth import AuthProvider, CanKeepPasswords
from kohakuriver.host.callers import Caller, Callers
from kohakuriver.host.host import Host
from kohakuriver.host.throttle import Attempts, Buckets

STRANGERS_RATE = 20
STRANGERS_BURST = 100


class Visitors:
    """One a host."""

    def __init__(self) -> None:
        self.callers = Callers()
        self.attempts = Attempts()
        #: requests without a valid credential, by address
        self.strangers = Buckets(rate=STRANGERS_RATE, burst=STRANGERS_BURST)
        #: all others, by credential; the configuration sets the rate
        self.known = Buckets(rate=0, burst=1)
        self.providers: list[AuthProvider] = []
        #: who everybody is where signing in is switched off
        self.nobody: Caller | None = None
        #: ids of nodes by the fingerprint of their credential; whether a node is revoked is the roster's to know
        self.nodes: dict[bytes, int] = {}

    def keeper(self) -> tuple[str, CanKeepPasswords]:
        """The provider that keeps the passwords of accounts made here, with its name. Raises ConfigError for none."""
        for provider in self.providers:
            if isinstance(provider, CanKeepPasswords):
                return provider.name, provider
        raise ConfigError("no auth provider keeps passwords; the plugin kohakuriver_localauth does")


def visitors(host: Host) -> Visitors:
    """The host's own, made at the first call."""
    found: Visitors | None = host.kept.get(Visitors)
    if found is None:
        found = host.kept[Visitors] = Visitors()
    return found
