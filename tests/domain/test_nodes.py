"""What silence means, and why a node takes no work."""

import pytest

from kohakuriver.domain.nodes import LATE_SECONDS, OFFLINE_SECONDS, Node, NodeStatus, Snapshot, liveness


@pytest.mark.parametrize(
    ("connected", "silent", "status"),
    [
        (True, 0.0, NodeStatus.ONLINE),
        (True, LATE_SECONDS - 0.1, NodeStatus.ONLINE),
        (True, LATE_SECONDS, NodeStatus.SUSPECT),
        (False, 0.0, NodeStatus.SUSPECT),
        (False, OFFLINE_SECONDS - 0.1, NodeStatus.SUSPECT),
        (False, OFFLINE_SECONDS, NodeStatus.OFFLINE),
        (True, OFFLINE_SECONDS, NodeStatus.OFFLINE),
        (False, None, NodeStatus.OFFLINE),
    ],
)
def test_a_node_is_suspect_at_once_and_offline_after_thirty_seconds(connected, silent, status):
    assert OFFLINE_SECONDS == 30
    assert liveness(connected, silent) is status


def node(**changes):
    return Node(**{"id": 1, "name": "n1", "status": NodeStatus.ONLINE, "backends": frozenset({"process"}), **changes})


@pytest.mark.parametrize("status", [NodeStatus.SUSPECT, NodeStatus.OFFLINE, NodeStatus.REVOKED])
def test_only_an_online_node_takes_work(status):
    assert node().obstacle is None
    assert node(status=status).obstacle == f"is {status}"


def test_a_draining_or_full_node_says_why():
    assert node(draining=True, drain_reason="new disk").obstacle == "is draining (new disk)"
    assert node(full=True).obstacle == "takes no new work"


def test_a_backend_is_there_or_broken_or_unknown():
    it = node(unusable={"docker": "no daemon answers"})
    assert it.lacks("process") is None
    assert it.lacks(None) is None
    assert it.lacks("docker") == "cannot use backend docker now (no daemon answers)"
    assert it.lacks("qemu") == "has no backend qemu"
    assert node(backends=frozenset()).lacks(None) == "has no usable backend"


def test_a_snapshot_finds_nodes_by_name():
    snapshot = Snapshot((node(),))
    assert snapshot.named("n1") == node()
    assert snapshot.named("n2") is None
