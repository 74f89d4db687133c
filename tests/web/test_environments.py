"""Environments over HTTP, with a builder in memory: uploads, operations, files, terminals, and what nodes fetch."""

import asyncio
import hashlib
import json
from dataclasses import replace

import pytest
import zstandard

from kohakuriver.domain.access import Role
from kohakuriver.host import enrol
from kohakuriver.net.streams import open_stream
from kohakuriver.store.models import EventRow
from kohakuriver.testing.builders import BACKEND, building, published
from kohakuriver.testing.hosts import add_account
from kohakuriver.testing.runners import PATIENCE, Peer
from kohakuriver.wire import api, codec, envs_api, frames, urls
from kohakuriver.wire.environments import (
    BuildVersion,
    Container,
    Containers,
    File,
    FileAsk,
    FileList,
    ListContainers,
    PackageContainer,
    Shell,
    ShellEnded,
)
from kohakuriver.wire.frames import Kind

CONTENT = b"layer" * 50_000
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
PACKED = zstandard.compress(CONTENT)


async def joined(host, name):
    """The credential of a new node."""
    root = await add_account(host, f"root-of-{name}", Role.ADMIN)
    made = await enrol.make_token(host, root, api.NewNodeToken(name=name))
    return (await enrol.join(host, api.Join(token=made.token, name=name), "127.0.0.1")).credential


@pytest.fixture
async def credential(host):
    return await joined(host, "builder")


@pytest.fixture
async def builder(host, credential):
    async with building(Peer(host, host.roster.named("builder"))) as builder:
        yield builder


async def followed(web, operation):
    """Every line of an operation, to its end."""
    path = urls.fill(urls.OPERATION, operation=operation["id"], query={"follow": 1})
    answer = await web.get(path, as_="operator")
    assert answer.headers["Content-Type"] == envs_api.NDJSON_TYPE
    return [json.loads(line) for line in answer.body.splitlines()]


async def test_a_build_is_uploaded_followed_and_listed(web, builder):
    got = []

    async def builds(talk):
        got.append(await talk.upload())
        await talk.tell("step 1", 1, 2)
        await talk.result(published(talk.ask))

    builder.answers[BuildVersion] = builds
    path = urls.fill(urls.ENVIRONMENT_BUILD, environment="my-env", query={"note": "first"})
    answer = await web.ask("POST", path, as_="operator", data=b"tar" * 200_000)
    assert answer.status == 202
    lines = await followed(web, answer.json)
    assert (lines[-1]["state"], lines[-1]["number"], lines[-1]["error"]) == ("done", 1, None)
    assert got == [b"tar" * 200_000]
    (shown,) = (await web.get(urls.ENVIRONMENTS, as_="user")).json["items"]
    assert (shown["name"], shown["newest"], shown["versions"][0]["note"]) == ("my-env", 1, "first")
    assert (shown["versions"][0]["author"], shown["versions"][0]["tasks"]) == ("operator", 0)
    assert (await web.get(urls.OPERATIONS, as_="operator")).json["items"][0]["kind"] == "build"


async def test_an_upload_that_is_too_large_is_refused_before_it_comes(web, host, builder):
    host.settings = replace(host.settings, upload_most=10)
    path = urls.fill(urls.ENVIRONMENT_IMPORT, environment="my-env")
    answer = await web.ask("POST", path, as_="operator", data=b"x" * 11)
    assert (answer.status, answer.json["code"], answer.json["limit"]) == (413, "too_large", "10")
    assert (await web.ask("POST", path, as_="operator", data=b"x" * 10)).status == 202


async def test_a_failure_of_the_builder_is_told_with_its_cause(web, builder):
    async def fails(talk):
        await talk.fail("invalid", "terminals are open in my-env")

    builder.answers[PackageContainer] = fails
    path = urls.fill(urls.CONTAINER_PACKAGE, container="my-env")
    answer = await web.post(path, as_="operator", json={})
    assert answer.status == 202
    last = (await followed(web, answer.json))[-1]
    assert (last["state"], last["error"]["code"], last["error"]["detail"]) == (
        "failed", "invalid", "terminals are open in my-env",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["a..b", "A", "-x", "..%2F..%2Fetc", "a" * 64])
async def test_what_is_no_name_is_refused(web, builder, name):
    path = urls.ENVIRONMENTS + f"/imports/{name}"
    answer = await web.ask("POST", path, as_="operator", data=b"x")
    assert answer.status in {404, 422}
    assert builder.of(PackageContainer) == []


