"""Defaults < file < environment < flags, and every mistake at once."""

import os
from pathlib import Path

import msgspec
import pytest

from kohakuriver.config.load import Origin, load
from kohakuriver.config.places import Places
from kohakuriver.config.problems import BadConfig
from kohakuriver.config.settings import all_settings
from kohakuriver.errors import ConfigError


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(root=False, home=tmp_path, etc=tmp_path / "etc", var=tmp_path / "var")


def write(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def problems(*args, **settings) -> list[str]:
    with pytest.raises(BadConfig) as caught:
        load(*args, **settings)
    assert isinstance(caught.value, ConfigError)
    return [str(problem) for problem in caught.value.problems]


def test_each_layer_wins_over_the_one_below(places: Places) -> None:
    file = write(places.config_file, "[host]\nhost_port = 1\nlog_level = 'debug'\nsession_expire_hours = 2\n")
    environ = {"KOHAKURIVER__HOST__LOG_LEVEL": "error", "KOHAKURIVER__HOST__SESSION_EXPIRE_HOURS": "3"}
    loaded = load("all", environ=environ, flags={"host.session_expire_hours": 4, "host.insecure": None}, places=places)
    host = loaded.config.host
    assert (host.host_port, host.log_level, host.session_expire_hours) == (1, "error", 4)
    assert loaded.files == (file,)
    assert loaded.origins["host.host_port"] == Origin(kind="file", where=f"{file}:2")
    assert loaded.origins["host.log_level"] == Origin(kind="environment", where="KOHAKURIVER__HOST__LOG_LEVEL")
    assert loaded.origins["host.session_expire_hours"] == Origin(kind="flag", where="command line")
    assert loaded.origins["host.insecure"] == Origin(kind="default")


def test_without_a_file_there_are_defaults(places: Places) -> None:
    loaded = load("all", environ={}, places=places)
    assert loaded.config.host.host_bind_ip == "127.0.0.1"
    assert loaded.config.host.data_dir == places.home / ".kohakuriver" / "host"
    assert loaded.config.runner.data_dir == places.home / ".kohakuriver" / "runner"
    assert loaded.files == ()
    assert {origin.kind for origin in loaded.origins.values()} == {"default"}


def test_a_host_alone_listens_to_everybody_unless_told(places: Places) -> None:
    assert load("host", environ={}, places=places).config.host.host_bind_ip == "0.0.0.0"
    write(places.config_file, "[host]\nhost_bind_ip = '127.0.0.1'\n")
    assert load("host", environ={}, places=places).config.host.host_bind_ip == "127.0.0.1"


def test_root_has_the_system_folders(tmp_path: Path) -> None:
    places = Places(root=True, home=tmp_path, etc=tmp_path / "etc")
    assert places.config_file == tmp_path / "etc" / "config.toml"
    assert load("all", environ={}, places=places).config.host.data_dir == Path("/var/lib/kohakuriver/host")
    assert Places(root=True, home=tmp_path).config_file == Path("/etc/kohakuriver/config.toml")


def test_a_unit_says_where_data_lies(tmp_path: Path) -> None:
    places = Places.here({"HOME": str(tmp_path), "STATE_DIRECTORY": "/s/kohakuriver/host:/s/kohakuriver/runner"})
    assert (places.data_dir("host"), places.data_dir("runner")) == (
        Path("/s/kohakuriver/host"),
        Path("/s/kohakuriver/runner"),
    )
    elsewhere = Places.here({"HOME": str(tmp_path), "STATE_DIRECTORY": "/s/other"})
    assert elsewhere.state == (Path("/s/other"),)
    assert not elsewhere.data_dir("host").is_relative_to("/s")


def test_every_mistake_is_told_at_once_with_its_place(places: Places) -> None:
    file = write(
        places.config_file,
        "[host]\nhost_prot = 1\nhost_port = 'x'\nhost_port = 3\ndisk_floor = 12\ndata_dir = 'data'\nhost_url = ''\n"
        "[clinet]\n[runner]\nlog_level = 'loud'\nlabels = { a = 1 }\nreserved_memory = '8X'\npinnable_cpus = '5-2'\n",
    )
    environ = {"KOHAKURIVER__HOST__PORT": "1", "KOHAKURIVER__HOST__HOST_PORT": "70000", "KOHAKURIVER__X": "1"}
    assert problems("all", environ=environ, flags={"host.insecure": "maybe"}, places=places) == [
        f"{file}:4: the key host.host_port stands twice, first at line 3; keep one",
        f"{file}:2: host.host_prot: no such setting; did you mean host_port?",
        f"{file}:3: host.host_port: expected a whole number from 0 to 65535, not 'x'",
        f'{file}:5: host.disk_floor: expected a size such as "512M" or "8G", not \'12\' (it has no unit)',
        f"{file}:6: host.data_dir: expected an absolute path, or one that begins with ~/, not 'data' (it is relative)",
        f"{file}:7: host.host_url: no such setting; it belongs to [runner]",
        f"{file}:8: clinet: no such section; did you mean client? there are [host], [runner], [client], [plugins]",
        f"{file}:10: runner.log_level: expected one of debug, info, warning, error, not 'loud'",
        f'{file}:11: runner.labels: expected a table of short words such as {{ room = "b12" }}, not "{{\'a\': 1}}" (at a)',
        f'{file}:12: runner.reserved_memory: expected a size such as "512M" or "8G", not \'8X\'',
        f"{file}:13: runner.pinnable_cpus: expected CPU numbers such as \"2-7,10\", not '5-2'",
        "KOHAKURIVER__HOST__HOST_PORT: host.host_port: expected a whole number from 0 to 65535, not '70000'",
        "KOHAKURIVER__HOST__PORT: no such setting; did you mean host_port?",
        "KOHAKURIVER__X: no such setting; variables begin with one of KOHAKURIVER__HOST__, KOHAKURIVER__RUNNER__, KOHAKURIVER__CLIENT__, KOHAKURIVER__PLUGINS__",
        "command line: host.insecure: expected true or false, not 'maybe'",
    ]


@pytest.mark.parametrize("key", [s.key for s in all_settings() if s.bare_type is not dict])
def test_no_setting_takes_a_value_of_a_wrong_kind(key: str, places: Places) -> None:
    section, name = key.split(".")
    wrong = "{ x = [1.5] }"
    file = write(places.config_file, f"[{section}]\n\n{name} = {wrong}\n")
    [problem] = problems("all", environ={}, places=places)
    assert problem.startswith(f"{file}:3: {key}: expected ")


def test_a_setting_outside_a_section_is_shown_its_place(places: Places) -> None:
    file = write(places.config_file, "host_port = 1\nfoo = 2\n")
    assert problems("all", environ={}, places=places) == [
        f"{file}:1: host_port: it stands outside a section; put it under [host]",
        f"{file}:2: foo: expected [host], [runner], [client], [plugins]",
    ]


@pytest.mark.parametrize(
    "text", [b"\xef\xbb\xbf[host]\r\nhost_port = 9\r\n", b"[host]\nhost_port = 9", b"\xef\xbb\xbf[host]\nhost_port=9"]
)
def test_a_byte_order_mark_and_windows_line_ends_are_fine(text: bytes, places: Places) -> None:
    write(places.config_file, text)
    assert load("all", environ={}, places=places).config.host.host_port == 9


def test_an_empty_file_is_a_file_of_defaults(places: Places) -> None:
    write(places.config_file, "")
    assert (
        load("all", environ={}, places=places).config
        == load("all", environ={}, places=Places(root=False, home=places.home)).config
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[host]\n\xff\n", ":2: byte 0xff is not UTF-8; save the file as UTF-8"),
        ("[host]\n".encode("utf-16"), ": it is UTF-16; save it as UTF-8"),
        (b"#" * 300_000, ": it is larger than 262144 bytes"),
    ],
)
def test_bytes_that_are_no_text_are_refused(data: bytes, said: str, places: Places) -> None:
    file = write(places.config_file, data)
    assert problems("all", environ={}, places=places) == [f"{file}{said}"]


