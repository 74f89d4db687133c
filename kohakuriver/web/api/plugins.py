"""The list of plugins: those of the host, and those that only nodes have, with what their probes say."""

from collections.abc import Iterable, Sequence

from kohakuriver.host.roster import Member
from kohakuriver.wire import api
from kohakuriver.wire.link import BackendInfo, SyncerInfo


def with_nodes(own: Iterable[api.PluginView], members: Iterable[Member]) -> Sequence[api.PluginView]:
    """The host's plugins with the nodes that have them, and after them those that are on nodes alone, by name.

    An older runner does not say which plugin brings a backend; then the backend's name stands for it.
    """
    views = {view.name: view for view in own}
    members = list(members)
    told = [(member, backend) for member in members for backend in member.backends]
    for member, backend in sorted(told, key=lambda pair: (pair[1].plugin or pair[1].name, pair[0].name)):
        name = backend.plugin or backend.name
        view = views.setdefault(name, _abroad(name, backend))
        if member.name not in view.nodes:
            view.nodes.append(member.name)
        view.probes += [f"{member.name}: {backend.name}: {said}" for said in backend.problems or ["ok"]]
        if f"backend {backend.name}" not in view.provides:
            view.provides.append(f"backend {backend.name}")
    ways = [(member.name, syncer) for member in members for syncer in member.syncers]
    for node, syncer in sorted(ways, key=lambda pair: (pair[1].name, pair[0])):
        _add_syncer(views, node, syncer)
    return list(views.values())


def _add_syncer(views: dict[str, api.PluginView], node: str, syncer: SyncerInfo) -> None:
    """A runner does not say which plugin brings a syncer; the host's own plugin is meant, else one of its name."""
    part = f"syncer {syncer.name}"
    brought = next((view for view in views.values() if part in view.provides), None)
    view = brought or views.setdefault(syncer.name, _abroad(syncer.name, BackendInfo(name=syncer.name)))
    if node not in view.nodes:
        view.nodes.append(node)
    view.probes += [f"{node}: {syncer.name}: {said}" for said in syncer.problems or ["ok"]]
    if part not in view.provides:
        view.provides.append(part)


def _abroad(name: str, backend: BackendInfo) -> api.PluginView:
    distribution, _, version = backend.package.partition(" ")
    return api.PluginView(
        name=name,
        distribution=distribution,
        version=version,
        module="",
        api=backend.api or None,
        state="on nodes",
        problem=None,
        provides=[],
        nodes=[],
        probes=[],
    )
