"""`kohakuriver init`: writes a commented config.toml and systemd units, never over a file that differs."""

import argparse
import os
import re
import sys
from pathlib import Path

from kohakuriver.cli.output import Output
from kohakuriver.errors import Invalid, NotAllowed

HELP = "write a configuration file or systemd units"
#: never speaks to a host
LOCAL = True
SYSTEM_UNITS = Path("/etc/systemd/system")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}\$?")


def add(parser: argparse.ArgumentParser) -> None:
    """The verbs."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    config = verbs.add_parser("config", help="a config.toml with every setting, its help and its default")
    config.add_argument("-g", "--generate", action="store_true", help="write the file; without it, it goes to stdout")
    which = config.add_mutually_exclusive_group()
    which.add_argument("--host", dest="part", action="store_const", const="host", help="only what a host needs")
    which.add_argument("--runner", dest="part", action="store_const", const="runner", help="only what a runner needs")
    config.add_argument("-o", "--output-dir", metavar="DIR", type=Path, help="where to (default: its usual place)")
    config.set_defaults(run=write_config)
    service = verbs.add_parser("service", help="systemd units")
    roles = service.add_mutually_exclusive_group(required=True)
    roles.add_argument("--host", dest="role", action="store_const", const="host", help="kohakuriver-host.service")
    roles.add_argument("--runner", dest="role", action="store_const", const="runner", help="kohakuriver-runner.service")
    roles.add_argument("--all", dest="role", action="store_const", const="all", help="kohakuriver.service: both")
    service.add_argument("--no-install", action="store_true", help="write to the output folder, not to systemd's")
    service.add_argument("-o", "--output-dir", metavar="DIR", type=Path, help="with --no-install (default: here)")
    service.add_argument(
        "--config", "--host-config", "--runner-config", metavar="FILE", type=Path, help="configuration file to name"
    )
    service.add_argument("--user", metavar="NAME", help="account to run as (default: root)")
    service.add_argument("--working-dir", metavar="DIR", type=Path, help="folder to run in")
    service.add_argument("--python-path", metavar="FILE", type=Path, help="the Python that has kohakuriver")
    service.add_argument(
        "--capture-env", action=argparse.BooleanOptionalAction, default=True, help="keep today's PATH in the unit"
    )
    service.set_defaults(run=write_service)


def write_config(args: argparse.Namespace, out: Output) -> int:
    """To stdout without --generate."""
    from kohakuriver.config.places import FILE_NAME, Places
    from kohakuriver.config.template import config_template
    from kohakuriver.config.write import write_new

    text = config_template((args.part, "plugins")) if args.part else config_template()
    if not args.generate:
        out.text(text.rstrip("\n"))
        return 0
    path = (args.output_dir or Places.here().config_dir) / FILE_NAME
    new = write_new(path, text, mode=0o600)
    out.text(f"{path} written; every setting is a comment until you change it" if new else f"{path} is there already")
    return 0


def write_service(args: argparse.Namespace, out: Output) -> int:
    """Installing only puts the file in place: a reload of systemd can take GPUs from running containers."""
    from kohakuriver.config.service import UNITS, Service, unit_text
    from kohakuriver.config.write import write_new

    if args.user is not None and not _USER.fullmatch(args.user):
        raise Invalid(f"{args.user!r} is no account name", field="user", value=args.user)
    folder = (args.output_dir or Path.cwd()) if args.no_install else SYSTEM_UNITS
    if not args.no_install and (args.output_dir is not None or os.geteuid() != 0):
        if args.output_dir is not None:
            raise Invalid("--output-dir goes with --no-install", field="output_dir", value=args.output_dir)
        raise NotAllowed(f"only root writes to {SYSTEM_UNITS}; use sudo, or --no-install and copy the file yourself")
    python = _absolute(args.python_path or Path(sys.executable))
    if any(char in "\"'\\" for char in str(python)):
        raise Invalid("systemd starts no program with quotes or backslashes in its path", field="path", value=python)
    service = Service(
        role=args.role,
        python=python,
        config=_absolute(args.config) if args.config else None,
        user=args.user,
        working_dir=_absolute(args.working_dir) if args.working_dir else None,
        path=_search_path() if args.capture_env else None,
    )
    unit = UNITS[args.role]
    new = write_new(folder / unit, unit_text(service), mode=0o644)
    out.text(f"{folder / unit} {'written' if new else 'is there already'}")
    out.note(_next_steps(unit, folder, installed=not args.no_install))
    return 0


def _next_steps(unit: str, folder: Path, *, installed: bool) -> str:
    copy = "" if installed else f"cp {folder / unit} {SYSTEM_UNITS}/ && "
    start = f"systemctl daemon-reload && systemctl enable --now {unit}"
    return f"next, when no container on this machine holds a GPU: {copy}{start}"


def _search_path() -> str | None:
    path = os.environ.get("PATH", "")
    return path if path.isprintable() else None


def _absolute(path: Path) -> Path:
    """Without following links: a virtual environment's Python is one."""
    if any(ord(char) < 32 for char in str(path)):
        raise Invalid("a path with control characters cannot stand in a unit", field="path", value=path)
    return path if path.is_absolute() else Path.cwd() / path
