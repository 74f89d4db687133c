"""A scripted host."""

from collections.abc import Iterator

import pytest

from .scripted import Peer


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()
