"""The settings as a list, read off the structs of schema.py: for loading, help, documentation and tests."""

import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Struct

from kohakuriver.config.schema import ClientConfig, HostConfig, PluginsConfig, RunnerConfig

SECTIONS: Mapping[str, type[Struct]] = types.MappingProxyType(
    {
        "host": HostConfig,
        "runner": RunnerConfig,
        "client": ClientConfig,
        "plugins": PluginsConfig,
    }
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting. `type` is what its value must convert to, annotations included."""

    section: str
    name: str
    type: Any
    default: object
    help: str
    #: which reader of config/values.py takes it, "" for the plain ones
    form: str = ""
    unit: str = ""
    secret: bool = False
    #: the default in words, where role or user decide
    default_words: str = ""

    @property
    def key(self) -> str:
        """`section.name`."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"KOHAKURIVER__{self.section}__{self.name}".upper()

    @property
    def bare_type(self) -> Any:
        """The type without annotations and without None."""
        kind = get_args(self.type)[0] if get_origin(self.type) is Annotated else self.type
        return Path if kind == Path | None else kind

    @property
    def choices(self) -> tuple[str, ...]:
        """The words it may be, if only some are."""
        return get_args(self.bare_type) if get_origin(self.bare_type) is Literal else ()

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Least and greatest value of a number."""
        metas = _metas(self.type)
        least = [m.ge for m in metas if m.ge is not None]
        greatest = [m.le for m in metas if m.le is not None]
        return (least[-1] if least else None, greatest[-1] if greatest else None)


@cache
def all_settings() -> tuple[Setting, ...]:
    """Every setting in the order of the structs."""
    return tuple(setting for section in SECTIONS for setting in section_settings(section))


@cache
def section_settings(section: str) -> tuple[Setting, ...]:
    """The settings of one section; KeyError for an unknown one."""
    fields = msgspec.structs.fields(SECTIONS[section])
    return tuple(_setting(section, field) for field in fields if get_origin(field.type) is Annotated)


@cache
def by_key() -> Mapping[str, Setting]:
    """Every setting by `section.name`."""
    return types.MappingProxyType({setting.key: setting for setting in all_settings()})


def _setting(section: str, field: msgspec.structs.FieldInfo) -> Setting:
    metas = _metas(field.type)
    extra: dict[str, Any] = {}
    for meta in metas:
        extra |= meta.extra or {}
    return Setting(
        section=section,
        name=field.name,
        type=field.type,
        default=field.default_factory() if field.default is NODEFAULT else field.default,
        help=next(meta.description for meta in reversed(metas) if meta.description),
        form=extra.get("form", ""),
        unit=extra.get("unit", ""),
        secret=extra.get("secret", False),
        default_words=extra.get("default", ""),
    )


def _metas(kind: Any) -> list[Meta]:
    return [arg for arg in get_args(kind)[1:] if isinstance(arg, Meta)]
