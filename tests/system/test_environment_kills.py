"""Host, builder and node die at random moments of packaging, publishing, fetching and loading: nothing is corrupt or left."""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kohakuriver.testing.dockerd import IMAGE

from . import inventory
from .serving import Server
from .talk import FINAL
from .waits import until
from .workshop import BUILDER, NODE, Workshop, a_workshop, two_daemons

pytestmark = pytest.mark.docker

FULL = bool(os.environ.get("KOHAKURIVER_FULL_LENGTH"))
#: kills of each server in each phase
ROUNDS = 20 if FULL else 1
SEED = 11
NAME = "frail"
#: bytes that are changed before each packaging
CHANGE = (32 if FULL else 8) * 2**20
PATIENCE = 120.0
KEPT = 3
#: seconds between two looks, and how many go by until the host is asked
LOOK, SELDOM = 0.002, 100


@dataclass(frozen=True)
class Phase:
    """A part of what is under way, and how to see from outside that it has begun and is over."""

    name: str
    begun: Callable[[], bool]
    over: Callable[[], bool]
    #: whether everything is, so that it cannot begin any more
    missed: Callable[[], bool]


@dataclass
class Bench:
    """An environment of which version after version is made; `words` has what each of them says, by number."""

    shop: Workshop
    chance: random.Random
    words: dict[int, str] = field(default_factory=dict)
    #: all that were ever there
    known: set[int] = field(default_factory=set)
    #: seconds that each phase took when nobody died
    spans: dict[str, float] = field(default_factory=dict)
    count: int = 0
    before: inventory.Inventory = field(init=False)
    #: contents of the host before the packaging that is under way
    had: set[str] = field(default_factory=set)

    def story(self) -> str:
        return f"{inventory.take(self.shop)}\n{self.shop.cluster.story()}"

    def server(self, who: str) -> Server:
        cluster = self.shop.cluster
        return cluster.host if who == "host" else cluster.runners[who].server

    def revive(self, who: str) -> None:
        """The next life of who was killed, and every node online."""
        self.server(who).start()
        for node in (BUILDER, NODE):
            self.shop.cluster.until_online(node)

    def change(self) -> str:
        """The container gets a word of its own, and much that is new."""
        self.count += 1
        word = f"word-{self.count}"
        daemon = self.shop.daemons[BUILDER]
        (container,) = (name for name in inventory.containers(daemon) if name.endswith(f"-{NAME}"))
        text = f"echo {word} >/etc/word; dd if=/dev/urandom of=/etc/large bs={CHANGE} count=1 2>/dev/null; sync"
        daemon.docker("exec", container, "sh", "-c", text)
        return word

    def order(self) -> str:
        """Begins to package; the operation's id."""
        self.had = {path.name for path in self.shop.medium.iterdir()}
        view = self.shop.cluster.api.post(f"/api/v1/environments/containers/{NAME}/package", {})
        return str(view["id"])

    def operation(self, operation: str) -> dict[str, Any]:
        return dict(self.shop.cluster.api.get(f"/api/v1/operations/{operation}"))

    def is_over(self, operation: str) -> bool:
        return self.operation(operation)["state"] != "running"

    def has_uploads(self) -> bool:
        """Whether a content is on its way to the host, or has come that no version needs yet."""
        found = {path.name for path in self.shop.medium.iterdir()}
        return bool(found - self.had)

    def fetch(self) -> Path | None:
        """Where the node puts a version together, while it does."""
        found = sorted((self.shop.cluster.runners[NODE].data / "environments" / "fetch").glob("*/*"))
        return found[0] if found else None

    def is_whole(self) -> bool:
        """Whether all of it has come: the index is written last."""
        folder = self.fetch()
        return folder is not None and (folder / "image.json").exists()

    def runs(self, task: str) -> bool:
        return self.shop.cluster.api.status(task) not in {"pending", "assigned", "starting"}

    def until_quiet(self) -> None:
        """Until no operation is under way any more."""

        def look() -> bool:
            found = self.shop.cluster.api.get("/api/v1/operations")["items"]
            return all(one["state"] != "running" for one in found)

        until(look, within=PATIENCE, what="no operation is under way", tell=self.story)

    def measure(self) -> None:
        """How long each phase takes when nobody dies."""
        word = self.change()
        operation = self.order()
        for phase in (packaging(self, operation), publishing(self, operation)):
            self._time(phase)
        self.words[self.versions()[0]] = word
        task = self.submit()
        for phase in (fetching(self, task), loading(self, task)):
            self._time(phase)
        self.says(task, word)

    def _time(self, phase: Phase) -> None:
        began = self.watch(phase)
        while not phase.over():
            assert time.monotonic() - began < PATIENCE, f"{phase.name} is not over\n{self.story()}"
            time.sleep(LOOK)
        self.spans[phase.name] = time.monotonic() - began

    def package(self, word: str) -> int:
        """A version that must come to be."""
        operation = self.order()
        view = until(
            lambda: (now := self.operation(operation))["state"] != "running" and now,
            within=PATIENCE, what="the version is made", tell=self.story,
        )  # fmt: skip
        assert view["state"] == "done", f"{view}\n{self.story()}"
        self.words[view["number"]] = word
        return int(view["number"])

    def submit(self, version: int | None = None, node: str = NODE) -> str:
        name = NAME if version is None else f"{NAME}:{version}"
        return self.shop.cluster.api.submit("cat", "/etc/word", container=name, cores=0, targets=[node])

    def says(self, task: str, word: str) -> None:
        """The task has run in the version with this word."""
        view = self.shop.cluster.until_status(task, *FINAL, within=PATIENCE)
        told = lambda: f"{self.shop.cluster.told(task)}\n{self.story()}"  # noqa: E731
        assert view["status"] == "completed", told()
        assert self.shop.cluster.api.output(task).decode() == f"{word}\n", told()

    def versions(self) -> list[int]:
        found = self.shop.versions(NAME)
        self.known |= set(found)
        return found

    def check(self) -> None:
        """Nothing is there but what versions need, once everybody has tidied up."""
        until(
            lambda: not self.wrong(), within=PATIENCE, what="nothing is left over",
            tell=lambda: f"{self.wrong()}\n{self.story()}",
        )  # fmt: skip

    def wrong(self) -> list[object]:
        """What is there and should not be, and what should be and is not."""
        self.versions()
        found, needed = inventory.take(self.shop), inventory.needed(self.shop)
        wrong: list[object] = sorted(found.contents ^ needed)
        (container,) = self.shop.cluster.api.get("/api/v1/environments/containers")["items"]
        wrong += [] if container["state"] == "running" else [container]
        wrong += sorted(found.containers[BUILDER] ^ self.before.containers[BUILDER]) + sorted(found.containers[NODE])
        wrong += [(node, name) for node, names in found.images.items() for name in names if not self.is_due(name)]
        return wrong + sorted(found.files - self.before.files)

    def is_due(self, image: str) -> bool:
        """The image that all began with, and those of versions that there are or were, stay until they are pruned."""
        _, _, number = image.rpartition(f"/{NAME}:")
        return image == IMAGE or (number.isdigit() and int(number) in self.known)

    def watch(self, phase: Phase) -> float:
        """When it began, as closely as it can be seen."""
        deadline, looks = time.monotonic() + PATIENCE, 0
        while not phase.begun():
            looks += 1
            if looks % SELDOM == 0 and phase.missed():
                break
            assert time.monotonic() < deadline, f"{phase.name} did not begin\n{self.story()}"
            time.sleep(LOOK)
        return time.monotonic()

    def kill(self, who: str, phase: Phase) -> bool:
        """Kills at a moment of the phase; whether it was still in it."""
        self.watch(phase)
        ends = time.monotonic() + self.chance.uniform(0.0, 0.8 * self.spans[phase.name])
        while time.monotonic() < ends:
            time.sleep(LOOK)
        inside = not phase.over()
        self.server(who).kill()
        return inside


