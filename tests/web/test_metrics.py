"""The page of numbers, read strictly, on a host where something happened."""

from datetime import timedelta

import pytest

from kohakuriver.domain.tasks import Kind
from kohakuriver.host.waits import BOUNDS, Waits
from kohakuriver.store.models import TaskRow
from kohakuriver.store.write import update
from kohakuriver.testing.runners import GIB, add_node
from kohakuriver.wire import link, urls
from kohakuriver.wire.cards import DeviceUse

from . import exposition

EVIL = 'h200"} 1\nkohakuriver_evil 1 \\ \r\u2028<b>'
#: ecosystem.md §4, as far as there is something to measure
NAMES = {
    "kohakuriver_build_info", "kohakuriver_nodes", "kohakuriver_node_up", "kohakuriver_tasks", "kohakuriver_tasks_pending",
    "kohakuriver_task_wait_seconds", "kohakuriver_scheduler_pass_seconds", "kohakuriver_scheduler_passes_total",
    "kohakuriver_gpu_info", "kohakuriver_gpu_allocated", "kohakuriver_gpu_utilization_ratio",
    "kohakuriver_gpu_memory_used_bytes", "kohakuriver_gpu_memory_total_bytes", "kohakuriver_gpu_temperature_celsius",
    "kohakuriver_gpu_power_watts", "kohakuriver_gpu_cordoned", "kohakuriver_heartbeat_age_seconds", "kohakuriver_db_size_bytes",
}  # fmt: skip


async def scraped(web):
    answer = await web.get(urls.METRICS)
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return exposition.read(answer.body.decode())


@pytest.fixture
async def node(host):
    """A connected node with a card whose model is meant to break the page."""
    peer = await add_node(host, "home")
    card = link.WireDevice(id="0000:01:00.0", model=EVIL, memory=GIB, uuid="GPU-1", index=0)
    peer.cells = [link.WireCell(cpus=[0, 1], memory=4 * GIB, devices=[card])]
    await peer.connect()
    return peer


async def submitted(web, **more):
    answer = await web.post(urls.TASKS, as_="user", json={"command": ["true"], **more})
    return int(answer.json["tasks"][0])


async def started(host, peer, task):
    await host.scheduler.tick()
    attempt = host.board.get(task).attempt
    for what in ("accepted", "started"):
        await peer.tell(what, attempt)


async def test_the_page_is_whole_on_an_empty_host(web):
    families = await scraped(web)
    assert set(families) == NAMES
    assert families["kohakuriver_task_wait_seconds"].value("_count") == 0
    assert families["kohakuriver_db_size_bytes"].value() > 0


async def test_what_runners_say_of_themselves_cannot_break_the_page(web, node):
    families = await scraped(web)
    assert set(families) == NAMES
    (labels,) = families["kohakuriver_gpu_info"].labels()
    assert (labels["model"], labels["node"], labels["gpu"], labels["UUID"]) == (EVIL, "home", "0", "GPU-1")


async def test_cards_tell_how_they_do_while_their_node_is_heard(web, clock, node):
    card = {"node": "home", "gpu": "0", "uuid": "GPU-1"}
    use = DeviceUse(id="0000:01:00.0", utilization=0.25, memory_used=2**20, temperature=70.0)
    node.pipe.feed(link.Heartbeat(devices=[use]))
    await node.tell("unknown", "1.1")
    families = await scraped(web)
    told = {"utilization_ratio": 0.25, "memory_used_bytes": 2**20, "memory_total_bytes": GIB, "cordoned": 0}
    assert {name: families[f"kohakuriver_gpu_{name}"].value(**card) for name in told} == told
    assert families["kohakuriver_gpu_power_watts"].labels() == []
    clock.advance(60)
    families = await scraped(web)
    assert families["kohakuriver_gpu_utilization_ratio"].labels() == []
    assert families["kohakuriver_gpu_cordoned"].value(**card) == 0


async def test_the_age_of_the_last_word_is_told_by_node(web, host, clock, node):
    await add_node(host, "silent")
    clock.advance(7)
    families = await scraped(web)
    assert families["kohakuriver_heartbeat_age_seconds"].labels() == [{"node": "home"}]
    assert families["kohakuriver_heartbeat_age_seconds"].value(node="home") == 7
    assert families["kohakuriver_node_up"].value(node="home") == 1
    assert families["kohakuriver_node_up"].value(node="silent") == 0


