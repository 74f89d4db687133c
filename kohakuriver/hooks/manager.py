"""Finds the plugins and says what each brought or why it is off. A broken plugin never stops the service."""

import logging
from collections.abc import Callable, Iterable, Mapping, MutableSequence, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, TypeVar

import msgspec
import pluggy

from kohakuriver.errors import Invalid, PluginError
from kohakuriver.hooks import spec
from kohakuriver.hooks.auth import AuthProvider
from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.syncer import Syncer
from kohakuriver.hooks.values import API_VERSION
from kohakuriver.wire.codec import schema

logger = logging.getLogger(__name__)

GROUP = "kohakuriver"
Part = TypeVar("Part")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A plugin, as `kohakuriver plugins` shows it."""

    name: str
    #: name and version of the package that brought it
    distribution: str
    module: str
    api_version: int | None = None
    state: Literal["enabled", "disabled", "broken"] = "enabled"
    #: why it is broken, or what of it is not used
    problem: str | None = None
    backends: tuple[str, ...] = ()
    syncers: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()


class PluginManager:
    """All plugins of this installation, looked for once."""

    def __init__(self, disabled: Iterable[str] = (), points: Iterable[EntryPoint] | None = None) -> None:
        """`disabled` names plugins that are not even imported; `points` replaces those that are installed."""
        self._disabled = frozenset(disabled)
        self._points = points
        self._backends: dict[str, type[Backend]] = {}
        self._syncers: dict[str, type[Syncer]] = {}
        self._providers: dict[str, type[AuthProvider]] = {}
        self._origins: dict[tuple[str, str], str] = {}

    def list(self) -> Sequence[Found]:
        """Every plugin, sorted by name, the disabled and the broken ones too."""
        return self._found

    def backends(self) -> Mapping[str, type[Backend]]:
        """The backend classes by name; whoever runs them makes and opens an instance."""
        _ = self._found
        return self._backends

    def syncers(self) -> Mapping[str, type[Syncer]]:
        """The syncer classes by name; each runner makes and opens those that are used."""
        _ = self._found
        return self._syncers

    def auth_providers(self) -> Mapping[str, type[AuthProvider]]:
        """The provider classes by name."""
        _ = self._found
        return self._providers

    @cached_property
    def _found(self) -> tuple[Found, ...]:
        points = entry_points(group=GROUP) if self._points is None else self._points
        unique = {(point.name, point.value): point for point in points}
        return tuple(self._load(point) for _, point in sorted(unique.items()))

    def _load(self, point: EntryPoint) -> Found:
        package = point.dist
        distribution = f"{package.name} {package.version}" if package is not None else "unknown"
        found = Found(name=point.name, distribution=distribution, module=point.value)
        if point.name in self._disabled:
            return replace(found, state="disabled")
        try:
            return self._read(point, found)
        except PluginError as error:
            problem = error.message
        except Exception as error:  # noqa: BLE001 -- whatever a stranger's code raises: told in the log and in `kohakuriver plugins`
            problem = f"{type(error).__name__}: {error}"
        logger.warning("plugin disabled", extra={"action": "plugin_off", "plugin": point.name, "problem": problem})
        return replace(found, state="broken", problem=problem)

    def _read(self, point: EntryPoint, found: Found) -> Found:
        module = point.load()
        own = pluggy.PluginManager(spec.PROJECT)
        own.add_hookspecs(spec)
        own.register(module, point.name)
        own.check_pending()
        version = _api_version(own)
        backends = _classes(own.hook.kohakuriver_backends, Backend)  # type: ignore[type-abstract]
        syncers = _classes(own.hook.kohakuriver_syncers, Syncer)  # type: ignore[type-abstract]
        providers = _classes(own.hook.kohakuriver_auth_providers, AuthProvider)  # type: ignore[type-abstract]
        for backend in backends:
            if not (isinstance(backend.Options, type) and issubclass(backend.Options, msgspec.Struct)):
                raise PluginError(f"backend {backend.name!r}: Options must be a msgspec struct")
        problems: MutableSequence[str] = []
        origin = f"{found.name} ({found.distribution})"
        return replace(
            found,
            api_version=version,
            backends=tuple(self._take(self._backends, "backend", backends, origin, problems)),
            syncers=tuple(self._take(self._syncers, "syncer", syncers, origin, problems)),
            providers=tuple(self._take(self._providers, "auth provider", providers, origin, problems)),
            problem="; ".join(problems) or None,
        )

    def _take(
        self,
        taken: dict[str, type[Part]],
        kind: str,
        offered: Iterable[type[Part]],
        origin: str,
        problems: MutableSequence[str],
    ) -> Iterable[str]:
        for part in offered:
            name: str = part.name  # type: ignore[attr-defined]
            if name in taken:
                problems.append(f"{kind} {name!r} of {origin} is not used: {self._origins[kind, name]} brings one too")
                logger.warning("plugin part refused", extra={"action": "plugin_part", "problem": problems[-1]})
                continue
            taken[name] = part
            self._origins[kind, name] = origin
            yield name


def _api_version(own: pluggy.PluginManager) -> int:
    answers: Sequence[Any] = own.hook.kohakuriver_api_version()
    if len(answers) != 1 or type(answers[0]) is not int:
        raise PluginError("kohakuriver_api_version() must be implemented and return a number")
    version: int = answers[0]
    if version != API_VERSION:
        raise PluginError(f"it was written for version {version} of the plugin contract; this is version {API_VERSION}")
    return version


def _classes(hook: Callable[[], Sequence[Any]], kind: type[Part]) -> Sequence[type[Part]]:
    found: list[type[Part]] = []
    for answer in hook():
        if isinstance(answer, str | bytes) or not isinstance(answer, Sequence):
            raise PluginError(f"a hook must return a list of {kind.__name__} classes, not {type(answer).__name__}")
        for part in answer:
            if not (isinstance(part, type) and issubclass(part, kind)):
                raise PluginError(f"a hook must return {kind.__name__} classes, not {part!r}")
            missing = getattr(part, "__abstractmethods__", None)
            if missing:
                raise PluginError(f"{part.__name__} lacks {', '.join(sorted(missing))}")
            if not isinstance(getattr(part, "name", None), str) or not part.name:  # type: ignore[attr-defined]
                raise PluginError(f"{part.__name__} has no name")
            found.append(part)
    return found


@cache
def brought_by(backend: type[Backend]) -> tuple[str, str]:
    """The plugin that this class comes from, and its package with the version; empty where none is installed."""
    top = backend.__module__.partition(".")[0]
    for point in entry_points(group=GROUP):
        if point.module.partition(".")[0] == top and point.dist is not None:
            return point.name, f"{point.dist.name} {point.dist.version}"
    return "", ""


def options_schema(backend: type[Backend] | Backend) -> Mapping[str, Any]:
    """The JSON Schema of a backend's options, as it is announced to the host."""
    return schema(backend.Options)


def decode_options(backend: type[Backend] | Backend, options: Mapping[str, Any]) -> Any:
    """The backend's own Options struct from plain values.

    Raises Invalid with the field's path for an unknown name, whether or not the struct forbids it, or a wrong value.
    """
    known = {field.encode_name for field in msgspec.structs.fields(backend.Options)}
    for name in options:
        if name not in known:
            raise Invalid(
                f"backend {backend.name} has no option {name!r}",
                field=f"options.{name}",
                limit=", ".join(sorted(known)) or "no options",
            )
    try:
        return msgspec.convert(dict(options), backend.Options)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        raise Invalid(f"backend {backend.name}: {message}", field=f"options{path.rstrip('`')}") from None