def packaging(bench: Bench, operation: str) -> Phase:
    """From the order to the first byte on the host."""
    return Phase("packaging", lambda: True, bench.has_uploads, lambda: bench.is_over(operation))


def publishing(bench: Bench, operation: str) -> Phase:
    return Phase("publishing", bench.has_uploads, lambda: bench.is_over(operation), lambda: bench.is_over(operation))


def fetching(bench: Bench, task: str) -> Phase:
    return Phase("fetching", lambda: bench.fetch() is not None, bench.is_whole, lambda: bench.runs(task))


def loading(bench: Bench, task: str) -> Phase:
    return Phase("loading", bench.is_whole, lambda: bench.fetch() is None, lambda: bench.runs(task))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with two_daemons() as daemons, a_workshop(daemons, environment_versions_kept=KEPT) as shop:
        shop.create(NAME)
        made = Bench(shop, random.Random(SEED))
        made.measure()
        made.before = inventory.take(shop)
        made.check()
        yield made


@pytest.mark.parametrize("who", ["host", BUILDER])
@pytest.mark.parametrize("make", [packaging, publishing])
def test_a_kill_while_a_version_is_made(bench: Bench, make: Callable[[Bench, str], Phase], who: str) -> None:
    """Acceptance 2: the version is there as a whole or not at all, and the next one comes to be."""
    hits = 0
    for _ in range(ROUNDS):
        word, known = bench.change(), set(bench.versions())
        operation = bench.order()
        hits += bench.kill(who, make(bench, operation))
        bench.revive(who)
        bench.until_quiet()
        for number in set(bench.versions()) - known:
            bench.words[number] = word
        bench.check()
        newest = max(bench.versions())
        bench.says(bench.submit(newest, BUILDER), bench.words[newest])
        word = bench.change()
        number = bench.package(word)
        bench.says(bench.submit(node=BUILDER), word)
        assert number == max(bench.versions())
        assert not inventory.stale_indexes(bench.shop)
        bench.check()
    print(f"{make.__name__}: {hits} of {ROUNDS} kills of {who} in their midst")


@pytest.mark.parametrize("who", ["host", NODE])
@pytest.mark.parametrize("make", [fetching, loading])
def test_a_kill_while_a_node_gets_a_version(bench: Bench, make: Callable[[Bench, str], Phase], who: str) -> None:
    """Acceptance 2: the task that waits for it runs in it, and so does the next one."""
    hits = 0
    for _ in range(ROUNDS):
        word = bench.change()
        bench.package(word)
        task = bench.submit()
        hits += bench.kill(who, make(bench, task))
        bench.revive(who)
        bench.says(task, word)
        bench.says(bench.submit(), word)
        bench.check()
    print(f"{make.__name__}: {hits} of {ROUNDS} kills of {who} in their midst")
