"""A machine that joined and then lies, floods and claims, over real sockets, beside one that works."""

import asyncio
import json

import aiohttp
import pytest

from kohakuriver.domain.access import Role
from kohakuriver.host import enrol
from kohakuriver.host.conduct import BURST, CLOSED, MOST_FAULTS
from kohakuriver.store.models import AttemptRow, EventRow, NodeRow, ReportRow
from kohakuriver.testing.hosts import add_account
from kohakuriver.wire import api, codec, link, urls

GIB = 1024**3


class Runner:
    """One machine; each session is a WebSocket of its own."""

    def __init__(self, web, name, credential):
        self.web, self.name, self.credential = web, name, credential
        self.seq = self.sessions = 0
        self.socket = None

    async def dial(self):
        headers = {"Authorization": f"Bearer {self.credential}"}
        self.socket = await self.web.http.ws_connect(f"{self.web.url}{urls.LINK}", headers=headers, compress=0)

    async def open(self, *, held=(), **fields):
        """A whole opening; what the host wants of what is held."""
        await self.dial()
        self.sessions += 1
        cell = link.WireCell(cpus=[0, 1, 2, 3], memory=8 * GIB)
        given = {"epoch": 1, "boot": "b", "session": f"{self.name}{self.sessions}", "cells": [cell], **fields}
        await self.say(link.Hello(backends=[link.BackendInfo(name="process")], **given))
        await self.hear(link.Welcome)
        await self.say(link.Inventory(held=list(held)))
        wishes = []
        while True:
            page = await self.hear(link.WantedSet)
            wishes += page.wishes
            if page.complete:
                return wishes

    async def say(self, message):
        await self.socket.send_str(message if isinstance(message, str) else codec.encode(message).decode())

    async def hear(self, kind):
        """The next message of this kind; others are passed over."""
        while True:
            message = await asyncio.wait_for(self.socket.receive(), 60)
            assert message.type is aiohttp.WSMsgType.TEXT, message
            heard = codec.decode(message.data, link.FromHost)
            if isinstance(heard, kind):
                return heard

    async def closed(self):
        """The code that the host closes with."""
        while True:
            message = await asyncio.wait_for(self.socket.receive(), 60)
            if message.type is not aiohttp.WSMsgType.TEXT:
                return message.data if message.type is aiohttp.WSMsgType.CLOSE else None

    async def tell(self, what, attempt, **fields):
        """Reports, and waits for the acknowledgement."""
        self.seq += 1
        await self.say(link.Report(seq=self.seq, attempt=attempt, what=what, **fields))
        while (await self.hear(link.Ack)).seq < self.seq:
            pass


@pytest.fixture
async def machines(web, host):
    """`good`, which runs a task of `user`, and `evil`; neither is connected yet."""
    root = await add_account(host, "root", Role.ADMIN)
    runners = []
    for name in ("good", "evil"):
        made = await enrol.make_token(host, root, api.NewNodeToken(name=name))
        joined = await enrol.join(host, api.Join(token=made.token, name=name), "127.0.0.1")
        runners.append(Runner(web, name, joined.credential))
    yield runners
    for runner in runners:
        if runner.socket is not None:
            await runner.socket.close()


async def running(web, host, good, target="good"):
    """A task that runs on the good machine; its id and its attempt."""
    answer = await web.post(urls.TASKS, as_="user", json={"command": ["true"], "targets": [target]})
    assert answer.status == 201, answer.body
    await host.scheduler.tick()
    attempt = (await good.hear(link.Assign)).attempt
    for what in ("accepted", "started"):
        await good.tell(what, attempt)
    return answer.json["tasks"][0], attempt


async def status(web, task):
    return (await web.get(f"{urls.TASKS}/{task}", as_="user")).json["status"]


def exited(code=0):
    return {"exit": link.WireExit(code=code), "stdout": link.Sealed(), "stderr": link.Sealed()}


async def offline(host, name):
    """Until the host has seen the end of the session."""
    async with asyncio.timeout(60):
        with host.changes.subscribe() as changes:
            while host.roster.named(name).session is not None:
                await changes.next()


async def test_nobody_speaks_for_the_tasks_of_another_machine(web, host, machines):
    good, evil = machines
    await good.open()
    await evil.open()
    task, attempt = await running(web, host, good)
    for what in ("exited", "start_failed", "refused_for_good", "unknown", "paused", "never_started", "limit_reached"):
        await evil.tell(what, attempt, **exited(1))
        assert await status(web, task) == "running"
    kept = await host.store.reader.of(ReportRow).all().values("what", "applied", "node_id")
    assert len(kept) == 7
    assert {(row["applied"], row["node_id"]) for row in kept} == {(False, host.roster.named("evil").id)}
    await good.tell("exited", attempt, **exited(7))
    assert (await web.get(f"{urls.TASKS}/{task}", as_="user")).json["exit"]["code"] == 7


