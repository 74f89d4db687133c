"""`kohakuriver completion bash|zsh|fish`: prints what the shell needs."""

import argparse

from kohakuriver.cli.exits import OK
from kohakuriver.cli.output import Output

HELP = "completions for bash, zsh or fish"
LOCAL = True
SHELLS = ("bash", "zsh", "fish")


def add(parser: argparse.ArgumentParser) -> None:
    """There are no verbs."""
    parser.add_argument("shell", choices=SHELLS)
    parser.description = (
        'bash: eval "$(kohakuriver completion bash)" in ~/.bashrc\n'
        'zsh:  eval "$(kohakuriver completion zsh)" in ~/.zshrc, after compinit\n'
        "fish: kohakuriver completion fish > ~/.config/fish/completions/kohakuriver.fish"
    )
    parser.set_defaults(run=print_script)


def print_script(args: argparse.Namespace, out: Output) -> int:
    """To stdout."""
    from kohakuriver.cli.completing import script

    out.text(script(args.shell))
    return OK