def test_a_named_file_must_be_there(places: Places) -> None:
    gone = places.home / "gone.toml"
    assert problems("all", file=gone, environ={}, places=places) == [
        f"{gone}: there is no such file; make one with: kohakuriver init config --generate"
    ]
    assert problems("all", environ={"KOHAKURIVER_CONFIG": str(gone)}, places=places)[0].startswith(f"{gone}: ")


def test_what_is_no_ordinary_file_is_refused_without_waiting(places: Places) -> None:
    pipe = places.home / "pipe"
    os.mkfifo(pipe)
    assert problems("all", file=pipe, environ={}, places=places) == [f"{pipe}: it is not an ordinary file"]
    assert problems("all", file=places.home, environ={}, places=places) == [
        f"{places.home}: it is not an ordinary file"
    ]


def test_a_file_that_cannot_be_read_is_an_error(places: Places) -> None:
    places.config_file.parent.mkdir()
    places.config_file.symlink_to(places.config_file)
    [problem] = problems("all", environ={}, places=places)
    assert problem == f"{places.config_file}: it cannot be read: too many levels of symbolic links"


def test_a_secret_in_a_file_for_everybody_is_refused(places: Places) -> None:
    file = write(
        places.config_file, "[client]\ntoken = 'kru_x'\n[plugins.x]\nPassword = 'y'\nempty_token = ''\n", 0o644
    )
    assert problems("all", environ={}, places=places) == [
        f"{file}: everybody may read it and it holds client.token, plugins.x.Password; run: chmod o-r {file}"
    ]
    file.chmod(0o640)
    assert load("all", environ={}, places=places).config.client.token == "kru_x"
    write(file, "[host]\n", 0o666)
    assert problems("all", environ={}, places=places) == [f"{file}: everybody may write to it; run: chmod o-w {file}"]


