"""D1 and D2: what a command of every day costs as a whole process, and what it loads."""

import subprocess
import sys
import time
from pathlib import Path

from figures import PAIRS, Book, median, ratios
from serving import ROOT, Cluster, Place

COMMANDS = (
    ["task", "list"],
    ["task", "submit", "--", "true"],
    ["node", "list"],
    ["--help"],
)
#: each of these costs more than a whole command may
FORBIDDEN = ("aiohttp", "asyncio", "textual", "rich", "typer", "pydantic", "asyncssh", "tortoise")
LOADED = """
import sys
from kohakuriver.cli.main import run
try:
    run(sys.argv[1:])
except SystemExit:
    pass
print("\\n" + " ".join(sys.modules), file=sys.stderr)
"""


def commands(book: Book, *, full: bool) -> None:
    """D1, each against the bare interpreter in turns; D2."""
    times = 20 if full else 8
    with Place() as place:
        cluster = Cluster(place)
        cluster.start_host()
        for name in ("node1", "node2", "node3"):
            cluster.credential(name)
        cluster.talk.submit(["true"], copies=50)
        env = {**cluster.host.env, "KOHAKURIVER_URL": cluster.talk.url, "KOHAKURIVER_TOKEN": cluster.talk.token}
        for words in COMMANDS:
            bare = [sys.executable, "-c", "pass"]
            pairs = [(timed([*program(), *words], env), timed(bare, env)) for _ in range(max(times, PAIRS))]
            what, took, found = " ".join(words), [a for a, _ in pairs], ratios(pairs)
            book.add("D1", f"`{what}`, whole process, p50", median(took) * 1e3, "ms", goal=60.0,
                     spread=[t * 1e3 for t in took])  # fmt: skip
            book.add("D1", f"`{what}` / bare interpreter", median(found), "x", goal=7.0, spread=found,
                     note=f"bare {median([b for _, b in pairs]) * 1e3:.1f} ms")  # fmt: skip
        loaded = {name for words in COMMANDS for name in modules(words, env)}
        guilty = sorted(loaded & set(FORBIDDEN))
        book.add("D2", "forbidden packages loaded by those commands", len(guilty), "", goal=0,
                 note=", ".join(guilty) or f"none of {', '.join(FORBIDDEN)}")  # fmt: skip


def program() -> list[str]:
    """The installed command, else the module."""
    script = Path(sys.executable).with_name("kohakuriver")
    return [str(script)] if script.exists() else [sys.executable, "-m", "kohakuriver"]


def timed(words: list[str], env: dict[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(words, env=env, cwd=ROOT, capture_output=True, check=False)
    took = time.perf_counter() - began
    assert done.returncode == 0, done.stderr[-1000:]
    return took


def modules(words: list[str], env: dict[str, str]) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words], env=env, cwd=ROOT, capture_output=True, text=True, check=False
    )
    return set(done.stderr.splitlines()[-1].split())
