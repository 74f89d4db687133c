"""Clusters for the tests of this folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from .cluster import Cluster, a_cluster
from .faultproxy import FaultProxy, Rule, behind_a_proxy


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A host and the node `one`, for the tests of one file."""
    with a_cluster(heartbeat_interval_seconds=1.0) as made:
        made.start_host()
        made.add_runner("one")
        yield made


@dataclass(frozen=True)
class Faulty:
    """A cluster whose only node `one` reaches the host through a proxy that fails on purpose."""

    cluster: Cluster
    proxy: FaultProxy

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cluster, name)

    @contextmanager
    def ruled(self, action: str, tag: str, way: str, **fields: Any) -> Iterator[Rule]:
        """A rule of the proxy for the block."""
        rule = self.proxy.rule(action, tag, way, **fields)
        try:
            yield rule
        finally:
            self.proxy.withdraw(rule)


@pytest.fixture(scope="module")
def faulty() -> Iterator[Faulty]:
    with a_cluster(heartbeat_interval_seconds=1.0) as made, behind_a_proxy(made) as proxy:
        yield Faulty(made, proxy)
