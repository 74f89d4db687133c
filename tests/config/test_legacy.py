"""The predecessor's files are read and never run."""

from pathlib import Path

import pytest

from kohakuriver.config.legacy import import_legacy
from kohakuriver.config.legacy_names import GONE, KEPT
from kohakuriver.config.load import load
from kohakuriver.config.problems import BadConfig
from kohakuriver.config.settings import by_key
from kohakuriver.config.template import config_template

HOST = '''"""Host configuration"""
import os
from kohakuengine import Config

HOST_BIND_IP: str = "10.0.0.1"
HOST_PORT = 8000 + 1
HOST_PORT = 9000
HOST_SSH_PROXY_PORT = 8002
SHARED_DIR: str = "/mnt/cluster-share"
LOG_LEVEL = "full"
AUTH_ENABLED = True
ADMIN_SECRET = os.environ["X"]
SESSION_EXPIRE_HOURS = "many"
FAVOURITE = 1
if True:
    HEARTBEAT_INTERVAL_SECONDS = 7
open("RAN", "w").close()


def config_gen():
    return Config.from_globals()
'''


def test_each_setting_of_the_host_is_accounted_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "host_config.py"
    file.write_text(HOST)
    imported = import_legacy(file)
    assert imported.kind == "host"
    assert not (tmp_path / "RAN").exists()
    assert imported.values == {
        "host.host_bind_ip": "10.0.0.1",
        "host.host_port": 9000,
        "host.log_level": "debug",
        "host.auth_enabled": True,
    }
    sentences = [finding.sentence for finding in imported.findings]
    assert sentences == [
        "line 5: HOST_BIND_IP taken over as host.host_bind_ip",
        "line 6: HOST_PORT is not a literal; set host.host_port by hand",
        "line 7: HOST_PORT taken over as host.host_port",
        "line 8: HOST_SSH_PROXY_PORT no longer exists: the SSH proxy is not part of this version yet",
        "line 9: SHARED_DIR no longer exists: a shared directory is a matter of each runner (runner.shared_dir)",
        "line 10: LOG_LEVEL taken over as host.log_level",
        "line 11: AUTH_ENABLED taken over as host.auth_enabled",
        "line 12: ADMIN_SECRET no longer exists: the host prints a one-time secret for its first administrator",
        "line 13: SESSION_EXPIRE_HOURS cannot become host.session_expire_hours: expected a whole number from 1 to 8760, not 'many'",
        "line 14: FAVOURITE is unknown: the predecessor did not read it either",
        "line 16: HEARTBEAT_INTERVAL_SECONDS is not a literal; set host.heartbeat_interval_seconds by hand",
    ]


def test_a_runner_is_known_by_its_settings(tmp_path: Path) -> None:
    file = tmp_path / "old.py"
    file.write_text(
        'HOST_ADDRESS = "node0"\nHOST_PORT = 8000\nSHARED_DIR = "/srv"\nLOCAL_TEMP_DIR = "/tmp/x"\n'
        "RUNNER_PORT = 8001\nADDITIONAL_MOUNTS = []\nLOG_LEVEL = 'warning'\n"
    )
    imported = import_legacy(file)
    assert imported.kind == "runner"
    assert imported.values == {
        "runner.host_url": "https://node0:8000",
        "runner.shared_dir": Path("/srv"),
        "runner.local_temp_dir": Path("/tmp/x"),
        "runner.log_level": "warning",
    }
    assert import_legacy(file, "host").kind == "host"


def test_the_name_of_the_file_decides_where_settings_do_not(tmp_path: Path) -> None:
    for name in ("runner", "host"):
        file = tmp_path / f"{name}_config.py"
        file.write_text('LOG_LEVEL = "info"\n')
        assert import_legacy(file).kind == name


def test_what_was_taken_over_loads(tmp_path: Path) -> None:
    old, new = tmp_path / "host_config.py", tmp_path / "config.toml"
    old.write_text(HOST)
    imported = import_legacy(old)
    new.write_text(config_template((imported.kind,), imported.values))
    host = load("host", file=new, environ={}).config.host
    assert (host.host_bind_ip, host.host_port, host.log_level) == ("10.0.0.1", 9000, "debug")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a = 1\nb = (\n", ":2: it is not Python"),
        (b"\x00", "it is not Python"),
        (b"\xff\xfe = 1\n", "it is not Python"),
        (b"X = " + b"(" * 100_000, "it is not Python"),
        (b"#" * 300_000, ": it is larger than"),
    ],
)
def test_a_file_that_is_no_python_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "host_config.py"
    file.write_bytes(data)
    with pytest.raises(BadConfig) as caught:
        import_legacy(file)
    assert said in str(caught.value)


def test_a_missing_file_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="it cannot be read: no such file"):
        import_legacy(tmp_path / "gone.py")


def test_values_nested_beyond_reason_are_no_literals(tmp_path: Path) -> None:
    file = tmp_path / "host_config.py"
    file.write_text("HOST_PORT = " + "-" * 50_000 + "1\n")
    try:
        findings = import_legacy(file).findings
    except BadConfig:
        return
    assert [finding.key for finding in findings] == [""]


@pytest.mark.parametrize("kind", ["host", "runner"])
def test_each_old_name_leads_to_a_setting_or_a_reason(kind: str) -> None:
    assert set(KEPT[kind].values()) <= set(by_key())
    assert not set(KEPT[kind]) & set(GONE[kind])
