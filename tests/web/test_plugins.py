"""The list of plugins: the host's own, and those of the nodes."""

from datetime import UTC, datetime

from kohakuriver.host.roster import Member
from kohakuriver.web.api.plugins import with_nodes
from kohakuriver.wire import api
from kohakuriver.wire.link import BackendInfo, SyncerInfo

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def node(name: str, *backends: BackendInfo) -> Member:
    return Member(id=len(name), name=name, created=NOW, backends=list(backends))


def installed(name: str, *provides: str) -> api.PluginView:
    return api.PluginView(
        name=name, distribution="kohakuriver", version="1", module=f"{name}.plugin", api=1, state="enabled",
        problem=None, provides=list(provides),
    )  # fmt: skip


def test_a_plugin_of_the_host_is_told_with_its_nodes_and_what_their_probes_say():
    fine = BackendInfo(name="process", plugin="process", package="kohakuriver 1", api=1)
    off = BackendInfo(name="process", plugin="process", package="kohakuriver 1", api=1, usable=False, problems=["off"])
    (process, auth) = with_nodes(
        [installed("process", "backend process"), installed("auth")], [node("b", off), node("a", fine)]
    )
    assert (process.nodes, process.probes) == (["a", "b"], ["a: process: ok", "b: process: off"])
    assert process.provides == ["backend process"]
    assert (auth.nodes, auth.probes) == ([], [])


def test_a_plugin_that_only_nodes_have_is_told_with_their_package():
    two = [BackendInfo(name=name, plugin="both", package="their-plugin 2.1", api=1) for name in ("one", "other")]
    (found,) = with_nodes([], [node("a", *two)])
    assert (found.name, found.distribution, found.version, found.api) == ("both", "their-plugin", "2.1", 1)
    assert (found.state, found.nodes, found.provides) == ("on nodes", ["a"], ["backend one", "backend other"])


def test_a_runner_that_does_not_name_its_plugins_is_told_by_its_backends():
    (found,) = with_nodes([], [node("old", BackendInfo(name="process"))])
    assert (found.name, found.distribution, found.api, found.nodes) == ("process", "", None, ["old"])


def test_syncers_are_told_beside_the_backends_with_what_their_probes_say():
    far, near = node("b", BackendInfo(name="odd", plugin="odd", package="odd 1")), node("a")
    far.syncers = [SyncerInfo(name="nfs", usable=False, problems=["not mounted"]), SyncerInfo(name="odd")]
    near.syncers = [SyncerInfo(name="nfs")]
    (nfs, odd) = with_nodes([installed("nfs", "syncer nfs")], iter([far, near]))
    assert (nfs.nodes, nfs.probes, nfs.provides) == (["a", "b"], ["a: nfs: ok", "b: nfs: not mounted"], ["syncer nfs"])
    assert (odd.state, odd.nodes, odd.provides) == ("on nodes", ["b"], ["backend odd", "syncer odd"])
