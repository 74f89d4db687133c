"""Clusters for the tests of this folder."""

from collections.abc import Iterator

import pytest

from .cluster import Cluster, a_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A host and the node `one`, for the tests of one file."""
    with a_cluster(heartbeat_interval_seconds=1.0) as made:
        made.start_host()
        made.add_runner("one")
        yield made
