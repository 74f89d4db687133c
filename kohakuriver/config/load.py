"""Defaults < file < environment < flags: the typed configuration of a role and where each value came from.

Read once, at start; nothing is written, opened or bound here. Every error is found before any is raised.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kohakuriver.config.check import cross_check
from kohakuriver.config.files import ConfigFile, read_config_file
from kohakuriver.config.places import Places
from kohakuriver.config.problems import BadConfig, Problem, nearest
from kohakuriver.config.schema import ClientConfig, Config, HostConfig, PluginsConfig, RunnerConfig
from kohakuriver.config.settings import SECTIONS, all_settings, by_key
from kohakuriver.config.values import Raw, read_value
from kohakuriver.config.variables import FILE_VARIABLE, Given, long_values, names_of, short_values
from kohakuriver.errors import Invalid, shorten

Role = Literal["host", "runner", "all", "client"]
#: the sections that a role looks at; a person's command does not fail because of a server's section
READS: Mapping[str, tuple[str, ...]] = {
    "host": tuple(SECTIONS),
    "runner": tuple(SECTIONS),
    "all": tuple(SECTIONS),
    "client": ("client",),
}
_SECRET_WORDS = ("password", "secret", "token")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a value came from."""

    kind: Literal["default", "file", "environment", "flag"]
    #: `path:line`, the variable, or "command line"; "" for a default
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The configuration, the origin of each `section.name`, and the files it was read from."""

    config: Config
    origins: Mapping[str, Origin]
    files: tuple[Path, ...]


def load(
    role: Role,
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[str, object] | None = None,
    places: Places | None = None,
) -> Loaded:
    """The configuration for a role.

    `file` is what `--config` names and must exist; `flags` are values by `section.name`, None for those not given.
    Raises BadConfig (exit code 2) with every problem found.
    """
    places = places or Places.here(environ)
    reading = _Reading(sections=READS[role])
    files = _open_files(file, environ, places)
    for one in files:
        reading.take_file(one)
    reading.take_environment(environ)
    for key, value in (flags or {}).items():
        if value is not None:
            raw = Raw(value=value, text=isinstance(value, str), folder=Path.cwd())
            reading.take(key, raw, Origin(kind="flag", where="command line"))
    reading.problems += _missing_section(role, files, reading)
    config = reading.build(role, places)
    problems = reading.problems or cross_check(role, config, lambda key: reading.origins[key].where)
    if problems:
        raise BadConfig(problems)
    return Loaded(config=config, origins=reading.origins, files=tuple(one.path for one in files))


def _open_files(named: Path | None, environ: Mapping[str, str], places: Places) -> list[ConfigFile]:
    """The named file, which must be there; else the one in its usual place, if there is one."""
    if named is None and environ.get(FILE_VARIABLE):
        named = Path(environ[FILE_VARIABLE]).expanduser()
    path = named or places.config_file
    return [read_config_file(path)] if named is not None or os.path.lexists(path) else []


def _missing_section(role: Role, files: list[ConfigFile], reading: "_Reading") -> Iterator[Problem]:
    """A file that speaks only of the other role is most likely the wrong file."""
    other = {"host": "runner", "runner": "host"}.get(role)
    for one in files:
        names = one.document.values
        if other in names and role not in names and not reading.touches(role):
            yield one.problem(
                f"the role {role} needs a section [{role}], and there is only [{other}]; "
                f"see: kohakuriver init config --{role}"
            )


@dataclass(kw_only=True)
class _Reading:
    """Collects values, origins and problems, layer by layer; the later layer wins."""

    sections: tuple[str, ...]
    values: dict[str, Any] = field(default_factory=dict)
    plugins: dict[str, dict[str, Any]] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=lambda: {s.key: Origin(kind="default") for s in all_settings()})
    problems: list[Problem] = field(default_factory=list)

    def touches(self, section: str) -> bool:
        return any(key.startswith(f"{section}.") for key in self.values)

    def take(self, key: str, raw: Raw, origin: Origin) -> None:
        setting = by_key()[key]
        try:
            self.values[key] = read_value(setting, raw)
        except Invalid as error:
            self.problems.append(Problem(where=origin.where, key=key, message=error.message))
        self.origins[key] = origin

    def take_file(self, file: ConfigFile) -> None:
        self.problems += file.problems()
        secrets: list[str] = []
        for section, table in file.document.values.items():
            if section not in SECTIONS or not isinstance(table, dict):
                self._strange_section(file, section, table)
            elif section in self.sections:
                for name, value in table.items():
                    self._take_from_file(file, section, name, value)
            secrets += [f"{section}.{name}" for name, value in _secrets(section, table)]
        if secrets and file.mode & stat.S_IROTH:
            message = f"everybody may read it and it holds {', '.join(secrets)}; run: chmod o-r {file.path}"
            self.problems.append(file.problem(message))

    def _take_from_file(self, file: ConfigFile, section: str, name: str, value: object) -> None:
        where = file.at(section, name)
        key = f"{section}.{name}"
        if key in by_key():
            self.take(key, Raw(value=value), Origin(kind="file", where=where))
        elif section == "plugins" and isinstance(value, dict):
            for item, inner in value.items():
                self._take_plugin(name, item, inner, Origin(kind="file", where=file.at(section, name, item)))
        else:
            self.problems.append(Problem(where=where, key=shorten(key), message=_unknown(section, name)))

    def _strange_section(self, file: ConfigFile, section: str, table: object) -> None:
        if self.sections == READS["client"]:
            return
        names = ", ".join(f"[{name}]" for name in SECTIONS)
        if isinstance(table, dict):
            message = f"no such section{nearest(section, SECTIONS)} There are {names}"
            message = message.replace("? There", "? there")
        else:
            owners = [setting.section for setting in all_settings() if setting.name == section.lower()]
            message = f"it stands outside a section; put it under [{owners[0]}]" if owners else f"expected {names}"
        self.problems.append(Problem(where=file.at(section), key=shorten(section), message=message))

    def _take_plugin(self, plugin: str, name: str, value: object, origin: Origin) -> None:
        self.plugins.setdefault(plugin, {})[name] = value
        self.origins[f"plugins.{plugin}.{name}"] = origin

    def take_environment(self, environ: Mapping[str, str]) -> None:
        for given in (*short_values(environ), *long_values(environ)):
            if isinstance(given, Problem):
                if self.sections != READS["client"]:
                    self.problems.append(given)
            elif given.key.partition(".")[0] in self.sections:
                self._take_variable(given)

    def _take_variable(self, given: Given) -> None:
        origin = Origin(kind="environment", where=given.variable)
        if given.key in by_key():
            self.take(given.key, Raw(value=given.value, text=True), origin)
        else:
            _, plugin, name = given.key.split(".", 2)
            self._take_plugin(plugin, name, given.value, origin)

    def build(self, role: Role, places: Places) -> Config:
        """The structs, with the defaults that role and user decide."""
        decided: dict[str, object] = {
            "host.data_dir": places.data_dir("host"),
            "runner.data_dir": places.data_dir("runner"),
        }
        if role == "host":
            decided["host.host_bind_ip"] = "0.0.0.0"  # noqa: S104  with TLS: architecture.md §6a
        values = decided | self.values

        def part(section: str) -> dict[str, Any]:
            return {name: values[key] for name in names_of(section) if (key := f"{section}.{name}") in values}

        return Config(
            host=HostConfig(**part("host")),
            runner=RunnerConfig(**part("runner")),
            client=ClientConfig(**part("client")),
            plugins=PluginsConfig(**part("plugins"), sections=self.plugins),
        )


def _unknown(section: str, name: str) -> str:
    hint = nearest(name, names_of(section))
    for setting in all_settings():
        if setting.name == name.lower() and setting.section != section:
            hint = f"; it belongs to [{setting.section}]"
    return f"no such setting{hint}"


def _secrets(section: str, table: object) -> Iterator[tuple[str, object]]:
    """What others must not read: secret settings, and what a plugin's section calls a secret."""
    for name, value in table.items() if isinstance(table, dict) else ():
        setting = by_key().get(f"{section}.{name}")
        if setting is not None and setting.secret and value:
            yield name, value
        elif section == "plugins" and isinstance(value, dict):
            for item, inner in value.items():
                if inner and any(word in item.lower() for word in _SECRET_WORDS):
                    yield f"{name}.{item}", inner
