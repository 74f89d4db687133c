"""Where tasks would go and when: for those that wait, and for a submission before it is one. Changes nothing."""

from dataclasses import replace
from datetime import datetime, timedelta

from kohakuriver.domain.access import Action, Actor, authorize
from kohakuriver.domain.explain import Outlook, Window, outlook
from kohakuriver.domain.ids import HIGHEST_ID
from kohakuriver.domain.placement import Planner
from kohakuriver.domain.plans import told_of
from kohakuriver.domain.queue import Queue
from kohakuriver.domain.reasons import Reason
from kohakuriver.domain.targets import format_target
from kohakuriver.domain.tasks import Status, Task
from kohakuriver.host.dependencies import waiting_for
from kohakuriver.host.environments.base import base_reason
from kohakuriver.host.host import Host
from kohakuriver.host.submit import check_submission
from kohakuriver.host.tasks import find_task
from kohakuriver.host.views import WAITING, reason_view
from kohakuriver.wire import api
from kohakuriver.wire.api import ReasonView
from kohakuriver.wire.placing import CandidateView, ExplainView, PlannedView, PlanView, WindowView

#: targets of one submission that are told of one by one
MOST_PLACES = 16
#: tasks of one submission that are planned to count those that would start at once
MOST_COUNTED = 200


async def explain(host: Host, actor: Actor, ref: str) -> ExplainView:
    """Why it stands where it stands, and for a waiting task when it starts and what each node says to it. Raises
    TooMany.
    """
    found = await find_task(host, actor, ref)
    return await host.foresight.take(lambda: _explained(host, host.board.get(found.id) or found))


def _explained(host: Host, task: Task) -> ExplainView:
    if task.status not in WAITING:
        return ExplainView(task=str(task.id), status=task.status.value, reason=None, window=None, candidates=[])
    told = told_of(task, host.scheduler.blocked())
    found = _outlook(host, task, told)
    return ExplainView(
        task=str(task.id),
        status=task.status.value,
        reason=reason_view(task, host.scheduler.full()) if told is None else _reason(told),
        window=_window(found.window, host.clock.now()),
        candidates=_candidates(found),
    )


async def plan_tasks(host: Host, actor: Actor, request: api.SubmitTask) -> PlanView:
    """What the submission would mean now: everything is checked as at a submit, and nothing is stored.

    Raises what `submit_tasks` raises, but for what only a commit can tell, and TooMany.
    """
    authorize(actor, Action.TASK_SUBMIT)
    checked = await check_submission(host, actor, request)
    now = host.clock.now()
    last = HIGHEST_ID - len(checked.specs)
    tasks = [
        Task(id=last + place, batch=last, owner=actor.id, spec=spec, status=checked.status, submitted=now)
        for place, spec in enumerate(checked.specs)
    ]
    waits = waiting_for(checked.states) or base_reason(host, checked.specs[0].container)
    told = told_of(tasks[0], {} if waits is None else {tasks[0].id: waits})
    places = {task.spec.target: task for task in reversed(tasks)}
    starting = await host.foresight.take(lambda: _starting(host, tasks[:MOST_COUNTED])) if told is None else 0
    planned = [
        await host.foresight.take(lambda: _planned(host, task, told))  # noqa: B023 - called before the next
        for task in list(reversed(places.values()))[:MOST_PLACES]
    ]
    return PlanView(tasks=len(tasks), starting=starting, places=planned)


def _starting(host: Host, tasks: list[Task]) -> int:
    """How many of them would start at once, behind all that waits. Of an array with a limit, as many as it allows."""
    scheduler = host.scheduler
    planner = Planner(scheduler.snapshot(), scheduler.usage(), scheduler.strategy)
    queue: Queue = host.board.queue
    planner.run(queue, before=tasks[0])
    before = len(planner.placements)
    planner.run(Queue(tasks))
    return len(planner.placements) - before


def _planned(host: Host, task: Task, told: Reason | None) -> PlannedView:
    found = _outlook(host, task, told)
    ahead = host.board.queue.ahead(task) if told is None else None
    return PlannedView(
        target=None if task.spec.target is None else format_target(task.spec.target),
        node=found.chosen,
        reason=None if found.reason is None else _reason(found.reason, ahead),
        window=_window(found.window, host.clock.now()),
        candidates=_candidates(found),
    )


def _outlook(host: Host, task: Task, told: Reason | None) -> Outlook:
    """`told` is why it is not in the queue."""
    scheduler = host.scheduler
    waiting = replace(task, status=Status.PENDING)
    return outlook(scheduler.snapshot(), host.board.queue, waiting, scheduler.usage(), scheduler.strategy, told=told)


def _reason(reason: Reason, ahead: int | None = None) -> ReasonView:
    return ReasonView(code=reason.code, text=reason.text, ahead=ahead)


def _window(window: Window, now: datetime) -> WindowView:
    earliest = now + timedelta(seconds=window.earliest)
    if window.latest is None:
        return WindowView(earliest=earliest, latest=None, text=f"unknown: {window.unknown}")
    latest = now + timedelta(seconds=window.latest)
    if window.latest == 0:
        return WindowView(earliest=earliest, latest=latest, text="now")
    text = f"between {earliest:%Y-%m-%d %H:%M:%S} and {latest:%Y-%m-%d %H:%M:%S} UTC"
    return WindowView(earliest=earliest, latest=latest, text=text)


def _candidates(found: Outlook) -> list[CandidateView]:
    return [
        CandidateView(node=one.node, takes=one.fits, chosen=one.chosen, reason=one.reason) for one in found.verdicts
    ]
