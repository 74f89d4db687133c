"""Following an operation: to its end, over breaks, and when the host forgot it."""

import json

import pytest

from kohakuriver.client.http import Client
from kohakuriver.client.operations import follow
from kohakuriver.client.patience import Patience
from kohakuriver.client.place import Place
from kohakuriver.errors import Conflict, Gone, KohakuRiverError, NotFound

from .scripted import Reply, problem

RUNS = {"id": "7", "name": "my-env", "state": "running", "note": "exporting", "error": None}
PATH = "/api/v1/operations/7"


def lines(*views, breaks=False):
    return Reply(
        chunks=[json.dumps(view).encode() + b"\n" for view in views], kind="application/x-ndjson", breaks=breaks
    )


@pytest.fixture
def client(peer):
    client = Client(Place(url=peer.url, source="test", token="kru_test"))
    yield client
    client.close()


def followed(client, first=RUNS):
    shown = []
    patience = Patience(lambda _text: None, pause=lambda _seconds: None)
    patience.worked()
    return follow(client, first, shown.append, patience), shown


def test_it_is_shown_from_the_first_view_to_the_last(client, peer):
    done = {**RUNS, "state": "done", "number": 3}
    peer.on("GET", PATH, lines({**RUNS, "note": "sending"}, done))
    ended, shown = followed(client)
    assert ended == done
    assert [view["note"] for view in shown] == ["exporting", "sending", "exporting"]


def test_a_break_and_a_host_that_is_away_for_a_moment_are_bridged(client, peer):
    peer.on(
        "GET", PATH, lines(RUNS, breaks=True), problem(503, "not_ready", "starting"), lines(RUNS),
        lines({**RUNS, "state": "done"}),
    )  # fmt: skip
    assert followed(client)[0]["state"] == "done"
    assert len(peer.asked_for("GET", PATH)) == 4


def test_its_error_is_raised_as_what_it_is(client, peer):
    error = {"code": "conflict", "detail": "2 terminals are open", "field": "force"}
    peer.on("GET", PATH, lines({**RUNS, "state": "failed", "error": error}))
    with pytest.raises(Conflict, match="2 terminals") as raised:
        followed(client)
    assert raised.value.field == "force"


def test_an_error_that_this_client_does_not_know_keeps_its_words(client, peer):
    peer.on("GET", PATH, lines({**RUNS, "state": "failed", "error": {"code": "from_the_future", "detail": "oh"}}))
    with pytest.raises(KohakuRiverError, match="oh"):
        followed(client)


def test_one_that_a_restart_of_the_host_ended_is_told_with_the_next_step(client, peer):
    peer.on("GET", PATH, problem(404, "not_found", "no such operation"))
    with pytest.raises(Gone, match="env show my-env") as raised:
        followed(client)
    assert not isinstance(raised.value, NotFound)


def test_one_that_has_ended_is_not_asked_for(client, peer):
    assert followed(client, {**RUNS, "state": "done"})[0]["state"] == "done"
    assert peer.asked == []
