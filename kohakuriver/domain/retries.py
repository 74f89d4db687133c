"""When a task is tried again by itself. What counts as which cause, and whether one more attempt is left."""

from dataclasses import dataclass
from typing import Final

FAILED: Final = "failed"
OOM: Final = "oom"
TIMEOUT: Final = "timeout"
LOST_NODE: Final = "lost-node"
CAUSES: Final = (FAILED, OOM, TIMEOUT, LOST_NODE)
#: how a runner words an end that it did not see, of an attempt that certainly does not run any more
REBOOTED: Final = "node rebooted"
GONE: Final = "the body is gone"
UNSEEN: Final = frozenset({REBOOTED, GONE})
#: how a runner words that it ended a fenced attempt, or did not begin it, because it had heard nothing from its host
FENCED: Final = "no contact with the host within its lease"
MOST_RETRIES: Final = 1000
#: seconds
LONGEST_DELAY: Final = 7 * 86_400


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often a task is tried again, after which ends, and how many seconds later."""

    most: int
    on: tuple[str, ...] = (FAILED,)
    delay: int = 0
