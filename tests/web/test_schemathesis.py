"""The API against its own document: Schemathesis makes requests from it, right ones and wrong ones, for every role.

Nothing is left out: the token is the lab's, which signing out does not end, and streams that would never end say hello and end.
The check `positive_data_acceptance` is off, for many a well-formed request is refused for what it asks.
"""

import asyncio
import logging
import re
import sys
from pathlib import Path

import pytest

from kohakuriver.domain.access import Role
from kohakuriver.host import enrol
from kohakuriver.host.callers import LAB
from kohakuriver.host.visitors import visitors
from kohakuriver.testing.hosts import add_account, opened_host, served, token_of
from kohakuriver.web.openapi import make_document
from kohakuriver.web.routes import ROUTES
from kohakuriver.wire import api, codec
from kohakuriver.wire.link import BackendInfo, WireCell

PROGRAM = Path(sys.executable).with_name("schemathesis")
OPERATIONS = sum(not route.socket for route in ROUTES)
LONGEST = 500


@pytest.fixture
async def lively(tmp_path):
    """A host with its loops, a node and one of each role; its own clock runs."""
    async with opened_host(tmp_path / "host", loops=True) as host:
        visitors(host).strangers.limit(rate=0, burst=1)
        admin = await add_account(host, "admin", Role.ADMIN)
        made = await enrol.make_token(host, admin, api.NewNodeToken(name="node1"))
        await enrol.join(host, api.Join(token=made.token, name="node1"), "127.0.0.1")
        host.roster.named("node1").learn([WireCell(cpus=[0, 1], memory=2**33)], [BackendInfo(name="process")])
        people = {role.word: await add_account(host, f"a-{role.word}", role) for role in Role}
        tokens = {name: await token_of(host, actor, word=LAB) for name, actor in people.items()}
        async with served(host) as url:
            # a stream of changes says hello and ends, as where a host stops
            host.changes.close()
            yield url, tokens


#: how far each role is tried: the admin passes every door, the others mostly meet the same refusals
ROLES = [
    ("viewer", "examples,fuzzing", 5),
    ("user", "examples,fuzzing", 10),
    ("operator", "examples,fuzzing", 5),
    ("admin", "examples,coverage,fuzzing", 40),
]


@pytest.mark.parametrize(("role", "phases", "examples"), ROLES, ids=[row[0] for row in ROLES])
async def test_every_answer_is_as_documented_and_none_is_a_failure_of_ours(
    lively, tmp_path, caplog, role, phases, examples
):
    url, tokens = lively
    caplog.set_level(logging.ERROR)
    # from a file, for what it loads from the host it leaves out of the tests
    document = tmp_path / "openapi.json"
    document.write_bytes(codec.encode(make_document(ROUTES)))
    words = [
        str(PROGRAM), "run", str(document), "--url", url, "--header", f"Authorization: Bearer {tokens[role]}",
        "--phases", phases, "--max-examples", str(examples), "--generation-deterministic",
        "--exclude-checks", "positive_data_acceptance", "--continue-on-failure", "--no-color",
    ]  # fmt: skip
    program = await asyncio.create_subprocess_exec(
        *words, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(LONGEST):
            output = (await program.communicate())[0].decode()
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    assert program.returncode == 0, output[-6000:]
    tested = re.search(r"Tested: (\d+)", output)
    assert tested is not None
    assert int(tested[1]) == OPERATIONS
    assert [record.getMessage() for record in caplog.records if "unexpectedly" in record.getMessage()] == []
