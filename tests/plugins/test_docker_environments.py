"""Environment containers against a real daemon: made, packaged, made anew, and whole again whoever dies on the way."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kohakuriver_docker import packaging
from kohakuriver_docker.environments import DockerEnvironments

from kohakuriver.errors import Conflict, Invalid, NotFound, PluginError
from kohakuriver.hooks.values import Image
from kohakuriver.testing.dockerd import IMAGE, Dockerd, image_tree

from .docker_kit import begin
from .environments_kit import IMAGE_OF_TESTS, EnvironmentsKit, Notes, tar_of, tidied, version

pytestmark = pytest.mark.docker
MIB = 1 << 20


@pytest.fixture
def kit(tmp_path: Path, dockerd: Dockerd) -> EnvironmentsKit:
    return EnvironmentsKit(tmp_path, dockerd, node=tmp_path.name)


@pytest.fixture
async def environments(kit: EnvironmentsKit) -> AsyncIterator[DockerEnvironments]:
    async with tidied(kit) as opened:
        yield opened


async def make(environments: DockerEnvironments, name: str = "env") -> None:
    await environments.create(name, IMAGE_OF_TESTS, "busybox", Notes())


async def named(environments: DockerEnvironments, name: str = "env"):
    return next(one for one in await environments.list() if one.name == name)


async def test_one_is_made_runs_stops_starts_and_goes(environments, kit) -> None:
    made = await environments.create("my-env", IMAGE_OF_TESTS, "busybox", Notes())
    assert (made.name, made.state, made.origin, made.shells) == ("my-env", "running", "busybox", 0)
    assert made.base == kit.dockerd.docker("images", "-q", "--no-trunc", IMAGE).strip()
    kit.inside("my-env", "touch", "/var-kept")
    await environments.stop("my-env")
    await environments.stop("my-env")
    assert (await named(environments, "my-env")).state == "stopped"
    await environments.start("my-env")
    await environments.start("my-env")
    assert (await named(environments, "my-env")).state == "running"
    assert kit.inside("my-env", "ls", "/var-kept") == "/var-kept\n"
    await environments.delete("my-env")
    assert kit.ours("my-env") == []
    with pytest.raises(NotFound, match="my-env"):
        await environments.delete("my-env")


async def test_it_says_how_much_was_written(environments, kit) -> None:
    await make(environments)
    before = await named(environments)
    kit.inside("env", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=3")
    assert (await named(environments)).size - (before.size or 0) >= 3 * MIB


async def test_its_profile_lets_packages_be_installed_and_no_more(environments, kit) -> None:
    await make(environments)
    host = kit.inspect("env")["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert set(host["CapAdd"]) >= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "SETFCAP", "SYS_CHROOT"}
    assert "SYS_ADMIN" not in host["CapAdd"]
    assert (host["Privileged"], host["SecurityOpt"], host["Init"]) == (False, ["no-new-privileges"], True)
    assert host["RestartPolicy"]["Name"] in ("", "no")
    assert (host["PortBindings"] or {}, host["PublishAllPorts"], host["AutoRemove"]) == ({}, False, False)
    kit.inside("env", "chown", "7:7", "/etc/word")


async def test_a_name_is_given_once(environments) -> None:
    await make(environments)
    with pytest.raises(Conflict, match="already"):
        await make(environments)


async def test_an_image_without_programs_is_refused_and_leaves_nothing(environments, kit) -> None:
    kit.dockerd.docker("import", "-", "kohakuriver.test/bare:1", input=tar_of({"only": b"a file"}))
    with pytest.raises(PluginError, match="no program sleep"):
        await environments.create("bare", Image(kind="oci", reference="kohakuriver.test/bare:1"), "bare", Notes())
    assert kit.ours("bare") == []
    kit.dockerd.docker("rmi", "kohakuriver.test/bare:1")


async def test_one_that_lost_its_programs_is_broken_and_says_why(environments, kit) -> None:
    await make(environments)
    await environments.stop("env")
    await environments.files("env").delete("/bin/sleep")
    (container,) = kit.ours("env")
    kit.dockerd.docker("start", container)
    kit.dockerd.docker("wait", container)
    found = await named(environments)
    assert (found.state, "sleep" in found.note) == ("broken", True)


async def test_other_peoples_containers_are_not_there_whatever_they_are_called(environments, kit) -> None:
    await make(environments)
    (mine,) = kit.ours("env")
    theirs = mine.removesuffix("env") + "theirs"
    kit.dockerd.docker(
        "run", "-d", "--name", theirs, "--label", "kohakuriver.environment=theirs", IMAGE, "sleep", "999"
    )
    try:
        assert [one.name for one in await environments.list()] == ["env"]
        for call in (environments.start, environments.stop, environments.delete):
            with pytest.raises(NotFound):
                await call("theirs")
        with pytest.raises(NotFound):
            await environments.files("theirs").list("/")
        with pytest.raises(NotFound):
            await environments.shell("theirs", ["sh"], columns=80, rows=24, env={})
        with pytest.raises(Conflict):
            await make(environments, "theirs")
        await environments.sweep({})
        assert kit.dockerd.docker("inspect", "-f", "{{.State.Running}}", theirs).strip() == "true"
    finally:
        kit.dockerd.docker("rm", "-f", theirs)


@pytest.mark.parametrize("name", ["../x", "a/b", "", "A", "a..b", "a" * 64, "env/../../../images"])
async def test_what_is_no_name_reaches_no_container(environments, name: str) -> None:
    for call in (environments.start, environments.delete):
        with pytest.raises(NotFound):
            await call(name)


async def test_tasks_and_environments_do_not_see_each_other(environments, kit, tmp_path: Path) -> None:
    await make(environments)
    async with kit.open() as backend:
        handle, _ = await begin(backend, kit.job(("sleep", "999")))
        try:
            assert [one.name for one in await environments.list()] == ["env"]
            assert len(await backend.found()) == 1
            await environments.sweep({})
            assert (await backend.see(handle)).phase == "running"
        finally:
            await backend.remove(handle)
        assert await backend.found() == []
    assert (await named(environments)).state == "running"


async def test_a_task_of_a_packaged_environment_is_a_task(environments, kit) -> None:
    await make(environments)
    package = await environments.commit("env", force=False, progress=Notes())
    async with kit.open() as backend:
        job = kit.job(("true",), image=Image(kind="oci", reference=package.digest))
        handle, _ = await begin(backend, job)
        assert len(await backend.found()) == 1
        assert [one.name for one in await environments.list()] == ["env"]
        await backend.remove(handle)


async def test_a_change_is_packaged_and_the_container_goes_on_from_it(environments, kit) -> None:
    await make(environments)
    kit.inside("env", "sh", "-c", "echo changed > /etc/word; rm /bin/vi")
    package = await environments.commit("env", force=False, progress=Notes())
    assert (await named(environments)).state == "stopped"
    assert len(package.layers) == 2
    await environments.settle("env", version("env", 1, package))
    found = await named(environments)
    assert (found.state, found.base, found.origin) == ("running", package.digest, "busybox")
    assert kit.inside("env", "cat", "/etc/word") == "changed\n"
    assert kit.pending() == []
    tags = json.loads(kit.dockerd.docker("image", "inspect", package.digest))[0]["RepoTags"]
    assert [tag.rpartition("/")[2] for tag in tags] == ["env:1"]
    await environments.settle("env", version("env", 1, package))
    assert (await named(environments)).state == "running"


async def test_a_second_packaging_carries_the_new_difference_alone(environments, kit) -> None:
    await make(environments)
    kit.inside("env", "dd", "if=/dev/urandom", "of=/first", "bs=1M", "count=60")
    first = await environments.commit("env", force=False, progress=Notes())
    await environments.settle("env", version("env", 1, first))
    kit.inside("env", "dd", "if=/dev/urandom", "of=/second", "bs=1M", "count=8")
    second = await environments.commit("env", force=False, progress=Notes())
    assert [layer.digest for layer in second.layers[:-1]] == [layer.digest for layer in first.layers]
    assert 8 * MIB <= second.layers[-1].size < 9 * MIB


async def test_the_configuration_of_the_image_is_kept(environments, kit, tmp_path: Path) -> None:
    config = {
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["echo hello"],
        "Env": ["PATH=/bin", "A=b c"],
        "WorkingDir": "/tmp",
        "User": "7:8",
        "Labels": {"some": "label"},
        "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD", "true"]},
    }
    base = layered(kit, tmp_path, config, 1)
    await environments.create("env", Image(kind="oci", reference=base), "base", Notes())
    package = await environments.commit("env", force=False, progress=Notes())
    kept = json.loads(package.config)["config"]
    assert {key: kept.get(key) for key in config} | {"Labels": config["Labels"]} == config
    assert {key: value for key, value in kept["Labels"].items() if value} == config["Labels"]


async def test_an_image_without_settings_gets_none(environments) -> None:
    await make(environments)
    package = await environments.commit("env", force=False, progress=Notes())
    kept = json.loads(package.config)["config"]
    assert not kept.get("Entrypoint")
    assert not kept.get("Cmd")
    assert not kept.get("Healthcheck")
    assert not [value for value in (kept.get("Labels") or {}).values() if value]


async def test_too_many_layers_become_one(environments, kit, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(packaging, "MOST_LAYERS", 9)
    config = {"Env": ["PATH=/bin", "A=b"], "WorkingDir": "/tmp", "User": "", "Cmd": ["sh"]}
    base = layered(kit, tmp_path, config, packaging.MOST_LAYERS)
    await environments.create("env", Image(kind="oci", reference=base), "base", Notes())
    kit.inside("env", "sh", "-c", "echo x > /new; ln /new /other; chown 5:6 /new; rm /layer3; mkfifo /pipe")
    package = await environments.commit("env", force=False, progress=Notes())
    assert len(package.layers) == 1
    assert {key: json.loads(package.config)["config"].get(key) for key in config} == config
    await environments.settle("env", version("env", 1, package))
    said = kit.inside("env", "stat", "-c", "%h %u %g %i", "/new", "/other").splitlines()
    assert said[0] == said[1]
    assert said[0].startswith("2 5 6 ")
    assert kit.inside("env", "sh", "-c", "ls /layer3 2>&1; ls /layer8; stat -c %F /pipe").splitlines()[1:] == [
        "/layer8",
        "fifo",
    ]
    assert kit.pending() == []


def layered(kit, folder: Path, config: dict, count: int) -> str:
    """The digest of an image of the tests' own, with so many layers under this configuration."""
    layers = [image_tree(str(folder)), *(tar_of({f"layer{n}": b"%d" % n}) for n in range(1, count))]
    digests = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
    text = json.dumps(
        {
            "architecture": kit.dockerd.docker("version", "-f", "{{.Server.Arch}}").strip(),
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": digests},
        }
    ).encode()
    digest = hashlib.sha256(text).hexdigest()
    names = [f"{n}/layer.tar" for n in range(count)]
    manifest = json.dumps(
        [{"Config": f"{digest}.json", "RepoTags": [f"kohakuriver.test/{digest[:12]}:1"], "Layers": names}]
    )
    content = {f"{digest}.json": text, **dict(zip(names, layers, strict=True)), "manifest.json": manifest.encode()}
    kit.dockerd.docker("load", input=tar_of(content), limit=300)
    return f"sha256:{digest}"


