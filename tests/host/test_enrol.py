"""A machine becomes a node once, under the name it was invited for, and is nobody after it was revoked."""

import asyncio
import shlex
from dataclasses import replace

import pytest

from kohakuriver.domain.access import Role
from kohakuriver.errors import Conflict, Gone, Invalid, NotAllowed, NotSignedIn, TooMany
from kohakuriver.host import enrol, nodes
from kohakuriver.store.models import EventRow, NodeRow, OnceRow
from kohakuriver.testing.hosts import add_account
from kohakuriver.wire import api

THERE = "192.0.2.1"


@pytest.fixture
async def root(host):
    return await add_account(host, "root", Role.ADMIN)


async def token_for(host, root, name="node1", **more):
    return await enrol.make_token(host, root, api.NewNodeToken(name=name, **more))


async def joined(host, root, name="node1"):
    made = await token_for(host, root, name)
    return await enrol.join(host, api.Join(token=made.token, name=name), THERE)


async def test_a_token_becomes_a_node_and_its_credential_is_known(host, root):
    answer = await joined(host, root)
    node = await enrol.node_by_credential(host, f"Bearer {answer.credential}", THERE)
    assert str(node) == answer.node
    assert host.roster.named("node1").id == node
    assert answer.cluster == host.store.cluster
    row = await host.store.reader.of(NodeRow).get(id=node)
    assert answer.credential.split("_")[2][:43] not in str(dict(row))


async def test_a_token_is_good_once_also_for_two_at_a_time(host, root):
    made = await token_for(host, root)
    request = api.Join(token=made.token, name="node1")
    results = await asyncio.gather(*(enrol.join(host, request, THERE) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(one, api.Joined) for one in results) == 1
    assert all(isinstance(one, api.Joined | Gone | Conflict) for one in results)
    assert await host.store.reader.of(NodeRow).count() == 1


async def test_a_token_is_for_one_name_and_for_its_time(host, root, clock):
    made = await token_for(host, root, expires=60)
    with pytest.raises(Gone):
        await enrol.join(host, api.Join(token=made.token, name="node2"), THERE)
    clock.advance(60)
    with pytest.raises(Gone):
        await enrol.join(host, api.Join(token=made.token, name="node1"), THERE)
    assert await host.store.reader.of(NodeRow).count() == 0


async def test_a_newer_token_for_the_name_ends_the_older(host, root):
    older, newer = await token_for(host, root), await token_for(host, root)
    with pytest.raises(Gone):
        await enrol.join(host, api.Join(token=older.token, name="node1"), THERE)
    await enrol.join(host, api.Join(token=newer.token, name="node1"), THERE)


async def test_a_live_name_is_refused_and_a_revoked_one_is_free(host, root):
    first = await joined(host, root)
    with pytest.raises(Conflict):
        await token_for(host, root, "NODE1")
    await nodes.revoke(host, root, "node1", "gone")
    with pytest.raises(NotAllowed):
        await enrol.node_by_credential(host, f"Bearer {first.credential}", THERE)
    second = await joined(host, root)
    assert second.node != first.node
    with pytest.raises(NotAllowed):
        await enrol.node_by_credential(host, f"Bearer {first.credential}", THERE)
    assert str(await enrol.node_by_credential(host, f"Bearer {second.credential}", THERE)) == second.node


async def test_only_admins_make_tokens_and_only_for_names_of_nodes(host, root):
    with pytest.raises(NotAllowed):
        await token_for(host, await add_account(host, "olga", Role.OPERATOR))
    for name in ("a b", "-x", "ä", "a_b", "x/y"):
        with pytest.raises(Invalid):
            await token_for(host, root, name)


async def test_the_printed_command_joins_and_keeps_the_token_out_of_the_arguments(host, root):
    host.settings = replace(host.settings, public_url="https://river.example:8000", fingerprint="ab" * 32)
    made = await token_for(host, root)
    variable, *words = shlex.split(made.command)
    assert variable == f"KOHAKURIVER_JOIN_TOKEN={made.token}"
    assert words == [
        "kohakuriver", "node", "join", "--url", "https://river.example:8000",
        "--fingerprint", f"sha256:{'ab' * 32}", "node1",
        "&&", "kohakuriver", "serve", "--role", "runner",
    ]  # fmt: skip


async def test_who_shows_nothing_or_another_kind_of_credential_is_no_node(host, root):
    made = await token_for(host, root)
    for header in (None, "", "Bearer ", "Bearer nonsense", f"Bearer {made.token}", "Basic xyz"):
        with pytest.raises(NotSignedIn):
            await enrol.node_by_credential(host, header, THERE)


async def test_guessing_join_tokens_is_slowed_down(host, root):
    for _ in range(5):
        with pytest.raises(Gone):
            await enrol.join(host, api.Join(token="krj_nonsense", name="node1"), THERE)
    with pytest.raises(TooMany):
        await enrol.join(host, api.Join(token="krj_nonsense", name="node1"), THERE)


async def test_the_history_names_who_invited_and_what_joined(host, root):
    answer = await joined(host, root)
    rows = await host.store.reader.of(EventRow).order_by("id")
    told = [(row.what, row.actor, row.node) for row in rows]
    assert ("node_token_made", "root", None) in told
    assert ("node_joined", "node node1", int(answer.node)) in told
    once = await host.store.reader.of(OnceRow).get()
    assert once.used is not None
