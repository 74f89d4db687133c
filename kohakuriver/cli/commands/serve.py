"""`kohakuriver serve`: the grammar. The daemon's code is loaded only when it is started."""

import argparse

from kohakuriver.cli.output import Output

HELP = "run the host, a runner, or both"
LOCAL = True
ROLES = ("host", "runner", "all")
LEVELS = ("debug", "info", "warning", "error")


def add(parser: argparse.ArgumentParser) -> None:
    """Each flag overrides the setting of config.toml that its help names; None says nothing."""
    add = parser.add_argument
    add("--role", choices=ROLES, required=True, help="all is a whole lab on this machine")
    add("--bind", metavar="ADDRESS", help="address to listen on (host.host_bind_ip)")
    add("--port", "-P", metavar="PORT", type=_port, help="port to listen on; 0 takes a free one (host.host_port)")
    add("--data-dir", metavar="DIR", help="where everything durable lies (host.data_dir, runner.data_dir)")
    add("--config", "-c", metavar="FILE", help="settings to read instead of the usual config.toml")
    add("--url", metavar="URL", help="runner: the host to dial (runner.host_url)")
    add("--name", metavar="NODE", help="runner: name of this node (runner.name)")
    add("--no-auth", action="store_true", default=None, help="ask nobody who they are; loopback only")
    add("--insecure", action="store_true", default=None, help="plain HTTP beyond loopback (host.insecure)")
    add("--log-level", choices=LEVELS, help="least important messages (log_level)")
    parser.set_defaults(run=serve)


def serve(args: argparse.Namespace, out: Output) -> int:
    """Until a signal ends it."""
    del out
    if args.role == "runner":
        from kohakuriver.serve.node import main
    else:
        from kohakuriver.serve.host import main
    return main(args)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text[:6]) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no TCP port: 0 to 65535")
    return int(text)
