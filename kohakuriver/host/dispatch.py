"""What a node should have, against what it says it has. All of it is derived from rows and may come twice."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kohakuriver.domain.lifecycle import ENDING
from kohakuriver.domain.tasks import HOLDING, Status, Task, Wanted
from kohakuriver.host.assignment import assignment
from kohakuriver.host.board import Board
from kohakuriver.host.clock import Clock
from kohakuriver.host.roster import Member, Roster
from kohakuriver.wire import link

log = logging.getLogger(__name__)

#: seconds after which something is sent again that has shown no effect
AGAIN = 5.0
#: messages waiting for a node that reads slowly, beyond which nothing is sent again
MOST_BACKLOG = 1000
TICK = 1.0
#: phases of an inventory that mean more than a task's status here
OVER = frozenset({"exited", "closed"})
RUNS = frozenset({"running", "paused"})
BEYOND = {status: OVER | RUNS if status in {Status.ASSIGNED, Status.STARTING} else OVER for status in HOLDING}


@dataclass(kw_only=True)
class Dispatch:
    """Sends assignments and wishes to the live sessions."""

    board: Board
    roster: Roster
    clock: Clock
    #: the name of a user by id
    owner: Callable[[int], str]
    #: the version of an environment, by its full name
    environment: Callable[[str | None], link.WireVersion | None] = lambda _: None
    _sent: dict[str, float] = field(default_factory=dict)
    #: attempts of which a node has heard later wishes than are known here, and by how much
    _ahead: dict[str, int] = field(default_factory=dict)

    def follow(self, before: Task, after: Task) -> None:
        """Called after every committed change of a task."""
        if after.status not in HOLDING:
            self._sent.pop(before.attempt, None)
            self._ahead.pop(before.attempt, None)
            return
        if after.wish != before.wish and before.status in HOLDING:
            self.wish(after)
        elif after.status is Status.ASSIGNED and before.status is not Status.ASSIGNED:
            self.assign(after)

    def assign(self, task: Task) -> None:
        """Sends the assignment if the node is there; otherwise the next session does."""
        member = self.roster.get(task.node or 0)
        reserved = self.board.reserved(task.node or 0).get(task.id)
        if member is None or member.session is None or not member.session.live or reserved is None:
            return
        if task.spec.lease is not None and not member.session.leases:
            log.warning("a runner knows no leases; update it", extra={"action": "assign", "node": member.name})
            return
        self._sent[task.attempt] = self.clock.monotonic()
        member.session.send(assignment(task, reserved, self.owner(task.owner), self.environment(task.spec.container)))

    def wish(self, task: Task) -> None:
        """Sends what is wanted of the current attempt."""
        member = self.roster.get(task.node or 0)
        if member is None or member.session is None or not member.session.live:
            return
        self._sent[task.attempt] = self.clock.monotonic()
        member.session.send(link.WantedSet(wishes=[self._wish_of(task)]))

    def wanted_set(self, member: Member, held: Iterable[link.Held]) -> list[link.WantedSet]:
        """The complete set of wishes for a new session, in pages: all that the node holds or should have accepted."""
        held = list(held)
        at_node = {entry.attempt for entry in held}
        self._compare(member, held)
        wishes = [
            self._wish_of(task)
            for task in self.board.on_node(member.id)
            if task.attempt in at_node or task.status is not Status.ASSIGNED
        ]
        pages = [wishes[at : at + link.PAGE] for at in range(0, len(wishes), link.PAGE)] or [[]]
        return [link.WantedSet(wishes=page, complete=number == len(pages) - 1) for number, page in enumerate(pages)]

    def assign_missing(self, member: Member, held: Iterable[link.Held]) -> None:
        """Sends every assignment that the node has not got, for a session that just became live; and again those with
        which it stands further than is known here, as after the store was restored: it answers where it stands.
        """
        at_node = {entry.attempt: entry.phase for entry in held}
        for task in self.board.on_node(member.id):
            phase = at_node.get(task.attempt)
            if task.status is Status.ASSIGNED if phase is None else phase in BEYOND[task.status]:
                self.assign(task)

    async def run(self) -> None:
        """Looks every second for what has shown no effect."""
        while True:
            await asyncio.sleep(TICK)
            self.tick()

    def tick(self) -> None:
        """Sends again, once in 5 seconds an attempt, what differs from what is wanted."""
        now = self.clock.monotonic()
        for member in self.roster.live():
            if member.session is None or not member.connected or member.session.backlog > MOST_BACKLOG:
                continue
            for task in self.board.on_node(member.id):
                if self._sent.get(task.attempt, float("-inf")) > now - AGAIN:
                    continue
                if task.status is Status.ASSIGNED:
                    self.assign(task)
                elif differs(task):
                    self.wish(task)

    def _wish_of(self, task: Task) -> link.Wish:
        # what is wanted again is ended first; the next attempt is an assignment of its own
        wanted = Wanted.KILLED if task.wanted is Wanted.AGAIN else task.wanted
        revision = task.wish + self._ahead.get(task.attempt, 0)
        return link.Wish(attempt=task.attempt, wanted=wanted.value, revision=revision, grace=task.spec.grace)

    def _compare(self, member: Member, held: Iterable[link.Held]) -> None:
        """A store that was restored knows fewer wishes than its nodes have heard: what is wanted here counts from there
        on, or a node would take every new wish for an old one.
        """
        tasks = {task.attempt: task for task in self.board.on_node(member.id)}
        for entry in held:
            task = tasks.get(entry.attempt)
            if task is not None and entry.wish > task.wish:
                self._ahead[entry.attempt] = entry.wish - task.wish + (entry.wanted != task.wanted.value)


def differs(task: Task) -> bool:
    """Whether the node has not yet made true what is wanted."""
    if task.status is Status.STOPPING:
        return task.wanted in ENDING
    if task.wanted is Wanted.PAUSED:
        return task.status is Status.RUNNING
    return task.wanted is Wanted.RUN and task.status is Status.PAUSED
