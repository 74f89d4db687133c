"""Terminals in environment containers of a real daemon: exact, with back-pressure, and with nothing left of them."""

import asyncio
import functools
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kohakuriver_docker.environments import DockerEnvironments

from kohakuriver.errors import Conflict, NotFound
from kohakuriver.testing.dockerd import Dockerd

from .docker_kit import processes_of
from .environments_kit import IMAGE_OF_TESTS, EnvironmentsKit, Notes, read_all, read_until, tidied

pytestmark = pytest.mark.docker


@pytest.fixture(autouse=True)
def bounded(request: pytest.FixtureRequest) -> None:
    """Ends a test that hangs: a limit around a fixture does not hold in the test's own task."""
    test = request.node.obj

    @functools.wraps(test)
    async def run(*words, **fields):
        async with asyncio.timeout(LIMIT):
            await test(*words, **fields)

    request.node.obj = run


MUCH = 50 << 20
#: what an idle container runs: init, and the program that keeps it
IDLE = 2
#: seconds for anything; a terminal that hangs must not hang the tests
LIMIT = 120


@pytest.fixture
def kit(tmp_path: Path, dockerd: Dockerd) -> EnvironmentsKit:
    return EnvironmentsKit(tmp_path, dockerd, node=tmp_path.name)


@pytest.fixture
async def environments(kit: EnvironmentsKit) -> AsyncIterator[DockerEnvironments]:
    async with tidied(kit) as opened:
        await opened.create("env", IMAGE_OF_TESTS, "busybox", Notes())
        yield opened


async def shell(environments: DockerEnvironments, *argv: str, columns: int = 80, rows: int = 24, **env: str):
    return await environments.shell("env", argv, columns=columns, rows=rows, env=env)


def running(kit: EnvironmentsKit) -> int:
    return len(processes_of(kit.inspect("env")["Id"]))


async def until_running(kit: EnvironmentsKit, wanted: int) -> None:
    async with asyncio.timeout(60):
        while await asyncio.to_thread(running, kit) != wanted:
            await asyncio.sleep(0.02)


async def count(environments: DockerEnvironments) -> int:
    return (await environments.list())[0].shells


async def test_it_is_a_terminal_with_the_size_the_environment_and_the_exit_code(environments) -> None:
    terminal = await shell(
        environments,
        "sh",
        "-c",
        'tty; until [ "$(stty size 2>&1)" = "37 101" ]; do :; done; echo $A; id -u; exit 7',
        columns=101,
        rows=37,
        A="b",
    )
    said = (await read_all(terminal)).decode().split()
    assert (said[0].startswith("/dev/"), said[1:]) == (True, ["b", "0"])
    assert await terminal.wait() == 7
    await terminal.close()
    await terminal.close()


async def test_an_end_is_told_also_to_who_reads_nothing(environments) -> None:
    terminal = await shell(environments, "sh", "-c", "exit 3")
    assert await terminal.wait() == 3
    await terminal.close()


async def test_ctrl_c_interrupts_what_runs_and_not_the_shell(environments) -> None:
    terminal = await shell(environments)
    await terminal.write(b"echo re''ady; sleep 1000\n")
    await read_until(terminal, b"ready\r\n")
    await terminal.write(b"\x03")
    await terminal.write(b"echo st''ill; exit 5\n")
    await read_until(terminal, b"still\r\n")
    await read_all(terminal)
    assert await terminal.wait() == 5
    await terminal.close()


async def test_a_window_that_changes_is_told(environments) -> None:
    terminal = await shell(
        environments, "sh", "-c", "trap 'stty size' WINCH; echo up; while :; do sleep 1 & wait; done"
    )
    await read_until(terminal, b"up\r\n")
    await terminal.resize(133, 44)
    await read_until(terminal, b"44 133\r\n")
    await terminal.close()
    await terminal.resize(1, 1)


async def test_bytes_go_through_as_they_are_both_ways(environments) -> None:
    data = os.urandom(MUCH)
    terminal = await shell(environments, "sh", "-c", f"stty raw -echo; printf up; exec head -c {MUCH}")
    assert await read_until(terminal, b"up") == b"up"

    async def send() -> None:
        for at in range(0, MUCH, 100_003):
            await terminal.write(data[at : at + 100_003])

    found = hashlib.sha256()
    size = 0
    async with asyncio.TaskGroup() as group:
        group.create_task(send())
        while piece := await terminal.read(65536):
            found.update(piece)
            size += len(piece)
    assert (size, found.hexdigest()) == (MUCH, hashlib.sha256(data).hexdigest())
    assert await terminal.wait() == 0
    await terminal.close()


async def test_who_reads_nothing_stops_the_program(environments, kit) -> None:
    terminal = await shell(
        environments,
        "sh",
        "-c",
        "stty raw; echo up; yes | dd bs=64k of=/dev/tty 2>/dev/null & while :; do sleep 1; done",
    )
    await read_until(terminal, b"up")
    stalled, before = 0, -1
    async with asyncio.timeout(60):
        while stalled < 5:
            now = await asyncio.to_thread(written, kit)
            stalled = stalled + 1 if now == before and now else 0
            before = now
            await asyncio.sleep(0.1)
    assert before < 16 << 20
    await terminal.close()


def written(kit) -> int:
    """Bytes that dd has written so far."""
    for pid in processes_of(kit.inspect("env")["Id"]):
        try:
            if (Path("/proc") / str(pid) / "comm").read_text() == "dd\n":
                lines = (Path("/proc") / str(pid) / "io").read_text().splitlines()
                return int(lines[1].split()[1])
        except OSError:
            continue
    return 0


