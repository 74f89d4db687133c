"""Cards in containers, with a stand-in for NVIDIA's runtime hook: what reaches it is what was granted."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from kohakuriver_docker.devices import HOOK

from kohakuriver.hooks.values import Device, Grant
from kohakuriver.testing.dockerd import Dockerd, a_daemon

from .docker_kit import DockerKit, run

pytestmark = pytest.mark.docker

CARDS = [Device(id=f"0000:0{n}:00.0", uuid=f"GPU-{n}", index=n) for n in range(3)]
#: the runtime gives the hook the container's state, with the folder of its specification (OCI runtime specification)
STAND_IN = """#!/bin/sh
cat >{told}/$$.json
cp "$(sed -n 's/.*"bundle":"\\([^"]*\\)".*/\\1/p' {told}/$$.json)/config.json" {told}/$$.json
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the hook writes the specification of each container that it was called for."""
    folder = tmp_path / "told"
    folder.mkdir()
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / HOOK).write_text(STAND_IN.format(told=folder))
    (programs / HOOK).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def daemon(told: Path) -> Iterator[Dockerd]:
    with a_daemon(programs=told.parent / "programs") as made:
        yield made


def asked(told: Path) -> list[str]:
    """NVIDIA_VISIBLE_DEVICES of each container for which the hook was called."""
    found = []
    for path in told.iterdir():
        env = dict(word.partition("=")[::2] for word in json.loads(path.read_text())["process"]["env"])
        found.append(env["NVIDIA_VISIBLE_DEVICES"])
    return sorted(found)


async def test_the_hook_is_told_the_granted_cards_and_no_other(told: Path, daemon: Dockerd, tmp_path: Path) -> None:
    kit = DockerKit(tmp_path, daemon)
    async with kit.open() as backend, asyncio.timeout(120):
        assert (await backend.probe()).facts["cards"] == "by NVIDIA's runtime hook"
        for cards in ((CARDS[0],), (CARDS[1], CARDS[2]), ()):
            job = kit.job(
                ("sh", "-c", 'echo "$NVIDIA_VISIBLE_DEVICES"'),
                grant=Grant(devices=cards),
                env={"NVIDIA_VISIBLE_DEVICES": "all"},
            )
            ended, found = await run(backend, job)
            assert ended.code == 0
            assert found["stdout"].decode().strip() == (",".join(card.uuid or "" for card in cards) or "void")
        assert asked(told) == ["GPU-0", "GPU-1,GPU-2"]
        for _, handle in await backend.found():
            await backend.remove(handle)


async def test_without_the_hook_cards_are_refused(dockerd: Dockerd, tmp_path: Path) -> None:
    kit = DockerKit(tmp_path, dockerd)
    async with kit.open() as backend:
        (found,) = await backend.check(kit.job(("true",), grant=Grant(devices=(CARDS[0],))))
        assert "cannot give cards" in found
