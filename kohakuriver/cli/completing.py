"""Completions: the grammar as shell scripts, and the words that only the host knows."""

import argparse
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kohakuriver.cli.connect import place_of
from kohakuriver.cli.exits import OK
from kohakuriver.cli.main import NOUNS, SHORT, SHORT_HELP, noun_parser
from kohakuriver.cli.output import Output
from kohakuriver.cli.parser import DEFAULTS, children
from kohakuriver.client.http import Client
from kohakuriver.errors import KohakuRiverError
from kohakuriver.wire import urls

#: what a word stands for, by the name that the grammar gives it -> where the host lists it
LIVE = {"TASK": "tasks", "NODE": "nodes", "USER": "users", "TARGET": "nodes"}
LISTS = {"tasks": (urls.TASKS, "id"), "nodes": (urls.NODES, "name"), "users": (urls.USERS, "name")}
#: new names that the host cannot know
NEW = frozenset({"node token", "node join", "user add"})
TIMEOUT = 2.0
MOST = 200


class Place(NamedTuple):
    """A point of the command line: the words up to it, and what may follow."""

    path: str
    help: str
    verbs: tuple[str, ...]
    options: tuple[str, ...]
    #: options that take a value
    valued: tuple[str, ...]
    choices: tuple[str, ...]
    live: str


def places() -> list[Place]:
    """Every point of the grammar."""
    found = [Place("", "", (*NOUNS, *SHORT), ("--help", "--version"), (), (), "")]
    for noun, (_module, text) in NOUNS.items():
        found += _places(noun, text, noun_parser(noun))
    by_path = {place.path: place for place in found}
    for word, words in SHORT.items():
        found.append(by_path[" ".join(words[:2])]._replace(path=word, help=SHORT_HELP[word]))
    return found


def script(shell: str) -> str:
    """What the shell evaluates."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](places())


def answer(words: Sequence[str], out: Output) -> int:
    """`__complete tasks PREFIX`: names, one a line; nothing at all when the host cannot say."""
    kind, prefix = (*words, "", "")[:2]
    if kind not in LISTS:
        return OK
    template, key = LISTS[kind]
    silent = Output(out.style._replace(quiet=True), out.stdout, out.stderr)
    try:
        place = place_of(argparse.Namespace(**DEFAULTS), silent)
        page = Client(place, timeout=TIMEOUT).get(urls.fill(template, {"limit": MOST} if kind == "tasks" else {}))
        names = [str(item[key]) for item in page["items"]]
        names += [str(item["name"]) for item in page["items"] if kind == "tasks" and item.get("name")]
    except (KohakuRiverError, KeyError, TypeError):
        return OK  # a shell that waits for a word is no place for a complaint
    for name in dict.fromkeys(names):
        if name.startswith(prefix):
            out.text(name)
    return OK


def _places(path: str, text: str, parser: argparse.ArgumentParser) -> Iterator[Place]:
    verbs = children(parser)
    actions = [action for action in parser._actions if action.help != argparse.SUPPRESS]  # noqa: SLF001  see parser.py
    flags = [action for action in actions if action.option_strings]
    words = [action for action in actions if not action.option_strings and not isinstance(action.choices, dict)]
    live = next((LIVE[str(a.metavar)] for a in words if str(a.metavar) in LIVE), "") if path not in NEW else ""
    yield Place(
        path=path,
        help=text,
        verbs=tuple(verbs),
        options=tuple(flag for action in flags for flag in action.option_strings),
        valued=tuple(flag for action in flags if action.nargs != 0 for flag in action.option_strings),
        choices=tuple(str(choice) for action in words for choice in action.choices or ()),
        live=live,
    )
    for name, below in verbs.items():
        yield from _places(f"{path} {name}", _help_of(parser, name), below)


def _help_of(parser: argparse.ArgumentParser, verb: str) -> str:
    for action in parser._actions:  # noqa: SLF001  see parser.py
        for choice in getattr(action, "_choices_actions", ()):
            if choice.dest == verb:
                return str(choice.help or "")
    return ""


def _cases(found: Sequence[Place]) -> str:
    """Shell `case` arms that set what may come after a path."""
    return "\n".join(
        f'    "{place.path}") after="{" ".join((*place.verbs, *place.choices))}" '
        f'flags="{" ".join(place.options)}" valued=" {" ".join(place.valued)} " live="{place.live}" ;;'
        for place in found
    )


def _bash(found: Sequence[Place]) -> str:
    return f"""# kohakuriver completion for bash
