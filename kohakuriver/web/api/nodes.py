"""Nodes over HTTP: decode, call, encode."""

from kohakuriver.host import cards, cordons, enrol, labels, nodes, top
from kohakuriver.web.call import Call
from kohakuriver.wire import api, placing, queries, use


async def list_nodes(call: Call[queries.Paging, None]) -> api.Page[api.NodeView]:
    """All nodes; there are few enough for one page."""
    return await nodes.list_nodes(call.host, call.actor)


async def show_node(call: Call[queries.Query, None]) -> api.NodeView:
    """One node."""
    return await nodes.show_node(call.host, call.actor, call.part("node"))


async def list_samples(call: Call[queries.Paging, None]) -> api.Page[api.SampleView]:
    """Its heartbeats of the last minutes."""
    return await nodes.node_health(call.host, call.actor, call.part("node"))


async def label_node(call: Call[queries.Query, placing.LabelNode]) -> api.NodeView:
    """Labels given or taken away."""
    return await labels.label_node(call.host, call.actor, call.part("node"), call.body.labels)


async def drain_node(call: Call[queries.Query, api.Remark]) -> api.NodeView:
    """No new work goes there."""
    return await nodes.drain(call.host, call.actor, call.part("node"), call.body.reason or "by hand")


async def undrain_node(call: Call[queries.Query, None]) -> api.NodeView:
    """Work goes there again."""
    return await nodes.undrain(call.host, call.actor, call.part("node"))


async def cordon_card(call: Call[queries.Query, use.CordonCard]) -> api.NodeView:
    """A card gets no new work."""
    body = call.body
    return await cordons.cordon(call.host, call.actor, call.part("node"), body.device, body.reason or "by hand")


async def uncordon_card(call: Call[queries.Query, use.UncordonCard]) -> api.NodeView:
    """It gets work again."""
    return await cordons.uncordon(call.host, call.actor, call.part("node"), call.body.device)


async def list_cards(call: Call[queries.Paging, None]) -> api.Page[use.CardView]:
    """Every card of the cluster; there are few enough for one page."""
    return await cards.list_cards(call.host, call.actor)


async def show_use(call: Call[queries.UseQuery, None]) -> use.UseView:
    """Nodes and tasks, what is reserved and what is in use."""
    return await top.show_use(call.host, call.actor, call.query.limit)


async def revoke_node(call: Call[queries.Query, api.Remark]) -> api.NodeView:
    """Cuts it off for good."""
    return await nodes.revoke(call.host, call.actor, call.part("node"), call.body.reason or "by hand")


async def create_node_token(call: Call[queries.Query, api.NewNodeToken]) -> api.NodeToken:
    """The one command for a new machine."""
    return await enrol.make_token(call.host, call.actor, call.body, key=call.key)


async def join(call: Call[queries.Query, api.Join]) -> api.Joined:
    """A machine becomes a node."""
    return await enrol.join(call.host, call.body, call.address)
