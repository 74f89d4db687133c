"""A host on a store of its own, with a clock that stands still."""

import pytest

from kohakuriver.domain.access import Role
from kohakuriver.testing.clock import FakeClock
from kohakuriver.testing.hosts import add_account, opened_host
from kohakuriver.testing.runners import add_node


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def host(tmp_path, clock):
    async with opened_host(tmp_path, clock=clock) as host:
        yield host


@pytest.fixture
async def ann(host):
    return await add_account(host, "ann")


@pytest.fixture
async def boss(host):
    return await add_account(host, "boss", Role.OPERATOR)


@pytest.fixture
async def node(host):
    """The runner of node1, connected: 4 cores, 8 GiB, the process backend."""
    peer = await add_node(host)
    await peer.connect()
    return peer
