"""The environment variables: the short documented ones, and `KOHAKURIVER__SECTION__NAME` for every setting."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kohakuriver.config.problems import Problem, nearest
from kohakuriver.config.settings import SECTIONS, section_settings
from kohakuriver.config.values import read_scalar

PREFIX = "KOHAKURIVER__"
FILE_VARIABLE = "KOHAKURIVER_CONFIG"
HOST_VARIABLE = "KOHAKURIVER_HOST"
PORT_VARIABLE = "KOHAKURIVER_PORT"
DEFAULT_PORT = 8000


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A short variable and what it sets."""

    name: str
    keys: tuple[str, ...]
    help: str


SHORT = (
    Variable(name=FILE_VARIABLE, keys=(), help="The configuration file to read."),
    Variable(name="KOHAKURIVER_URL", keys=("client.url",), help="The host that commands speak to."),
    Variable(name=HOST_VARIABLE, keys=("client.url",), help="The same by its name alone; KOHAKURIVER_URL wins."),
    Variable(name=PORT_VARIABLE, keys=("client.url",), help="Port that goes with KOHAKURIVER_HOST, else 8000."),
    Variable(name="KOHAKURIVER_TOKEN", keys=("client.token",), help="API token."),
    Variable(name="KOHAKURIVER_TOKEN_FILE", keys=("client.token_file",), help="File with the API token."),
    Variable(name="KOHAKURIVER_FINGERPRINT", keys=(), help="SHA-256 of the host's certificate, to trust it alone."),
    Variable(name="KOHAKURIVER_OUTPUT", keys=("client.output",), help="How commands print data."),
    Variable(name="KOHAKURIVER_LOG_LEVEL", keys=("host.log_level", "runner.log_level"), help="Log level of a server."),
    Variable(
        name="KOHAKURIVER_LOG_FORMAT", keys=("host.log_format", "runner.log_format"), help="Log format of a server."
    ),
    Variable(name="KOHAKURIVER_SHARED_DIR", keys=("runner.shared_dir",), help="Directory that all nodes share."),
)
BY_NAME: Mapping[str, Variable] = MappingProxyType({variable.name: variable for variable in SHORT})


@dataclass(frozen=True, kw_only=True)
class Given:
    """What one variable says about one setting."""

    variable: str
    key: str
    value: object


def client_url(host: str | None, port: str | int | None) -> str:
    """The URL of the predecessor's `--host` and `--port`, which spoke plain HTTP.

    A URL instead of a name keeps its scheme; a port that is given twice is taken from `port`.
    """
    name = (host or "127.0.0.1").strip().rstrip("/")
    if "://" not in name:
        if name.count(":") > 1 and not name.startswith("["):
            name = f"[{name}]"
        name = f"http://{name}"
    scheme, _, rest = name.partition("://")
    bare, colon, own = rest.rpartition(":")
    has_port = bool(colon) and "]" not in own
    return f"{scheme}://{bare if has_port else rest}:{port or (own if has_port else DEFAULT_PORT)}"


def short_values(environ: Mapping[str, str]) -> Iterator[Given]:
    """What the short variables set; empty ones set nothing."""
    host, port = environ.get(HOST_VARIABLE), environ.get(PORT_VARIABLE)
    if host or port:
        yield Given(variable=HOST_VARIABLE if host else PORT_VARIABLE, key="client.url", value=client_url(host, port))
    for variable in SHORT:
        value = environ.get(variable.name)
        if value and variable.name not in {HOST_VARIABLE, PORT_VARIABLE}:
            yield from (Given(variable=variable.name, key=key, value=value) for key in variable.keys)


def long_values(environ: Mapping[str, str]) -> Iterator[Given | Problem]:
    """What `KOHAKURIVER__…` sets; a name that is none is a problem. A plugin's section takes any name."""
    for name in sorted(environ):
        if not name.startswith(PREFIX):
            continue
        parts = tuple(part.lower() for part in name.removeprefix(PREFIX).split("__"))
        section, rest = parts[0], parts[1:]
        if section not in SECTIONS or not rest or not all(parts):
            known = ", ".join(f"{PREFIX}{known.upper()}__" for known in SECTIONS)
            message = f"no such setting; variables begin with one of {known}"
            yield Problem(where=name, key="", message=message)
        elif section == "plugins" and len(rest) == 2:
            yield Given(variable=name, key=f"plugins.{rest[0]}.{rest[1]}", value=read_scalar(environ[name]))
        elif len(rest) == 1 and rest[0] in names_of(section):
            yield Given(variable=name, key=f"{section}.{rest[0]}", value=environ[name])
        else:
            yield Problem(where=name, key="", message=f"no such setting{nearest('__'.join(rest), names_of(section))}")


def names_of(section: str) -> list[str]:
    """The names of a section's settings."""
    return [setting.name for setting in section_settings(section)]
