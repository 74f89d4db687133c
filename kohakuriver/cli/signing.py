"""Signing in from a terminal: whom to trust, who one is, and what is kept for the next command."""

import argparse
import socket
import sys
from typing import Any
from urllib.parse import urlsplit

from kohakuriver.cli.connect import place_of
from kohakuriver.cli.exits import OK, UsageError
from kohakuriver.cli.output import Output
from kohakuriver.cli.words import secret_text
from kohakuriver.client.http import Client
from kohakuriver.client.place import LOOPBACK, Place, check_token, forget, keep, my_surroundings
from kohakuriver.client.tls import look_at
from kohakuriver.errors import KohakuRiverError, Unreachable
from kohakuriver.wire import urls

TIMEOUT = 15.0


def log_in(args: argparse.Namespace, out: Output) -> int:
    """A password makes a new API token; a token of one's own is proved. Either is kept, mode 0600."""
    for flag, value, instead in (("-p", args.password, "--password-stdin"), ("-t", args.token, "--token-stdin")):
        if value is not None:
            raise UsageError(
                f"a secret on the command line can be read by everybody on this machine; use {instead}", field=flag
            )
    place = trusted_place(args, out)
    if args.token_stdin:
        text = secret_text(from_stdin=True, prompt="", field="--token-stdin")
        place = place._replace(token=check_token(text.strip(), "standard input"))
        return _keep(place, Client(place).get(urls.ME), out)
    user = args.user or _ask("user: ", "--user")
    password = secret_text(from_stdin=args.password_stdin, prompt="password: ", field="--password-stdin")
    body = {"user": user, "password": password, "token": args.token_name or _machine_name()}
    answer = Client(place._replace(token=None)).post(urls.LOGIN, body)
    return _keep(place._replace(token=answer["token"]), answer["user"], out)


def first_use(args: argparse.Namespace, out: Output) -> int:
    """The one-time secret and a password of one's choice; signs in at once."""
    place = trusted_place(args, out)._replace(token=None)
    secret = secret_text(from_stdin=args.stdin, prompt="one-time secret: ", field="--stdin")
    password = secret_text(from_stdin=args.stdin, prompt="new password (8 characters or more): ", field="--stdin")
    if not args.stdin and password != secret_text(from_stdin=False, prompt="again: ", field="--stdin"):
        raise UsageError("the two passwords differ; the secret is still good", field="password")
    body: dict[str, Any] = {"secret": secret, "password": password, "token": args.token_name or _machine_name()}
    if args.user:
        body["user"] = args.user
    answer = Client(place).post(urls.SETUP, body)
    return _keep(place._replace(token=answer["token"]), answer["user"], out)


def log_out(args: argparse.Namespace, out: Output) -> int:
    """Forget the token; with `--revoke` it is void first. Without one there is nothing to do."""
    around = my_surroundings(out.note)
    if args.revoke:
        _revoke(place_of(args, out))
    out.note("signed out" if forget(around) else "you were not signed in")
    return OK


def trusted_place(args: argparse.Namespace, out: Output) -> Place:
    """The host, its certificate known: by `--fingerprint`, by the system's authorities, or by a person at a terminal.

    Raises Unreachable when nobody vouches for it.
    """
    place = place_of(args, out)
    parts = urlsplit(place.url)
    if parts.scheme != "https":
        if (parts.hostname or "") not in LOOPBACK:
            out.note(f"warning: {place.url} is not encrypted; everybody on the way can read your password")
        return place
    if place.fingerprint is not None:
        return place
    try:
        Client(place, timeout=TIMEOUT).get(urls.VERSION)
    except Unreachable as error:
        if error.field != "fingerprint" or not sys.stdin.isatty():
            raise
        return place._replace(fingerprint=_confirmed(place, out))
    except KohakuRiverError:
        return place  # it answered, so its certificate is good
    return place


def _confirmed(place: Place, out: Output) -> str:
    parts = urlsplit(place.url)
    try:
        shown = look_at(parts.hostname or "", parts.port or 443, timeout=TIMEOUT)
    except OSError as error:
        raise Unreachable(f"{place.url} does not show a certificate: {error}") from None
    out.say(f"{place.url} is not known here. Its certificate has the SHA-256 fingerprint\n  {shown}")
    if _ask("the same as the administrator's? [yes/no] ", "--fingerprint").lower() not in {"yes", "y"}:
        raise Unreachable("the host is not trusted; nothing was sent to it", field="fingerprint")
    return shown


def _keep(place: Place, user: dict[str, Any], out: Output) -> int:
    around = my_surroundings(out.note)
    keep(around, place, user=str(user["name"]))
    if out.machine or out.style.quiet or out.style.format == "name":
        out.data(user, name="name")
    else:
        out.text(f"signed in to {place.url} as {user['name']} ({user['role']})")
    out.note(f"the token is kept in {around.kept}")
    return OK


def _revoke(place: Place) -> None:
    if place.token is not None:
        Client(place).post(urls.LOGOUT)


def _ask(prompt: str, flag: str) -> str:
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask", field=flag, limit=f"give {flag}")
    sys.stderr.write(prompt)
    sys.stderr.flush()
    answer = sys.stdin.readline().strip()
    if not answer:
        raise UsageError("nothing was given", field=flag)
    return answer


def _machine_name() -> str:
    return f"cli-{socket.gethostname()}"[:128]
