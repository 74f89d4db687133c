"""What the machine does with nothing of ours around: a commit, a request, an import. Each in the same run as what it
is compared with.
"""

import asyncio
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

ROWS = 3


class Commits:
    """Raw SQLite, WAL and FULL: the least that a durable submit costs on this disk."""

    def __init__(self, directory: Path) -> None:
        self._connection = sqlite3.connect(directory / "bare.db", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("CREATE TABLE rows(id INTEGER PRIMARY KEY, text TEXT)")
        self._next = 0

    def once(self, rows: int = ROWS) -> float:
        """Seconds of one transaction of so many rows."""
        began = time.perf_counter()
        self._connection.execute("BEGIN IMMEDIATE")
        text = "x" * 300
        self._connection.executemany(
            "INSERT INTO rows VALUES(?, ?)", [(self._next + number, text) for number in range(rows)]
        )
        self._connection.execute("COMMIT")
        took = time.perf_counter() - began
        self._next += rows
        return took

    def close(self) -> None:
        self._connection.close()


@contextmanager
def bare_server(answer: int = 100) -> Iterator[str]:
    """An aiohttp server that reads JSON and answers JSON of so many bytes; its URL."""
    server = subprocess.Popen(
        [sys.executable, __file__, str(answer)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def imported(module: str) -> float:
    """MiB that an interpreter has after one import."""
    code = f"import {module}; import re; print(re.search(r'VmRSS:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) / 1024


def hyperqueue(count: int, slots: int) -> dict[str, float] | str:
    """Tasks a second and seconds of one task in HyperQueue, or why it is not measured. It listens on all addresses,
    so it gets a network namespace of its own.
    """
    with tempfile.TemporaryDirectory(prefix="krb-") as top:
        known = subprocess.run([sys.executable, "-c", "import hyperqueue"], capture_output=True, check=False)
        words = [sys.executable, "-m", "pip", "install", "--quiet", "--target", top, "hyperqueue"]
        if known.returncode != 0 and subprocess.run(words, capture_output=True, check=False).returncode != 0:
            return "the package hyperqueue cannot be installed"
        script = Path(__file__).with_name("hq.py")
        words = ["unshare", "--net", "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$0" "$@"', sys.executable]
        done = subprocess.run(
            [*words, str(script), top, str(count), str(slots)], capture_output=True, text=True, check=False, timeout=120
        )
        if done.returncode != 0:
            return f"hyperqueue did not run: {done.stderr.strip().splitlines()[-1:]}"
        return dict(json.loads(done.stdout.splitlines()[-1]))


async def _serve(answer: int) -> None:
    data = json.dumps({"items": "x" * answer}).encode()

    async def take(request: web.Request) -> web.Response:
        if request.can_read_body:
            await request.json()
        return web.Response(body=data, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
