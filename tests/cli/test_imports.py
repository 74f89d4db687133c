"""What the commands of every day may load: each of these packages costs more than the whole command may."""

import os
import subprocess
import sys

import pytest

from tests.client.scripted import Peer, Reply

HEAVY = {
    "aiohttp", "asyncio", "textual", "rich", "typer", "pydantic", "asyncssh", "tortoise", "msgspec", "argon2", "pluggy",
    "cryptography", "psutil", "logging", "urllib.request", "importlib.metadata",
}  # fmt: skip
LIGHTER = {"dataclasses", "inspect", "ssl", "shutil", "threading", "subprocess", "tomllib", "difflib"}
CODE = """
import sys
from kohakuriver.cli.main import run
code = run(sys.argv[1:])
print("\\n".join(sys.modules), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("words", "light"),
    [
        (["task", "list"], True),
        (["task", "submit", "--", "true"], True),
        (["task", "submit", "-t", "n::0", "-m", "8G", "--", "true"], False),
        (["task", "logs", "7"], True),
        (["task", "kill", "7"], True),
        (["node", "list"], True),
        (["status"], True),
        (["--help"], True),
        (["task", "--help"], True),
    ],
)
def test_commands_of_every_day_load_nothing_heavy(home, peer: Peer, words: list[str], light: bool) -> None:
    empty = {"items": [], "next": None}
    peer.on("GET", "/api/v1/tasks", empty)
    peer.on("GET", "/api/v1/nodes", empty)
    peer.on("POST", "/api/v1/tasks", Reply({"batch": "7", "tasks": ["7"]}, status=201))
    peer.on("GET", "/api/v1/tasks/7/output/stdout", b"")
    peer.on("POST", "/api/v1/tasks/7/kill", {"id": "7"})
    numbers = dict.fromkeys(("cores", "cores_reserved", "memory", "memory_reserved", "gpus", "gpus_reserved"), 0)
    peer.on("GET", "/api/v1/status", {"cluster": "c", "version": "1", "nodes": {}, "tasks": {}, "user": "u", **numbers})
    ran = subprocess.run(
        [sys.executable, "-S", "-c", "import site, sys; site.main(); before = set(sys.modules)\n" + CODE, *words],
        capture_output=True, text=True, env={**os.environ, "KOHAKURIVER_URL": peer.url}, check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    loaded = set(ran.stderr.split())
    assert "kohakuriver.cli.main" in loaded
    assert not loaded & (HEAVY | (LIGHTER if light else set()))
