"""`kohakuriver user`: accounts and what they may do."""

import argparse

from kohakuriver.cli.amounts import held, limits
from kohakuriver.cli.connect import connect
from kohakuriver.cli.exits import OK, UsageError
from kohakuriver.cli.output import Column, Output
from kohakuriver.cli.paging import print_pages
from kohakuriver.cli.shown import moment, of
from kohakuriver.wire import urls

HELP = "accounts and what they may do"
#: what the host takes for the cluster's default
DEFAULT = -1
MOST = 1_000_000
ROLES = ("viewer", "user", "operator", "admin")
USERS = (
    Column("name", "NAME"),
    Column("role", "ROLE"),
    Column("state", "STATE"),
    Column("most_open", "MOST OPEN"),
    Column("held", "HOLDS", held),
    Column("limits", "MAY HOLD", limits),
    of("created", "CREATED", moment),
    Column("display", "DISPLAY NAME"),
)


def add(parser: argparse.ArgumentParser) -> None:
    """Build the verbs."""
    verbs = parser.add_subparsers(metavar="VERB")
    verbs.add_parser("list", aliases=["ls"], help="all accounts").set_defaults(run=list_users)
    new = verbs.add_parser("add", help="make an account; prints its one-time set-up link")
    new.add_argument("user", metavar="USER")
    new.add_argument("--role", choices=ROLES, default="user", help="what they may do (user)")
    new.add_argument("--display", metavar="NAME", help="their name in full")
    new.add_argument("--most-open", metavar="N", type=int, help="most tasks that have not ended; 0: no limit")
    new.set_defaults(run=add_user)
    role = verbs.add_parser("role", help="change what an account may do")
    role.add_argument("user", metavar="USER")
    role.add_argument("role", choices=ROLES)
    role.set_defaults(run=change_role)
    for word, disabled in (("disable", True), ("enable", False)):
        switch = verbs.add_parser(word, help="end all its sessions and tokens" if disabled else "let it sign in again")
        switch.add_argument("user", metavar="USER")
        switch.set_defaults(run=switch_user, disabled=disabled)
    show = verbs.add_parser("show", aliases=["status"], help="one account, what it holds and may hold")
    show.add_argument("user", metavar="USER")
    show.set_defaults(run=show_user)
    limit = verbs.add_parser("limit", help="what an account may have at once; 0: no limit, -: the cluster's default")
    limit.add_argument("user", metavar="USER")
    limit.add_argument("most_open", metavar="N", nargs="?", help="tasks that have not ended")
    limit.add_argument("--running", metavar="N", help="tasks that hold a place on a node")
    limit.add_argument("--cores", metavar="N", help="cores that they hold")
    limit.add_argument("--memory", metavar="SIZE", help="memory that they hold, such as 64G")
    limit.add_argument("--gpus", metavar="N", help="cards that they hold")
    limit.set_defaults(run=limit_user)
    password = verbs.add_parser("passwd", help="your own password, or a set-up link for another account")
    password.add_argument("user", metavar="USER", nargs="?")
    password.add_argument("--password-stdin", action="store_true", help="read the old and the new one, a line each")
    password.set_defaults(run=change_password)


def list_users(args: argparse.Namespace, out: Output) -> int:
    """All of them."""
    return print_pages(connect(args, out), urls.USERS, {}, out, columns=USERS, name="name", every=True)


def add_user(args: argparse.Namespace, out: Output) -> int:
    """Make it, and show its link once."""
    body = {"name": args.user, "role": args.role, "display": args.display, "most_open": args.most_open}
    link = connect(args, out).post(urls.USERS, {key: value for key, value in body.items() if value is not None})
    return _print_link(link, out)


def change_role(args: argparse.Namespace, out: Output) -> int:
    """Sessions of the account get the new role at once."""
    return _change(args, out, {"role": args.role}, f"user {args.user} is {args.role} now")


def switch_user(args: argparse.Namespace, out: Output) -> int:
    """Disable or enable."""
    word = "disabled" if args.disabled else "enabled"
    return _change(args, out, {"disabled": args.disabled}, f"user {args.user} is {word} now")


def show_user(args: argparse.Namespace, out: Output) -> int:
    """One of them."""
    user = connect(args, out).get(urls.fill(urls.USER, user=args.user))
    if out.machine or out.style.quiet or out.style.format == "name" or out.style.columns:
        out.data(user, name="name")
        return OK
    words = {key: user[key] for key in ("name", "role", "state", "display", "most_open") if user.get(key) is not None}
    out.data({**words, "holds": held(user), "may_hold": limits(user)}, name="name")
    return OK


def limit_user(args: argparse.Namespace, out: Output) -> int:
    """Set what is named, leave the rest."""
    asked = {
        "most_open": _limit(args.most_open, "N"),
        "most_running": _limit(args.running, "--running"),
        "most_cores": _limit(args.cores, "--cores"),
        "most_memory": _memory(args.memory),
        "most_devices": _limit(args.gpus, "--gpus"),
    }
    body: dict[str, object] = {key: value for key, value in asked.items() if value is not None}
    if not body:
        raise UsageError("which limit? for example: kohakuriver user limit ada 100 --cores 64", field="N")
    answer = connect(args, out).patch(urls.fill(urls.USER_LIMITS, user=args.user), body)
    out.done(answer, f"the limits of user {args.user} are set", name="name")
    return OK


def _limit(text: str | None, field: str) -> int | None:
    if text is None or text == "-":
        return None if text is None else DEFAULT
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST))) or int(text) > MOST:
        raise UsageError("this is no limit", field=field, value=text, limit=f"0 to {MOST}, or - for the default")
    return int(text)


def _memory(text: str | None) -> int | None:
    from kohakuriver.domain.units import parse_size

    if text is None or text in {"-", "0"}:
        return {None: None, "-": DEFAULT, "0": 0}[text]
    return parse_size(text, field="--memory")


def change_password(args: argparse.Namespace, out: Output) -> int:
    """One's own needs the old one; for others a link is made, so that nobody knows their password."""
    client = connect(args, out)
    if args.user is not None:
        return _print_link(client.post(urls.fill(urls.USER_SETUP, user=args.user)), out)
    from kohakuriver.cli.words import secret_text

    asked = {"from_stdin": args.password_stdin, "field": "--password-stdin"}
    old = secret_text(prompt="old password: ", **asked)
    new = secret_text(prompt="new password: ", **asked)
    if not args.password_stdin and new != secret_text(prompt="again: ", **asked):
        raise UsageError("the two new passwords differ; nothing was changed", field="password")
    client.post(urls.PASSWORD, {"old": old, "new": new})
    out.note("the password is changed; all other sessions have ended")
    return OK


def _change(args: argparse.Namespace, out: Output, body: dict[str, object], sentence: str) -> int:
    out.done(connect(args, out).patch(urls.fill(urls.USER, user=args.user), body), sentence, name="name")
    return OK


def _print_link(link: dict[str, object], out: Output) -> int:
    if out.machine or out.style.quiet or out.style.format == "name":
        out.data(link, name="url")
        return OK
    out.note(f"give this link to them; it works once, until {moment(link['expires'])}:")
    out.text(str(link["url"]))
    return OK