async def test_waits_are_counted_once_from_submit_to_the_first_start(web, host, clock, node):
    first = await submitted(web)
    clock.advance(3)
    second = await submitted(web)
    await started(host, node, first)
    clock.advance(40)
    await node.tell("accepted", host.board.get(second).attempt)
    await node.tell("started", host.board.get(second).attempt)
    for what in ("paused", "resumed"):
        await node.tell(what, host.board.get(second).attempt)
    waits = (await scraped(web))["kohakuriver_task_wait_seconds"]
    assert waits.value("_count") == 2
    assert waits.value("_sum") == 43
    assert [waits.value("_bucket", le=le) for le in ("1", "5", "30", "60", "+Inf")] == [0, 1, 1, 2, 2]


async def test_tasks_are_counted_by_state_and_kind(web, host, node):
    tasks = [await submitted(web) for _ in range(3)]
    await started(host, node, tasks[0])
    await host.store.writer.write([update(TaskRow, where={"id": tasks[2]}, set={"kind": Kind.VPS.value}, expect=1)])
    tasks_ = (await scraped(web))["kohakuriver_tasks"]
    assert tasks_.value(state="running", kind="command") == 1
    assert sum(value for (_, labels), value in tasks_.samples.items() if ("kind", "command") in labels) == 2
    assert sum(value for (_, labels), value in tasks_.samples.items() if ("kind", "vps") in labels) == 1


async def test_waiting_tasks_are_counted_by_reason(web, host, node):
    for _ in range(5):
        await submitted(web, cores=2)
    await host.scheduler.tick()
    pending = (await scraped(web))["kohakuriver_tasks_pending"]
    assert sum(pending.samples.values()) == 4
    assert {label for labels in pending.labels() for label in labels} == {"reason"}
    assert all(labels["reason"].isidentifier() for labels in pending.labels())


async def test_passes_of_the_scheduler_are_counted_and_timed(web, host, node):
    before = await scraped(web)
    await submitted(web)
    await host.scheduler.tick()
    after = await scraped(web)
    name = "kohakuriver_scheduler_passes_total"
    assert after[name].value() == before[name].value() + 1
    assert after["kohakuriver_scheduler_pass_seconds"].value() >= 0


def test_a_wait_as_long_as_a_bound_is_within_it(host):
    from dataclasses import replace

    from kohakuriver.domain.tasks import Status, Task, TaskSpec

    waits, now = Waits(), host.clock.now()
    spec = TaskSpec(kind=Kind.COMMAND, argv=("true",))
    task = Task(id=1, batch=1, owner=1, spec=spec, status=Status.STARTING, submitted=now)
    for seconds in (*BOUNDS, BOUNDS[-1] + 1, -5):
        waits.follow(task, replace(task, started=now + timedelta(seconds=seconds)))
    waits.follow(replace(task, started=now), replace(task, started=now))
    assert [count for _, count in waits.cumulative()] == [*range(2, len(BOUNDS) + 2), len(BOUNDS) + 2]


@pytest.mark.parametrize(
    "text",
    [
        "# HELP a b\n# TYPE a gauge\na 1",
        "# TYPE a gauge\na 1\n",
        "a 1\n",
        "# HELP a b\n# TYPE a gauge\na 1\na 2\n",
        '# HELP a b\n# TYPE a gauge\na{x="1",x="2"} 1\n',
        '# HELP a b\n# TYPE a gauge\na{x="1\\q"} 1\n',
        "# HELP a b\n# TYPE a gauge\na one\n",
        "# HELP a b\n# TYPE a counter\na 1\n",
        "# HELP a b\n# TYPE a gauge\nb 1\n",
        '# HELP a b\n# TYPE a histogram\na_bucket{le="1"} 2\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\n',
        '# HELP a b\n# TYPE a histogram\na_bucket{le="1"} 2\na_sum 1\na_count 2\n',
    ],
)
def test_the_strict_reader_refuses(text):
    with pytest.raises(ValueError):
        exposition.read(text)
