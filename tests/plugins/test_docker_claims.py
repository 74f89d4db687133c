"""Whose processes are on a card: a container's are known by its id in the paths of their control groups."""

import os
from pathlib import Path

import pytest
from kohakuriver_docker.usage import owners

from kohakuriver.testing.contracts.backend import until_up
from kohakuriver.testing.dockerd import Dockerd

from .docker_kit import DockerKit, begin, processes_of

ONE, TWO = "a" * 64, "b" * 64


def test_processes_are_known_by_the_control_groups_of_their_containers(tmp_path: Path) -> None:
    paths = {
        11: f"0::/system.slice/docker-{ONE}.scope\n",
        12: f"0::/docker/{TWO}/made/below\n",
        13: f"12:memory:/docker/{ONE}\n11:cpu,cpuacct:/docker/{ONE}\n",
        14: "0::/user.slice/session-1.scope\n",
        15: f"0::/docker/{'c' * 64}\n",
    }
    for pid, text in paths.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(text)
    claimed = owners({"1.1": ONE, "2.1": TWO}, [*paths, 16], tmp_path)
    assert claimed == {11: "1.1", 12: "2.1", 13: "1.1"}


@pytest.mark.docker
async def test_every_process_of_a_real_container_is_claimed(tmp_path: Path, dockerd: Dockerd) -> None:
    kit = DockerKit(tmp_path, dockerd)
    async with kit.open() as backend:
        handle, run = await begin(backend, kit.job(kit.programs.stubborn()))
        await until_up(backend, handle, run)
        pids = processes_of(handle.data["container"])
        assert len(pids) >= 2
        claimed = await backend.claim([handle], [*pids, os.getpid()])
        assert os.getpid() not in claimed
        assert set(claimed.values()) == {handle.data["instance"]}
        await backend.remove(handle)
