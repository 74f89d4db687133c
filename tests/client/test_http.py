"""The blocking client against a real server."""

import pytest

from kohakuriver.client.http import Client
from kohakuriver.client.place import Place
from kohakuriver.errors import (
    Conflict,
    Invalid,
    KohakuRiverError,
    NeverFits,
    NotFound,
    NotReady,
    NotSignedIn,
    TooMany,
    Unreachable,
)

from .scripted import Peer, Reply, closed_port, make_certificate, problem


def client(peer: Peer, **facts) -> Client:
    return Client(Place(url=peer.url, **facts), timeout=60)


def test_requests_share_a_connection(peer: Peer) -> None:
    peer.on("GET", "/a", {"n": 1})
    one = client(peer)
    assert [one.get("/a"), one.get("/a")] == [{"n": 1}, {"n": 1}]
    assert {asked.connection for asked in peer.asked} == {1}
    one.close()


def test_token_and_json_are_sent(peer: Peer) -> None:
    peer.on("POST", "/a", Reply({"ok": True}, status=201))
    client(peer, token="kru_x").post("/a", {"name": "ä"})
    asked = peer.asked[0]
    assert asked.headers["Authorization"] == "Bearer kru_x"
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.body == {"name": "ä"}


def test_post_is_repeated_once_with_the_same_key_when_the_connection_breaks(peer: Peer) -> None:
    peer.on("POST", "/a", Reply(breaks=True), {"id": "7"})
    assert client(peer).post("/a", {}) == {"id": "7"}
    keys = [asked.headers["Idempotency-Key"] for asked in peer.asked]
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_two_posts_have_two_keys(peer: Peer) -> None:
    peer.on("POST", "/a", {})
    one = client(peer)
    one.post("/a")
    one.post("/a")
    assert len({asked.headers["Idempotency-Key"] for asked in peer.asked}) == 2
    one.close()


def test_a_connection_that_breaks_twice_is_unreachable(peer: Peer) -> None:
    peer.on("GET", "/a", Reply(breaks=True))
    with pytest.raises(Unreachable):
        client(peer).get("/a")
    assert len(peer.asked) == 2


def test_a_kept_connection_that_the_host_closed_is_opened_again(peer: Peer) -> None:
    peer.on("GET", "/a", Reply({"n": 1}), Reply(breaks=True), Reply({"n": 2}))
    one = client(peer)
    assert one.get("/a") == {"n": 1}
    assert one.get("/a") == {"n": 2}
    one.close()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (422, "never_fits", NeverFits), (422, "invalid", Invalid), (404, "not_found", NotFound),
        (409, "conflict", Conflict), (401, "not_signed_in", NotSignedIn), (503, "not_ready", NotReady),
        (409, "of_a_newer_host", Conflict), (500, "of_a_newer_host", KohakuRiverError),
    ],
)  # fmt: skip
def test_problem_documents_become_errors(peer: Peer, status: int, code: str, kind: type[KohakuRiverError]) -> None:
    peer.on("GET", "/a", problem(status, code, "no", field="cores", value="9", limit="8"))
    with pytest.raises(kind) as caught:
        client(peer).get("/a")
    error = caught.value
    assert (error.message, error.field, error.value, error.limit) == ("no", "cores", "9", "8")


def test_several_faults_are_all_told(peer: Peer) -> None:
    errors = [{"field": "a", "detail": "is wrong"}, {"field": "b", "detail": "is missing"}]
    peer.on("GET", "/a", problem(422, "invalid", "two faults", errors=errors))
    with pytest.raises(Invalid) as caught:
        client(peer).get("/a")
    assert caught.value.__notes__ == ["a: is wrong", "b: is missing"]


def test_retry_after_is_kept(peer: Peer) -> None:
    answer = problem(429, "too_many", "slowly")._replace(headers={"Retry-After": "7"})
    peer.on("GET", "/a", answer)
    with pytest.raises(TooMany) as caught:
        client(peer).get("/a")
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"<html>", kind="text/html"),
        Reply(b"<html>", status=404, kind="text/html"),
        Reply(status=302, headers={"Location": "http://elsewhere"}),
        Reply(raw=b"SSH-2.0-OpenSSH_9.2\r\n"),
    ],
)
def test_a_stranger_at_the_port_is_recognised(peer: Peer, reply: Reply) -> None:
    peer.on("GET", "/a", reply)
    with pytest.raises(Unreachable, match="http://127"):
        client(peer).get("/a")


def test_nobody_there_names_url_source_and_next_step() -> None:
    place = Place(url=f"http://127.0.0.1:{closed_port()}", source="KOHAKURIVER_URL")
    with pytest.raises(Unreachable, match=r"KOHAKURIVER_URL.*connection refused.*serve --role all"):
        Client(place).get("/a")


def test_unsound_json_is_no_answer(peer: Peer) -> None:
    peer.on("GET", "/a", Reply(b"[" * 200_000))
    with pytest.raises(Unreachable):
        client(peer).get("/a")


def test_pinned_certificate_is_accepted_and_another_is_not(tmp_path) -> None:
    file, fingerprint = make_certificate(tmp_path)
    peer = Peer(tls=file)
    try:
        peer.on("GET", "/a", {"n": 1})
        good = client(peer, fingerprint=fingerprint, token="kru_x")
        assert good.get("/a") == {"n": 1}
        good.close()
        with pytest.raises(Unreachable, match="another certificate"):
            client(peer, fingerprint="0" * 64, token="kru_x").get("/a")
        assert len(peer.asked) == 1
    finally:
        peer.close()


def test_unknown_certificate_is_refused_with_its_fingerprint(tmp_path) -> None:
    file, fingerprint = make_certificate(tmp_path)
    peer = Peer(tls=file)
    try:
        with pytest.raises(Unreachable, match=f"auth login --url https.* --fingerprint {fingerprint}") as caught:
            client(peer, token="kru_x").get("/a")
        assert caught.value.field == "fingerprint"
        assert not peer.asked
    finally:
        peer.close()


def test_authority_in_a_file_is_trusted(tmp_path) -> None:
    file, _fingerprint = make_certificate(tmp_path)
    peer = Peer(tls=file)
    try:
        peer.on("GET", "/a", {"n": 1})
        one = client(peer, ca_file=str(file))
        assert one.get("/a") == {"n": 1}
        one.close()
    finally:
        peer.close()


def test_https_to_a_plain_port_says_so(peer: Peer) -> None:
    with pytest.raises(Unreachable, match="does it speak https"):
        Client(Place(url=peer.url.replace("http:", "https:")), timeout=60).get("/a")


def test_a_credential_that_was_replaced_meanwhile_is_looked_up_again(peer: Peer) -> None:
    def answer(asked) -> Reply:
        good = asked.headers["Authorization"] == "Bearer kru_new"
        return Reply({"n": 1}) if good else problem(401, "not_signed_in", "who are you")

    peer.on("GET", "/a", answer)
    found = Place(url=peer.url, token="kru_new")
    one = Client(found._replace(token="kru_old"), look_again=lambda: found)
    assert one.get("/a") == {"n": 1}
    with Client(found._replace(token="kru_old"), look_again=lambda: found).stream(
        "/a", accept="*/*", timeout=60
    ) as reply:
        assert reply.status == 200
        reply.read()
    with pytest.raises(NotSignedIn):
        Client(found._replace(token="kru_old"), look_again=lambda: found._replace(token="kru_old")).get("/a")
    with pytest.raises(NotSignedIn):
        Client(found._replace(token="kru_old"), look_again=lambda: found._replace(url="http://127.0.0.1:1")).get("/a")
    one.close()
