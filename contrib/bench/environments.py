"""G1 to G5: environments from a container on the builder to a node, typed as people type it, against `docker save` and
`docker load` of the same image in the same run.
"""

import threading
import time
from dataclasses import dataclass

from figures import Book, median
from shop import Packaged, Shop, a_shop

from kohakuriver.testing.dockerd import why_not

FIGURES = ("G1", "G2", "G3", "G4", "G5")
#: bytes of the tree's files
LARGE, SMALL = 900_000_000, 60_000_000
#: bytes of the change
LAYER = 8 << 20
MB = 1e6
NODE = "node1"
#: environment containers
OTHERS, TREE = ("other",), "tree"
TASKS = 20


def environments(book: Book, names: set[str], *, full: bool) -> None:
    """Those that are named; with none all, but G4 with `full` alone."""
    wanted = names & set(FIGURES) or {*FIGURES} - ({"G4"} if not full else set())
    if reason := why_not():
        for name in FIGURES:
            book.add(name, "environments", 0, "", note=f"not measured: {reason}")
        return
    with a_shop() as shop:
        if wanted != {"G4"}:
            shop.add_node(NODE)
            _first(book, shop, LARGE if full else SMALL)
            number = _changed(book, shop, 5 if full else 2)
            if "G3" in wanted:
                _unchanged(book, shop, number, 30 if full else 12)
            if "G5" in wanted:
                _crowd(book, shop)
    if "G4" in wanted:
        with a_shop() as shop:
            _nodes(book, shop, 10 if full else 3)


@dataclass(frozen=True, kw_only=True)
class Way:
    """One version from its container to a node, in seconds, ours and by hand."""

    made: Packaged
    #: what the first start took longer than later ones
    came: float
    #: bytes to the node, and of the tar
    moved: int
    tar: int
    saved: float
    loaded: float

    @property
    def whole(self) -> float:
        return (self.made.took + self.came) / (self.saved + self.loaded)

    @property
    def bare(self) -> float:
        """Without the commit: `docker save` begins with an image."""
        return (self.made.took - self.made.commit + self.came) / (self.saved + self.loaded)

    def told(self) -> str:
        return (
            f"`tar create` {self.made.took:.2f} s, {self.made.commit:.2f} of it the daemon's commit; brought in "
            f"{self.came:.2f} s; by hand {self.saved:.2f} + {self.loaded:.2f} s"
        )


def _way(shop: Shop, name: str, turn: int) -> Way:
    """Packages the container and brings it, by hand before or after: the second finds more in memory."""
    made = shop.package(name)
    reference = shop.reference(name, made.number)
    by_hand = shop.by_hand(reference) if turn % 2 else None
    before = shop.taps[NODE].bytes
    first = shop.run(name, NODE)
    moved = shop.taps[NODE].bytes - before
    came = max(0.0, first - median([shop.run(name, NODE) for _ in range(3)]))
    saved, loaded, tar = by_hand or shop.by_hand(reference)
    return Way(made=made, came=came, moved=moved, tar=tar, saved=saved, loaded=loaded)


def _first(book: Book, shop: Shop, most: int) -> None:
    """G2: nothing of it is on the node."""
    ways = []
    for turn, name in enumerate((*OTHERS, TREE)):
        size = shop.fill(name, most)
        ways.append(_way(shop, name, turn))
    parts = [way.moved / way.tar for way in ways]
    book.add("G2", "first copy: bytes to the node / the tar", median(parts), "x", goal=0.45, spread=parts,
             note=f"{size / MB:.0f} MB of files, {ways[-1].moved / MB:.0f} of {ways[-1].tar / MB:.0f} MB")  # fmt: skip
    _times(book, "G2", "first copy", ways, 1.2)


