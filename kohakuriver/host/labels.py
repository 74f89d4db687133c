"""Labels that operators give to nodes. Those of a runner's own configuration stay beside them and give way."""

from collections.abc import Mapping

from kohakuriver.domain.access import Action, Actor, authorize
from kohakuriver.domain.labels import check_labels, stored_labels
from kohakuriver.errors import Conflict, NotFound
from kohakuriver.host import records
from kohakuriver.host.cause import by
from kohakuriver.host.commits import Change, nothing
from kohakuriver.host.host import Host
from kohakuriver.host.nodes import show_node
from kohakuriver.host.roster import Member
from kohakuriver.store.models import NodeRow
from kohakuriver.store.write import update
from kohakuriver.wire import codec
from kohakuriver.wire.api import NodeView


async def label_node(host: Host, actor: Actor, ref: str, labels: Mapping[str, str | None]) -> NodeView:
    """Gives labels, and takes away those that are None. The same again changes nothing.

    Tasks that run there go on, also where they asked for other labels. Raises Invalid, NotFound, and Conflict for a
    label to take away that the runner announces: it can only be given another value.
    """
    authorize(actor, Action.NODE_DRAIN)
    member = host.roster.find(ref)
    if member.revoked:
        raise NotFound(f"there is no node {ref!r}", field="node", value=ref)

    def change() -> Change:
        before, after = member.given, _given(member, labels)
        if after == before:
            return [], nothing
        detail = {"labels": {key: value for key, value in labels.items() if before.get(key) != after.get(key)}}
        event = records.event(
            host.ids.next(), host.clock.now(), "node_labelled", by(actor, name=member.name), node=member.id,
            detail=detail,
        )  # fmt: skip

        def then() -> None:
            member.given = after
            host.changes.publish("node", member.id)
            host.scheduler.wake()

        stored = codec.encode(stored_labels(member.labels, after)).decode()
        statement = update(NodeRow, where={"id": member.id, "state": "active"}, set={"labels": stored}, expect=1)
        return [statement, *records.events([event])], then

    await host.commits.write_alone(member.changing, change)
    return await show_node(host, actor, ref)


def _given(member: Member, labels: Mapping[str, str | None]) -> dict[str, str]:
    """What operators will have given it. Raises Invalid, Conflict."""
    after = {**member.given, **{key: value for key, value in labels.items() if value is not None}}
    for key in [key for key, value in labels.items() if value is None]:
        if key not in member.given and key in member.labels:
            raise Conflict(
                f"node {member.name} announces the label {key} itself; change [runner] labels there, or give it another"
                " value here",
                field=f"labels.{key}",
            )
        after.pop(key, None)
    check_labels(after)
    return after