def test_an_error_never_shows_a_secret(places: Places) -> None:
    write(places.config_file, "[host]\ndatabase = 'mysql://u:hunter2@h/d'\n")
    [problem] = problems("all", environ={}, places=places)
    assert "hunter2" not in problem


def test_a_file_of_the_other_role_is_most_likely_the_wrong_one(places: Places) -> None:
    file = write(places.config_file, "[host]\n")
    assert problems("runner", environ={}, places=places) == [
        f"{file}: the role runner needs a section [runner], and there is only [host]; see: kohakuriver init config --runner"
    ]
    load("all", environ={}, places=places)
    load("runner", environ={"KOHAKURIVER__RUNNER__HOST_URL": "https://h:1"}, places=places)
    write(file, "[client]\n")
    load("runner", environ={}, places=places)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("auth_enabled = false\nhost_bind_ip = '0.0.0.0'", "host.auth_enabled"),
        ("auth_enabled = false\nhost_bind_ip = '::'", "host.auth_enabled"),
        ("tls_key = '/dev/null/x'", "host.tls_key"),
        ("tls_cert = '/nowhere/x'", "host.tls_cert"),
        ("insecure = true\ntls_cert = '/nowhere/x'", "host.insecure"),
        ("data_dir = '/dev/null'", "host.data_dir"),
        ("database = 'sqlite:///x'", "host.database"),
        ("public_url = 'https://h/x'", "host.public_url"),
        ("public_url = 'https://h:99999'", "host.public_url"),
        ("public_url = 'https://u:p@h'", "host.public_url"),
        ("host_bind_ip = 'example'", "host.host_bind_ip"),
        ('host_bind_ip = "127.0.0.1\\u0000"', "host.host_bind_ip"),
        ('data_dir = "/a\\u0000b"', "host.data_dir"),
    ],
)
def test_what_contradicts_itself_is_refused(text: str, key: str, places: Places) -> None:
    write(places.config_file, f"[host]\n{text}\n")
    with pytest.raises(BadConfig) as caught:
        load("all", environ={}, places=places)
    assert key in [problem.key for problem in caught.value.problems]
    assert all(problem.where.startswith(str(places.config_file)) for problem in caught.value.problems)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost", "127.0.0.53"])
def test_nobody_is_asked_on_loopback_if_so_wished(address: str, places: Places) -> None:
    write(places.config_file, f"[host]\nauth_enabled = false\nhost_bind_ip = '{address}'\n")
    assert load("all", environ={}, places=places).config.host.auth_enabled is False


def test_a_certificate_and_its_key_are_taken(places: Places) -> None:
    cert, key = write(places.home / "c.pem", "c"), write(places.home / "k.pem", "k")
    write(places.config_file, f"[host]\ntls_cert = '{cert}'\ntls_key = '{key}'\n")
    host = load("all", environ={}, places=places).config.host
    assert (host.tls_cert, host.tls_key) == (cert, key)


def test_a_runner_needs_its_directories_and_some_output(places: Places) -> None:
    write(places.config_file, "[runner]\nshared_dir = '/nowhere'\noutput_head = '0B'\noutput_tail = 0\n")
    found = problems("runner", environ={}, places=places)
    assert [": ".join(line.split(": ")[1:2]) for line in found] == ["runner.output_tail", "runner.shared_dir"]


def test_two_roles_do_not_share_a_directory(places: Places) -> None:
    write(places.config_file, "[host]\ndata_dir = '/x/y'\n[runner]\ndata_dir = '/x/y'\n")
    assert "cannot share" in problems("all", environ={}, places=places)[0]


