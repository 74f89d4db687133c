"""Tasks over HTTP, on a host with a node in memory that takes them."""

import asyncio

import aiohttp
import pytest

from kohakuriver.domain.access import Role
from kohakuriver.errors import Unreachable
from kohakuriver.host import enrol
from kohakuriver.host.output import Reading
from kohakuriver.testing.hosts import add_account
from kohakuriver.testing.runners import Bytes, add_node, answer
from kohakuriver.wire import api, urls
from kohakuriver.wire.link import BackendInfo, WireCell

TASK = {"command": ["true"], "env": {"A": "open"}, "secrets": {"B": "hidden"}}


@pytest.fixture
async def node(host):
    """A node that is enrolled and silent; it has four cores."""
    root = await add_account(host, "root", Role.ADMIN)
    made = await enrol.make_token(host, root, api.NewNodeToken(name="node1"))
    await enrol.join(host, api.Join(token=made.token, name="node1"), "127.0.0.1")
    member = host.roster.named("node1")
    member.learn([WireCell(cpus=[0, 1, 2, 3], memory=8 * 2**30)], [BackendInfo(name="process")])
    return member


async def submitted(web, as_="user", **more):
    answer = await web.post(urls.TASKS, as_=as_, json={**TASK, **more})
    assert answer.status == 201, answer.body
    return answer.json["tasks"][0]


async def test_a_submitted_task_is_stored_and_shown(web, node):
    task = await submitted(web, name="first")
    for ref in (task, task[-6:], "first"):
        view = (await web.get(f"{urls.TASKS}/{ref}", as_="user")).json
        assert (view["id"], view["status"], view["owner"]) == (task, "pending", "user")
    assert view["command"] == ["true"]
    assert view["secrets"] == ["B"]
    assert view["reason"]["text"]


async def test_others_see_that_it_is_there_and_not_what_it_does(web, node):
    task = await submitted(web)
    view = (await web.get(f"{urls.TASKS}/{task}", as_="viewer")).json
    assert (view["owner"], view["status"], view["command"], view["env"], view["secrets"]) == (
        "user", "pending", None, None, None
    )  # fmt: skip
    assert (await web.get(f"{urls.TASKS}/{task}", as_="operator")).json["command"] == ["true"]
    assert b"hidden" not in (await web.get(f"{urls.TASKS}/{task}", as_="admin")).body


async def test_viewers_submit_nothing(web, node):
    assert (await web.post(urls.TASKS, as_="viewer", json=TASK)).status == 403


async def test_the_same_key_is_one_task_also_for_a_hundred_at_a_time(web, node):
    headers = {"Idempotency-Key": "one"}
    answers = await asyncio.gather(*(web.post(urls.TASKS, as_="user", json=TASK, headers=headers) for _ in range(100)))
    assert {answer.status for answer in answers} == {201}
    assert len({tuple(answer.json["tasks"]) for answer in answers}) == 1
    other = await web.post(urls.TASKS, as_="user", json={**TASK, "copies": 2}, headers=headers)
    assert (other.status, other.json["code"]) == (409, "conflict")
    assert (await web.post(urls.TASKS, as_="operator", json=TASK, headers=headers)).status == 201
    assert len((await web.get(urls.TASKS, as_="user")).json["items"]) == 2


@pytest.mark.parametrize("key", ["", "x" * 129, "a\tb", "ä"])
async def test_a_key_that_is_none_is_refused(web, node, key):
    answer = await web.post(urls.TASKS, as_="user", json=TASK, headers={"Idempotency-Key": key})
    assert answer.status in {400, 422}


