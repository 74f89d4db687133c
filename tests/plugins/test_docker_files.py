"""Files of environment containers, running and stopped: bytes stay bytes and no path leaves its container."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kohakuriver_docker.environments import DockerEnvironments
from kohakuriver_docker.files import DockerFiles
from kohakuriver_docker.setups import Setup

from kohakuriver.errors import Conflict, Invalid, KohakuRiverError, NotFound
from kohakuriver.testing.dockerd import Dockerd

from .environments_kit import IMAGE_OF_TESTS, EnvironmentsKit, Notes, tidied, version

pytestmark = pytest.mark.docker
ODD = ["with space", "new\nline", "-rf", "a+b%41&c=d?#", "\udcff\udc80raw", "ünïcode", "$(touch x)", "'\";", "..."]


@pytest.fixture
def kit(tmp_path: Path, dockerd: Dockerd) -> EnvironmentsKit:
    return EnvironmentsKit(tmp_path, dockerd, node=tmp_path.name)


@pytest.fixture
async def environments(kit: EnvironmentsKit) -> AsyncIterator[DockerEnvironments]:
    async with tidied(kit) as opened:
        await opened.create("env", IMAGE_OF_TESTS, "busybox", Notes())
        yield opened


@pytest.fixture(params=["running", "stopped"])
async def files(request: pytest.FixtureRequest, environments: DockerEnvironments):
    if request.param == "stopped":
        await environments.stop("env")
    return environments.files("env")


async def pieces(data: bytes, size: int = 70_001) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def put(files, path: str, data: bytes, mode: int | None = None) -> None:
    await files.write(path, pieces(data), len(data), mode)


async def get(files, path: str) -> bytes:
    return b"".join([piece async for piece in files.read(path)])


async def names(files, path: str) -> list[str]:
    return [one.name for one in await files.list(path)]


async def test_what_is_written_is_read_listed_renamed_and_deleted(files) -> None:
    data = secrets.token_bytes(3_000_001)
    await files.mkdir("/work")
    await put(files, "/work/a", data, 0o640)
    assert await get(files, "/work/a") == data
    found = await files.stat("/work/a")
    assert (found.name, found.kind, found.size, found.mode, found.uid, found.gid) == (
        "a",
        "file",
        len(data),
        0o640,
        0,
        0,
    )
    assert (await files.stat("/work")).kind == "directory"
    assert (await files.stat("/")).kind == "directory"
    await files.rename("/work/a", "/work/b")
    assert await names(files, "/work") == ["b"]
    with pytest.raises(NotFound):
        await files.stat("/work/a")
    with pytest.raises(Conflict):
        await files.delete("/work")
    await files.delete("/work", recursive=True)
    assert "work" not in await names(files, "/")


async def test_an_empty_file_is_one(files) -> None:
    await put(files, "/empty", b"")
    assert (await get(files, "/empty"), (await files.stat("/empty")).size) == (b"", 0)


async def test_odd_names_stay_what_they_are(files) -> None:
    await files.mkdir("/odd")
    for name in ODD:
        await put(files, f"/odd/{name}", name.encode("utf-8", "surrogateescape"))
    assert sorted(await names(files, "/odd")) == sorted(ODD)
    for name in ODD:
        assert await get(files, f"/odd/{name}") == name.encode("utf-8", "surrogateescape")
        await files.rename(f"/odd/{name}", f"/odd/{name}2")
    assert sorted(await names(files, "/odd")) == sorted(f"{name}2" for name in ODD)
    for name in ODD:
        await files.delete(f"/odd/{name}2")
    assert await names(files, "/odd") == []


async def test_owner_and_mode_of_a_replaced_file_stay(environments, kit) -> None:
    kit.inside("env", "sh", "-c", "echo old > /f; chown 12:34 /f; chmod 4751 /f")
    files = environments.files("env")
    await put(files, "/f", b"new")
    found = await files.stat("/f")
    assert (found.uid, found.gid, found.mode) == (12, 34, 0o4751)
    assert kit.inside("env", "cat", "/f") == "new"


async def test_links_are_told_and_followed_where_they_lead(environments, kit) -> None:
    kit.inside(
        "env", "sh", "-c", "mkdir -p /d/e; echo x > /d/file; ln -s ../file /d/e/link; ln -s /d /dl; ln -s /no /dead"
    )
    files = environments.files("env")
    found = await files.stat("/d/e/link")
    assert (found.kind, found.target) == ("link", "../file")
    assert await get(files, "/d/e/link") == b"x\n"
    assert await get(files, "/dl/e/link") == b"x\n"
    await put(files, "/dl/e/link", b"y")
    assert kit.inside("env", "cat", "/d/file") == "y"
    assert (await files.stat("/d/e/link")).kind == "link"
    assert await names(files, "/dl") == ["e", "file"]
    with pytest.raises(NotFound):
        await get(files, "/dead")
    await put(files, "/dead", b"made")
    assert kit.inside("env", "cat", "/no") == "made"
    await files.delete("/dl")
    assert kit.inside("env", "cat", "/d/file") == "y"


@pytest.mark.parametrize("state", ["running", "stopped"])
async def test_no_link_leads_out(environments, kit, tmp_path: Path, state: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the node")
    out = "/".join([".."] * 30)
    kit.inside(
        "env",
        "sh",
        "-c",
        f"mkdir /e; ln -s {secret} /e/f; ln -s {out}{secret} /e/g; ln -s {tmp_path} /e/d; ln -s {out}{tmp_path} /e/r",
    )
    if state == "stopped":
        await environments.stop("env")
    files = environments.files("env")
    for path in ("/e/f", "/e/g", "/e/d/secret", "/e/r/secret"):
        with pytest.raises(NotFound):
            await get(files, path)
    for path in ("/e/d/new", "/e/r/new"):
        for call in (files.mkdir(path), put(files, path, b"x"), files.rename("/etc/word", path), files.delete(path)):
            with pytest.raises(NotFound):
                await call
    for path in ("/e/d", "/e/r"):
        with pytest.raises(KohakuRiverError):
            await files.list(path)
        await files.delete(path, recursive=True)
    assert secret.read_text() == "of the node"
    assert set(os.listdir(tmp_path)) == {"secret", kit.state.name}


async def test_proc_shows_no_root_but_the_containers(environments, kit, tmp_path: Path) -> None:
    files = environments.files("env")
    for path in ("/proc/1/root", "/proc/self/root", "/proc/self/cwd"):
        with pytest.raises(KohakuRiverError):
            await files.list(f"{path}/etc")


@pytest.mark.parametrize("path", ["relative", "", "/a/../b", "/a\0b", "/" + "a" * 256, "/a" * 3000, "/\ud800"])
async def test_what_is_no_path_is_refused(environments, path: str) -> None:
    files = environments.files("env")
    for call in (files.stat(path), files.list(path), files.mkdir(path), put(files, path, b""), get(files, path)):
        with pytest.raises(Invalid):
            await call


async def test_what_cannot_be_is_told_in_words(files) -> None:
    with pytest.raises(NotFound):
        await files.list("/no")
    with pytest.raises(NotFound):
        await get(files, "/no")
    with pytest.raises(NotFound):
        await put(files, "/no/file", b"x")
    with pytest.raises(NotFound):
        await files.delete("/no")
    with pytest.raises(Invalid):
        await files.list("/etc/word")
    with pytest.raises(Invalid):
        await get(files, "/etc")
    with pytest.raises(Conflict):
        await put(files, "/etc", b"x")
    with pytest.raises(Conflict):
        await files.mkdir("/etc")
    with pytest.raises(Conflict):
        await files.rename("/etc/word", "/tmp")
    for call in (files.delete("/", recursive=True), files.mkdir("/"), files.rename("/", "/x"), put(files, "/", b"x")):
        with pytest.raises(Invalid):
            await call


@pytest.mark.parametrize("size", [3, 5])
async def test_an_upload_of_another_size_changes_nothing(environments, kit, size: int) -> None:
    files = environments.files("env")
    before = await names(files, "/etc")
    with pytest.raises(Invalid, match="upload"):
        await files.write("/etc/word", pieces(b"1234"), size)
    assert await names(files, "/etc") == before
    assert kit.inside("env", "cat", "/etc/word") == ""
    assert environments._engine.losses == 0


async def test_an_upload_that_breaks_changes_nothing(environments, kit) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(100_000)
        raise ConnectionResetError

    files = environments.files("env")
    before = await names(files, "/etc")
    with pytest.raises(ConnectionResetError):
        await files.write("/etc/word", broken(), 10_000_000)
    assert await names(files, "/etc") == before


async def test_a_directory_with_too_many_entries_is_not_listed(environments, kit) -> None:
    kit.inside("env", "sh", "-c", "mkdir /many; cd /many; seq 1 10000 | xargs touch")
    files = environments.files("env")
    assert len(await files.list("/many")) == 10_000
    kit.inside("env", "touch", "/many/one-more")
    with pytest.raises(Invalid, match="too many"):
        await files.list("/many")


async def test_a_stopped_container_is_mounted_for_nobody_else(environments, kit) -> None:
    await environments.stop("env")
    before = Path("/proc/self/mounts").read_text()
    files = environments.files("env")
    await files.mkdir("/made")
    await files.delete("/bin/vi")
    assert Path("/proc/self/mounts").read_text() == before
    await environments.start("env")
    assert kit.inside("env", "sh", "-c", "ls -d /made; ls /bin/vi 2>&1 || true").splitlines()[0] == "/made"


async def test_a_change_between_packaging_and_its_version_is_not_lost(environments, kit) -> None:
    package = await environments.commit("env", force=False, progress=Notes())
    await put(environments.files("env"), "/etc/word", b"since")
    await environments.settle("env", version("env", 1, package))
    await environments.start("env")
    assert kit.inside("env", "cat", "/etc/word") == "since"


async def test_nothing_else_happens_to_the_container_while_a_file_comes(environments) -> None:
    going, done = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        going.set()
        await done.wait()
        yield b"y"

    files = environments.files("env")
    async with asyncio.TaskGroup() as group:
        group.create_task(files.write("/slow", slow(), 2))
        await going.wait()
        for call in (environments.stop("env"), environments.commit("env", force=True, progress=Notes())):
            with pytest.raises(Conflict):
                await call
        await put(files, "/other", b"z")
        done.set()
    assert await get(files, "/slow") == b"xy"


async def test_a_look_that_comes_late_leaves_a_container_alone_that_was_started_meanwhile(environments, kit) -> None:
    await environments.stop("env")
    stopped = await environments._setups.find("env")
    await environments.start("env")

    async def find() -> Setup:
        return stopped

    late = DockerFiles(kit.context(), find, contextlib.nullcontext)
    assert "bin" in await names(late, "/")
    assert (await late.stat("/bin/busybox")).kind == "file"
    assert (await get(late, "/bin/busybox")).startswith(b"\x7fELF")
    kit.inside("env", "sh", "-c", "mkdir /made && echo x > /made/x && rm /bin/vi && chmod 755 /bin/busybox")
    assert "vi" not in await names(late, "/bin")
