"""Nodes of a model: a journal with an outbox that keep to contracts.md §1, and what really happened on them."""

from collections import Counter
from dataclasses import dataclass, field

from kohakuriver.testing.runners import Peer
from kohakuriver.wire import link

from .kit import exited

ENDED = {"exited", "closed"}


@dataclass
class Body:
    """One attempt in a journal."""

    phase: str
    wanted: str = "run"
    revision: int = 0


@dataclass
class Machine:
    """A node: its journal with its outbox, and the session that it has just now."""

    name: str
    peer: Peer | None = None
    epoch: int = 1
    seq: int = 0
    journal: dict[str, Body] = field(default_factory=dict)
    outbox: list[link.Report] = field(default_factory=list)
    #: how many of the host's messages were taken, of this session
    taken: int = 0
    #: what really happened, as nobody else knows it: starts and exit codes
    starts: Counter = field(default_factory=Counter)
    exits: dict[str, int | None] = field(default_factory=dict)

    @property
    def linked(self):
        return self.peer is not None and self.peer.member.connected

    def report(self, what, attempt, **fields):
        self.seq += 1
        self.outbox.append(link.Report(seq=self.seq, attempt=attempt, what=what, **fields))

    def take(self, message, *, refuse):
        """Does what the host says, as contrib/notes/wire.md has it."""
        match message:
            case link.Assign():
                self.assigned(message, refuse=refuse)
            case link.WantedSet():
                for wish in message.wishes:
                    self.wish(wish)
            case link.Ack():
                self.outbox = [report for report in self.outbox if report.seq > message.seq]
            case link.Forget():
                for attempt in message.attempts:
                    if attempt in self.journal and self.journal[attempt].phase in ENDED:
                        del self.journal[attempt]

    def assigned(self, message, *, refuse):
        if message.attempt in self.journal:
            return
        if refuse:
            self.journal[message.attempt] = Body(phase="closed")
            self.report(refuse, message.attempt, reason="not now")
            return
        self.journal[message.attempt] = Body(phase="accepted", wanted=message.wanted, revision=message.revision)
        self.report("accepted", message.attempt)

    def wish(self, wish):
        body = self.journal.get(wish.attempt)
        if body is None:
            if wish.wanted in {"killed", "stopped"}:
                self.journal[wish.attempt] = Body(phase="closed")
            self.report("unknown", wish.attempt)
            return
        if wish.revision <= body.revision or body.wanted == "killed":
            return
        body.revision, body.wanted = wish.revision, wish.wanted

    def step(self, attempt, code):
        """One thing that may happen to a body."""
        body = self.journal[attempt]
        match body.phase:
            case "accepted" if body.wanted == "killed":
                body.phase = "closed"
                self.report("never_started", attempt)
            case "accepted" if body.wanted == "run":
                body.phase = "running"
                self.starts[attempt] += 1
                self.report("started", attempt)
            case "running" | "paused" if body.wanted == "killed":
                self.end(attempt, None, signalled="killed")
            case "running" if body.wanted == "paused":
                body.phase = "paused"
                self.report("paused", attempt)
            case "paused" if body.wanted == "run":
                body.phase = "running"
                self.report("resumed", attempt)
            case "running":
                self.end(attempt, code)

    def end(self, attempt, code, **fields):
        self.journal[attempt].phase = "exited"
        self.exits[attempt] = code
        self.report("exited", attempt, **exited(code, **fields))
