"""Which host, which credential."""

import json
import os
from pathlib import Path

import pytest

from kohakuriver.client.place import Place, Surroundings, Wishes, clean_url, find_place, forget, keep, same_place
from kohakuriver.errors import ConfigError, Invalid


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    return Surroundings(environ={}, home=tmp_path, root=False)


def write(path: Path, record: object, mode: int = 0o600) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    path.chmod(mode)


def test_with_nothing_it_is_the_lab_on_this_machine(around: Surroundings) -> None:
    assert find_place(Wishes(), around) == Place()


@pytest.mark.parametrize(
    ("wishes", "environ", "url"),
    [
        (Wishes(url="https://a:1/"), {"KOHAKURIVER_URL": "http://b"}, "https://a:1"),
        (Wishes(host="a"), {"KOHAKURIVER_PORT": "7"}, "http://a:7"),
        (Wishes(port=9), {}, "http://127.0.0.1:9"),
        (Wishes(host="::1", port=9), {}, "http://[::1]:9"),
        (Wishes(), {"KOHAKURIVER_URL": "http://b"}, "http://b"),
        (Wishes(), {"KOHAKURIVER_HOST": "b"}, "http://b:8000"),
        (Wishes(), {"KOHAKURIVER__CLIENT__URL": "http://c"}, "http://c"),
    ],
)
def test_flags_come_before_the_environment(around: Surroundings, wishes: Wishes, environ: dict, url: str) -> None:
    assert find_place(wishes, around._replace(environ=environ)).url == url


@pytest.mark.parametrize(
    "text", ["ftp://a", "a", "http://", "http://a:99999", "http://u:p@a", "http://a/x", "http://a?b"]
)
def test_what_is_no_url_of_a_host_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        clean_url(text)
    assert caught.value.field == "url"
    assert "p@" not in str(caught.value.value)


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1", "²"])
def test_what_is_no_port_is_refused(around: Surroundings, port: str) -> None:
    with pytest.raises(Invalid, match="port"):
        find_place(Wishes(), around._replace(environ={"KOHAKURIVER_PORT": port}))


def test_kept_token_goes_to_its_own_host_alone(around: Surroundings) -> None:
    keep(around, Place(url="https://lab:8000", token="kru_mine", fingerprint="ab" * 32))
    assert find_place(Wishes(), around)[:3] == ("https://lab:8000", "kru_mine", "ab" * 32)
    assert find_place(Wishes(url="https://LAB:8000/"), around).token == "kru_mine"
    assert find_place(Wishes(host="lab"), around).url == "https://lab:8000"
    for other in ("https://evil:8000", "http://lab:8000", "https://lab:8001"):
        place = find_place(Wishes(url=other), around)
        assert (place.token, place.fingerprint) == (None, None)


def test_kept_file_is_closed_and_can_be_forgotten(around: Surroundings) -> None:
    keep(around, Place(url="http://a", token="kru_mine"))
    assert around.kept.stat().st_mode & 0o777 == 0o600
    assert forget(around)
    assert not forget(around)


def test_token_of_the_environment_goes_where_the_command_says(around: Surroundings) -> None:
    environ = {"KOHAKURIVER_TOKEN": "kru_env", "KOHAKURIVER_URL": "http://a"}
    assert find_place(Wishes(), around._replace(environ=environ)).token == "kru_env"


