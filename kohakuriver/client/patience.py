"""How long a client tries again: the host may restart while a person waits."""

import time
from collections.abc import Callable

from kohakuriver.errors import KohakuRiverError, NotReady, NotSignedIn, Unreachable

#: seconds that the host may stay away before waiting is given up
PATIENCE = 600.0
#: a lab that starts again makes a new token, shortly after it answers again
SIGN_IN_PATIENCE = 10.0
#: what may pass by itself
PASSING = (Unreachable, NotReady, NotSignedIn)
#: seconds that a round of asking takes at least
ROUND = 0.5
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0


class Patience:
    """Tries again only what worked once, so that a wrong URL fails at once.

    `tell` hears a sentence at each break; `pause` and `clock` are handed in by tests.
    """

    def __init__(
        self,
        tell: Callable[[str], None],
        *,
        seconds: float = PATIENCE,
        pause: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tell = tell
        self.clock = clock
        self._seconds = seconds
        self._pause = pause
        self._worked = False
        self._since: float | None = None
        self._next = FIRST_PAUSE

    def worked(self) -> None:
        """The host answers."""
        self._worked = True
        self._since = None
        self._next = FIRST_PAUSE

    def failed(self, error: KohakuRiverError) -> None:
        """Pause before another try; raises the error when it never worked, or not for too long."""
        now = self.clock()
        if not self._worked:
            raise error
        if self._since is None:
            self._since = now
            self.tell(f"lost the host, trying again for {self._seconds:.0f} s: {error.message}")
        most = min(self._seconds, SIGN_IN_PATIENCE) if isinstance(error, NotSignedIn) else self._seconds
        if now - self._since >= most:
            raise error
        self._pause(self._next)
        self._next = min(self._next * 2, LONGEST_PAUSE)

    def rest(self, since: float) -> None:
        """Pause when the round that began then was too short: the other side does not wait as asked."""
        if self.clock() - since < ROUND:
            self._pause(ROUND)
