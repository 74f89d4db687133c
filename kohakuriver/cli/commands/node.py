"""`kohakuriver node`: the machines."""

import argparse
from collections.abc import Mapping
from typing import Any

from kohakuriver.cli.connect import connect, patience
from kohakuriver.cli.exits import OK, UsageError
from kohakuriver.cli.output import Column, Output
from kohakuriver.cli.paging import print_list
from kohakuriver.cli.shown import NODES, moment, of, seconds, size
from kohakuriver.wire import urls

HELP = "the machines: look at them, add them, drain them"
STATES = ("online", "suspect", "offline", "revoked")
SAMPLES = (
    of("at", "TIME", moment),
    of("cpu", "CPU", lambda value: "" if value is None else f"{value:.0%}"),
    of("load", "LOAD", lambda value: "" if value is None else f"{value:.2f}"),
    of("memory_used", "MEMORY", size),
    of("disk_used", "DISK", size),
    of("temperature", "°C", lambda value: "" if value is None else f"{value:.0f}"),
    Column("running", "RUNNING"),
)
SUMS = ("cores", "cores_reserved", "memory", "memory_reserved", "tasks")


def add(parser: argparse.ArgumentParser) -> None:
    """Build the verbs."""
    verbs = parser.add_subparsers(metavar="VERB")
    listing = verbs.add_parser("list", aliases=["ls"], help="all nodes")
    listing.add_argument("-s", "--status", choices=STATES, help="only those")
    listing.set_defaults(run=list_nodes)
    _one(verbs, "status", "everything about one node", show, aliases=["show", "info"])
    health = verbs.add_parser("health", help="the last minutes of one node, or the latest of all")
    health.add_argument("node", metavar="NODE", nargs="?")
    health.set_defaults(run=show_health)
    verbs.add_parser("summary", help="all nodes in a few numbers").set_defaults(run=summary)
    verbs.add_parser("watch", help="each change of a node, until Ctrl-C").set_defaults(run=watch)
    label = _one(verbs, "label", "give it labels, or take them away", label_node)
    label.add_argument("labels", metavar="K=V", nargs="*", help="K=V sets one, K- takes it away; none shows them")
    drain = _one(verbs, "drain", "give it no new work; what runs there goes on", drain_node)
    drain.add_argument("--reason", metavar="WORDS", default="by hand", help="why, for those who ask")
    _one(verbs, "undrain", "let it work again", undrain_node)
    cordon = _card(verbs, "cordon", "give one of its cards no new work; what runs there goes on", cordon_card)
    cordon.add_argument("--reason", metavar="WORDS", default="by hand", help="why, for those who ask")
    _card(verbs, "uncordon", "let the card work again", uncordon_card)
    revoke = _one(verbs, "revoke", "cut it off for good; it must join again", revoke_node)
    revoke.add_argument("--reason", metavar="WORDS", default="by hand", help="why, for those who ask")
    token = _one(verbs, "token", "print the one command for a new machine", make_token)
    token.add_argument("--expires", metavar="TIME", default="1h", help="good for so long, at most 1h (1h)")
    join = _one(verbs, "join", "on the new machine: become this node", join_cluster)
    join.add_argument("--token-stdin", action="store_true", help="read the token of `node token` from standard input")
    join.add_argument("--data-dir", metavar="DIR", help="where the runner keeps its journal and credential")


def _one(verbs: Any, name: str, text: str, handler: Any, aliases: Any = ()) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, aliases=list(aliases))
    parser.add_argument("node", metavar="NODE")
    parser.set_defaults(run=handler)
    return parser


def _card(verbs: Any, name: str, text: str, handler: Any) -> argparse.ArgumentParser:
    parser = _one(verbs, name, text, handler)
    parser.add_argument("card", metavar="CARD", help="its index, PCI address or UUID: kohakuriver gpus")
    return parser


def list_nodes(args: argparse.Namespace, out: Output) -> int:
    """All of them, or those in one state."""
    nodes = connect(args, out).get(urls.NODES)["items"]
    chosen = [node for node in nodes if args.status in {None, node["status"]}]
    out.data(chosen, columns=NODES, name="name")
    return OK


def show(args: argparse.Namespace, out: Output) -> int:
    """One node."""
    node = connect(args, out).get(urls.fill(urls.NODE, node=args.node))
    if out.machine or out.style.quiet or out.style.format == "name" or out.style.columns:
        out.data(node, name="name")
        return OK
    sizes = {
        key: size(node.get(key)) for key in ("memory", "memory_reserved", "memory_used", "disk_used", "disk_total")
    }
    gpus = " ".join(f"{gpu.get('index')}:{gpu['model']}" for gpu in node.get("gpus") or ())
    cordons = "; ".join(f"{_card_name(mark)}: {mark['reason']} ({mark['by']})" for mark in node.get("cordons") or ())
    readable = {**node, **sizes, "gpus": gpus, "cordons": cordons, "silent": seconds(node.get("silent"))}
    out.data({key: value for key, value in readable.items() if value not in (None, "", [], {}, False)})
    return OK


def show_health(args: argparse.Namespace, out: Output) -> int:
    """Samples of one node, or what all say now."""
    if args.node is None:
        return list_nodes(argparse.Namespace(**{**vars(args), "status": None}), out)
    path = urls.fill(urls.NODE_HEALTH, node=args.node)
    return print_list(connect(args, out), path, out, columns=SAMPLES, name="at")


