"""What is done to environments, written down before it is done: who, what, to which. Builds rows, knows no HTTP."""

from kohakuriver.domain.access import Action, Actor, authorize
from kohakuriver.host import records
from kohakuriver.host.cause import by
from kohakuriver.host.host import Host


async def audited(host: Host, actor: Actor, what: str, **detail: object) -> None:
    """The actor may change environments, and that they do so is in the history. Raises NotAllowed, StorageFull."""
    authorize(actor, Action.ENVIRONMENT_CHANGE)
    told = {key: value for key, value in detail.items() if value not in {None, ""}}
    event = records.event(
        host.ids.next(), host.clock.now(), f"environment_{what}", by(actor), user=actor.id, detail=told
    )
    await host.commits.write(records.events([event]))
