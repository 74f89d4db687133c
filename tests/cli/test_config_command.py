"""`kohakuriver config` from the outside."""

import json
import os
from pathlib import Path

import pytest

from kohakuriver.cli.main import run


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("KOHAKURIVER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "config.toml"
    path.write_text("[host]\nhost_port = 9\n[client]\ntoken = 'kru_hunter2'\n[plugins.process]\nrun_as = 'nobody'\n")
    path.chmod(0o600)
    monkeypatch.setenv("KOHAKURIVER_CONFIG", str(path))
    return path


def test_show_prints_values_and_where_they_come_from(file: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("KOHAKURIVER__HOST__LOG_LEVEL", "debug")
    assert run(["config", "show", "--origin", "-o", "json"]) == 0
    rows = {row["setting"]: row for row in json.loads(capsys.readouterr().out)["items"]}
    assert (rows["host.host_port"]["value"], rows["host.host_port"]["origin"]) == ("9", f"{file}:2")
    assert rows["host.log_level"]["origin"] == "KOHAKURIVER__HOST__LOG_LEVEL"
    assert rows["host.insecure"]["origin"] == "default"
    assert rows["plugins.process.run_as"]["value"] == '"nobody"'


def test_show_hides_secrets(file: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("KOHAKURIVER_TOKEN", "kru_hunter2")
    for verb in (["show"], ["show", "-o", "json"], ["env"]):
        assert run(["config", *verb]) == 0
    assert "hunter2" not in capsys.readouterr().out


def test_check_says_what_was_read(file: Path, capsys) -> None:
    assert run(["config", "check"]) == 0
    assert capsys.readouterr().out == f"{file} is good\n"


def test_check_prints_a_line_for_every_mistake(file: Path, capsys) -> None:
    file.write_text("[host]\nhost_prot = 1\n[runner]\nname = 'A B'\n")
    assert run(["config", "check"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        f"error: {file}:2: host.host_prot: no such setting; did you mean host_port?",
        f"error: {file}:4: runner.name: expected a host name: lower-case letters, digits, dots and hyphens, at most 63, not 'A B'",
    ]
    assert run(["config", "check", "-o", "json"]) == 2
    assert len(json.loads(capsys.readouterr().err)["error"]["problems"]) == 2


def test_check_takes_another_file_and_role(file: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[host]\n")
    assert run(["config", "check", "--config", str(other)]) == 0
    assert run(["config", "check", "--config", str(other), "--role", "runner"]) == 2
    assert run(["config", "check", "--config", str(tmp_path / "gone")]) == 2
    assert "init config --generate" in capsys.readouterr().err


def test_schema_is_json(file: Path, capsys) -> None:
    assert run(["config", "schema"]) == 0
    assert "host_port" in json.loads(capsys.readouterr().out)["properties"]["host"]["properties"]


def test_env_lists_the_short_and_the_long_names(file: Path, capsys) -> None:
    assert run(["config", "env", "-q"]) == 0
    names = capsys.readouterr().out.split()
    assert {"KOHAKURIVER_CONFIG", "KOHAKURIVER_HOST", "KOHAKURIVER__RUNNER__NAME"} <= set(names)


def test_import_prints_a_file_that_is_good_and_reports(file: Path, tmp_path: Path, capsys) -> None:
    old = tmp_path / "host_config.py"
    old.write_text('HOST_BIND_IP = "127.0.0.1"\nDB_FILE = "/x"\n')
    assert run(["config", "import", str(old)]) == 0
    said = capsys.readouterr()
    assert 'host_bind_ip = "127.0.0.1"' in said.out.splitlines()
    assert f"{old}: line 2: DB_FILE no longer exists" in said.err
    assert f"{old}: 1 of 2 settings of the host taken over" in said.err
    new = tmp_path / "new.toml"
    assert run(["config", "import", str(old), "--to", str(new), "-q"]) == 0
    assert new.stat().st_mode & 0o777 == 0o600
    assert run(["config", "check", "--config", str(new), "--role", "host"]) == 0
    assert run(["config", "import", str(old), "--to", str(new)]) == 5
    assert run(["config", "import", str(tmp_path / "gone.py")]) == 2