def summary(args: argparse.Namespace, out: Output) -> int:
    """Sums over the nodes that are there."""
    nodes = connect(args, out).get(urls.NODES)["items"]
    there = [node for node in nodes if node["status"] in {"online", "suspect"}]
    sums: dict[str, Any] = {"nodes": len(nodes), **{state: _count(nodes, state) for state in STATES}}
    sums |= {key: sum(node[key] for node in there) for key in SUMS}
    sums["gpus"] = sum(len(node["gpus"]) for node in there)
    if not out.machine:
        sums |= {key: size(sums[key]) for key in ("memory", "memory_reserved")}
    out.data(sums, name="nodes")
    return OK


def watch(args: argparse.Namespace, out: Output) -> int:
    """A line for each change; the state of all first, and again after a break."""
    client = connect(args, out)
    shown: dict[str, tuple[object, ...]] = {}
    for change in changes_of_nodes(args, out):
        nodes = client.get(urls.NODES)["items"]
        for node in nodes:
            now = (node["status"], node["draining"], node["tasks"])
            if shown.get(node["id"]) != now and (change in {"", node["id"], node["name"]} or node["id"] not in shown):
                shown[node["id"]] = now
                _print_change(node, out)
    return OK


def changes_of_nodes(args: argparse.Namespace, out: Output) -> Any:
    """Which node changed; an empty word when each must be looked at."""
    from kohakuriver.client.follow import changes

    for change in changes(connect(args, out), patience(out)):
        if change["kind"] in {"hello", "node"}:
            yield change.get("ref", "")


def label_node(args: argparse.Namespace, out: Output) -> int:
    """Labels for `--constraint`; what the node's own configuration says gives way to them."""
    client = connect(args, out)
    if args.labels:
        labels = dict(_label(word) for word in args.labels)
        node = client.patch(urls.fill(urls.NODE_LABELS, node=args.node), {"labels": labels})
    else:
        node = client.get(urls.fill(urls.NODE, node=args.node))
    out.data(node["labels"], name="name")
    return OK


def _label(word: str) -> tuple[str, str | None]:
    key, equals, value = word.partition("=")
    if not equals and key.endswith("-") and len(key) > 1:
        return key.removesuffix("-"), None
    if not equals or not key:
        raise UsageError("this sets no label and takes none away", field="K=V", value=word, limit="K=V or K-")
    return key, value


def drain_node(args: argparse.Namespace, out: Output) -> int:
    """No new work there."""
    answer = connect(args, out).post(urls.fill(urls.NODE_DRAIN, node=args.node), {"reason": args.reason})
    return _done(answer, args, out, f"node {args.node} takes no new work; undo: kohakuriver node undrain {args.node}")


def undrain_node(args: argparse.Namespace, out: Output) -> int:
    """Work again."""
    answer = connect(args, out).post(urls.fill(urls.NODE_UNDRAIN, node=args.node))
    return _done(answer, args, out, f"node {args.node} takes work again")


def cordon_card(args: argparse.Namespace, out: Output) -> int:
    """No new work on one of its cards."""
    body = {"device": args.card, "reason": args.reason}
    answer = connect(args, out).post(urls.fill(urls.NODE_CORDON, node=args.node), body)
    undo = f"kohakuriver node uncordon {args.node} {args.card}"
    return _done(answer, args, out, f"card {args.card} of {args.node} takes no new work; undo: {undo}")


def uncordon_card(args: argparse.Namespace, out: Output) -> int:
    """Work there again."""
    answer = connect(args, out).post(urls.fill(urls.NODE_UNCORDON, node=args.node), {"device": args.card})
    return _done(answer, args, out, f"card {args.card} of {args.node} takes work again, if it is there")


def revoke_node(args: argparse.Namespace, out: Output) -> int:
    """Its credential is void."""
    answer = connect(args, out).post(urls.fill(urls.NODE_REVOKE, node=args.node), {"reason": args.reason})
    return _done(
        answer, args, out, f"node {args.node} is cut off; let it join again: kohakuriver node token {args.node}"
    )


def make_token(args: argparse.Namespace, out: Output) -> int:
    """The command comes from the host, which knows its own address and certificate."""
    from kohakuriver.domain.targets import parse_node_name
    from kohakuriver.domain.units import parse_duration

    expires = parse_duration(args.expires, field="--expires", least=60)
    if expires > 3600:
        raise UsageError("a join token is good for an hour at most", field="--expires", value=args.expires, limit="1h")
    body = {"name": parse_node_name(args.node), "expires": expires}
    answer = connect(args, out).post(urls.NODE_TOKENS, body)
    if out.machine or out.style.quiet or out.style.format == "name":
        out.data(answer, name="token")
        return OK
    out.note(f"run this on {answer['name']}; it works once, until {moment(answer['expires'])}:")
    out.text(answer["command"])
    return OK


def join_cluster(args: argparse.Namespace, out: Output) -> int:
    """Only this verb needs the runner's code; it is loaded now."""
    from kohakuriver.cli.joining import join_this_machine

    return join_this_machine(args, out)


def _done(answer: object, args: argparse.Namespace, out: Output, sentence: str) -> int:
    out.done(answer if isinstance(answer, Mapping) and "name" in answer else {"name": args.node}, sentence, name="name")
    return OK


def _card_name(mark: Mapping[str, Any]) -> str:
    return f"{mark['device']}" if mark.get("index") is None else f"GPU {mark['index']} ({mark['device']})"


def _count(nodes: list[dict[str, Any]], state: str) -> int:
    return sum(node["status"] == state for node in nodes)


def _print_change(node: Mapping[str, Any], out: Output) -> None:
    if out.machine:
        out.line(node)
        return
    from time import strftime

    draining = "  draining" if node["draining"] else ""
    out.text(f"{strftime('%H:%M:%S')}  {node['name']}  {node['status']}  {node['tasks']} tasks{draining}")
    out.stdout.flush()
