"""`kohakuriver config`: show, check and explain the settings, and take over the predecessor's."""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kohakuriver.cli.output import Output
from kohakuriver.errors import Conflict

HELP = "show, check and explain the settings"
#: never speaks to a host
LOCAL = True
ROLES = ("host", "runner", "all", "client")


def add(parser: argparse.ArgumentParser) -> None:
    """The verbs."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    show = verbs.add_parser("show", help="every setting and its value; secrets are hidden")
    show.add_argument("--origin", action="store_true", help="say where each value comes from")
    _add_file(show)
    show.set_defaults(run=show_settings)
    check = verbs.add_parser("check", help="find every mistake; exit code 2 if there is one")
    _add_file(check)
    check.set_defaults(run=check_settings)
    schema = verbs.add_parser("schema", help="JSON Schema of config.toml, for editors")
    schema.set_defaults(run=show_schema)
    env = verbs.add_parser("env", help="the environment variables, and which of them are set")
    env.set_defaults(run=show_variables)
    bring = verbs.add_parser("import", help="take over a host_config.py or runner_config.py, without running it")
    bring.add_argument("file", metavar="FILE", type=Path, help="the old file")
    bring.add_argument(
        "--to", metavar="FILE", type=Path, help="write here instead of to stdout; never over another file"
    )
    kind = bring.add_mutually_exclusive_group()
    kind.add_argument("--host", dest="kind", action="store_const", const="host", help="it is the host's")
    kind.add_argument("--runner", dest="kind", action="store_const", const="runner", help="it is a runner's")
    bring.set_defaults(run=import_settings)


def show_settings(args: argparse.Namespace, out: Output) -> int:
    """One row a setting."""
    from kohakuriver.config.load import load
    from kohakuriver.config.settings import all_settings
    from kohakuriver.config.values import show_value

    loaded = load(args.role, file=args.config)
    rows: list[Mapping[str, Any]] = []
    for setting in all_settings():
        value = getattr(getattr(loaded.config, setting.section), setting.name)
        rows.append(_row(setting.key, show_value(setting, value), loaded.origins[setting.key]))
    for plugin, section in sorted(loaded.config.plugins.sections.items()):
        for name, value in sorted(section.items()):
            key = f"plugins.{plugin}.{name}"
            rows.append(_row(key, _plain(name, value), loaded.origins[key]))
    out.data(rows, columns=("setting", "value", "origin") if args.origin else ("setting", "value"), name="setting")
    return 0


def check_settings(args: argparse.Namespace, out: Output) -> int:
    """Raises BadConfig with every problem."""
    from kohakuriver.config.load import load

    loaded = load(args.role, file=args.config)
    out.text(f"{loaded.files[0]} is good" if loaded.files else "there is no configuration file; the defaults are good")
    return 0


def show_schema(_args: argparse.Namespace, out: Output) -> int:
    """The schema as JSON, in whatever format other data is asked for."""
    from kohakuriver.config.template import json_schema

    out.text(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0


def show_variables(_args: argparse.Namespace, out: Output) -> int:
    """The short variables, then the long one of every setting."""
    from kohakuriver.config.settings import all_settings
    from kohakuriver.config.variables import SHORT

    rows = [
        {"variable": variable.name, "sets": ", ".join(variable.keys), "value": _variable(variable.name)}
        for variable in SHORT
    ]
    rows += [
        {"variable": setting.variable, "sets": setting.key, "value": _variable(setting.variable, hide=setting.secret)}
        for setting in all_settings()
    ]
    out.data(rows, columns=("variable", "sets", "value"), name="variable")
    return 0


def import_settings(args: argparse.Namespace, out: Output) -> int:
    """The new file to stdout or to `--to`, what became of each old setting to stderr."""
    from kohakuriver.config.legacy import import_legacy
    from kohakuriver.config.template import config_template
    from kohakuriver.config.write import write_new

    imported = import_legacy(args.file, args.kind)
    text = config_template((imported.kind, "plugins"), imported.values)
    if args.to is None:
        out.text(text.rstrip("\n"))
    elif not write_new(args.to, text, mode=0o600):
        raise Conflict(f"{args.to} stands there already, with this very text")
    for finding in imported.findings:
        out.note(f"{args.file}: {finding.sentence}")
    taken = sum(1 for finding in imported.findings if finding.key)
    out.note(f"{args.file}: {taken} of {len(imported.findings)} settings of the {imported.kind} taken over")
    return 0


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", type=Path, help="this file instead of the one in its usual place")
    parser.add_argument("--role", choices=ROLES, default="all", help="as this role would see it (default: all)")


def _row(key: str, value: str, origin: Any) -> Mapping[str, Any]:
    return {"setting": key, "value": value, "origin": origin.where or origin.kind, "origin_kind": origin.kind}


def _plain(name: str, value: object) -> str:
    if any(word in name.lower() for word in ("password", "secret", "token")):
        return '"…"'
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:
        return str(value)


def _variable(name: str, *, hide: bool = False) -> str:
    value = os.environ.get(name, "")
    return "…" if value and (hide or name.endswith("TOKEN")) else value
