"""Following, waiting and watching over breaks."""

import pytest

from kohakuriver.client.follow import ENDED, OutputReader, Part, changes, last_lines, wait_for
from kohakuriver.client.http import Client
from kohakuriver.client.patience import LONGEST_PAUSE, Patience
from kohakuriver.client.place import Place
from kohakuriver.domain.tasks import FINAL
from kohakuriver.errors import NotFound, NotSignedIn, Unreachable

from .scripted import Peer, Reply, problem, stream

OUT = "/api/v1/tasks/7/output/stdout"
TASK = "/api/v1/tasks/7"
WAIT = "/api/v1/tasks/7/wait"
EVENTS = "/api/v1/events"


class Clock:
    """Time passes only in pauses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def patience(clock: Clock, told: list[str]) -> Patience:
    return Patience(told.append, seconds=60, pause=clock.pause, clock=clock)


def reader(peer: Peer, patience: Patience, written: bytearray, **part) -> OutputReader:
    client = Client(Place(url=peer.url), timeout=60)
    return OutputReader(client, "7", Part(**part), write=written.extend, patience=patience)


def test_ended_statuses_are_those_of_the_domain() -> None:
    assert {*map(str, FINAL), "stopped"} == ENDED


def test_output_is_read_once_in_order(peer: Peer, patience: Patience) -> None:
    peer.on("GET", OUT, stream(b"a\x00", b"\xffb"))
    written = bytearray()
    reader(peer, patience, written).read()
    assert written == b"a\x00\xffb"


def test_dropped_bytes_are_told_of(peer: Peer, patience: Patience, told: list[str]) -> None:
    peer.on("GET", OUT, stream(b"x", offset=100, dropped=90))
    read = reader(peer, patience, bytearray(), offset=10)
    read.read()
    assert peer.asked[0].query == {"offset": "10"}
    assert "at least 90 bytes" in told[0]
    assert read.offset == 101


def test_following_goes_on_at_the_offset_after_a_break(peer: Peer, patience: Patience, clock: Clock) -> None:
    peer.on(
        "GET",
        OUT,
        stream(b"one ", b"two ", breaks=True),
        problem(503, "not_ready", "starting"),
        stream(b"three", offset=8),
    )
    written = bytearray()
    reader(peer, patience, written).follow()
    assert written == b"one two three"
    assert [asked.query for asked in peer.asked] == [
        {"follow": "1"},
        {"follow": "1", "offset": "8"},
        {"follow": "1", "offset": "8"},
    ]
    assert clock.pauses


def test_without_following_a_break_is_an_error(peer: Peer, patience: Patience) -> None:
    peer.on("GET", OUT, stream(b"one", breaks=True))
    with pytest.raises(Unreachable, match="offset 3"):
        reader(peer, patience, bytearray()).read()


def test_following_asks_until_the_task_has_ended(peer: Peer, patience: Patience) -> None:
    peer.on("GET", OUT, stream(), stream(b"late"), stream(offset=4))
    peer.on("GET", TASK, {"status": "pending"}, {"status": "completed"})
    written = bytearray()
    reader(peer, patience, written, offset=0).follow_to_end()
    assert written == b"late"
    assert [asked.query["offset"] for asked in peer.asked_for("GET", OUT)] == ["0", "0", "4"]


def test_a_host_that_never_answered_is_not_waited_for(peer: Peer, patience: Patience, clock: Clock) -> None:
    peer.on("GET", OUT, Reply(breaks=True))
    with pytest.raises(Unreachable):
        reader(peer, patience, bytearray()).follow()
    assert clock.pauses == []


def test_a_host_that_stays_away_is_given_up_with_growing_pauses(
    peer: Peer, patience: Patience, clock: Clock, told
) -> None:
    peer.on("GET", OUT, stream(b"x", breaks=True), Reply(breaks=True))
    with pytest.raises(Unreachable):
        reader(peer, patience, bytearray()).follow()
    assert clock.now >= 60
    assert max(clock.pauses) == LONGEST_PAUSE
    assert len(told) == 1


@pytest.mark.parametrize(
    ("text", "lines", "expected"),
    [
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\rb\nc\n", 1, b"c\n"),
        (b"a\n", 0, b""),
        (b"a\n", 9, b"a\n"),
        (b"", 3, b""),
        (b"\n\n", 1, b"\n"),
    ],
)
def test_last_lines(peer: Peer, text: bytes, lines: int, expected: bytes) -> None:
    peer.on("GET", OUT, stream(text) if text else stream())
    assert last_lines(Client(Place(url=peer.url)), "7", Part(), lines) == (expected, len(text))


def test_last_lines_ask_for_more_when_lines_are_long(peer: Peer) -> None:
    whole = (b"x" * 99_999 + b"\n") * 3

    def answer(asked) -> Reply:
        tail = min(int(asked.query["tail"]), len(whole))
        return stream(whole[-tail:], offset=len(whole) - tail)

    peer.on("GET", OUT, answer)
    assert last_lines(Client(Place(url=peer.url)), "7", Part(), 2) == (whole[-200_000:], 300_000)
    assert len(peer.asked) == 2


def test_waiting_asks_again_until_the_end(peer: Peer, patience: Patience, clock: Clock) -> None:
    peer.on("GET", WAIT, {"status": "running"}, {"status": "failed", "exit": {"code": 3}})
    view = wait_for(Client(Place(url=peer.url)), "7", patience=patience)
    assert view == {"status": "failed", "exit": {"code": 3}}
    assert clock.pauses, "a host that answers at once must not be asked in a loop"


def test_waiting_outlives_a_restart_of_the_host(peer: Peer, patience: Patience) -> None:
    peer.on("GET", WAIT, {"status": "running"}, Reply(breaks=True), Reply(breaks=True), {"status": "completed"})
    view = wait_for(Client(Place(url=peer.url)), "7", patience=patience)
    assert view == {"status": "completed"}


def test_waiting_ends_with_the_time(peer: Peer, patience: Patience, clock: Clock) -> None:
    peer.on("GET", WAIT, {"status": "running"})
    assert wait_for(Client(Place(url=peer.url)), "7", patience=patience, until=1.0) is None
    assert clock.now == 1.0


def test_errors_of_the_host_end_the_waiting(peer: Peer, patience: Patience) -> None:
    with pytest.raises(NotFound):
        wait_for(Client(Place(url=peer.url)), "7", patience=patience)


def test_changes_begin_with_a_look_at_everything_and_again_after_a_break(peer: Peer, patience: Patience) -> None:
    lines = b'{"id":0,"kind":"hello"}\n', b'not json\n{"id":1,"kind":"task",', b'"ref":"7"}\n'
    peer.on("GET", EVENTS, stream(*lines, breaks=True), stream(b'{"id":2,"kind":"node"}\n'))
    seen = changes(Client(Place(url=peer.url), timeout=60), patience)
    assert [next(seen)["kind"] for _ in range(4)] == ["hello", "task", "hello", "node"]
    assert peer.asked[0].headers["Accept"] == "application/x-ndjson"
    seen.close()


def test_a_lab_that_makes_a_new_token_is_waited_for_shortly(peer: Peer, patience: Patience, clock: Clock) -> None:
    stranger = problem(401, "not_signed_in", "who are you")
    peer.on("GET", WAIT, {"status": "running"}, stranger, stranger, {"status": "completed"})
    assert wait_for(Client(Place(url=peer.url)), "7", patience=patience) == {"status": "completed"}
    peer.on("GET", WAIT, stranger)
    with pytest.raises(NotSignedIn):
        wait_for(Client(Place(url=peer.url)), "7", patience=patience)
    assert clock.now < 20


def test_following_goes_through_every_attempt(peer: Peer, patience: Patience, told: list[str]) -> None:
    peer.on("GET", OUT, stream(b"one"), stream(b"tw", breaks=True), stream(b"o", offset=2), stream(offset=3))
    peer.on(
        "GET",
        TASK,
        {"status": "starting", "attempt": 1},
        {"status": "pending", "attempt": 1},
        {"status": "running", "attempt": 2},
        {"status": "completed", "attempt": 2},
    )
    written = bytearray()
    reader(peer, patience, written, offset=0).follow_attempts()
    assert written == b"onetwo"
    asked = [(each.query["attempt"], each.query["offset"]) for each in peer.asked_for("GET", OUT)]
    assert asked == [("1", "0"), ("2", "0"), ("2", "2"), ("2", "3"), ("2", "3")]
    assert "task 7 is tried again: attempt 2" in told


@pytest.mark.parametrize(
    ("status", "attempt", "first"),
    [("pending", 0, "1"), ("pending", 2, "3"), ("running", 2, "2"), ("failed", 3, "3"), ("killed", 0, "1")],
)
def test_following_begins_with_the_attempt_that_runs_or_comes(
    peer: Peer, patience: Patience, status: str, attempt: int, first: str
) -> None:
    peer.on("GET", OUT, stream())
    peer.on("GET", TASK, {"status": status, "attempt": attempt}, {"status": "killed", "attempt": attempt})
    reader(peer, patience, bytearray(), offset=0).follow_attempts()
    assert {asked.query["attempt"] for asked in peer.asked_for("GET", OUT)} == {first}