async def test_typing_into_a_program_that_takes_nothing_waits(environments) -> None:
    terminal = await shell(environments, "sh", "-c", "stty raw -echo; echo up; sleep 1000")
    await read_until(terminal, b"up")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(for_ever(terminal), 2)
    await terminal.close()


async def for_ever(terminal) -> None:
    while True:
        await terminal.write(bytes(65536))


WAIT = "until [ -e /tmp/there ]; do :; done; echo up; sleep 1000"
LEFT = {
    "a child in the background": "sleep 1000 & : > /tmp/there; " + WAIT,
    "a child that ignores the hangup": "trap '' HUP; sh -c ': > /tmp/there; sleep 1000' & " + WAIT,
    "a daemon": ("trap '' HUP; (setsid sh -c ': > /tmp/there; sleep 1000; :' </dev/null >/dev/null 2>&1 &); " + WAIT),
    "a daemon without its environment": (
        "trap '' HUP; (env -i setsid sh -c 'sleep 1000 & : > /tmp/there; sleep 1001; :' </dev/null >/dev/null 2>&1 &); "
        + WAIT
    ),
}


@pytest.mark.parametrize("what", LEFT)
async def test_nothing_is_left_of_a_closed_terminal(environments, kit, what: str) -> None:
    terminal = await shell(environments, "sh", "-c", LEFT[what])
    await read_until(terminal, b"up")
    assert running(kit) > IDLE
    assert await count(environments) == 1
    await terminal.close()
    assert running(kit) == IDLE
    assert await count(environments) == 0


@pytest.mark.parametrize("what", LEFT)
async def test_nothing_is_left_of_a_program_that_ended_by_itself(environments, kit, what: str) -> None:
    terminal = await shell(environments, "sh", "-c", LEFT[what].removesuffix("; sleep 1000"))
    await read_until(terminal, b"up")
    await read_all(terminal)
    await terminal.close()
    assert running(kit) == IDLE


async def test_another_terminal_and_its_daemons_stay(environments, kit) -> None:
    other = await shell(environments, "sh", "-c", LEFT["a daemon without its environment"])
    await read_until(other, b"up")
    mine = await shell(environments, "sh", "-c", "echo mine; read x")
    await read_until(mine, b"mine")
    before = await named(kit)
    await mine.close()
    before.remove("sh -c echo mine; read x")
    assert await named(kit) == before
    await other.close()
    assert running(kit) == IDLE


async def named(kit) -> list[str]:
    """What runs in the container, once that is the same twice."""
    found: list[str] | None = None
    async with asyncio.timeout(LIMIT):
        while (now := await asyncio.to_thread(commands, kit)) != found:
            found = now
            await asyncio.sleep(0.1)
    return now


def commands(kit) -> list[str]:
    found = []
    for pid in processes_of(kit.inspect("env")["Id"]):
        try:
            found.append((Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip())
        except OSError:
            continue
    return sorted(found)


async def test_a_program_that_somebody_else_started_stays(environments, kit) -> None:
    (container,) = kit.ours("env")
    kit.dockerd.docker("exec", "-d", container, "sh", "-c", "sleep 1000; true")
    await until_running(kit, IDLE + 2)
    terminal = await shell(environments)
    await terminal.close()
    assert running(kit) == IDLE + 2
    await environments.sweep({})
    assert running(kit) == IDLE + 2


async def test_the_next_life_ends_what_the_terminals_of_the_last_one_left(environments, kit) -> None:
    async with kit.environments() as gone:
        terminal = await shell(gone, "sh", "-c", LEFT["a daemon"])
        await read_until(terminal, b"up")
        await terminal._stream.close()
    assert running(kit) > IDLE
    assert await count(environments) == 0
    await environments.sweep({})
    assert running(kit) == IDLE


async def test_an_open_terminal_stands_in_the_way_of_packaging_unless_forced(environments) -> None:
    terminal = await shell(environments)
    with pytest.raises(Conflict, match="open terminals"):
        await environments.commit("env", force=False, progress=Notes())
    assert (await environments.list())[0].state == "running"
    await environments.commit("env", force=True, progress=Notes())
    await read_all(terminal)
    await terminal.close()
    assert await count(environments) == 0


async def test_a_stopped_container_has_no_terminal(environments) -> None:
    await environments.stop("env")
    with pytest.raises(Conflict, match="start it first"):
        await shell(environments)
    with pytest.raises(NotFound):
        await environments.shell("other", [], columns=80, rows=24, env={})


async def test_a_program_that_is_not_there_says_so(environments) -> None:
    terminal = await shell(environments, "no-such-program")
    said = await read_all(terminal)
    assert b"no-such-program" in said
    assert await terminal.wait() in (126, 127)
    await terminal.close()


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ("root:x:0:0:root:/root:/bin/ash\n", "/bin/ash"),
        ("root:x:0:0:root:/root:/no/such\n", "/bin/sh"),
        ("root:x:0:0:root:/root:/bin/false\n", "/bin/sh"),
        ("nobody:x:1:1::/:/bin/ash\n", "/bin/sh"),
        ("", "/bin/sh"),
    ],
)
async def test_the_shell_is_roots_own_or_the_best(environments, kit, entry: str, wanted: str) -> None:
    kit.inside("env", "sh", "-c", "cat > /etc/passwd", input=entry.encode())
    terminal = await shell(environments)
    await terminal.write(b"echo i''s $0\n")
    await read_until(terminal, f"is {wanted}\r\n".encode())
    await terminal.close()


async def test_bash_is_better_than_sh(environments, kit) -> None:
    kit.inside("env", "ln", "-s", "busybox", "/bin/bash")
    terminal = await shell(environments)
    assert b"applet not found" in await read_all(terminal)
    await terminal.close()
