"""A scripted host, and a person with an empty home who runs commands."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from kohakuriver.cli.main import run
from tests.client.scripted import Peer


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("KOHAKURIVER")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KOHAKURIVER_CONFIG", str(tmp_path / "config.toml"))
    return tmp_path


@pytest.fixture
def call(home: Path, peer: Peer, monkeypatch: pytest.MonkeyPatch, capfdbinary) -> Callable[..., Ran]:
    """Runs a command against the scripted host."""
    monkeypatch.setenv("KOHAKURIVER_URL", peer.url)
    monkeypatch.setenv("KOHAKURIVER_TOKEN", "kru_test")

    def call(*words: str) -> Ran:
        code = run(words)
        out, err = capfdbinary.readouterr()
        return Ran(code, out.decode(errors="surrogateescape"), err.decode(errors="surrogateescape"))

    return call
