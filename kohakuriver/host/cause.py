"""Who or what caused a change, for the history."""

from dataclasses import dataclass, field

from kohakuriver.domain.access import Actor


@dataclass(frozen=True, kw_only=True)
class Cause:
    """An actor in words, with the user behind it if there is one."""

    actor: str
    user: int | None = None
    detail: dict[str, object] = field(default_factory=dict)


SCHEDULER = Cause(actor="scheduler")


def by(actor: Actor, **detail: object) -> Cause:
    """A person's or a program's doing."""
    return Cause(actor=actor.name, user=actor.id, detail={key: v for key, v in detail.items() if v is not None})


def node(name: str) -> Cause:
    """A runner's report."""
    return Cause(actor=f"node {name}")
