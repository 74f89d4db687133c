"""From an environment container to an image and back: commit, squash, the version's name, what nobody needs any more.

Every image made here has a local name of ours from its first moment: nobody's `image prune` takes it, and none is lost.
"""

import asyncio
import hashlib
import io
import logging
import secrets
import tarfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from kohakuriver.errors import PluginError
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.packages import Version
from kohakuriver_docker.engine import LONG, Engine, EngineError
from kohakuriver_docker.inspected import Inspected, inspect
from kohakuriver_docker.names import PREFIX, Names
from kohakuriver_docker.setups import Setup

logger = logging.getLogger(__name__)

#: layers of an image; the daemon's storage takes no more than some 125
MOST_LAYERS = 99
#: seconds of a commit, a squash or a load: gigabytes on a slow disk
COMMIT = 3600.0
CHUNK = 1 << 20
#: seconds in which an image that was made becomes a version, or nothing will come of it
YOUTH = 6 * 3600.0
#: what a commit would otherwise take from the container instead of the image below it
KEPT = ("Entrypoint", "Cmd", "Healthcheck", "StopSignal")
#: where a container's own images are named, and those of no container
CONTAINER, BUILD, ARCHIVE = "container", "build", "archive"


class _Tagged(msgspec.Struct):
    """Of `ImageList`."""

    tags: list[str] | None = msgspec.field(name="RepoTags", default=None)


class Line(msgspec.Struct):
    """Of what the daemon tells of a long step."""

    status: str = ""
    stream: str = ""
    error: str = ""


