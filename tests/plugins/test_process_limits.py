"""How a grant becomes an order, for means that this machine may not have."""

from pathlib import Path

import pytest
from kohakuriver_process import limits, orders, systemd
from kohakuriver_process.cgroup2 import Cgroup2
from kohakuriver_process.config import Settings
from kohakuriver_process.limits import Rlimits, Unavailable, choose

from kohakuriver.hooks.values import Grant, Job

ALL = Grant(cpu_milli=1500, memory=256 * 1024**2, pids=50, cpus=(0, 2), numa=1)


@pytest.fixture
def order(tmp_path: Path):
    job = Job(instance="1.1", attempt="1.1", owner="ada", argv=("true",), directory=tmp_path)
    return orders.order(job, settings=Settings(), limits=Rlimits(), me=orders.person(None), shepherd="s")


def tree(tmp_path: Path, *enabled: str, swap: bool = True) -> Cgroup2:
    if swap:
        (tmp_path / "memory.swap.max").touch()
    return Cgroup2(base=tmp_path, enabled=frozenset(enabled), facts={})


def test_version_2_takes_everything_into_one_group(order, tmp_path: Path) -> None:
    means = tree(tmp_path, "cpu", "memory", "pids", "cpuset")
    assert means.refuse(ALL) == []
    means.apply(order, ALL, "s.1.1")
    (group,) = order["groups"]
    assert group["directory"] == order["cage"] == order["memory"] == str(tmp_path / "s.1.1")
    assert dict(group["before"]) == {"cpu.max": "150000 100000", "cpuset.cpus": "0,2", "cpuset.mems": "1"}
    assert dict(group["after"]) == {"memory.max": str(256 * 1024**2), "memory.swap.max": "0", "pids.max": "50"}


def test_version_2_refuses_what_was_not_handed_to_it_and_pins_by_inheritance(order, tmp_path: Path) -> None:
    means = tree(tmp_path, "memory", swap=False)
    assert [words.split()[1] for words in means.refuse(ALL)] == ["cpu", "pids"]
    means.apply(order, Grant(memory=4096, cpus=(1,), numa=0), "s.1.1")
    assert (order["cpus"], order["cells"]) == ([1], [0])
    assert dict(order["groups"][0]["after"]) == {"memory.max": "4096"}


def test_a_scope_of_systemd_is_version_2_below_it(tmp_path: Path) -> None:
    means = systemd.below(str(tmp_path), ["cpu", "memory"])
    assert means.name == "systemd"
    assert means.refuse(Grant(cpu_milli=1000, memory=4096)) == []
    assert means.refuse(Grant(pids=1)) != []


def test_a_shepherd_without_a_scope_takes_no_grant_on_a_systemd_machine() -> None:
    assert systemd.Systemd(prefix=()).refuse(Grant(cpu_milli=1)) != []


@pytest.mark.parametrize("cores", [1, 2, 64])
def test_whole_cores_become_so_many_processors(order, monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    monkeypatch.setattr(limits.os, "sched_getaffinity", lambda _: set(range(8)))
    Rlimits().apply(order, Grant(cpu_milli=cores * 1000, memory=4096), "s.1.1")
    assert len(set(order["cpus"])) == (cores if cores < 8 else 0)
    assert order["address_space"] == 4096


def unavailable():
    raise Unavailable("broken here")


def test_the_first_that_can_hold_cores_and_memory_is_chosen(tmp_path: Path) -> None:
    poor, rich = tree(tmp_path), tree(tmp_path, "cpu", "memory")
    chosen, reasons = choose("auto", {"a": unavailable, "b": lambda: poor, "c": lambda: rich})
    assert chosen is rich
    assert reasons[0] == "a: broken here"
    assert reasons[1].startswith("b: the cpu controller")


def test_without_any_it_is_rlimits_and_a_wanted_one_is_no_guess() -> None:
    assert choose("auto", {"a": unavailable})[0].name == "rlimits"
    with pytest.raises(Unavailable):
        choose("a", {"a": unavailable})
    means, reasons = choose("none", {})
    assert (means.name, means.refuse(ALL)) == ("none", [])
    assert "nothing is enforced" in reasons[0]


def test_the_runner_cannot_hide_who_a_task_is(tmp_path: Path) -> None:
    job = Job(
        instance="1.1",
        attempt="1.1",
        owner="ada",
        argv=("true",),
        directory=tmp_path,
        env={"KOHAKURIVER_ATTEMPT": "2.1", "PATH": "/mine"},
        secrets={"KOHAKURIVER_SHEPHERD": "x"},
    )
    made = orders.order(job, settings=Settings(), limits=Rlimits(), me=orders.person(None), shepherd="s")
    assert made["env"]["KOHAKURIVER_ATTEMPT"] == "1.1"
    assert made["env"]["KOHAKURIVER_SHEPHERD"] == "s"
    assert made["env"]["PATH"] == "/mine"
