"""`kohakuriver auth`: sign in and out, tokens and sessions. The grammar; signing in has a file of its own."""

import argparse

from kohakuriver.cli.connect import connect, place_of
from kohakuriver.cli.exits import OK
from kohakuriver.cli.output import Column, Output
from kohakuriver.cli.paging import print_list
from kohakuriver.cli.shown import moment, of
from kohakuriver.wire import urls

HELP = "sign in and out, tokens and sessions"
TOKENS = (
    Column("id", "ID"),
    Column("name", "NAME"),
    Column("scope", "SCOPE"),
    of("created", "CREATED", moment),
    of("expires", "EXPIRES", moment),
    of("used", "LAST USED", moment),
)
SESSIONS = (
    Column("id", "ID"),
    of("created", "CREATED", moment),
    of("seen", "SEEN", moment),
    of("expires", "EXPIRES", moment),
    Column("current", "THIS ONE"),
    Column("client", "CLIENT"),
)


def add(parser: argparse.ArgumentParser) -> None:
    """Build the verbs."""
    verbs = parser.add_subparsers(metavar="VERB")
    login = verbs.add_parser("login", help="prove who you are, keep a token for the next commands")
    login.add_argument("-u", "--user", "--username", metavar="USER", help="asked for if not given")
    login.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    login.add_argument("--token-stdin", action="store_true", help="keep this API token instead")
    login.add_argument("--token-name", metavar="NAME", help="what to call the new token (cli-MACHINE)")
    _refuse_secrets(login)
    login.set_defaults(run=sign_in, signs_in=True)
    setup = verbs.add_parser("setup", help="first use of an account: set its password with the one-time secret")
    setup.add_argument(
        "-u", "--user", metavar="USER", help="with the secret of the first start: name of the first admin"
    )
    setup.add_argument("--stdin", action="store_true", help="read secret and password from standard input, a line each")
    setup.add_argument("--token-name", metavar="NAME", help="what to call the new token (cli-MACHINE)")
    setup.set_defaults(run=set_up, signs_in=True)
    logout = verbs.add_parser("logout", help="forget the kept token")
    logout.add_argument("-r", "--revoke", action="store_true", help="and make it void at the host")
    logout.set_defaults(run=sign_out)
    verbs.add_parser("status", help="who you are to which host").set_defaults(run=show)
    _add_tokens(verbs.add_parser("token", help="tokens for programs"))
    sessions = verbs.add_parser("sessions", help="your signed-in browsers")
    sessions.add_argument("--end", metavar="ID", help="sign this one out")
    sessions.set_defaults(run=show_sessions)


def _refuse_secrets(parser: argparse.ArgumentParser) -> None:
    """The predecessor took secrets as words; every user of a machine can read those, so say what to do instead."""
    parser.add_argument("-p", "--password", nargs="?", const="", help=argparse.SUPPRESS)
    parser.add_argument("-t", "--token", nargs="?", const="", help=argparse.SUPPRESS)


def _add_tokens(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(metavar="VERB")
    verbs.add_parser("list", aliases=["ls"], help="your tokens").set_defaults(run=list_tokens)
    create = verbs.add_parser("create", help="make one; it is shown once")
    create.add_argument("name", metavar="NAME")
    create.add_argument("--expires", metavar="TIME", help="good for so long, such as 30d")
    create.add_argument("--scope", choices=("all", "read"), default="all", help="what it may do (all)")
    create.set_defaults(run=create_token)
    revoke = verbs.add_parser("revoke", help="make one void")
    revoke.add_argument("token_id", metavar="ID")
    revoke.set_defaults(run=revoke_token)


def sign_in(args: argparse.Namespace, out: Output) -> int:
    """Password or token."""
    from kohakuriver.cli.signing import log_in

    return log_in(args, out)


def set_up(args: argparse.Namespace, out: Output) -> int:
    """First use."""
    from kohakuriver.cli.signing import first_use

    return first_use(args, out)


def sign_out(args: argparse.Namespace, out: Output) -> int:
    """Forget."""
    from kohakuriver.cli.signing import log_out

    return log_out(args, out)


def show(args: argparse.Namespace, out: Output) -> int:
    """Who am I, and where."""
    place = place_of(args, out)
    me = connect(args, out).get(urls.ME)
    out.data({**me, "url": place.url, "found_by": place.source, "fingerprint": place.fingerprint}, name="name")
    return OK


def list_tokens(args: argparse.Namespace, out: Output) -> int:
    """All of mine."""
    return print_list(connect(args, out), urls.TOKENS, out, columns=TOKENS)


def create_token(args: argparse.Namespace, out: Output) -> int:
    """Shown once: alone on stdout, so that it can be kept in a file."""
    body: dict[str, object] = {"name": args.name, "scope": args.scope}
    if args.expires is not None:
        from kohakuriver.domain.units import parse_duration

        body["expires"] = parse_duration(args.expires, field="--expires", least=60)
    answer = connect(args, out).post(urls.TOKENS, body)
    if out.machine or out.style.quiet or out.style.format == "name":
        out.data(answer, name="token")
        return OK
    expires = f", until {moment(answer['expires'])}" if answer.get("expires") else ""
    out.note(f"token {answer['id']} ({answer['name']}{expires}); it is not shown again:")
    out.text(answer["token"])
    return OK


def revoke_token(args: argparse.Namespace, out: Output) -> int:
    """It is void at once."""
    connect(args, out).delete(urls.fill(urls.TOKEN, token=args.token_id))
    out.done({"id": args.token_id}, f"token {args.token_id} is void")
    return OK


def show_sessions(args: argparse.Namespace, out: Output) -> int:
    """All of mine, or end one."""
    client = connect(args, out)
    if args.end is None:
        return print_list(client, urls.SESSIONS, out, columns=SESSIONS)
    client.delete(urls.fill(urls.SESSION, session=args.end))
    out.done({"id": args.end}, f"session {args.end} has ended")
    return OK
