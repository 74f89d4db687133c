"""Words to systemd over a real socket."""

import os
import socket
from pathlib import Path

import pytest

from kohakuriver.net.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path):
    name = str(tmp_path / "n") if request.param == "path" else f"@kohakuriver-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name if name.startswith("/") else "\0" + name[1:])
        listener.settimeout(5)
        yield name, listener


def test_each_word_is_one_datagram(manager) -> None:
    address, listener = manager
    notifier = Notifier(address=address)
    assert notifier.ready("serving\nX=1")
    assert notifier.alive()
    assert notifier.stopping()
    assert [listener.recv(1000) for _ in range(3)] == [b"READY=1\nSTATUS=serving X=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_the_environment_is_taken_away_from_tasks(manager) -> None:
    address, listener = manager
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7", "PATH": "/bin"}
    notifier = Notifier.take(environ, 7)
    assert environ == {"PATH": "/bin"}
    assert notifier.period == 15.0
    assert notifier.alive()
    assert listener.recv(1000) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "8"}],
)
def test_without_a_watchdog_of_ours_there_is_no_period(environ: dict[str, str]) -> None:
    assert Notifier.take(environ, 7).period is None


def test_without_a_manager_nothing_is_sent() -> None:
    assert not Notifier.take({}, 7).ready()
    assert not Notifier.take({"NOTIFY_SOCKET": "vsock:2:1"}, 7).ready()


def test_a_manager_that_went_away_or_is_full_is_not_waited_for(tmp_path: Path) -> None:
    address = str(tmp_path / "n")
    assert not Notifier(address=address).alive()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        sent = 0
        while Notifier(address=address).alive():
            sent += 1
            assert sent < 100_000
    assert sent > 0