def test_values_arrive_in_their_units(places: Places) -> None:
    write(
        places.config_file,
        "[host]\ndisk_floor = '1.5G'\nlost_after = '2h30m'\nheartbeat_interval_seconds = 2.5\n"
        "[runner]\npinnable_cpus = '2-4,8'\nlabels = { room = 'b12' }\nlocal_temp_dir = '/tmp'\nshared_dir = ''\n"
        "[plugins]\ndisabled = ['a']\n[plugins.process]\nenabled = true\nrun_as = 'nobody'\n",
    )
    config = load("all", environ={}, places=places).config
    assert (config.host.disk_floor, config.host.lost_after) == (1536 * 1024**2, 9000)
    assert config.host.heartbeat_interval_seconds == 2.5
    assert config.runner.pinnable_cpus == (2, 3, 4, 8)
    assert config.runner.labels == {"room": "b12"}
    assert (config.runner.local_temp_dir, config.runner.shared_dir) == (Path("/tmp"), None)
    assert config.plugins.disabled == ("a",)
    assert config.plugins.sections == {"process": {"enabled": True, "run_as": "nobody"}}


def test_variables_are_read_as_text(places: Places) -> None:
    environ = {
        "KOHAKURIVER__HOST__INSECURE": "true",
        "KOHAKURIVER__RUNNER__LABELS": "room=b12, rack=3",
        "KOHAKURIVER__RUNNER__PINNABLE_CPUS": "1,2",
        "KOHAKURIVER__RUNNER__DATA_DIR": "~/r",
        "KOHAKURIVER__HOST__DISK_FLOOR": "0",
        "KOHAKURIVER__PLUGINS__DISABLED": "a,b",
        "KOHAKURIVER__PLUGINS__PROCESS__ENABLED": "true",
        "KOHAKURIVER__PLUGINS__PROCESS__RUN_AS": "nobody",
        "KOHAKURIVER_LOG_LEVEL": "debug",
        "KOHAKURIVER_TASK_ID": "1",
    }
    loaded = load("all", environ=environ, places=places)
    config = loaded.config
    assert (config.host.insecure, config.host.disk_floor) == (True, 0)
    assert config.runner.labels == {"room": "b12", "rack": "3"}
    assert config.runner.pinnable_cpus == (1, 2)
    assert config.runner.data_dir == Path("~/r").expanduser()
    assert config.plugins.disabled == ("a", "b")
    assert config.plugins.sections == {"process": {"enabled": True, "run_as": "nobody"}}
    assert (config.host.log_level, config.runner.log_level) == ("debug", "debug")
    assert loaded.origins["plugins.process.run_as"].where == "KOHAKURIVER__PLUGINS__PROCESS__RUN_AS"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"KOHAKURIVER_HOST": "node0"}, "http://node0:8000"),
        ({"KOHAKURIVER_HOST": "node0", "KOHAKURIVER_PORT": "9"}, "http://node0:9"),
        ({"KOHAKURIVER_PORT": "9"}, "http://127.0.0.1:9"),
        ({"KOHAKURIVER_HOST": "node0:7"}, "http://node0:7"),
        ({"KOHAKURIVER_HOST": "https://node0:7/"}, "https://node0:7"),
        ({"KOHAKURIVER_HOST": "::1"}, "http://[::1]:8000"),
        ({"KOHAKURIVER_HOST": "a", "KOHAKURIVER_URL": "https://b:1"}, "https://b:1"),
        ({"KOHAKURIVER_URL": "https://b:1", "KOHAKURIVER__CLIENT__URL": "https://c:1"}, "https://c:1"),
    ],
)
def test_the_predecessors_variables_lead_to_the_host(environ: dict[str, str], url: str, places: Places) -> None:
    write(places.config_file, "[client]\nurl = 'https://file:1'\n")
    assert load("client", environ=environ, places=places).config.client.url == url


def test_a_port_that_is_none_names_its_variable(places: Places) -> None:
    [problem] = problems("client", environ={"KOHAKURIVER_PORT": "x"}, places=places)
    assert problem.startswith("KOHAKURIVER_PORT: client.url: expected a URL")


def test_a_command_does_not_fail_because_of_a_servers_section(places: Places) -> None:
    write(places.config_file, "[host]\nnonsense = 1\n[zzz]\n[client]\noutput = 'json'\n")
    loaded = load("client", environ={"KOHAKURIVER__HOST__X": "1"}, places=places)
    assert loaded.config.client.output == "json"


def test_relative_paths_are_fine_on_the_command_line(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(places.home)
    loaded = load("all", environ={}, flags={"host.data_dir": "lab/host"}, places=places)
    assert loaded.config.host.data_dir == places.home / "lab" / "host"


def test_nothing_is_made_by_loading(places: Places) -> None:
    load("all", environ={}, places=places)
    assert list(places.home.iterdir()) == []


def test_every_setting_has_its_help_and_a_default_that_is_accepted(places: Places) -> None:
    for setting in all_settings():
        assert setting.help.endswith((".", "`}."))
        assert msgspec.convert(setting.default, setting.type) == setting.default or setting.form == "path"