async def test_a_container_whose_package_became_no_version_is_as_before_after_a_sweep(environments, kit) -> None:
    await make(environments)
    base = kit.inspect("env")["Image"]
    await environments.commit("env", force=False, progress=Notes())
    assert not kit.inspect("env")["State"]["Running"]
    await environments.sweep({})
    assert (kit.inspect("env")["State"]["Running"], kit.inspect("env")["Image"], kit.pending()) == (True, base, [])


async def test_a_commit_that_the_daemon_finishes_when_nobody_waits_any_more_is_swept(environments, kit) -> None:
    await make(environments)
    late = environments._packaging.pending("container", "env")
    kit.dockerd.docker("commit", *kit.ours("env"), late)
    await environments.sweep({})
    assert kit.pending() == []


async def test_a_container_that_cannot_be_tidied_up_keeps_no_other_waiting(environments, kit, monkeypatch) -> None:
    for name in ("first", "second"):
        await make(environments, name)
        await environments.commit(name, force=False, progress=Notes())
    broken = kit.inspect("first")["Id"]
    start = environments._setups.start

    async def fails(container: str) -> None:
        if container == broken:
            raise PluginError("no such network")
        await start(container)

    monkeypatch.setattr(environments._setups, "start", fails)
    with pytest.raises(PluginError, match="no such network"):
        await environments.sweep({})
    assert kit.inspect("second")["State"]["Running"]
    monkeypatch.undo()
    await environments.sweep({})
    assert kit.inspect("first")["State"]["Running"]


