"""The directories of a body that sees a file system of its own."""

from pathlib import Path

import pytest

from kohakuriver.errors import Invalid
from kohakuriver.hooks.values import Features
from kohakuriver.runner.settings import RunnerSettings
from kohakuriver.runner.steps import inside
from kohakuriver.runner.steps.job import network
from kohakuriver.runner.steps.script import write_script
from kohakuriver.testing.fakes import FakeBackend
from kohakuriver.wire.link import Assign, WireReserved


def settings(tmp_path: Path, **fields) -> RunnerSettings:
    return RunnerSettings(data_dir=tmp_path, host_url="http://h", credential="c", name="n", **fields)


def assign(owner: str = "ann", **fields) -> Assign:
    return Assign(attempt="7.1", instance="7.1", owner=owner, reserved=WireReserved(), **fields)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_scratch_space_is_the_bodys_own(tmp_path):
    made = settings(tmp_path)
    directory = tmp_path / "jobs" / "7.1"
    (mount,) = inside.mounts(made, assign(), directory)
    assert (mount.source, mount.target, mount.read_only) == (directory / "local_temp", "/local_temp", False)
    for _ in range(2):
        inside.make(made, assign(), directory)
    assert mode(mount.source) == 0o1777


def test_what_is_the_platforms_own_is_closed(tmp_path):
    made = settings(tmp_path / "runner", closed=(tmp_path / "host",), local_temp_dir=tmp_path / "fast")
    assert inside.closed(made) == (tmp_path / "runner", tmp_path / "host", tmp_path / "fast" / "kohakuriver")


def test_scratch_space_lies_on_the_fast_disk_and_nobody_else_gets_there(tmp_path):
    made = settings(tmp_path, local_temp_dir=tmp_path / "fast")
    inside.make(made, assign(), tmp_path / "jobs" / "7.1")
    place = inside.scratch(made, tmp_path / "jobs" / "7.1")
    assert place == tmp_path / "fast" / "kohakuriver" / "7.1"
    assert (mode(place), mode(place.parent)) == (0o1777, 0o700)


def test_the_shared_directory_is_the_owners_folder_of_it(tmp_path):
    made = settings(tmp_path, shared_dir=tmp_path)
    mounts = {mount.target: mount.source for mount in inside.mounts(made, assign(), tmp_path / "j")}
    assert mounts["/shared"] == tmp_path / "ann"
    inside.make(made, assign(), tmp_path / "j")
    assert mode(tmp_path / "ann") == 0o700


@pytest.mark.parametrize("owner", ["..", ".", "", "a/b", "/etc"])
def test_no_owner_gets_anybody_elses_folder(tmp_path, owner):
    with pytest.raises(Invalid):
        inside.mounts(settings(tmp_path, shared_dir=tmp_path), assign(owner), tmp_path / "j")


def test_a_script_is_seen_read_only_and_by_whichever_user_the_image_has(tmp_path):
    mounts = {mount.target: mount for mount in inside.mounts(settings(tmp_path), assign(script="x"), tmp_path)}
    found = mounts["/kohakuriver/script"]
    assert (found.source, found.read_only) == (tmp_path / "script", True)
    write_script(tmp_path, "echo", apart=True)
    assert mode(tmp_path / "script") == 0o755


def test_a_body_on_the_nodes_own_files_gets_nothing_of_it():
    class Plain(FakeBackend):
        features = Features()

    class Far(FakeBackend):
        features = Features(images=frozenset({"oci"}), remote=True)

    assert [inside.is_apart(kind()) for kind in (FakeBackend, Plain, Far)] == [True, False, False]


def test_a_network_of_its_own_where_there_is_one():
    class Apart(FakeBackend):
        features = Features(nets=frozenset({"private", "host"}))

    assert (network(Apart()).mode, network(FakeBackend()).mode) == ("private", "host")
