"""A host on a store of its own, with a clock that stands still."""

import pytest

from kohakuriver.testing.clock import FakeClock
from kohakuriver.testing.hosts import opened_host


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def host(tmp_path, clock):
    async with opened_host(tmp_path, clock=clock) as host:
        yield host