@pytest.mark.parametrize("published", [True, False])
async def test_one_that_ran_runs_again_although_a_file_was_changed_meanwhile(
    environments, kit, published: bool
) -> None:
    await make(environments)
    package = await environments.commit("env", force=False, progress=Notes())
    await environments.files("env").mkdir("/since")
    if published:
        await environments.settle("env", version("env", 1, package))
    else:
        await environments.sweep({})
    assert kit.inside("env", "ls", "-d", "/since") == "/since\n"


async def test_a_name_that_is_none_leads_to_no_file_of_the_runner(environments, kit) -> None:
    await make(environments)
    await environments.commit("env", force=False, progress=Notes())
    other = next(kit.state.glob("**/env.json")).parents[1] / "other.json"
    other.write_bytes(b"{}")
    with pytest.raises(Invalid):
        await environments.files("../other").mkdir("/x")
    with pytest.raises(Invalid):
        await make(environments, "../other")
    assert other.exists()


async def test_nothing_is_remembered_of_names_that_are_gone(environments) -> None:
    await make(environments)
    package = await environments.commit("env", force=False, progress=Notes())
    await environments.settle("env", version("env", 1, package))
    assert environments._packaging._given == {}


async def test_one_that_somebody_removes_at_once_is_not_there(environments, kit, monkeypatch) -> None:
    listed = environments._setups.list

    async def removed(shells):
        kit.dockerd.docker("rm", "-f", *kit.ours("env"))
        return await listed(shells)

    with monkeypatch.context() as patched:
        patched.setattr(environments._setups, "list", removed)
        with pytest.raises(NotFound, match="env"):
            await make(environments)
