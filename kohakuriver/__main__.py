"""The one executable. Starts as little as the words on the command line ask for."""

import sys


def main() -> None:
    from kohakuriver.cli.main import run  # noqa: PLC0415  loaded here so that an import error is a sentence, not a trace

    sys.exit(run(sys.argv[1:]))


def hakurun() -> None:
    """The predecessor's name for `kohakuriver local`."""
    from kohakuriver.cli.main import run  # noqa: PLC0415  as above

    sys.exit(run(["local", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
