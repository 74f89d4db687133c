"""Completions, by real shells where they are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kohakuriver.cli.completing import places, script
from tests.client.scripted import Peer, Reply


@pytest.fixture
def shell(home: Path, peer: Peer, monkeypatch) -> Path:
    """A folder on PATH with the program."""
    program = home / "bin" / "kohakuriver"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m kohakuriver "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("KOHAKURIVER_URL", peer.url)
    return program.parent


def in_bash(*words: str) -> list[str]:
    typed = " ".join(f"'{word}'" for word in words)
    code = f"""eval "$(kohakuriver completion bash)"
COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _kohakuriver
printf '%s\\n' "${{COMPREPLY[@]}}" """
    ran = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stderr == ""
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["kohakuriver", "ta"], ["task"]),
        (["kohakuriver", "-H", "h", "task", "sub"], ["submit"]),
        (["kohakuriver", "auth", "token", ""], ["list", "create", "revoke"]),
        (["kohakuriver", "task", "submit", "--time"], ["--timeout", "--time-limit"]),
        (["kohakuriver", "ps", "-o", "j"], ["json"]),
        (["kohakuriver", "user", "role", "ann", "oper"], ["operator"]),
        (["kohakuriver", "completion", "f"], ["fish"]),
    ],
)
def test_bash_completes_words_of_the_grammar(shell: Path, words: list[str], found: list[str]) -> None:
    assert sorted(in_bash(*words)) == sorted(found)


def test_bash_completes_what_the_host_knows(shell: Path, peer: Peer) -> None:
    peer.on(
        "GET", "/api/v1/tasks", {"items": [{"id": "12", "name": "train"}, {"id": "34", "name": None}], "next": None}
    )
    peer.on("GET", "/api/v1/nodes", {"items": [{"name": "n1"}, {"name": "m1"}], "next": None})
    assert in_bash("kohakuriver", "logs", "") == ["12", "34", "train"]
    assert in_bash("kohakuriver", "node", "drain", "n") == ["n1"]
    assert in_bash("kohakuriver", "task", "submit", "-t", "m") == ["m1"]


@pytest.mark.parametrize("reply", [Reply(status=401), Reply({"items": 3}), Reply(breaks=True), Reply([1])])
def test_a_host_that_cannot_say_is_silence(call, peer: Peer, reply: Reply) -> None:
    peer.on("GET", "/api/v1/tasks", reply)
    assert call("__complete", "tasks", "1") == (0, "", "")
    assert call("__complete", "nonsense") == (0, "", "")


def test_each_place_of_the_grammar_is_there_once() -> None:
    paths = [place.path for place in places()]
    assert len(paths) == len(set(paths))
    assert {"", "task submit", "auth token create", "run", "config show"} <= set(paths)


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_scripts_are_accepted_by_the_shells_that_are_here(name: str) -> None:
    text = script(name)
    assert "__complete" in text
    assert "submit" in text
    if shutil.which(name):
        check = subprocess.run([name, "-n"], input=text, capture_output=True, text=True, check=False, timeout=60)
        assert (check.returncode, check.stderr) == (0, "")


def test_the_predecessors_place_still_leads_there(call) -> None:
    assert call("config", "completion", "fish").out == script("fish") + "\n"
    assert call("config", "completion", "tcsh").code == 2
