"""The target grammar: `node[:numa][::gpu[,gpu...]]`, as the predecessor had it."""

import re
from dataclasses import dataclass

from kohakuriver.errors import Invalid, shorten

#: a node is named as a DNS label is (RFC 1123 §2.1), dots between labels allowed
NODE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
LONGEST_NODE_NAME = 253
MOST_DEVICES = 64
HIGHEST_INDEX = 4095
GRAMMAR = "node[:numa][::gpu[,gpu...]], for example node1, node1:0 or node1::0,1"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A place by name, narrowed to a NUMA cell and to cards by index."""

    node: str
    numa: int | None = None
    devices: tuple[int, ...] = ()


def parse_target(text: str) -> Target:
    """The target that the text names. Raises Invalid that says which part is wrong."""
    place, gpus_given, gpus = text.partition("::")
    node, numa_given, numa = place.partition(":")
    devices = _indices(text, gpus) if gpus_given else ()
    return Target(
        node=parse_node_name(node, field="target", whole=text),
        numa=_number(text, numa, "NUMA cell") if numa_given else None,
        devices=devices,
    )


def format_target(target: Target) -> str:
    """The text that `parse_target` reads back as the same target."""
    numa = "" if target.numa is None else f":{target.numa}"
    devices = "::" + ",".join(map(str, target.devices)) if target.devices else ""
    return target.node + numa + devices


def parse_node_name(text: str, *, field: str = "node", whole: str | None = None) -> str:
    """The node name in lower case. Raises Invalid when it is no DNS name."""
    name = text.lower()
    # not ASCII: the Kelvin sign, for one, becomes a plain k in lower case
    if not text.isascii() or len(name) > LONGEST_NODE_NAME or not NODE_NAME.fullmatch(name):
        raise Invalid(
            f"{shorten(text)!r} is not a node name: letters, digits and hyphens, as in a DNS name",
            field=field,
            value=whole or text,
            limit=GRAMMAR if field == "target" else f"a DNS name of at most {LONGEST_NODE_NAME} characters",
        )
    return name


def _indices(whole: str, text: str) -> tuple[int, ...]:
    indices = tuple(_number(whole, part, "GPU index") for part in text.split(","))
    if len(set(indices)) != len(indices):
        raise Invalid("a GPU index is given twice", field="target", value=whole, limit="each GPU once")
    if len(indices) > MOST_DEVICES:
        raise Invalid("too many GPUs", field="target", value=whole, limit=f"at most {MOST_DEVICES}")
    return indices


def _number(whole: str, text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(HIGHEST_INDEX)) or int(text) > HIGHEST_INDEX:
        raise Invalid(
            f"{shorten(text)!r} is not a {what}: a whole number from 0 to {HIGHEST_INDEX}",
            field="target",
            value=whole,
            limit=GRAMMAR,
        )
    return int(text)
