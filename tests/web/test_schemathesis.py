"""The API against its own document: Schemathesis makes requests from it, right ones and wrong ones.

Left out: what signs the tester out, and the endless stream of changes (test_cluster.py). The check
`positive_data_acceptance` is off, for many a well-formed request is refused for what it asks.
"""

import asyncio
import logging
import re
import sys
from pathlib import Path

import pytest

from kohakuriver.domain.access import Role
from kohakuriver.host import enrol
from kohakuriver.host.visitors import visitors
from kohakuriver.testing.hosts import add_account, opened_host, served, token_of
from kohakuriver.wire import api, urls
from kohakuriver.wire.link import BackendInfo, WireCell

PROGRAM = Path(sys.executable).with_name("schemathesis")
LEFT_OUT = (urls.LOGOUT, urls.EVENTS)
LONGEST = 240


@pytest.fixture
async def lively(tmp_path):
    """A host with its loops, a node and an admin; its own clock runs."""
    async with opened_host(tmp_path / "host", loops=True) as host:
        visitors(host).strangers.limit(rate=0, burst=1)
        admin = await add_account(host, "admin", Role.ADMIN)
        made = await enrol.make_token(host, admin, api.NewNodeToken(name="node1"))
        await enrol.join(host, api.Join(token=made.token, name="node1"), "127.0.0.1")
        host.roster.named("node1").learn([WireCell(cpus=[0, 1], memory=2**33)], [BackendInfo(name="process")])
        async with served(host) as url:
            yield url, await token_of(host, admin)


async def test_every_answer_is_as_documented_and_none_is_a_failure_of_ours(lively, tmp_path, caplog):
    url, token = lively
    caplog.set_level(logging.ERROR)
    words = [
        str(PROGRAM), "run", f"{url}{urls.OPENAPI}", "--header", f"Authorization: Bearer {token}",
        "--phases", "examples,coverage,fuzzing", "--max-examples", "40", "--generation-deterministic",
        "--exclude-checks", "positive_data_acceptance", "--continue-on-failure", "--no-color",
        *(word for path in LEFT_OUT for word in ("--exclude-path", path)),
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
    assert int(tested[1]) >= 40
    assert [record.getMessage() for record in caplog.records if "unexpectedly" in record.getMessage()] == []
