"""Idempotency keys: their form, and keys of requests whose answer holds a secret, which are good once.

Such an answer is not kept, so it cannot be given again (contrib/notes/decisions/0005).
"""

import hashlib
from collections.abc import Sequence

from kohakuriver.domain.access import Actor
from kohakuriver.errors import Conflict, Invalid
from kohakuriver.host.commits import Follow, nothing
from kohakuriver.host.host import Host
from kohakuriver.store.columns import micros
from kohakuriver.store.models import IdempotencyRow
from kohakuriver.store.tasks import find_answer
from kohakuriver.store.write import ConstraintFailed, Statement, insert

HEADER = "Idempotency-Key"
LONGEST_KEY = 128
TABLE = "idempotency"
#: no body has this hash, so that a submit with the same key is refused as well
NO_BODY = hashlib.sha256(b"an answer that is not kept").hexdigest()


def check_key(key: str) -> str:
    """Raises Invalid for what is no key."""
    if not 0 < len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise Invalid(f"{HEADER} has 1 to {LONGEST_KEY} printable ASCII characters", field=HEADER, value=key)
    return key


async def write_once(
    host: Host, actor: Actor, key: str | None, statements: Sequence[Statement], then: Follow = nothing
) -> None:
    """Commits the statements, and the key with them; `then` follows as in `Commits.write`. Raises Conflict, and stores
    nothing, when the actor used the key before; what failed did not use it up.
    """
    if key is None:
        await host.commits.write(statements, then)
        return
    if await find_answer(host.store.reader, actor.id, check_key(key)) is not None:
        raise _used(key)
    claim = insert(
        IdempotencyRow,
        id=f"{actor.id}:{key}",
        owner_id=actor.id,
        key=key,
        body_hash=NO_BODY,
        response="",
        created=micros(host.clock.now()),
    )
    try:
        await host.commits.write([claim, *statements], then)
    except ConstraintFailed as error:
        if error.table != TABLE:
            raise
        # another request with the same key was faster
        raise _used(key) from None


def _used(key: str) -> Conflict:
    return Conflict(
        f"this {HEADER} was used already, and a secret is shown once; if that answer got lost, end what it made and "
        "ask again with a new key",
        field=HEADER,
        value=key,
    )