async def test_tasks_are_listed_filtered_and_paged(web, node):
    ids = [await submitted(web, name=f"t{number}") for number in range(5)]
    await submitted(web, as_="operator")
    seen, cursor = [], None
    while True:
        path = urls.fill(urls.TASKS, {"owner": "user", "limit": 2, "cursor": cursor, "status": "pending,running"})
        page = (await web.get(path, as_="viewer")).json
        seen += [one["id"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == ids[::-1]
    assert [one["id"] for one in (await web.get(f"{urls.TASKS}?mine=1&name=t3", as_="user")).json["items"]] == [ids[3]]
    assert (await web.get(f"{urls.TASKS}?node=node1", as_="user")).json["items"] == []
    assert (await web.get(f"{urls.TASKS}?node=nowhere", as_="user")).status == 404


async def test_a_task_is_killed_by_its_owner_and_by_no_other_user(web, host, node):
    await add_account(host, "other")
    task = await submitted(web, as_="operator")
    assert (await web.post(f"{urls.TASKS}/{task}/kill", as_="user")).status == 404
    assert (await web.post(f"{urls.TASKS}/{task}/kill", as_="viewer")).status == 403
    answer = await web.post(f"{urls.TASKS}/{task}/kill", as_="operator", json={"grace": 0})
    assert (answer.status, answer.json["status"]) == (200, "killed")
    again = await web.post(f"{urls.TASKS}/{task}/resume", as_="operator")
    assert (again.status, again.json["code"]) == (409, "invalid_transition")


async def test_a_wait_ends_with_the_task(web, node):
    task = await submitted(web)
    waiting = asyncio.ensure_future(web.get(f"{urls.TASKS}/{task}/wait?timeout=30", as_="viewer"))
    short = await web.get(f"{urls.TASKS}/{task}/wait?timeout=0", as_="viewer")
    assert short.json["status"] == "pending"
    await web.post(f"{urls.TASKS}/{task}/kill", as_="user")
    assert (await asyncio.wait_for(waiting, 60)).json["status"] == "killed"


async def test_explanations_history_and_attempts(web, node):
    task = await submitted(web)
    explained = (await web.get(f"{urls.TASKS}/{task}/explain", as_="user")).json
    assert [one["node"] for one in explained["candidates"]] == ["node1"]
    await web.post(f"{urls.TASKS}/{task}/kill", as_="user")
    told = (await web.get(f"{urls.TASKS}/{task}/history", as_="user")).json["items"]
    assert [(one["what"], one["actor"]) for one in told] == [("submitted", "user"), ("kill_wanted", "user")]
    assert (await web.get(f"{urls.TASKS}/{task}/attempts", as_="user")).json["items"] == []


async def test_output_of_others_does_not_exist(web, node):
    task = await submitted(web, as_="operator")
    foreign = await web.get(f"{urls.TASKS}/{task}/output/stdout", as_="user")
    missing = await web.get(f"{urls.TASKS}/999999/output/stdout", as_="user")
    assert (foreign.status, missing.status) == (404, 404)
    own = await web.get(f"{urls.TASKS}/{task}/output/stdout", as_="operator")
    assert (own.status, own.body) == (200, b"")
    assert own.headers["X-Offset"] == "0"
    assert own.headers["Content-Disposition"] == "attachment"
    assert own.headers["Content-Type"] == "application/octet-stream"
    assert (await web.get(f"{urls.TASKS}/{task}/output/nonsense", as_="operator")).status == 404


@pytest.mark.parametrize("error", [Unreachable("gone"), ValueError("a bug")])
async def test_output_that_breaks_off_is_not_passed_off_as_whole(web, node, monkeypatch, error):
    from kohakuriver.host import output

    async def chunks():
        yield b"first"
        raise error

    async def read_output(*_, **__):
        return Reading(offset=3, dropped=1, chunks=chunks())

    monkeypatch.setattr(output, "read_output", read_output)
    task = await submitted(web)
    with pytest.raises(Exception, match=r"payload|disconnected|closed|Transfer"):
        await web.get(f"{urls.TASKS}/{task}/output/stdout", as_="user")


async def test_nodes_show_their_details_to_operators(web, node):
    for role, version in (("viewer", None), ("operator", "")):
        view = (await web.get(f"{urls.NODES}/node1", as_=role)).json
        assert (view["name"], view["cores"], view["version"]) == ("node1", 4, version)
    drained = await web.post(f"{urls.NODES}/node1/drain", as_="operator", json={"reason": "dust"})
    assert (drained.json["draining"], drained.json["drain_reason"]) == (True, "dust")
    assert (await web.post(f"{urls.NODES}/node1/revoke", as_="operator")).status == 403
    assert (await web.post(f"{urls.NODES}/node1/revoke", as_="admin")).status == 200


async def test_a_machine_joins_over_http_once(web):
    made = (await web.post(urls.NODE_TOKENS, as_="admin", json={"name": "node7"})).json
    answer = await web.post(urls.JOIN, json={"token": made["token"], "name": "node7"})
    assert answer.status == 201
    assert answer.json["credential"].startswith("krn_")
    again = await web.post(urls.JOIN, json={"token": made["token"], "name": "node7"})
    assert (again.status, again.json["code"]) == (410, "gone")
    taken = await web.post(urls.NODE_TOKENS, as_="admin", json={"name": "node7"})
    assert (taken.status, taken.json["code"]) == (409, "conflict")


@pytest.mark.parametrize("sent", [b"", bytes(8) + (3).to_bytes(4, "big") + b"onetw"], ids=["at once", "later"])
async def test_a_node_whose_stream_breaks_is_no_fault_of_the_service(web, host, caplog, sent):
    peer = await add_node(host, "node2")
    await peer.connect()
    task = await submitted(web)
    await host.scheduler.tick()
    await peer.tell("accepted", f"{task}.1")
    await peer.tell("started", f"{task}.1")
    asking = asyncio.ensure_future(web.get(f"{urls.TASKS}/{task}/output/stdout", as_="user"))
    await answer(peer, Bytes(sent))
    if sent:
        with pytest.raises(aiohttp.ClientError):
            await asking
    else:
        assert (await asking).status == 503
    ours = [record for record in caplog.records if record.name.startswith("kohakuriver")]
    assert [record.message for record in ours if record.exc_info] == []