def _changed(book: Book, shop: Shop, rounds: int) -> int:
    """G1: one layer more, on all sides. The newest version."""
    ways = []
    for turn in range(rounds):
        shop.change(TREE, LAYER)
        ways.append(_way(shop, TREE, turn))
    parts = [way.moved / LAYER for way in ways]
    book.add("G1", "8 MB changed: bytes to the node / the layer", median(parts), "x", goal=1.2, spread=parts)
    _times(book, "G1", "8 MB changed", ways, 0.1)
    return ways[-1].made.number


def _times(book: Book, name: str, what: str, ways: list[Way], goal: float) -> None:
    """Both readings of the goal: with the commit, and without it."""
    whole, bare = [way.whole for way in ways], [way.bare for way in ways]
    typical = sorted(ways, key=lambda way: way.whole)[len(ways) // 2]
    book.add(name, f"{what}: packaged and brought / (save + load)", median(whole), "x", goal=goal, spread=whole,
             note=typical.told())  # fmt: skip
    book.add(name, f"{what}: the same without the daemon's commit", median(bare), "x", goal=goal, spread=bare)


def _unchanged(book: Book, shop: Shop, number: int, count: int) -> None:
    """G3: the same image, once as an environment and once as an image that is there."""
    talk = shop.cluster.talk
    ways = {"container": f"{TREE}:{number}", "image": shop.reference(TREE, number)}
    took: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(count):
        for way, what in ways.items():
            began = time.perf_counter()
            (task,) = talk.submit(["true"], cores=0, targets=[NODE], **{way: what})
            assert talk.until_ended(task)["status"] == "completed"
            took[way].append((time.perf_counter() - began) * 1e3)
    more = [ours - bare for ours, bare in zip(took["container"], took["image"], strict=True)]
    book.add("G3", "nothing changed: added to a task's start", median(more), "ms", goal=50.0, spread=more,
             note=f"{count} pairs with the same image by its name; {median(took['container']):.0f} ms "
                  f"submit to finished, {median(took['image']):.0f} ms")  # fmt: skip


def _crowd(book: Book, shop: Shop) -> None:
    """G5: many tasks at once that lack the same version."""
    shop.change(TREE, LAYER)
    number = shop.package(TREE).number
    tap = shop.taps[NODE]
    before, contents = tap.bytes, tap.contents.copy()
    tasks = shop.cluster.talk.submit(["true"], cores=0, copies=TASKS, targets=[NODE], container=f"{TREE}:{number}")
    ended = [shop.cluster.talk.until_ended(task)["status"] for task in tasks]
    assert set(ended) == {"completed"}, ended
    asked = tap.contents - contents
    book.add("G5", f"{TASKS} tasks, one absent version: transfers of a content", max(asked.values()), "", goal=1,
             note=f"{len(asked)} contents, {(tap.bytes - before) / LAYER:.2f} x the layer in all")  # fmt: skip


def _nodes(book: Book, shop: Shop, count: int) -> None:
    """G4: many nodes at once, each with a daemon of its own, on the cores of this one machine."""
    names = [f"node{number}" for number in range(1, count + 1)]
    for name in names:
        shop.add_node(name)
    shop.fill("one", SMALL)
    shop.fill("many", SMALL)
    number = shop.package("many").number
    shop.package("one")
    began = time.monotonic()
    shop.run("one", names[0])
    alone = time.monotonic() - began
    before = sum(tap.bytes for tap in shop.taps.values())
    threads = [threading.Thread(target=shop.run, args=("many", name)) for name in names]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = time.monotonic() - began
    egress = sum(tap.bytes for tap in shop.taps.values()) - before
    _, _, tar = shop.by_hand(shop.reference("many", number))
    one = egress / count / tar
    book.add("G4", f"{count} nodes at once: bytes out of the host / the tar", egress / tar, "x", goal=2.0,
             note=f"{one:.2f} for each node, {10 * one:.1f} for ten; the goal is for ten nodes")  # fmt: skip
    book.add("G4", f"{count} nodes at once / one node: time", together / alone, "x", goal=2.0,
             note=f"{together:.1f} and {alone:.1f} s, `run` and its start with it; all nodes share this machine's "
                  "cores and its disk")  # fmt: skip
