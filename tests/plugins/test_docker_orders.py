"""What a job becomes for the daemon, what is refused, and whose things are whose: told without a daemon."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from kohakuriver_docker import devices, mounts, order, orphans, probe, refusals
from kohakuriver_docker.config import OPERATOR, Options, Settings, socket_path
from kohakuriver_docker.frames import Frames
from kohakuriver_docker.info import Info
from kohakuriver_docker.names import Names

from kohakuriver.errors import Invalid, PluginError
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.values import Device, Grant, Image, Job, Mount
from kohakuriver.net.process import run_command

CARDS = (Device(id="0000:01:00.0", uuid="GPU-1"), Device(id="0000:02:00.0", uuid="GPU-2"))


def names(node: str = "n") -> Names:
    return Names(
        Context(cluster="c", node=node, boot="b", state=Path("/x"), run=run_command, in_thread=asyncio.to_thread)
    )


def job(**fields: object) -> Job:
    fields.setdefault("image", Image(kind="oci", reference="debian:12"))
    fields.setdefault("options", Options())
    return Job(instance="7.1", attempt="7.1", owner="ada", argv=("true",), directory=Path("/x"), **fields)


def body(settings: Settings | None = None, how: devices.Way | None = None, **fields: object):
    return order.body(job(**fields), settings or Settings(), names(), mounts=(), how=how)


def info(**fields: object) -> Info:
    told = {"InitBinary": "docker-init", **fields}
    return msgspec.convert(told, Info)


def test_an_ordinary_task_has_seven_capabilities_and_gains_none() -> None:
    made = body()["HostConfig"]
    assert made["CapDrop"] == ["ALL"]
    assert set(made["CapAdd"]) == {"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"}
    assert made["SecurityOpt"] == ["no-new-privileges"]
    assert (made["Privileged"], made["PidsLimit"], made["Init"]) == (False, 4096, True)


def test_nothing_of_the_daemons_own_will_happens_to_it() -> None:
    made = body()
    assert made["HostConfig"]["AutoRemove"] is False
    assert made["HostConfig"]["RestartPolicy"] == {"Name": "no"}
    assert made["HostConfig"]["PublishAllPorts"] is False
    assert made["Healthcheck"] == {"Test": ["NONE"]}
    assert made["HostConfig"]["LogConfig"]["Type"] == "local"
    assert "ExposedPorts" not in made
    assert "Volumes" not in made


def test_a_privileged_task_says_so_to_the_daemon() -> None:
    made = body(options=Options(privileged=True))["HostConfig"]
    assert made["Privileged"] is True
    assert "CapDrop" not in made


def test_limits_are_those_of_the_grant() -> None:
    made = body(grant=Grant(cpu_milli=1500, memory=2**26, pids=100))["HostConfig"]
    assert (made["CpuQuota"], made["CpuPeriod"]) == (150_000, 100_000)
    assert (made["Memory"], made["MemorySwap"], made["PidsLimit"]) == (2**26, 2**26, 100)
    assert "CpusetCpus" not in made


def test_whole_cores_are_a_set_of_cpus_with_the_memory_of_their_cell() -> None:
    made = body(grant=Grant(cpu_milli=2000, cpus=(2, 3), numa=1))["HostConfig"]
    assert (made["CpusetCpus"], made["CpusetMems"]) == ("2,3", "1")
    assert "CpuQuota" not in made


def test_the_command_is_the_whole_of_what_runs() -> None:
    made = body()
    assert (made["Entrypoint"], made["Cmd"]) == (["true"], [])


def test_cards_come_by_uuid_and_nobody_gets_the_others() -> None:
    hooked = body(how="hook", grant=Grant(devices=CARDS), env={"NVIDIA_VISIBLE_DEVICES": "all"})
    assert hooked["HostConfig"]["DeviceRequests"] == [
        {"Driver": "nvidia", "DeviceIDs": ["GPU-1", "GPU-2"], "Capabilities": [["gpu"]]}
    ]
    assert "NVIDIA_VISIBLE_DEVICES=GPU-1,GPU-2" in hooked["Env"]
    by_cdi = body(how="cdi", grant=Grant(devices=CARDS))
    assert by_cdi["HostConfig"]["DeviceRequests"] == [
        {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=GPU-1", "nvidia.com/gpu=GPU-2"]}
    ]
    assert "NVIDIA_VISIBLE_DEVICES=void" in by_cdi["Env"]
    without = body(env={"NVIDIA_VISIBLE_DEVICES": "all"})
    assert without["HostConfig"]["DeviceRequests"] == []
    assert "NVIDIA_VISIBLE_DEVICES=void" in without["Env"]
    assert "NVIDIA_VISIBLE_DEVICES=all" not in without["Env"]


def test_how_cards_get_in_is_the_daemons_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    cdi = info(DiscoveredDevices=[{"Source": "cdi", "ID": "nvidia.com/gpu=GPU-1"}], CDISpecDirs=["/etc/cdi"])
    hook = info(Runtimes={"runc": {}, "nvidia": {}})
    assert [devices.way("auto", told) for told in (cdi, hook, info())] == ["cdi", "hook", None]
    assert [devices.way("none", cdi), devices.way("hook", cdi), devices.way("cdi", hook)] == [None, None, None]
    (tmp_path / devices.HOOK).write_text("#!/bin/sh\n")
    (tmp_path / devices.HOOK).chmod(0o755)
    assert devices.way("auto", info()) == "hook"


@pytest.mark.parametrize(
    ("fields", "told", "word"),
    [
        ({"grant": Grant(memory=2**30)}, {"MemoryLimit": False}, "memory"),
        ({"grant": Grant(memory=1024)}, {}, "at least"),
        ({"grant": Grant(cpu_milli=1000)}, {"CpuCfsQuota": False}, "processor time"),
        ({"grant": Grant(cpus=(1,))}, {"CPUSet": False}, "pin"),
        ({"grant": Grant(disk=1)}, {}, "disk"),
        ({"grant": Grant(devices=CARDS)}, {}, "cards"),
        ({"grant": Grant(devices=(Device(id="1"),))}, {"Runtimes": {"nvidia": {}}}, "UUID"),
        ({}, {"PidsLimit": False}, "processes"),
        ({}, {"InitBinary": ""}, "init"),
        ({"image": None}, {}, "image"),
        ({"workdir": "here"}, {}, "absolute"),
        ({"persistent": True}, {}, "started again"),
    ],
)
def test_what_cannot_take_effect_is_refused(fields, told, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (found,) = refusals.refusals(job(**fields), Settings(), info(**told))
    assert word in found


@pytest.mark.parametrize(
    "name", ["debian", "debian:12", "host:5000/a/b_c:T-1", "a@sha256:" + "0" * 64, "sha256:" + "a" * 64, "a.b-c/d__e"]
)
def test_names_of_images(name: str) -> None:
    assert refusals.refusals(job(image=Image(kind="oci", reference=name)), Settings(), info()) == []


@pytest.mark.parametrize("name", ["", "-v", "Debian", "a:b:c", "a b", "a//b", "../a", "a@sha256:1", "x" * 600, "a\n"])
def test_what_is_no_name_of_an_image(name: str) -> None:
    assert refusals.refusals(job(image=Image(kind="oci", reference=name)), Settings(), info())


def resolve(tmp_path: Path, **options: object) -> list[tuple[str, str, bool]]:
    settings = Settings(mounts_allowed=(str(tmp_path / "data"),))
    found = mounts.resolve(job(options=Options(**options)), settings, [tmp_path / "state"])
    return [(str(mount.source), mount.target, mount.read_only) for mount in found]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("data/in", "state/deep", "else"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data/out").symlink_to(tmp_path / "else")
    (tmp_path / "data/back").symlink_to(tmp_path / "data/in")
    return tmp_path


def test_mounts_below_an_allowed_directory(tree: Path) -> None:
    data = f"{tree}/data"
    assert resolve(tree, mounts=(f"{data}:/d", f"{data}/in:/i:ro", f"{data}/back:/b")) == [
        (data, "/d", False),
        (f"{data}/in", "/i", True),
        (f"{data}/in", "/b", False),
    ]


@pytest.mark.parametrize("source", ["else", "data/out", "data/../else", "data/in/../../else", ".", "data/nothing"])
def test_mounts_from_elsewhere_are_refused_with_symlinks_resolved(tree: Path, source: str) -> None:
    with pytest.raises(Invalid):
        resolve(tree, mounts=(f"{tree}/{source}:/x",))


@pytest.mark.parametrize("source", ["state", "state/deep", "."])
def test_the_platforms_own_is_mounted_for_nobody(tree: Path, source: str) -> None:
    with pytest.raises(Invalid, match="belongs"):
        resolve(tree, foreign_mounts=(f"{tree}/{source}:/x",))
    assert resolve(tree, foreign_mounts=(f"{tree}/else:/x",)) == [(f"{tree}/else", "/x", False)]


@pytest.mark.parametrize("source", ["/", "/var/run", "/run"])
def test_what_holds_the_runtimes_socket_is_mounted_for_nobody(tree: Path, source: str) -> None:
    with pytest.raises(Invalid, match="belongs"):
        resolve(tree, foreign_mounts=(f"{source}:/x",))


@pytest.mark.parametrize(
    "target",
    ["/", "//", "x", "/proc", "//proc", "/proc/x", "/sys", "/dev/shm", "/a/../proc", "//kohakuriver/x", "/x:no"],
)
def test_targets_that_are_taken(tree: Path, target: str) -> None:
    with pytest.raises(Invalid):
        resolve(tree, mounts=(f"{tree}/data:{target}",))


def test_a_target_is_mounted_once(tree: Path) -> None:
    with pytest.raises(Invalid, match="two"):
        resolve(tree, mounts=(f"{tree}/data:/x", f"{tree}/data/in://x"))


def test_the_cores_own_mounts_come_as_they_are(tmp_path: Path) -> None:
    given = (Mount(source=tmp_path, target="/local_temp"),)
    assert mounts.resolve(job(mounts=given), Settings(), []) == given


def test_two_runners_have_different_names_and_see_their_own_alone() -> None:
    one, two = names("one"), names("two")
    assert one.container("7.1") != two.container("7.1")
    labels = one.labels(job())
    assert one.is_ours(labels, "7.1")
    assert not one.is_ours(labels, "7.2")
    assert not two.is_ours(labels)
    assert not one.is_ours(None)


def test_the_socket_is_docker_hosts_when_it_is_a_unix_one() -> None:
    assert socket_path(Settings(), {}) == "/var/run/docker.sock"
    assert socket_path(Settings(), {"DOCKER_HOST": "unix:///run/d.sock"}) == "/run/d.sock"
    assert socket_path(Settings(socket="/s"), {"DOCKER_HOST": "tcp://x:1"}) == "/s"
    with pytest.raises(PluginError, match="unix socket"):
        socket_path(Settings(), {"DOCKER_HOST": "tcp://x:1"})


def test_options_that_need_an_operator_are_marked_in_their_schema() -> None:
    found = msgspec.json.schema(Options)["$defs"]["Options"]["properties"]
    assert {name: said[OPERATOR] for name, said in found.items() if OPERATOR in said} == {
        "privileged": True,
        "foreign_mounts": True,
        "network": ["host"],
    }


def test_frames_may_be_cut_anywhere() -> None:
    def frame(kind: int, data: bytes) -> bytes:
        return bytes((kind, 0, 0, 0)) + len(data).to_bytes(4, "big") + data

    whole = frame(1, b"one") + frame(1, b"") + frame(1, b"two") + frame(2, b"\0\xff") + frame(1, b"three")
    for step in (1, 2, 7, 8, 9, len(whole)):
        frames, found = Frames(), {"stdout": b"", "stderr": b""}
        for at in range(0, len(whole), step):
            for name, data in frames.feed(whole[at : at + step]):
                found[name] += data
        assert found == {"stdout": b"onetwothree", "stderr": b"\0\xff"}


@pytest.mark.parametrize(
    ("version", "old"),
    [
        ("1.1.5+ds1", True),
        ("1.2.7", True),
        ("1.2.8", False),
        ("1.3.2", True),
        ("1.3.3", False),
        ("1.4.1", False),
        ("", False),
    ],
)
def test_an_old_runc_is_told(version: str, old: bool) -> None:
    told = info(LiveRestoreEnabled=True)
    told.runc = version
    problems = probe.describe(told, Settings(), "/s").problems
    assert any("runc" in problem for problem in problems) is old


@pytest.mark.parametrize("told", [{"InitBinary": ""}, {"PidsLimit": False}, {"OSType": "windows"}])
def test_a_node_that_would_refuse_every_task_is_not_usable(told: dict[str, object]) -> None:
    found = probe.describe(info(**told), Settings(), "/s")
    assert (found.usable, found.problems[:1]) == (False, tuple(refusals.refusals(job(), Settings(), info(**told))))
    assert probe.describe(info(), Settings(), "/s").usable


def test_only_what_surely_never_ran_is_started_again(tmp_path: Path) -> None:
    container = "a" * 64
    folder = tmp_path / container
    folder.mkdir()
    message = f"failed to start shim: mkdir {folder}: file exists: unknown"
    assert orphans.bundle(container, message) == folder
    assert orphans.bundle("b" * 64, message) is None
    assert orphans.bundle(container, "no such file or directory") is None
    nothing = orphans.Remains(unborn=(), born=(), shims=(1,))
    assert orphans.never_ran(nothing, folder)
    (folder / orphans.MADE).write_text("7")
    assert not orphans.never_ran(nothing, folder)
    assert orphans.never_ran(orphans.Remains(unborn=(7,), born=(), shims=()), folder)
    assert not orphans.never_ran(nothing, None)
    orphans.clear(folder)
    assert not folder.exists()
