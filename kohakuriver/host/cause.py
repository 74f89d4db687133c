"""Who or what caused a change, for the history."""

from dataclasses import dataclass, field

from kohakuriver.domain.access import Actor


@dataclass(frozen=True, kw_only=True)
class Cause:
    """An actor in words, with the user behind it if there is one."""

    actor: str
    user: int | None = None
    detail: dict[str, object] = field(default_factory=dict)


#: what `by` says of where somebody came from; operators see it
ORIGIN = frozenset({"via", "address"})
SCHEDULER = Cause(actor="scheduler")


def by(actor: Actor, **detail: object) -> Cause:
    """A person's or a program's doing, with the credential and the address that it came by."""
    detail |= {"via": actor.via or None, "address": actor.address or None}
    return Cause(actor=actor.name, user=actor.id, detail={key: v for key, v in detail.items() if v is not None})


def node(name: str) -> Cause:
    """A runner's report."""
    return Cause(actor=f"node {name}")
