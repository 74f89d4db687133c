"""The list of plugins: those of the host, and those that only nodes have, with what their probes say."""

from collections.abc import Iterable, Sequence

from kohakuriver.host.roster import Member
from kohakuriver.wire import api
from kohakuriver.wire.link import BackendInfo


def with_nodes(own: Iterable[api.PluginView], members: Iterable[Member]) -> Sequence[api.PluginView]:
    """The host's plugins with the nodes that have them, and after them those that are on nodes alone, by name.

    An older runner does not say which plugin brings a backend; then the backend's name stands for it.
    """
    views = {view.name: view for view in own}
    told = [(member, backend) for member in members for backend in member.backends]
    for member, backend in sorted(told, key=lambda pair: (pair[1].plugin or pair[1].name, pair[0].name)):
        name = backend.plugin or backend.name
        view = views.setdefault(name, _abroad(name, backend))
        if member.name not in view.nodes:
            view.nodes.append(member.name)
        view.probes += [f"{member.name}: {backend.name}: {said}" for said in backend.problems or ["ok"]]
        if f"backend {backend.name}" not in view.provides:
            view.provides.append(f"backend {backend.name}")
    return list(views.values())


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
