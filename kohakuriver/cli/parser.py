"""The command line's grammar on argparse: errors as exceptions, options of every command, one tree to look at."""

import argparse
import os
from collections.abc import Container, Iterable
from functools import cache
from typing import Any, NoReturn

from kohakuriver.cli.exits import UsageError
from kohakuriver.cli.output import FORMATS
from kohakuriver.errors import shorten

PROGRAM = "kohakuriver"
#: so many choices are all told
FEW = 6
EVERYWHERE = "options of every command"


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal. The width is found here, as argparse would load a large module for it."""

    def __init__(self, prog: str) -> None:
        """`prog` begins the usage line."""
        super().__init__(prog, max_help_position=32, width=help_width())

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None = None,
    ) -> None:
        """Without the options of every command, which would hide the others."""
        own = [each for each in actions if each.dest not in DEFAULTS or each.default is not argparse.SUPPRESS]
        super().add_usage(usage, own, groups, prefix)


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of ending the process; takes no abbreviations, which break with each new option."""

    def __init__(self, **settings: Any) -> None:
        """As ArgumentParser."""
        super().__init__(**{"formatter_class": Formatter, "allow_abbrev": False, **settings})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """With a last word that may be left out standing after options too; argparse gives it up at an option."""
        found, rest = super().parse_known_args(args, namespace)
        last = next(reversed(self._get_positional_actions()), None)
        if last is None or last.nargs != "?" or len(rest) != 1 or rest[0].startswith("-"):
            return found, rest
        if getattr(found, last.dest, None) != last.default:
            return found, rest
        setattr(found, last.dest, self._get_values(last, rest))
        return found, []

    def error(self, message: str) -> NoReturn:
        """Instead of printing and leaving."""
        raise UsageError(f"{self.prog}: {message}; see {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """With the nearest word instead of a list of all, where one is near."""
        if action.choices is None or value in action.choices:
            return
        from difflib import get_close_matches

        known = list(map(str, action.choices))
        near = get_close_matches(str(value), known, n=1) if len(known) > FEW else []
        rest = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
        raise argparse.ArgumentError(action, f"there is no {shorten(value)!r}; {rest}")


def add_globals(parser: argparse.ArgumentParser, *, local: bool = False, words: Container[str] | None = None) -> None:
    """Give the parser and those below it the options of every command, except where a command has its own.

    `local` leaves out those that say how to reach a host. With `words` of a command line only the parsers that they
    can lead to are served: argparse takes a tenth of a millisecond for each option.
    """
    group = parser.add_argument_group(EVERYWHERE)
    for flags, settings in GLOBALS[REACHING:] if local else GLOBALS:
        free = [flag for flag in flags if flag not in parser._option_string_actions]  # noqa: SLF001  no public list
        if any(flag.startswith("--") for flag in free):
            group.add_argument(*free, default=argparse.SUPPRESS, **settings)
    for below, spellings in verbs(parser):
        if words is None or any(name in words for name in spellings):
            add_globals(below, local=local, words=words)


def children(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The verbs of a parser, each once under its first name."""
    return {spellings[0]: below for below, spellings in verbs(parser)}


def verbs(parser: argparse.ArgumentParser) -> list[tuple[argparse.ArgumentParser, list[str]]]:
    """Each parser below this one with its names."""
    found: dict[int, tuple[argparse.ArgumentParser, list[str]]] = {}
    for action in parser._actions:  # noqa: SLF001  argparse has no public way to look at its tree
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  as above
            for name, below in action.choices.items():
                found.setdefault(id(below), (below, []))[1].append(name)
    return list(found.values())


def with_defaults(args: argparse.Namespace) -> argparse.Namespace:
    """Fill in what no place of the command line named."""
    for name, value in DEFAULTS.items():
        if not hasattr(args, name):
            setattr(args, name, value)
    return args


@cache
def help_width() -> int:
    """Columns for help: COLUMNS, else those of the terminal, within 40 to 120. Looked up once."""
    text = os.environ.get("COLUMNS", "")
    if text.isdecimal() and int(text[:6]):
        return max(40, min(120, int(text[:6]) - 2))
    for descriptor in (1, 2):
        try:
            return max(40, min(120, os.get_terminal_size(descriptor).columns - 2))
        except OSError:
            continue
    return 78


def port_number(text: str) -> int:
    """A TCP port. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:6]) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no TCP port: 1 to 65535")
    return int(text)


def names(text: str) -> tuple[str, ...]:
    """Words between commas."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))


DEFAULTS: dict[str, Any] = {
    "host": None, "port": None, "url": None, "token_file": None, "fingerprint": None,
    "output": None, "quiet": False, "headers": True, "columns": (), "color": "auto",
}  # fmt: skip
GLOBALS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--host", "-H"), {"metavar": "HOST", "help": "name or address of the host (KOHAKURIVER_HOST)"}),
    (("--port", "-P"), {"metavar": "PORT", "type": port_number, "help": "its port (KOHAKURIVER_PORT; 8000)"}),
    (("--url",), {"metavar": "URL", "help": "both in one, https too (KOHAKURIVER_URL)"}),
    (("--token-file",), {"metavar": "FILE", "help": "file with an API token (KOHAKURIVER_TOKEN_FILE)"}),
    (("--fingerprint",), {"metavar": "HEX", "help": "SHA-256 of the host's certificate (KOHAKURIVER_FINGERPRINT)"}),
    (
        ("--output", "--format", "-o"),
        {"choices": FORMATS, "metavar": "FORM", "help": f"{', '.join(FORMATS)} (KOHAKURIVER_OUTPUT)"},
    ),
    (("--json",), {"dest": "output", "action": "store_const", "const": "json", "help": "the same as -o json"}),
    (("--quiet", "-q"), {"action": "store_true", "help": "print ids alone, one a line"}),
    (("--no-headers",), {"dest": "headers", "action": "store_false", "help": "no titles over tables and CSV"}),
    (("--columns",), {"metavar": "A,B", "type": names, "help": "which fields tables and CSV show"}),
    (
        ("--color",),
        {"choices": ("auto", "always", "never"), "metavar": "WHEN", "help": "auto, always or never (NO_COLOR)"},
    ),
)
#: how many of them say how to reach a host
REACHING = 5
