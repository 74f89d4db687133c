"""`kohakuriver init` from the outside."""

import sys
import tomllib
from pathlib import Path

import pytest

from kohakuriver.cli.main import run


def test_a_config_is_written_once(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "new" / "folder"
    file = folder / "config.toml"
    assert run(["init", "config", "--generate", "-o", str(folder)]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert set(tomllib.loads(file.read_text())) == {"host", "runner", "client", "plugins"}
    assert run(["config", "check", "--config", str(file)]) == 0
    assert run(["init", "config", "--generate", "-o", str(folder)]) == 0
    file.write_text("[host]\nhost_port = 1\n")
    assert run(["init", "config", "--generate", "-o", str(folder)]) == 5
    assert file.read_text() == "[host]\nhost_port = 1\n"
    assert "is left as it is" in capsys.readouterr().err


def test_a_link_is_not_followed(tmp_path: Path, capsys) -> None:
    (tmp_path / "config.toml").symlink_to(tmp_path / "elsewhere")
    assert run(["init", "config", "--generate", "-o", str(tmp_path)]) == 5
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("part", ["host", "runner"])
def test_a_config_for_one_role_speaks_of_it_alone(part: str, capsys) -> None:
    assert run(["init", "config", f"--{part}"]) == 0
    assert set(tomllib.loads(capsys.readouterr().out)) == {part, "plugins"}


@pytest.mark.parametrize(
    ("role", "unit"),
    [("host", "kohakuriver-host.service"), ("runner", "kohakuriver-runner.service"), ("all", "kohakuriver.service")],
)
def test_a_unit_is_written_where_asked(role: str, unit: str, tmp_path: Path, capsys) -> None:
    words = ["--config", "/etc/kohakuriver/config.toml", "--user", "kohaku", "--no-capture-env"]
    assert run(["init", "service", f"--{role}", "--no-install", "-o", str(tmp_path), *words]) == 0
    text = (tmp_path / unit).read_text()
    command = f"ExecStart={sys.executable} -m kohakuriver serve --role {role} --config /etc/kohakuriver/config.toml"
    assert command in text.splitlines()
    assert "User=kohaku" in text.splitlines()
    assert "Environment=" not in text
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / unit} written\n"
    assert f"systemctl enable --now {unit}" in said.err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--host", "--runner"],
        ["--host", "--no-install", "--user", "x\nExecStartPre=/bin/x"],
        ["--host", "--no-install", "--config", "/a\nb"],
        ["--host", "--output-dir", "/tmp"],
        ["--host", "--no-install", "--python-path", '/a"b'],
    ],
)
def test_a_unit_is_not_written_for_nonsense(words: list[str], tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["init", "service", *words]) == 2
    assert list(tmp_path.iterdir()) == []