_kohakuriver_table() {{
  case "$1" in
{_cases(found)}
    *) return 1 ;;
  esac
}}
_kohakuriver() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} path="" after="" flags="" valued="" live="" i word skip=""
  COMPREPLY=()
  _kohakuriver_table ""
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${{COMP_WORDS[i]}}
    if [[ -n $skip ]]; then skip=""; continue; fi
    if [[ $word == -- ]]; then COMPREPLY=($(compgen -f -- "$cur")); return; fi
    if [[ $word == -* ]]; then [[ $valued == *" $word "* ]] && skip=$word; continue; fi
    [[ " $after " == *" $word "* ]] && _kohakuriver_table "${{path:+$path }}$word" && path="${{path:+$path }}$word"
  done
  case "$skip" in
    "") ;;
    -t|--target) live=nodes after="" flags="" ;;
    -o|--output|--format) COMPREPLY=($(compgen -W "table json yaml csv name" -- "$cur")); return ;;
    *) COMPREPLY=($(compgen -f -- "$cur")); return ;;
  esac
  [[ $cur == -* ]] && {{ COMPREPLY=($(compgen -W "$flags" -- "$cur")); return; }}
  [[ -n $live ]] && after="$after $(kohakuriver __complete "$live" "$cur" 2>/dev/null)"
  COMPREPLY=($(compgen -W "$after" -- "$cur"))
}}
complete -o default -F _kohakuriver kohakuriver"""


def _zsh(found: Sequence[Place]) -> str:
    return f"""#compdef kohakuriver
# kohakuriver completion for zsh
_kohakuriver_table() {{
  case "$1" in
{_cases(found)}
    *) return 1 ;;
  esac
}}
_kohakuriver() {{
  local cur="${{words[CURRENT]}}" place="" flags="" valued="" live="" skip="" word
  local -a typed=("${{(@)words[2,CURRENT-1]}}")
  local after=""
  _kohakuriver_table ""
  for word in "${{typed[@]}}"; do
    if [[ -n $skip ]]; then skip=""; continue; fi
    if [[ $word == -- ]]; then _files; return; fi
    if [[ $word == -* ]]; then [[ $valued == *" $word "* ]] && skip=$word; continue; fi
    [[ " $after " == *" $word "* ]] && _kohakuriver_table "${{place:+$place }}$word" && place="${{place:+$place }}$word"
  done
  case "$skip" in
    "") ;;
    -t|--target) live=nodes after="" flags="" ;;
    -o|--output|--format) compadd -- table json yaml csv name; return ;;
    *) _files; return ;;
  esac
  if [[ $cur == -* ]]; then compadd -- ${{=flags}}; return; fi
  [[ -n $live ]] && after="$after $(kohakuriver __complete "$live" "$cur" 2>/dev/null)"
  compadd -- ${{=after}}
}}
compdef _kohakuriver kohakuriver"""


def _fish(found: Sequence[Place]) -> str:
    valued = " ".join(dict.fromkeys(flag for place in found for flag in place.valued))
    lines = [
        "# kohakuriver completion for fish",
        "function __kohakuriver_at",
        "  set -l exact $argv[1]",
        "  set -l wanted $argv[2..-1]",
        "  set -l typed",
        "  set -l skip no",
        "  for word in (commandline -opc)[2..-1]",
        "    if test $skip = yes",
        "      set skip no",
        "    else if string match -q -- '-*' $word",
        f"      contains -- $word {valued}; and set skip yes",
        "    else",
        "      set -a typed $word",
        "    end",
        "  end",
        "  set -l depth (count $wanted)",
        "  test (count $typed) -ge $depth; or return 1",
        '  test "$exact" = no; or test (count $typed) -eq $depth; or return 1',
        '  test "$typed[1..$depth]" = "$wanted"',
        "end",
        "complete -c kohakuriver -f",
    ]
    for place in found:
        exact = "yes" if place.verbs else "no"
        at = f"-n '__kohakuriver_at {exact} {place.path}'" if place.path else "-n __fish_use_subcommand"
        lines += [f"complete -c kohakuriver {at} -a '{word}'" for word in (*place.verbs, *place.choices)]
        if place.live:
            lines.append(f"complete -c kohakuriver {at} -a '(kohakuriver __complete {place.live})'")
        for flag in place.options:
            kind = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
            value = " -r" if flag in place.valued else ""
            lines.append(f"complete -c kohakuriver {at} {kind}{value}")
    return "\n".join(lines)
