"""Which processes belong to a workload without a control group, and how all of them are stopped or killed.

The shepherd is the subreaper of everything it started (prctl(2)), so whatever a workload leaves behind is
below it. An orphan belongs to the workload whose session or mark it carries; one that carries neither belongs
to whoever of those that could have made it is the last to end.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterable

from kohakuriver_process.shepherd import groups, tree
from kohakuriver_process.shepherd.body import Body
from kohakuriver_process.shepherd.loop import Loop
from kohakuriver_process.shepherd.tree import DEAD, STOPPED, Process

MARK = "KOHAKURIVER_ATTEMPT"
FIRST_DELAY = 0.001
LONGEST_DELAY = 0.05
QUICK_LOOKS = 20
#: looks that must all find nothing: one that forks and ends while the table is read is seen in none of its processes
EMPTY_LOOKS = 3


class Hunt:
    """Looks for processes below the shepherd. Knows all bodies, to tell one's processes from another's."""

    def __init__(self, loop: Loop, bodies: dict[str, Body]) -> None:
        self._loop = loop
        self._bodies = bodies
        #: the body that began each session, until it is over
        self.sessions: dict[int, Body] = {}
        #: who was killed as a part of what
        self._hunted: dict[int, Body] = {}

    def owner(self, pid: int) -> Body | None:
        """Whose orphan the process was that has died and was not waited for yet; None when that cannot be told."""
        hunted = self._hunted.pop(pid, None)
        if hunted is not None or pid in self.sessions:
            return hunted
        dead = tree.look(pid)
        return None if dead is None else self.sessions.get(dead.session)

    def awaited(self, body: Body) -> bool:
        """Whether something of the body was killed and perhaps not waited for yet."""
        return any(owner is body for owner in self._hunted.values())

    def forget(self, body: Body) -> None:
        """Nothing of the body is left."""
        self.sessions.pop(body.pid, None)
        self._hunted = {pid: owner for pid, owner in self._hunted.items() if owner is not body}

    def members(self, body: Body) -> list[Process]:
        """The living processes of the body."""
        if body.cage is None:
            return self._by_descent(body)
        found = [tree.look(pid) for pid in groups.members(body.cage)]
        return [process for process in found if process is not None and process.state not in DEAD]

    def _by_descent(self, body: Body) -> list[Process]:
        direct = tree.children(os.getpid())
        if direct is not None and body.phase != "running" and self.sessions.keys() >= set(direct):
            return []
        table = tree.everything()
        roots = [process for process in table.values() if process.parent == os.getpid()]
        mine = [root.pid for root in roots if self._belongs(root, body)]
        return [process for process in tree.below(mine, table) if process.state not in DEAD]

    def _belongs(self, root: Process, body: Body) -> bool:
        running = [other for other in self._bodies.values() if other.phase == "running"]
        if any(root.pid == other.pid for other in running):
            return root.pid == body.pid
        if root.session == body.pid:
            return True
        mark = tree.marks(root.pid, [MARK]).get(MARK)
        owner = next((other for other in self._bodies.values() if other.going and other.attempt == mark), None)
        if owner is not None:
            return owner is body
        return not any(other is not body and other.start <= root.start for other in running)

    def kill(self, body: Body, done: Callable[[], None], delay: float = FIRST_DELAY) -> None:
        """Kills every process of the body, again and again until none is left, then calls done."""
        if self._one_pass(body):
            done()
            return
        self._loop.after(delay, lambda: self.kill(body, done, min(2 * delay, LONGEST_DELAY)))

    def _one_pass(self, body: Body) -> bool:
        if body.cage is not None:
            self._hunted.update(dict.fromkeys(groups.members(body.cage), body))
            if not groups.kill(body.cage):
                return False
        # also what was root and left the group
        found = next((found for _ in range(EMPTY_LOOKS) if (found := self._by_descent(body))), [])
        if not found:
            return True
        self._hunted.update(dict.fromkeys((process.pid for process in found), body))
        tree.send(found, signal.SIGSTOP)
        tree.send([*found, *self._late(body, found)], signal.SIGKILL)
        self._kill_fast(body, found)
        return False

    def _kill_fast(self, body: Body, found: Iterable[Process]) -> None:
        """For those that fork faster than all of /proc is read: whole process groups at once, then what they leave."""
        for group in {process.group for process in found} - {0, 1, os.getpgrp()}:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        for _ in range(QUICK_LOOKS):
            strays = [pid for pid in tree.children(os.getpid()) or () if pid not in self.sessions]
            if not strays:
                return
            seen = [process for pid in strays if (process := tree.look(pid)) is not None and process.state not in DEAD]
            tree.send([process for process in seen if self._belongs(process, body)], signal.SIGKILL)

    def _late(self, body: Body, seen: Iterable[Process]) -> list[Process]:
        pids = {process.pid for process in seen}
        return [process for process in self._by_descent(body) if process.pid not in pids]

    def pause(self, body: Body, done: Callable[[], None], delay: float = FIRST_DELAY) -> None:
        """Stops every process of the body and calls done when none runs any more, or when the body ended."""
        if body.phase != "running" or not body.paused or self._is_still(body):
            done()
            return
        self._loop.after(delay, lambda: self.pause(body, done, min(2 * delay, LONGEST_DELAY)))

    def _is_still(self, body: Body) -> bool:
        if body.cage is not None:
            groups.freeze(body.cage)
            return groups.frozen(body.cage)
        found = self.members(body)
        moving = [process for process in found if process.state not in STOPPED and not tree.will_stop(process)]
        tree.send(moving, signal.SIGSTOP)
        return not moving

    def resume(self, body: Body) -> None:
        """Lets every process of the body go on."""
        if body.cage is not None:
            groups.thaw(body.cage)
        else:
            tree.send(self.members(body), signal.SIGCONT)
