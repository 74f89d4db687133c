"""What is written from the settings: a commented config.toml, its JSON Schema, and the tables of the documentation."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

import msgspec

from kohakuriver.config.settings import SECTIONS, Setting, section_settings
from kohakuriver.config.values import show_value
from kohakuriver.config.variables import SHORT

INTRO = """\
# KohakuRiver. Every setting stands here with its default, commented out.
# Sizes: "512M", "8G" (1 G = 1024 M). Durations: "30s", "2h30m". Paths: absolute, or ~/ for the home directory.
# A variable wins over this file: KOHAKURIVER__HOST__HOST_PORT=9000. See: kohakuriver config show --origin
"""
PLUGIN_INTRO = """\
# Each plugin has a table of its own; its README says what it takes.
# [plugins.process]
# enabled = true
# run_as = "nobody"
"""


def config_template(sections: Sequence[str] = tuple(SECTIONS), values: Mapping[str, object] | None = None) -> str:
    """A config.toml: every setting of the sections with its help, those in `values` set and the others commented."""
    values = values or {}
    parts = [INTRO]
    for section in sections:
        about = (SECTIONS[section].__doc__ or "").strip()
        blocks = [f"# {about}\n[{section}]\n"]
        blocks += [_block(setting, values) for setting in section_settings(section)]
        parts.append("\n".join(blocks))
    if "plugins" in sections:
        parts.append(PLUGIN_INTRO)
    return "\n".join(parts)


def settings_table() -> str:
    """The settings as Markdown: one table a section, then the short variables."""
    return "\n".join(_tables())


def json_schema() -> dict[str, Any]:
    """The JSON Schema of config.toml, for editors. Sizes and durations are texts, as they are written."""
    sections = {section: _section_schema(section) for section in SECTIONS}
    sections["plugins"]["additionalProperties"] = {"type": "object"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "config.toml of KohakuRiver",
        "type": "object",
        "properties": sections,
        "additionalProperties": False,
    }


def _section_schema(section: str) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for setting in section_settings(section):
        text = setting.form in {"size", "duration", "cpus", "path"}
        properties[setting.name] = {"type": "string"} if text else msgspec.json.schema(setting.type)
        properties[setting.name]["description"] = setting.help
        properties[setting.name]["default"] = tomllib.loads(f"value = {show_value(setting, setting.default)}")["value"]
    about = (SECTIONS[section].__doc__ or "").strip()
    return {"type": "object", "description": about, "properties": properties, "additionalProperties": False}


def default_words(setting: Setting) -> str:
    """The default for a reader: in words where role or user decide it."""
    return setting.default_words or show_value(setting, setting.default)


def _block(setting: Setting, values: Mapping[str, object]) -> str:
    notes = [setting.help]
    if setting.choices:
        notes.append(f"One of {', '.join(setting.choices)}.")
    if setting.default_words:
        notes.append(f"Default: {setting.default_words}.")
    lines = [f"# {line}" for line in wrap(" ".join(notes), 116)]
    if setting.key in values:
        return "\n".join([*lines, f"{setting.name} = {show_value(setting, values[setting.key], secrets=True)}\n"])
    return "\n".join([*lines, f"#{setting.name} = {show_value(setting, setting.default)}\n"])


def _tables() -> Iterator[str]:
    yield "# Settings\n"
    yield "Written by `python -m kohakuriver.config.template`; a test keeps it true.\n"
    for section, struct in SECTIONS.items():
        yield f"## [{section}]\n"
        yield f"{(struct.__doc__ or '').strip()}\n"
        yield "| setting | default | unit | meaning |\n| --- | --- | --- | --- |"
        for setting in section_settings(section):
            words = f" One of {', '.join(setting.choices)}." if setting.choices else ""
            shown = setting.default_words or f"`{show_value(setting, setting.default)}`"
            yield f"| `{setting.name}` | {shown} | {setting.unit} | {_cell(setting.help + words)} |"
        yield ""
    yield "## Environment\n"
    yield "`KOHAKURIVER__SECTION__NAME` sets any of them; these short ones are read too.\n"
    yield "| variable | sets | meaning |\n| --- | --- | --- |"
    for variable in SHORT:
        keys = ", ".join(f"`{key}`" for key in variable.keys)
        yield f"| `{variable.name}` | {keys} | {_cell(variable.help)} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(settings_table(), end="")  # noqa: T201  it is a small program here
