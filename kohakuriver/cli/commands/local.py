"""`kohakuriver local`, also `hakurun`: a command on this machine, once for each combination of its spans."""

import argparse

from kohakuriver.cli.exits import UsageError
from kohakuriver.cli.output import Output

HELP = "run a command here, once for each combination of its spans"
LOCAL = True


def add(parser: argparse.ArgumentParser) -> None:
    """There are no verbs."""
    parser.description = (
        "Run a program, a module or module:function on this machine; no host is asked.\n\n"
        "  kohakuriver local -- python train.py --seed 'span:{0..3}' --model 'span:[small, large]'\n"
        "  hakurun --parallel mymodule:main 'span:{0..7}'\n\n"
        "span:{a..b} are whole numbers, span:[x,y] words, span:text is the text; several mean every combination."
    )
    parser.add_argument("--parallel", action="store_true", help="all combinations at once")
    parser.add_argument("--at-once", metavar="N", type=int, help="so many at once (1)")
    parser.add_argument("--literal", action="store_true", help="spans are texts like others")
    parser.add_argument("command", metavar="CMD", nargs=argparse.REMAINDER, help="the command and its arguments")
    parser.set_defaults(run=run_local)


def run_local(args: argparse.Namespace, out: Output) -> int:
    """One combination takes the place of this process."""
    from kohakuriver.cli.spans import run_here

    words = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not words:
        raise UsageError("there is no command; it stands after the options: kohakuriver local -- python train.py")
    if args.at_once is not None and args.at_once < 1:
        raise UsageError("this number is out of range", field="--at-once", value=args.at_once, limit="1 or more")
    return run_here(words, out, at_once=None if args.parallel else args.at_once or 1, literal=args.literal)