class Packaging:
    """Images of one runner's environment containers."""

    def __init__(self, engine: Engine, names: Names) -> None:
        self._engine = engine
        self._names = names
        #: names that this life gave, and when: their images may be on their way to becoming versions
        self._given: dict[str, float] = {}

    def pending(self, kind: str, name: str = "") -> str:
        """A new local name for an image that is no version yet."""
        reference = f"{self._names.pending(f'{kind}/{name}' if name else kind)}:{secrets.token_hex(8)}"
        self._given[reference] = time.monotonic()
        return reference

    async def commit(self, name: str, found: Setup, progress: Progress) -> str:
        """The digest of an image of the stopped container as it is, under the configuration of the image below."""
        base = await inspect(self._engine, found.image)
        if len(base.layers) >= MOST_LAYERS:
            progress(f"its {len(base.layers)} layers become one")
            return await self._squash(name, found, base)
        progress("the container is committed")
        config = base.config or {}
        repository, tag = self.pending(CONTAINER, name).rsplit(":", 1)
        body = {key: config.get(key) for key in KEPT}
        body["Entrypoint"] = body["Entrypoint"] or []  # null would mean the container's
        body["Labels"] = _without_ours(config.get("Labels"), found.config.labels)
        params = {"container": found.id, "repo": repository, "tag": tag, "pause": "0"}
        try:
            made = await self._engine.ask(
                dict[str, str], "/commit", method="POST", params=params, body=body, limit=COMMIT
            )
        except EngineError as error:
            raise PluginError(f"container {name} cannot be committed: {error.message}") from None
        return made["Id"]

    async def _squash(self, name: str, found: Setup, base: Inspected) -> str:
        """One layer of all files, imported as the container's file system is exported, then put under `base`'s
        configuration: the daemon has the layer, so an archive without it is enough.
        """
        reference = self.pending(CONTAINER, name)
        repository, tag = reference.rsplit(":", 1)
        flat = f"{repository}:{tag}-flat"
        params = {"fromSrc": "-", "repo": repository, "tag": f"{tag}-flat"}
        try:
            async with (
                asyncio.timeout(COMMIT + LONG),
                self._engine.stream("GET", f"/containers/{found.id}/export") as files,
            ):
                content = files.content.iter_chunked(CHUNK)
                said = await self._engine.send("POST", "/images/create", params=params, data=content, limit=COMMIT)
            _must_be_well(said)
            layer = (await inspect(self._engine, flat)).layers[0]
            digest = await self._load(_configuration(base, layer), layer, reference)
        except EngineError as error:
            raise PluginError(f"the layers of container {name} cannot become one: {error.message}") from None
        except TimeoutError:
            raise PluginError(f"the layers of container {name} cannot become one: Docker gave no files") from None
        finally:
            await self.untag(flat)
        return digest

    async def _load(self, config: bytes, layer: str, reference: str) -> str:
        digest = hashlib.sha256(config).hexdigest()
        manifest = [
            {"Config": f"{digest}.json", "RepoTags": [reference], "Layers": [f"{layer.partition(':')[2]}/layer.tar"]}
        ]
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for member, content in ((f"{digest}.json", config), ("manifest.json", msgspec.json.encode(manifest))):
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        said = await self._engine.send(
            "POST", "/images/load", params={"quiet": "1"}, data=archive.getvalue(), limit=COMMIT
        )
        _must_be_well(said)
        return f"sha256:{digest}"

    async def name_version(self, version: Version) -> None:
        """Gives the image its name as a version. Idempotent."""
        repository, _, tag = self._names.image(version.environment, version.number).rpartition(":")
        params = {"repo": repository, "tag": tag}
        try:
            await self._engine.send("POST", f"/images/{version.digest}/tag", params=params, limit=LONG)
        except EngineError as error:
            raise PluginError(
                f"version {version.environment}:{version.number} has no name on this node: {error.message}"
            ) from None

    async def untag(self, reference: str) -> None:
        """Takes a name of ours away, and with the last one the image, unless something uses it. Idempotent."""
        self._given.pop(reference, None)
        try:
            await self._engine.send("DELETE", f"/images/{reference}", limit=LONG)
        except EngineError as error:
            if error.status not in (404, 409):
                raise
            if error.status == 409:
                logger.info("an image is still in use", extra={"action": "untag", "image": reference})

    async def forget_pending(self, kind: str, name: str = "") -> None:
        """Takes away the names of images that are no version's: all of a container's, else those that nobody may be
        publishing any more.
        """
        begins = self._names.pending(kind)
        wanted = f"{begins}/{name or '*'}" if kind == CONTAINER else begins
        filters = msgspec.json.encode({"reference": [wanted]}).decode()
        listed = await self._engine.ask(list[_Tagged], "/images/json", params={"filters": filters}, limit=LONG)
        for reference in [tag for item in listed for tag in item.tags or []]:
            if reference.startswith(begins) and (name or not self._is_young(reference)):
                logger.info("an image that no version names is removed", extra={"image": reference})
                await self.untag(reference)

    def _is_young(self, reference: str) -> bool:
        given = self._given.get(reference)
        if given is not None and time.monotonic() - given < YOUTH:
            return True
        self._given.pop(reference, None)
        return False

    async def forget_digest(self, digest: str) -> None:
        """Takes away the names under which this image waited to become a version."""
        for reference in (await inspect(self._engine, digest)).tags or []:
            if reference.startswith(self._names.pending()):
                await self.untag(reference)


def said(data: bytes) -> list[Line]:
    """What the daemon told of a long step, line by line."""
    return [msgspec.json.decode(line, type=Line) for line in data.splitlines() if line.strip()]


def _must_be_well(data: bytes) -> None:
    for line in said(data):
        if line.error:
            raise EngineError(500, line.error)


def _without_ours(labels: Mapping[str, str] | None, container: Mapping[str, str] | None) -> dict[str, str]:
    """The image's labels, and empty ones for those that make the container ours: a commit cannot leave them out."""
    ours = {key: "" for key in container or {} if key.startswith(PREFIX)}
    return {**(labels or {}), **ours}


def _configuration(base: Inspected, layer: str) -> bytes:
    """That of `base` over this one layer (OCI image specification, config.md)."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    config = {
        "architecture": base.architecture,
        "os": base.system,
        "author": base.author,
        "created": now,
        "config": base.config or {},
        "rootfs": {"type": "layers", "diff_ids": [layer]},
        "history": [{"created": now, "comment": "all layers in one"}],
    }
    if base.variant:
        config["variant"] = base.variant
    return msgspec.json.encode(config)