@pytest.mark.parametrize("token", ["a b", "a\nb", "ä", "  "])
def test_a_token_that_fits_no_header_is_refused_unseen(around: Surroundings, token: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_place(Wishes(), around._replace(environ={"KOHAKURIVER_TOKEN": token}))
    assert token.strip() == "" or token not in str(caught.value)


def test_token_files_are_read(around: Surroundings, tmp_path: Path) -> None:
    write(tmp_path / "token", "kru_file\n")
    environ = {"KOHAKURIVER_TOKEN_FILE": str(tmp_path / "token")}
    assert find_place(Wishes(), around._replace(environ=environ)).token == "kru_file"
    assert find_place(Wishes(token_file=str(tmp_path / "token")), around).token == "kru_file"
    with pytest.raises(ConfigError, match="no token file"):
        find_place(Wishes(token_file=str(tmp_path / "none")), around)


def test_the_file_of_the_lab_is_used_unasked(around: Surroundings) -> None:
    write(around.lab, {"url": "http://127.0.0.1:8123", "token": "kru_lab"})
    place = find_place(Wishes(), around)
    assert (place.url, place.token) == ("http://127.0.0.1:8123", "kru_lab")
    assert find_place(Wishes(host="localhost", port=8123), around).token == "kru_lab"
    assert find_place(Wishes(port=8000), around).token is None


def test_the_file_of_the_lab_does_not_outdo_a_login(around: Surroundings) -> None:
    write(around.lab, {"url": "http://127.0.0.1:8123", "token": "kru_lab"})
    keep(around, Place(url="http://a:8000", token="kru_mine"))
    assert find_place(Wishes(), around)[:2] == ("http://a:8000", "kru_mine")


def test_a_lab_of_another_account_is_not_believed(around: Surroundings, monkeypatch) -> None:
    write(around.lab, {"url": "http://127.0.0.1:1", "token": "kru_lab"})
    monkeypatch.setattr(os, "geteuid", lambda: around.lab.stat().st_uid + 1)
    assert find_place(Wishes(), around) == Place()


def test_settings_name_url_authority_and_token(around: Surroundings) -> None:
    text = '[client]\nurl = "http://set:1"\ntoken = "kru_set"\nca_file = "/ca.pem"\n'
    write(around.config, text)
    place = find_place(Wishes(), around)
    assert (place.url, place.token, place.ca_file) == ("http://set:1", "kru_set", "/ca.pem")
    assert find_place(Wishes(url="http://else:1"), around).token is None


def test_damaged_files_are_named_with_the_next_step(around: Surroundings) -> None:
    write(around.kept, "{")
    with pytest.raises(ConfigError, match=r"client\.json is damaged.*auth login"):
        find_place(Wishes(), around)
    around.kept.unlink()
    write(around.config, "[client\n")
    with pytest.raises(ConfigError, match="config check"):
        find_place(Wishes(), around)


def test_file_open_to_others_is_repaired_and_told_of(around: Surroundings) -> None:
    told: list[str] = []
    write(around.kept, {"url": "http://a", "token": "kru_mine"}, mode=0o644)
    assert find_place(Wishes(), around._replace(tell=told.append)).token == "kru_mine"
    assert around.kept.stat().st_mode & 0o777 == 0o600
    assert "0600" in told[0]


def test_file_of_somebody_else_open_to_others_is_refused(around: Surroundings, monkeypatch) -> None:
    write(around.kept, {"token": "kru_theirs"}, mode=0o644)
    monkeypatch.setattr(os, "geteuid", lambda: around.kept.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="chmod 600"):
        find_place(Wishes(), around)


def test_a_fifo_is_no_credential(around: Surroundings) -> None:
    around.kept.parent.mkdir()
    os.mkfifo(around.kept, 0o600)
    with pytest.raises(ConfigError, match="not a file"):
        find_place(Wishes(), around)


def test_fingerprints_are_read_in_the_usual_spellings(around: Surroundings) -> None:
    spelled = "sha256:" + ":".join(["AB"] * 32)
    assert find_place(Wishes(fingerprint=spelled), around).fingerprint == "ab" * 32
    with pytest.raises(Invalid) as caught:
        find_place(Wishes(fingerprint="ab"), around)
    assert caught.value.field == "fingerprint"


def test_same_place_knows_default_ports_and_loopback() -> None:
    assert same_place("http://localhost", "http://127.0.0.1:80/")
    assert not same_place("http://a", "https://a")
    assert not same_place(None, "http://a")