@pytest.mark.parametrize("phase", ["accepted", "created", "running", "paused", "exited", "closed", "nonsense"])
async def test_claims_of_foreign_work_at_the_opening_change_nothing(web, host, machines, phase):
    good, evil = machines
    await good.open()
    task, attempt = await running(web, host, good)
    claims = [link.Held(attempt=attempt, phase=phase), link.Held(attempt="../../x", phase=phase)]
    wishes = await evil.open(held=[*claims, link.Held(attempt=f"{2**70}.1", phase=phase)])
    assert wishes == []
    assert await status(web, task) == "running"
    assert host.board.get(int(task)).node == host.roster.named("good").id
    await good.tell("exited", attempt, **exited())
    assert await status(web, task) == "completed"


async def test_many_claims_quarantine_the_machine_until_an_operator_forgives_it(web, host, machines):
    good, evil = machines
    await good.open()
    await evil.open()
    task, attempt = await running(web, host, good)
    for _ in range(MOST_FAULTS):
        await evil.tell("exited", attempt, **exited())
    async with asyncio.timeout(60):
        while not (await host.store.reader.of(NodeRow).get(name="evil")).quarantine:
            await asyncio.sleep(0.01)
    shown = (await web.get(f"{urls.NODES}/evil", as_="viewer")).json
    assert shown["status"] == "online"
    assert "undrain" in shown["full"]
    events = await host.store.reader.of(EventRow).filter(what="node_quarantined").values("node")
    assert events == [{"node": host.roster.named("evil").id}]
    asked = await web.post(urls.TASKS, as_="user", json={"command": ["true"], "targets": ["evil"]})
    await host.scheduler.tick()
    waiting = asked.json["tasks"][0]
    assert await status(web, waiting) == "pending"
    assert (await web.post(f"{urls.NODES}/evil/undrain", as_="operator")).status == 200
    await host.scheduler.tick()
    assert await status(web, waiting) == "assigned"
    assert (await host.store.reader.of(NodeRow).get(name="evil")).quarantine is None
    assert await status(web, task) == "running"
    assert (await web.get(f"{urls.NODES}/good", as_="viewer")).json["full"] is None


@pytest.mark.parametrize(
    "message",
    [link.Heartbeat(cpu=0.5), link.Progress(attempt="1.1", note="x"), link.DialFailed(ticket="x", reason="y")],
    ids=["heartbeats", "progress", "failed dials"],
)
async def test_a_flood_ends_the_session_and_the_other_machine_is_served(web, host, machines, message):
    good, evil = machines
    await good.open()
    await evil.open()
    task, attempt = await running(web, host, good)
    words = codec.encode(message).decode()
    try:
        for _ in range(2 * BURST):
            await evil.socket.send_str(words)
    except ConnectionError:
        pass
    assert await evil.closed() in {1008, None}
    await offline(host, "evil")
    await good.tell("exited", attempt, **exited())
    assert await status(web, task) == "completed"


