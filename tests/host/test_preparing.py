"""What a node says of a preparation is the reason that people see."""

from dataclasses import replace

from kohakuriver.domain.tasks import Status
from kohakuriver.host import tasks
from kohakuriver.wire import api, link

from .kit import exited, placed


async def test_how_far_a_preparation_is_stands_as_the_reason_until_it_runs(host, ann, node):
    task = await placed(host, ann)
    reason = api.ReasonView(code="starting", text="fetching my-env v3, 412 of 910 MB")
    for attempt in (task.attempt, f"{task.id}.9", "9.9", "nonsense"):
        node.pipe.feed(link.Progress(attempt=attempt, note=reason.text if attempt == task.attempt else "wrong"))
    node.pipe.feed(node.report("accepted", task.attempt))
    await node.pipe.until(lambda: host.board.get(task.id).status is Status.STARTING)
    assert tasks.view(host, ann, host.board.get(task.id)).reason == reason
    stranger = replace(ann, id=ann.id + 1)
    assert tasks.view(host, stranger, host.board.get(task.id)).reason is None
    node.pipe.feed(node.report("started", task.attempt))
    await node.pipe.until(lambda: host.board.get(task.id).status is Status.RUNNING)
    assert tasks.view(host, ann, host.board.get(task.id)).reason is None
    node.pipe.feed(link.Progress(attempt=task.attempt, note="late"))
    node.pipe.feed(node.report("exited", task.attempt, **exited()))
    await node.pipe.until(lambda: host.board.get(task.id) is None)
    assert host.preparing.told(task) == ""