async def test_containers_are_listed_and_their_ends_are_in_the_history(web, host, builder):
    builder.answers[ListContainers] = lambda talk: talk.result(
        Containers(containers=[Container(name="b", state="running", shells=1), Container(name="a", state="stopped")])
    )
    listed = (await web.get(urls.CONTAINERS, as_="operator")).json["items"]
    assert [one["name"] for one in listed] == ["a", "b"]
    assert (await web.post(urls.fill(urls.CONTAINER_STOP, container="b"), as_="operator")).status == 204
    assert (await web.ask("DELETE", urls.fill(urls.CONTAINER, container="b"), as_="operator")).status == 204
    rows = await host.store.reader.of(EventRow).filter(what__startswith="environment_container").order_by("id").values()
    assert [(row["what"], row["actor"]) for row in rows] == [
        ("environment_container_stop", "operator"),
        ("environment_container_delete", "operator"),
    ]


def at(template, path, **query):
    return urls.fill(template, container="my-env", query={"path": path, **query})


async def test_files_go_in_and_out_byte_for_byte(web, builder):
    kept = {}

    async def files(talk):
        ask = talk.ask
        if ask.verb == "write":
            kept[ask.path] = (await talk.upload(), ask.mode)
        elif ask.verb == "read" and ask.path not in kept:
            return await talk.fail("not_found", f"there is no {ask.path}")
        elif ask.verb == "read":
            await talk.data(kept[ask.path][0])
        name = ask.path.rpartition("/")[2]
        return await talk.result(FileList(files=[File(name=name, kind="file")]))

    builder.answers[FileAsk] = files
    data = bytes(range(256)) * 3000
    path = at(urls.CONTAINER_CONTENT, "/srv/a b", mode=0o600)
    assert (await web.ask("PUT", path, as_="operator", data=data)).status == 204
    assert kept == {"/srv/a b": (data, 0o600)}
    read = await web.get(at(urls.CONTAINER_CONTENT, "/srv/a b"), as_="operator")
    assert (read.status, read.body) == (200, data)
    lost = await web.get(at(urls.CONTAINER_CONTENT, "/srv/b"), as_="operator")
    assert (lost.status, lost.json["detail"]) == (404, "there is no /srv/b")
    assert (await web.get(at(urls.CONTAINER_STAT, "/srv/a b"), as_="operator")).json["name"] == "a b"
    empty = await web.ask("PUT", at(urls.CONTAINER_CONTENT, "/e"), as_="operator", data=b"")
    assert (empty.status, kept["/e"]) == (204, (b"", None))
    assert (await web.get(at(urls.CONTAINER_CONTENT, "/e"), as_="operator")).body == b""


@pytest.mark.parametrize("path", ["root", "/a/../../etc", ""])
async def test_a_path_that_leads_elsewhere_is_refused(web, builder, path):
    assert (await web.get(at(urls.CONTAINER_FILES, path), as_="operator")).status == 422
    assert builder.of(FileAsk) == []


async def shell(web, who="operator", **query):
    path = urls.fill(urls.CONTAINER_SHELL, container="my-env", query=query)
    return await open_stream(web.url + path, credential=web.tokens[who], limit=PATIENCE)


async def next_frame(stream):
    async with asyncio.timeout(PATIENCE):
        head = await stream.readexactly(frames.HEAD.size)
        kind, length = frames.HEAD.unpack(head)
        return Kind(kind), await stream.readexactly(length)


async def ended_shells(host):
    rows = await host.store.reader.of(EventRow).filter(what="environment_shell_ended").values("detail", "actor")
    return [(row["actor"], json.loads(row["detail"])["code"]) for row in rows]


async def until_ended(host):
    async with asyncio.timeout(PATIENCE):
        while not (found := await ended_shells(host)):
            await asyncio.sleep(0.01)
    return found


async def test_a_terminal_is_joined_and_its_end_is_in_the_history(web, host, builder):
    async def echoes(talk):
        async for kind, payload in talk.heard():
            if kind is Kind.WINDOW:
                await talk.data(f"{frames.window_of(payload)}".encode())
            elif payload == b"exit\r":
                await talk.result(ShellEnded(code=3))
                return
            else:
                await talk.data(payload.upper())

    builder.answers[Shell] = echoes
    reader, writer = await shell(web, argv='["sh", "-c", "a, b"]', columns=100, rows=30)
    writer.write(frames.frame(Kind.DATA, b"ls\r"))
    assert await next_frame(reader) == (Kind.DATA, b"LS\r")
    writer.write(frames.window(120, 40))
    assert await next_frame(reader) == (Kind.DATA, b"(120, 40)")
    writer.write(frames.frame(Kind.DATA, b"exit\r"))
    kind, payload = await next_frame(reader)
    assert (kind, codec.decode(payload, ShellEnded).code) == (Kind.RESULT, 3)
    assert await reader.read() == b""
    writer.close()
    (ask,) = builder.of(Shell)
    assert (ask.argv, ask.columns, ask.rows, ask.env) == (["sh", "-c", "a, b"], 100, 30, {"TERM": "xterm-256color"})
    assert await until_ended(host) == [("operator", 3)]