async def test_a_machine_that_is_closed_again_and_again_is_quarantined(web, host, machines):
    _, evil = machines
    for _ in range(MOST_FAULTS // CLOSED):
        await evil.dial()
        await evil.say(link.Heartbeat())
        assert await evil.closed() == 1008
    async with asyncio.timeout(60):
        while not host.roster.named("evil").quarantine:
            await asyncio.sleep(0.01)


async def test_an_hour_of_small_sins_is_no_quarantine(web, host, machines, clock):
    _, evil = machines
    for _ in range(2 * MOST_FAULTS // CLOSED):
        clock.advance(30)
        await evil.dial()
        await evil.say(link.Heartbeat())
        assert await evil.closed() == 1008
    assert host.roster.named("evil").quarantine is None


#: raw texts, for no struct of ours could say them
LIES = [
    '{"t":"heartbeat","cpu":NaN}',
    '{"t":"heartbeat","cpu":1e999,"load":-1e999}',
    '{"t":"heartbeat","cpu":-5,"load":1e308,"temperature":-1e308}',
    '{"t":"heartbeat","memory_used":-1}',
    '{"t":"heartbeat","memory_used":1000000000000000000000}',
    '{"t":"heartbeat","running":1000000000}',
    '{"t":"heartbeat","at":"1970-01-01T00:00:00Z"}',
    '{"t":"heartbeat","at":"9999-12-31T23:59:59-14:00"}',
    '{"t":"heartbeat","at":"0001-01-01T00:00:00+14:00"}',
    '{"t":"heartbeat","at":"9999-12-31T23:59:59"}',
    '{"t":"heartbeat","missing":{"<script>alert(1)</script>":"\\u001b[2J"}}',
    '{"t":"refresh","cells":[{"cpus":[-1]}]}',
    '{"t":"refresh","cells":[{"memory":-1}]}',
    '{"t":"dial_failed","ticket":"x","reason":"<img src=x onerror=alert(1)>"}',
    '{"t":"progress","attempt":"<script>","note":"\\u0000"}',
    '{"t":"nonsense"}',
    "[]",
    "{",
]


@pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
async def test_nonsense_of_one_machine_breaks_no_page_and_no_other_machine(web, host, machines, lie, caplog):
    good, evil = machines
    await good.open()
    await evil.open(labels={"<script>": "</script>\u202e"}, version="<b>\x1b[2J", boot="\0")
    task, attempt = await running(web, host, good)
    await evil.say(lie)
    # what comes after it is answered, so the session goes on and the host has read it
    await evil.tell("started", "1.1")
    for path in (urls.NODES, f"{urls.NODES}/evil", f"{urls.NODES}/evil/health", urls.STATUS, urls.TASKS, urls.METRICS):
        for who in ("viewer", "admin"):
            answer = await web.get(path, as_=who)
            assert answer.status == 200, (path, answer.body)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "html" not in answer.headers["Content-Type"]
    await good.tell("exited", attempt, **exited())
    assert await status(web, task) == "completed"
    assert [record for record in caplog.records if record.exc_info] == []


ENDS = [
    {"exit": {"code": 10**12}},
    {"exit": {"code": -(2**63), "signal": 2**63 - 1, "reason": "x" * 100_000}},
    {"exit": {"code": 1}, "at": "9999-12-31T23:59:59Z"},
    {"exit": {"code": 1}, "at": "1970-01-01T00:00:00Z"},
    {"exit": {"code": 1}, "usage": {"cpu_seconds": -1e308, "memory_peak": 2**63 - 1, "running_seconds": 1e308}},
    {"exit": {"code": 1}, "stdout": {"size": 2**63 - 1, "head": 2**63 - 1, "tail": 0}, "stderr": {}},
    {"exit": {"code": 1}, "stdout": {"size": 1, "head": 5, "tail": 5, "data": "eA=="}, "stderr": {}},
    {"exit": {"code": 1}, "signalled": "<script>"},
    {"exit": {"code": 1, "reason": "\u0000\u001b[2J<script>"}},
    {},
]


@pytest.mark.parametrize("end", ENDS, ids=range(len(ENDS)))
async def test_an_end_that_cannot_be_is_an_end_all_the_same_and_stays_one(
    web, host, machines, clock, end, caplog, monkeypatch
):
    monkeypatch.setattr(link, "TICKET_SECONDS", 0.1)
    good, _ = machines
    await good.open()
    task, attempt = await running(web, host, good)
    good.seq += 1
    words = {"t": "report", "seq": good.seq, "attempt": attempt, "what": "exited", **end}
    await good.say(json.dumps(words))
    while (await good.hear(link.Ack)).seq < good.seq:
        pass
    view = (await web.get(f"{urls.TASKS}/{task}", as_="user")).json
    assert view["status"] in {"failed", "completed", "killed"}
    assert abs((view["exit"] or {}).get("code") or 0) <= 2**32
    assert view["finished"] == codec.rfc3339(clock.now())
    for what in ("started", "accepted", "paused"):
        await good.tell(what, attempt)
    assert await status(web, task) == view["status"]
    for part in ("attempts", "history", "output/stdout?tail=10"):
        answer = await web.get(f"{urls.TASKS}/{task}/{part}", as_="user")
        assert answer.status in {200, 410, 503}, answer.body
    assert await host.store.reader.of(AttemptRow).all().count() == 1
    assert [record for record in caplog.records if record.exc_info] == []


async def test_negative_sizes_are_unreadable_and_the_task_goes_on(web, host, machines):
    good, _ = machines
    await good.open()
    task, attempt = await running(web, host, good)
    for sealed in ('{"size":-1}', '{"size":1,"head":-1}', '{"size":1000000000000000000000}'):
        await good.say(f'{{"t":"report","seq":{good.seq + 1},"attempt":"{attempt}","what":"exited","stdout":{sealed}}}')
        assert "report" in (await good.hear(link.Unsupported)).message
    assert await status(web, task) == "running"
    await good.tell("exited", attempt, **exited())
    assert await status(web, task) == "completed"
