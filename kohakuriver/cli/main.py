"""`kohakuriver NOUN VERB`: finds the noun, loads its commands alone, turns every failure into a sentence and a code."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any

from kohakuriver import __version__
from kohakuriver.cli import exits
from kohakuriver.cli.exits import UsageError, exit_code
from kohakuriver.cli.output import FORMATS, Output, Style
from kohakuriver.cli.parser import DEFAULTS, GLOBALS, PROGRAM, Parser, add_globals, with_defaults
from kohakuriver.errors import KohakuRiverError, NotSignedIn

#: noun -> (module under cli.commands, what the top-level help says)
NOUNS: dict[str, tuple[str, str]] = {
    "task": ("task", "submit tasks, look at them, end them"),
    "node": ("node", "the machines: look at them, add them, drain them"),
    "docker": ("docker", "environment containers, what is packaged of them, and images"),
    "env": ("env", "environments: what tasks run in, version by version"),
    "user": ("user", "accounts and what they may do"),
    "auth": ("auth", "sign in and out, tokens and sessions"),
    "status": ("status", "the cluster in a few numbers"),
    "top": ("top", "the whole cluster: what is reserved, what is in use, and by whom"),
    "gpus": ("gpus", "every card of the cluster: how it does, and who has it"),
    "local": ("local", "run a command here, once for each combination of its spans"),
    "serve": ("serve", "run the host, a runner, or both"),
    "init": ("init", "write a configuration file or systemd units"),
    "config": ("config", "show, check and explain the settings"),
    "plugins": ("plugins", "what is installed on the host and on the nodes"),
    "completion": ("completion", "completions for bash, zsh or fish"),
    "version": ("version", "the version of this program, and of the host"),
}
#: short words for daily use
SHORT: dict[str, tuple[str, ...]] = {
    "run": ("task", "submit", "--wait", "--logs"),
    "ps": ("task", "list"),
    "logs": ("task", "logs"),
    "wait": ("task", "wait"),
    "kill": ("task", "kill"),
}
SHORT_HELP = {
    "run": "task submit --wait --logs: run it and show its output",
    "ps": "task list",
    "logs": "task logs",
    "wait": "task wait",
    "kill": "task kill",
}
COMPLETE = "__complete"


def run(argv: Sequence[str]) -> int:
    """Run the command; its exit code. Prints every failure; raises nothing but what is a defect of ours."""
    _make_printable()
    out = Output(_first_style(argv), sys.stdout, sys.stderr)
    args = argparse.Namespace()
    try:
        code = _run(list(argv), args, out)
        sys.stdout.flush()
    except KohakuRiverError as error:
        code = exit_code(error)
        if code != exits.TIMED_OUT:
            code = getattr(args, "own_failure", code)
        if isinstance(error, NotSignedIn) and not hasattr(args, "signs_in") and "auth login" not in error.message:
            error.add_note("sign in: kohakuriver auth login")
        out.error(error, exit_code=code)
    except KeyboardInterrupt:
        code = exits.INTERRUPTED
        out.note("interrupted")
    except BrokenPipeError:
        _forget_stdout()
        return exits.BROKEN_PIPE
    except OSError as error:
        code = getattr(args, "own_failure", exits.FAILED)
        what = f": {error.filename}" if error.filename else ""
        out.error(KohakuRiverError(f"{(error.strerror or str(error)).lower()}{what}"), exit_code=code)
    try:
        sys.stdout.flush()
    except OSError:
        _forget_stdout()
    return code


def noun_parser(noun: str, words: Sequence[str] | None = None) -> Parser:
    """The grammar of one noun, with `words` as much of it as they can lead to. Loads its module.

    A module of commands has HELP, `add(parser)`, and LOCAL = True when it never speaks to a host.
    """
    module = import_module(f"kohakuriver.cli.commands.{NOUNS[noun][0]}")
    parser = Parser(prog=f"{PROGRAM} {noun}", description=module.HELP)
    module.add(parser)
    add_globals(parser, local=getattr(module, "LOCAL", False), words=words)
    return parser


def plugin_commands() -> dict[str, Callable[[argparse.ArgumentParser], None]]:
    """Nouns that plugins bring. There is no such hook yet; the manager of the hooks is asked here when there is."""
    return {}


def _run(argv: list[str], args: argparse.Namespace, out: Output) -> int:
    before, noun, after = _split(argv)
    if noun == COMPLETE:
        from kohakuriver.cli.completing import answer

        return answer(after, out)
    if noun is None:
        return _without_noun(before, out)
    if noun in SHORT:
        noun, *words = SHORT[noun]
        after = [*words, *after]
    if (noun, after[:1]) == ("config", ["completion"]):
        noun, after = "completion", after[1:]  # where the predecessor had it
    if noun not in NOUNS:
        raise _unknown(noun)
    try:
        noun_parser(noun, after).parse_args([*before, *after], args)
    except SystemExit as done:  # argparse ends so after printing help
        return int(done.code or 0)
    out.style = _style(with_defaults(args))
    handler = getattr(args, "run", None)
    if handler is None:
        raise UsageError(f"{PROGRAM} {noun}: which verb? see {PROGRAM} {noun} --help")
    return int(handler(args, out))


def _split(argv: list[str]) -> tuple[list[str], str | None, list[str]]:
    """The options before the noun, the noun, and the rest."""
    with_value = {flag for flags, how in GLOBALS if "action" not in how for flag in flags}
    at = 0
    while at < len(argv):
        word = argv[at]
        if not word.startswith("-") or word == "-":
            return argv[:at], word, argv[at + 1 :]
        at += 2 if word in with_value else 1
    return argv, None, []


def _without_noun(before: list[str], out: Output) -> int:
    parser = Parser(prog=PROGRAM, usage=f"{PROGRAM} [options] NOUN VERB ...", description=_overview())
    parser.add_argument("--version", action="store_true", help="print the version")
    add_globals(parser)
    try:
        args = with_defaults(parser.parse_args(before))
    except SystemExit as done:
        return int(done.code or 0)
    if args.version:
        out.text(f"{PROGRAM} {__version__}")
        return exits.OK
    sys.stderr.write(parser.format_help())
    return exits.USAGE


def _overview() -> str:
    width = max(map(len, NOUNS)) + 2
    nouns = "\n".join(f"  {noun:{width}}{text}" for noun, (_module, text) in NOUNS.items())
    short = "\n".join(f"  {word:{width}}{text}" for word, text in SHORT_HELP.items())
    return (
        f"A lab's machines as one computer.\n\nnouns:\n{nouns}\n\nfor every day:\n{short}\n\n"
        f"{PROGRAM} NOUN --help tells more. A first lab: {PROGRAM} serve --role all"
    )


def _unknown(noun: str) -> UsageError:
    from difflib import get_close_matches

    known = [*NOUNS, *SHORT, *plugin_commands()]
    near = get_close_matches(noun, known, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    return UsageError(
        f"there is no command {noun!r}; {guess}see {PROGRAM} --help",
        field="command", value=noun, limit=None if near else ", ".join(known),
    )  # fmt: skip


def _style(args: argparse.Namespace) -> Style:
    """How to print: flags, then KOHAKURIVER_OUTPUT, then a table."""
    form = args.output if args.output in FORMATS else os.environ.get("KOHAKURIVER_OUTPUT") or "table"
    if form not in FORMATS:
        raise UsageError("there is no such output", field="KOHAKURIVER_OUTPUT", value=form, limit=", ".join(FORMATS))
    return Style(format=form, quiet=args.quiet, headers=args.headers, columns=args.columns, color=args.color)


def _first_style(argv: Sequence[str]) -> Style:
    """How to print a complaint about the command line itself, before it could be read."""
    words = list(argv[: argv.index("--")] if "--" in argv else argv)
    said: Any = os.environ.get("KOHAKURIVER_OUTPUT")
    for word, following in pairwise([*words, ""]):
        head, _equals, value = word.partition("=")
        if word in {"--json", "-ojson"}:
            said = "json"
        elif head in {"-o", "--output", "--format"}:
            said = value or following
    return Style(format="json" if said == "json" else "table", color=str(DEFAULTS["color"]))


def _make_printable() -> None:
    """No character of a name may end a command, whatever the locale can write."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """The reader has gone; let the interpreter's last flush go nowhere instead of complaining."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return  # stdout is no file, so nothing is flushed to one