async def test_a_client_that_goes_ends_its_terminal(web, host, builder):
    gone = asyncio.Event()

    async def waits(talk):
        await talk.data(b"$ ")
        async for _ in talk.heard():
            pass
        gone.set()

    builder.answers[Shell] = waits
    reader, writer = await shell(web)
    await next_frame(reader)
    writer.close()
    async with asyncio.timeout(PATIENCE):
        await gone.wait()
    assert await until_ended(host) == [("operator", None)]


async def test_a_builder_that_goes_is_told_to_the_client(web, host, builder):
    async def breaks(talk):
        await talk.data(b"$ ")

    builder.answers[Shell] = breaks
    reader, writer = await shell(web)
    await next_frame(reader)
    kind, payload = await next_frame(reader)
    assert (kind, json.loads(payload)["code"]) == (Kind.ERROR, "unreachable")
    writer.close()
    assert await until_ended(host) == [("operator", None)]


async def test_terminals_are_for_operators(web, builder):
    answer = await web.get(
        urls.fill(urls.CONTAINER_SHELL, container="my-env"), as_="user", headers={"Upgrade": "kohakuriver-stream"}
    )
    assert answer.status == 403
    assert builder.of(Shell) == []


async def blob(web, method, credential, *, digest=DIGEST, **more):
    headers = {"Authorization": f"Bearer {credential}", **more.pop("headers", {})}
    return await web.ask(method, urls.fill(urls.NODE_BLOB, digest=digest), headers=headers, **more)


async def test_a_builder_brings_contents_while_it_publishes_and_nodes_fetch_parts_of_them(
    web, host, builder, credential
):
    assert (await blob(web, "PUT", credential, data=PACKED)).status == 409
    async with host.environments.contents.publishing(builder.peer.member.id):
        headers = {"Authorization": f"Bearer {credential}"}
        question = {"digests": [DIGEST]}
        assert (await web.post(urls.NODE_BLOBS_MISSING, json=question, headers=headers)).json == {"digests": [DIGEST]}
        wrong = await blob(web, "PUT", credential, digest="sha256:" + "0" * 64, data=PACKED)
        assert (wrong.status, wrong.json["code"]) == (422, "invalid")
        assert (await blob(web, "PUT", credential, data=PACKED)).status == 204
        assert (await blob(web, "PUT", credential, data=PACKED)).status == 204
        assert (await web.post(urls.NODE_BLOBS_MISSING, json=question, headers=headers)).json == {"digests": []}
    whole = await blob(web, "GET", credential)
    assert (whole.status, whole.body, whole.headers["Content-Type"]) == (200, PACKED, "application/zstd")
    part = await blob(web, "GET", credential, headers={"Range": "bytes=5-"})
    assert (part.status, part.body) == (206, PACKED[5:])
    assert (await blob(web, "GET", credential, headers={"Range": f"bytes={len(PACKED)}-"})).status == 416


async def test_a_node_fetches_nothing_that_it_does_not_need(web, host, builder, credential):
    async with host.environments.contents.publishing(builder.peer.member.id):
        await blob(web, "PUT", credential, data=PACKED)
    other = await joined(host, "other")
    assert (await blob(web, "GET", other)).status == 404
    assert (await blob(web, "PUT", other, data=PACKED)).status == 409


async def test_a_node_fetches_what_a_task_needs_that_it_holds(web, host, builder, credential):
    async with host.environments.contents.publishing(builder.peer.member.id):
        await blob(web, "PUT", credential, data=PACKED)
    builder.answers[PackageContainer] = lambda talk: talk.result(published(talk.ask, blobs=[DIGEST]))
    made = await web.post(urls.fill(urls.CONTAINER_PACKAGE, container="my-env"), as_="operator", json={})
    assert (await followed(web, made.json))[-1]["state"] == "done"
    worker = await joined(host, "worker")
    peer = Peer(host, host.roster.named("worker"))
    peer.backends = [BACKEND]
    await peer.connect()
    assert (await blob(web, "GET", worker)).status == 404
    task = {"command": ["true"], "container": "my-env", "targets": ["worker"]}
    (number,) = (await web.post(urls.TASKS, as_="user", json=task)).json["tasks"]
    shown = (await web.get(urls.fill(urls.TASK, task=number), as_="user")).json
    assert (shown["container"], shown["image"]) == ("my-env:1", None)
    await host.scheduler.tick()
    assert (await blob(web, "GET", worker)).body == PACKED


async def test_a_plan_says_that_the_default_environment_is_still_to_be_made(web, host, builder):
    plan = (await web.post(urls.PLAN, as_="user", json={"command": ["true"]})).json
    assert (plan["starting"], plan["places"][0]["reason"]["code"]) == (0, "environment")
    assert host.environments.catalog.names() == []
