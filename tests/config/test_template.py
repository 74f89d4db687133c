"""What is written from the settings agrees with them."""

import tomllib
from pathlib import Path

import pytest

from kohakuriver.config.load import load
from kohakuriver.config.places import Places
from kohakuriver.config.settings import SECTIONS, all_settings
from kohakuriver.config.template import config_template, json_schema, settings_table
from kohakuriver.config.values import cpu_list, show_value

ROOT = Path(__file__).parents[2]


def uncommented(text: str) -> str:
    return "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in text.split("\n")
    )


def test_the_written_file_loads_as_the_defaults(tmp_path: Path) -> None:
    places = Places(root=False, home=tmp_path)
    file = tmp_path / "config.toml"
    file.write_text(config_template())
    for role in ("all", "host", "runner", "client"):
        assert load(role, file=file, environ={}, places=places).config == load(role, environ={}, places=places).config


def test_the_written_defaults_are_the_defaults(tmp_path: Path) -> None:
    places = Places(root=True, home=tmp_path)
    file = tmp_path / "config.toml"
    file.write_text(uncommented(config_template()))
    loaded = load("all", file=file, environ={}, places=places)
    assert loaded.config == load("all", environ={}, places=Places(root=True, home=tmp_path, etc=tmp_path)).config
    assert {loaded.origins[setting.key].kind for setting in all_settings()} == {"file"}


def test_given_values_stand_uncommented() -> None:
    text = config_template(("runner",), {"runner.host_url": "https://h:1", "runner.pinnable_cpus": (1, 2, 3, 7)})
    assert tomllib.loads(text) == {"runner": {"host_url": "https://h:1", "pinnable_cpus": "1-3,7"}}


@pytest.mark.parametrize("setting", all_settings(), ids=lambda setting: setting.key)
def test_a_shown_value_is_toml(setting) -> None:
    tomllib.loads(f"x = {show_value(setting, setting.default)}")


def test_secrets_are_hidden() -> None:
    [token] = [setting for setting in all_settings() if setting.key == "client.token"]
    assert show_value(token, "kru_x") == '"…"'
    assert show_value(token, "kru_x", secrets=True) == '"kru_x"'


def test_the_schema_names_every_setting_and_nothing_else() -> None:
    schema = json_schema()
    named = {f"{section}.{name}" for section in SECTIONS for name in schema["properties"][section]["properties"]}
    assert named == {setting.key for setting in all_settings()}
    assert schema["additionalProperties"] is False
    assert schema["properties"]["host"]["properties"]["host_port"]["maximum"] == 65535


def test_the_page_of_settings_is_up_to_date() -> None:
    assert (ROOT / "contrib" / "notes" / "settings.md").read_text() == settings_table()


@pytest.mark.parametrize(("cpus", "text"), [((), ""), ((3,), "3"), ((0, 1, 2, 5, 6, 9), "0-2,5-6,9")])
def test_cpu_lists_are_short(cpus: tuple[int, ...], text: str) -> None:
    assert cpu_list(cpus) == text
