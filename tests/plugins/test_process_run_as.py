"""Tasks of another user: who they are, where they work, and what of the runner's they cannot reach."""

import asyncio
import grp
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kohakuriver.errors import PluginError
from kohakuriver.hooks.values import Job

from .process_kit import MODES, begin, finish, shepherd_of

pytestmark = pytest.mark.root


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can reach, which a test's own is not."""
    path = Path(tempfile.mkdtemp(prefix="kohakuriver-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def of_nobody(opened, open_directory: Path) -> Callable:
    async def use(**config):
        kit, backend = await opened(run_as="nobody", work_dir=str(open_directory / "work"), **config)
        os.chmod(kit.directory, 0o700)  # as a runner's data directory is
        return kit, backend

    return use


def nobody() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def with_script(job: Job, text: str, mode: int = 0o700) -> Job:
    """As the runner hands a script over: beside the command, for its own eyes."""
    script = job.directory / "script"
    script.write_text(text)
    script.chmod(mode)
    return replace(job, argv=tuple(word.replace("SCRIPT", str(script)) for word in job.argv))


@pytest.mark.parametrize("mode", MODES)
async def test_it_is_that_user_in_every_way(of_nobody, mode: str) -> None:
    kit, backend = await of_nobody(limits=mode)
    job = kit.job(
        ("sh", "-c", "id -u; id -G; echo $HOME $USER $LOGNAME $SHELL; touch mine; stat -c %u mine; ulimit -n")
    )
    ended, output = await finish(backend, job)
    assert ended.code == 0, output
    groups = " ".join(map(str, os.getgrouplist("nobody", nobody().pw_gid)))
    uid = str(nobody().pw_uid)
    files = Path("/proc/self/limits").read_text().partition("Max open files")[2].split()[0]
    lines = [uid, groups, f"{nobody().pw_dir} nobody nobody /bin/sh", uid, files]
    assert output["stdout"].decode().splitlines() == lines


@pytest.mark.parametrize("mode", MODES)
async def test_its_directory_can_be_named_in_full_and_goes_with_it(of_nobody, open_directory: Path, mode: str) -> None:
    kit, backend = await of_nobody(limits=mode)
    job = kit.job(("sh", "-c", 'echo text > "$PWD/file" && cat "$PWD/file" && mkdir -p a/b && cd a/b && cd "$OLDPWD"'))
    handle, run = await begin(backend, job)
    assert (await backend.wait(handle, run)).code == 0
    assert [found for _, found in await backend.found()] == [handle]
    await backend.remove(handle)
    assert not Path(handle.data["directory"]).exists()
    assert kit.leftovers(job, handle) == []


@pytest.mark.parametrize("workdir", [None, "/usr/share"])
async def test_a_script_runs_with_its_interpreter_and_arguments(of_nobody, workdir: str | None) -> None:
    kit, backend = await of_nobody()
    job = kit.job(("SCRIPT", "one", "two"), workdir=workdir)
    job = with_script(job, "#!/bin/cat\nits text\n")
    ended, output = await finish(backend, replace(job, argv=job.argv[:1]))
    assert (ended.code, output["stdout"]) == (0, b"#!/bin/cat\nits text\n")
    job = with_script(kit.job(("SCRIPT", "one", "two"), workdir=workdir), '#!/bin/sh -e\necho "$@"; pwd; id -un\n')
    ended, output = await finish(backend, job)
    assert ended.code == 0, output
    said, where, who = output["stdout"].decode().splitlines()
    assert (said, who) == ("one two", "nobody")
    assert where == workdir or Path(where).name == "work"


async def test_a_script_without_an_interpreter_is_run_by_the_shell(of_nobody) -> None:
    kit, backend = await of_nobody()
    job = with_script(kit.job(("/bin/sh", "SCRIPT", "x")), "echo $1 $(stat -c '%a %U' $0)\n")
    ended, output = await finish(backend, job)
    assert (ended.code, output["stdout"]) == (0, b"x 500 nobody\n"), output


async def test_other_users_read_neither_script_nor_work(of_nobody) -> None:
    kit, backend = await of_nobody()
    job = with_script(kit.job(("/bin/sh", "SCRIPT")), "echo secret > work-file; sleep 1000")
    handle, run = await begin(backend, job)
    place = Path(handle.data["directory"])
    tried = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        f"cat {place}/script; ls {place}; ls {place}/work; ls {place}/output; ls {place.parent}; rm -f {place}/script",
        user="daemon",
        group="daemon",
        extra_groups=[],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert (await tried.communicate())[0] == b""
    assert (place / "script").exists()
    await backend.stop(handle, run, 0)


async def test_it_cannot_touch_what_is_the_runners(of_nobody) -> None:
    kit, backend = await of_nobody()
    await backend.probe()
    shepherd, state = shepherd_of(backend), kit.state
    script = (
        f"for f in {state} {state}/shepherd.sock {state}/shepherd.log {kit.directory}/jobs /proc/{shepherd}/environ"
        f" /proc/{shepherd}/fd; do ls $f/ 2>/dev/null || cat $f 2>/dev/null; done;"
        f" kill -9 {shepherd} 2>/dev/null && echo killed; for n in 3 4 5 6 7 8 9; do ls /proc/self/fd/$n; done 2>/dev/null;"
        " cd ..; touch mine 2>/dev/null && echo wrote; mv script other 2>/dev/null && echo moved;"
        " ls output 2>/dev/null; exit 0"
    )
    ended, output = await finish(backend, with_script(kit.job(("/bin/sh", "SCRIPT")), script))
    assert (ended.code, output["stdout"]) == (0, b""), output


async def test_a_directory_that_this_user_cannot_enter_is_refused(of_nobody, open_directory: Path) -> None:
    closed = open_directory / "closed"
    (closed / "inside").mkdir(parents=True, mode=0o755)
    shut = open_directory / "shut"
    shut.mkdir(mode=0o700)
    closed.chmod(0o700)
    (open_directory / "link").symlink_to(closed / "inside")
    kit, backend = await of_nobody()
    for workdir in (closed / "inside", shut, open_directory / "link"):
        job = kit.job(("true",), workdir=str(workdir))
        handle = await backend.create(job)
        with pytest.raises(PluginError, match=f"cannot enter the working directory '{workdir}': permission denied"):
            await backend.start(handle, job)
    ended, _ = await finish(backend, kit.job(("true",)))
    assert ended.code == 0
    status = Path(f"/proc/{shepherd_of(backend)}/status").read_text()
    assert "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n" in status


async def test_a_group_of_the_user_opens_a_directory(opened, open_directory: Path) -> None:
    name = next(
        (entry for entry in pwd.getpwall() if entry.pw_uid and set(os.getgrouplist(entry.pw_name, entry.pw_gid)) - {0}),
        None,
    )
    assert name is not None, "every Debian has a user besides root"
    directory = open_directory / "shared"
    directory.mkdir()
    os.chown(directory, 0, name.pw_gid)
    directory.chmod(0o750)
    kit, backend = await opened(run_as=name.pw_name, work_dir=str(open_directory / "work"))
    ended, output = await finish(backend, kit.job(("pwd",), workdir=str(directory)))
    assert (ended.code, output["stdout"]) == (0, f"{directory}\n".encode()), grp.getgrgid(name.pw_gid)


async def test_a_place_that_others_could_change_is_refused(opened, open_directory: Path) -> None:
    work = open_directory / "work"
    work.mkdir()
    for spoil in (lambda: work.chmod(0o777), lambda: os.chown(work, nobody().pw_uid, 0)):
        spoil()
        kit, backend = await opened(run_as="nobody", work_dir=str(work))
        with pytest.raises(PluginError, match="work_dir"):
            await backend.create(kit.job(("true",)))
        work.chmod(0o711)
    os.chown(work, 0, 0)
    work.chmod(0o1777)  # as /tmp and many a scratch disk
    kit, backend = await opened(run_as="nobody", work_dir=str(work))
    assert (await finish(backend, kit.job(("true",))))[0].code == 0
    (place,) = work.iterdir()
    assert stat.S_IMODE(place.stat().st_mode) == 0o711


async def test_a_tree_of_any_depth_is_removed(of_nobody) -> None:
    kit, backend = await of_nobody()
    deep = "import os\nfor _ in range(3000):\n os.mkdir('d'); os.chdir('d')\n"
    handle, run = await begin(backend, kit.job(("/usr/bin/python3", "-I", "-S", "-c", deep)))
    assert (await backend.wait(handle, run)).code == 0
    await backend.remove(handle)
    assert not Path(handle.data["directory"]).exists()


async def test_the_user_is_the_only_one_that_a_job_may_ask_for(of_nobody) -> None:
    kit, backend = await of_nobody()
    job = kit.job(("true",))
    for user, refused in (("nobody", False), (str(nobody().pw_uid), False), ("0", True), ("root", True)):
        assert bool(await backend.check(replace(job, user=user))) is refused
