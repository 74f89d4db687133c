"""Everything that environments take on host, builder and node: files, images and containers, counted by the machine."""

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kohakuriver.testing.dockerd import Dockerd

from .debris import JOURNAL
from .workshop import BUILDER, NODE, Workshop

#: written once an hour, and kept
USED = "environments/used.json"
#: what is known of images that were looked into; of those that went it is forgotten with the next look
INDEXES = "backends/docker/images"


@dataclass(frozen=True)
class Inventory:
    """What there is. `images` are local names by node, or digests of those that have none."""

    contents: frozenset[str]
    images: dict[str, frozenset[str]]
    containers: dict[str, frozenset[str]]
    files: frozenset[str]


def take(shop: Workshop) -> Inventory:
    """Without what the host's and the runners' own databases are made of."""
    return Inventory(
        contents=frozenset(path.name for path in shop.medium.iterdir()),
        images={node: images(daemon) for node, daemon in shop.daemons.items()},
        containers={node: containers(daemon) for node, daemon in shop.daemons.items()},
        files=frozenset(name for node in (BUILDER, NODE) for name in _files(shop.cluster.runners[node].data)),
    )


def images(daemon: Dockerd) -> frozenset[str]:
    """The local names of all images, and the digests of those without a name that no other is built upon."""
    lines = daemon.docker("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines()
    pairs = [line.split() for line in lines]
    return frozenset(digest if "<none>" in name else name for name, digest in pairs)


def containers(daemon: Dockerd) -> frozenset[str]:
    """Names, whether they run or not."""
    return frozenset(daemon.docker("ps", "-a", "--format", "{{.Names}}").split())


def stale_indexes(shop: Workshop) -> set[str]:
    """What the builder knows of images that are not there any more."""
    known = {path.name for path in (shop.cluster.runners[BUILDER].data / INDEXES).iterdir()}
    there = shop.daemons[BUILDER].docker("images", "-aq", "--no-trunc").split()
    return known - {digest.removeprefix("sha256:") for digest in there}


def needed(shop: Workshop) -> frozenset[str]:
    """The files of the contents that the versions in the host's store are made of."""
    with closing(sqlite3.connect(f"file:{_database(shop)}?mode=ro", uri=True)) as store:
        rows = store.execute("SELECT blobs FROM environment_versions").fetchall()
    return frozenset(f"{digest.removeprefix('sha256:')}.zst" for (text,) in rows for digest in json.loads(text))


def _database(shop: Workshop) -> Path:
    (found,) = shop.cluster.data.glob("*.sqlite3")
    return found


def _files(data: Path) -> list[str]:
    found = [os.path.join(folder, name) for folder, _, names in os.walk(data) for name in names]
    return [path for path in found if not path.endswith((*JOURNAL, USED)) and INDEXES not in path]
