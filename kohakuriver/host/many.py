"""What a submission says of many tasks, checked and turned into values: arrays, and what they start after."""

from collections.abc import Sequence
from dataclasses import replace

from kohakuriver.domain.access import Action, Actor
from kohakuriver.domain.arrays import ArrayWish, parse_array
from kohakuriver.domain.dependencies import After, Key, never
from kohakuriver.domain.retries import CAUSES, FAILED, LOST_NODE, Retry
from kohakuriver.domain.spans import combinations
from kohakuriver.errors import Conflict, Invalid, NotFound
from kohakuriver.host.dependencies import Watched
from kohakuriver.host.host import Host
from kohakuriver.host.tasks import find_allowed, find_batch
from kohakuriver.wire import api

#: before the name of any of its tasks it means a whole batch
BATCH = "batch:"


def array_of(request: api.SubmitTask, commands: Sequence[tuple[str, ...]] | None = None) -> ArrayWish | None:
    """The indices, if there are any: then one task each, in one place at most. `commands`: what the spans mean."""
    if request.array is None and commands is None:
        if request.at_once is not None:
            raise Invalid(
                "this is for many tasks", field="at_once", value=request.at_once, limit="with an array or spans"
            )
        return None
    if request.array is not None and commands is not None:
        raise Invalid("an array and spans both say which tasks there are", field="span", limit="one of them")
    for field, count in (("copies", request.copies), ("targets", len(request.targets))):
        if count > 1:
            raise Invalid("an array has one task for each index", field=field, value=count, limit="1 with an array")
    if commands is not None:
        return ArrayWish(indices=tuple(range(len(commands))), most=request.at_once)
    wish = parse_array(request.array or "")
    return wish if wish.most is not None else replace(wish, most=request.at_once)


def commands_of(request: api.SubmitTask) -> list[tuple[str, ...]] | None:
    """Every command that the spans mean; None when they are texts like others."""
    if not request.span:
        return None
    found = list(combinations(request.command, most=api.MOST_COPIES))
    if not found:
        raise Invalid("an empty span means no task at all", field="command", limit="at least one value")
    return found


async def after_of(host: Host, actor: Actor, request: api.SubmitTask) -> tuple[After, ...]:
    """What the tasks are to start after, each once. Raises NotFound for what is not there or not the actor's."""
    found: dict[Key, After] = {}
    for field, refs in (("after", request.after), ("after_any", request.after_any)):
        for ref in refs:
            after = await _find(host, actor, ref, field)
            known = found.get(after.key)
            found[after.key] = after if known is None or known.always else known
    return tuple(found.values())


def retry_of(request: api.SubmitTask) -> Retry | None:
    """Whether and when it is tried again."""
    if not request.retries:
        for field, given in (("retry_on", request.retry_on), ("retry_delay", request.retry_delay)):
            if given:
                raise Invalid("this says when to try again, and not how often", field=field, limit="with retries")
        return None
    unknown = [cause for cause in request.retry_on if cause not in CAUSES]
    if unknown:
        raise Invalid("that is no reason to try again", field="retry_on", value=unknown[0], limit=", ".join(CAUSES))
    return Retry(
        most=request.retries, on=tuple(dict.fromkeys(request.retry_on)) or (FAILED,), delay=request.retry_delay
    )


def lease_of(host: Host, request: api.SubmitTask, retry: Retry | None) -> int | None:
    """How long a silent node keeps it; None where nothing is done about silence."""
    fenced = request.requeue or (retry is not None and LOST_NODE in retry.on)
    return host.settings.lease if fenced else None


async def states_of(host: Host, needs: Sequence[After]) -> dict[Key, Watched]:
    """How these stand now. Raises Conflict when one has ended in a way that makes a start impossible."""
    if not needs:
        return {}
    states = await host.dependencies.look(needs)
    for after in needs:
        bad = states[after.key].bad
        if bad is not None and not after.always:
            raise Conflict(
                f"this could never start: {never(bad[0], bad[1].value, after.key)}; `--after-any` waits for any end",
                field="after",
                value=bad[0],
            )
    return states


async def _find(host: Host, actor: Actor, ref: str, field: str) -> After:
    always = field == "after_any"
    whole = ref.removeprefix(BATCH)
    try:
        if whole != ref:
            return After(
                id=(await find_batch(host, actor, whole, Action.TASK_CONTROL)).batch, batch=True, always=always
            )
        return After(id=(await find_allowed(host, actor, ref, Action.TASK_CONTROL))[0].id, always=always)
    except NotFound as error:
        raise NotFound(error.message, field=field, value=ref) from None
