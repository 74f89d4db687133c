"""Measures the product against baselines of the same run and prints each figure beside its goal.

python contrib/bench [--quick | --full] [--json FILE] [names...]
"""

import argparse
import json
import os
import platform
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import bare
import commands
import containers
import environments
import footprint
import lists
import planning
import running
import submitting
from figures import Book
from filled import Filled
from serving import Place

FEW = 10_000
MANY = 100_000
#: with --quick only where they are named
LONG = {"B8", "H1"}


def main() -> int:
    """0 when everything was measured, met or not."""
    parser = argparse.ArgumentParser(prog="contrib/bench", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="under three minutes (the default)")
    length.add_argument("--full", action="store_true", help="under twenty minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures, e.g. B1 C5; all when none is named")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    began = time.monotonic()
    book = Book()
    about = machine()
    print("  ".join(f"{key}: {value}" for key, value in about.items()))
    named = {name.upper() for name in args.names}
    with Place() as place:
        for names, measure in figures(book, place, named, full=args.full):
            if named & set(names) or (not named and (args.full or not LONG.issuperset(names))):
                measure()
    missed = [figure for figure in book.figures if figure.met is False]
    took = time.monotonic() - began
    print(f"{len(book.figures)} figures in {took:.0f} s, {len(missed)} goals missed; {loads()}")
    if not named and not args.full:
        print(f"measured with --full, or where they are named: A5 G4 {' '.join(sorted(LONG))}")
    if args.json is not None:
        told = {"machine": about, "seconds": took, "figures": [figure.told() for figure in book.figures]}
        args.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


def figures(
    book: Book, place: Place, named: set[str], *, full: bool
) -> list[tuple[tuple[str, ...], Callable[[], None]]]:
    """What is measured together, in the order in which it is measured."""
    few, many = Filled(place, FEW), Filled(place, MANY)
    return [
        (("B1", "B3"), lambda: submitting.idle(book, full=full)),
        (("B4",), lambda: running.throughput(book, full=full)),
        (("B5", "B6"), lambda: running.one_task(book, full=full)),
        (("H2",), lambda: running.first_task(book, full=full)),
        (("D1", "D2"), lambda: commands.commands(book, full=full)),
        (("C1", "C2", "C3"), lambda: footprint.memory(book, full=full)),
        (containers.FIGURES, lambda: containers.containers(book, named, full=full)),
        (environments.FIGURES, lambda: environments.environments(book, named, full=full)),
        (("H1",), lambda: bare.from_nothing(book)),
        (("C4",), lambda: footprint.at_rest(book, full=full)),
        (("B7",), lambda: planning.placements(book, full=full)),
        (("B8",), lambda: footprint.heartbeats(book, full=full)),
        (("B2",), lambda: submitting.loaded(book, many, full=full)),
        (("C5",), lambda: footprint.starting(book, many, full=full)),
        (("E1",), lambda: lists.flat(book, few, many, full=full)),
        (("E2",), lambda: lists.served(book, many, full=full)),
    ]


def machine() -> dict[str, str]:
    return {
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load": loads(),
    }


def loads() -> str:
    """What else goes on: figures of a busy machine say little."""
    return "load " + " ".join(f"{value:.1f}" for value in os.getloadavg())


if __name__ == "__main__":
    sys.exit(main())
