"""Versions as archives in a directory that every node mounts: NFS, Samba, SSHFS, a bind mount. Knows no engine.

Every touch of the share is in a thread of its own with a limit (patience.py), for a file server may hang for ever.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from kohakuriver.errors import KohakuRiverError, PluginError, StorageFull, Unreachable
from kohakuriver.hooks import bundles
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.packages import Held, Package, Packages, Stored, Version
from kohakuriver.hooks.syncer import SyncContext, Syncer
from kohakuriver.hooks.values import Image, Probe
from kohakuriver_nfs import config, faults
from kohakuriver_nfs.names import locate, words
from kohakuriver_nfs.patience import Patience, Pulse
from kohakuriver_nfs.share import Share

#: what backends that take archives say in `Features.images`
KIND = "oci"
Result = TypeVar("Result")


class NfsSyncer(Syncer):
    """One directory on this node; `[plugins.nfs] path` says where."""

    name = "nfs"

    async def open(self, ctx: SyncContext) -> None:
        self._settings = config.read(ctx.config)
        path = Path(self._settings.path)
        self._share = Share(path, ctx.cluster, ctx.node, self._settings.stale)
        self._patience = Patience(self._settings.patience, str(path))
        self._turns: dict[Version, asyncio.Lock] = {}

    async def close(self) -> None:
        return

    async def probe(self) -> Probe:
        if not self._settings.enabled:
            return Probe(usable=False, problems=("switched off: [plugins.nfs] enabled = false",))
        if not self._settings.path:
            return Probe(usable=False, problems=("no directory is set: [plugins.nfs] path",))
        try:
            await self._do("the share", lambda _: self._share.check())
        except KohakuRiverError as error:
            return Probe(usable=False, problems=(error.message,))
        return Probe(usable=True, facts={"path": self._settings.path})

    async def publish(
        self, version: Version, package: Package, packages: Packages, into: Path, progress: Progress
    ) -> Stored:
        """A second call reads what the first has written to its end, and writes it anew if it is spoiled."""
        bundles.check(package)
        if package.digest != version.digest:
            raise PluginError(f"version {words(version)} is image {version.digest}, and not {package.digest}")
        doing = f"publishing {words(version)}"
        turn = self._turns.setdefault(version, asyncio.Lock())
        try:
            async with turn:
                found = await self._do(doing, lambda pulse: self._share.find(version, pulse))
                if found is not None:
                    return found
                layers = {layer.digest for layer in package.layers}
                await packages.export(package, sorted(layers), into, progress)
                progress(f"writing {words(version)} to the share")
                return await self._do(doing, lambda pulse: self._share.write(version, package, into, pulse))
        finally:
            if not turn.locked():
                self._turns.pop(version, None)

    async def ensure(self, stored: Stored, held: Held, into: Path, progress: Progress) -> Image:  # noqa: ARG002 -- an archive has all
        """The whole archive, whatever is held; a copy that was cut off goes on."""
        version = stored.version
        file = into / locate(stored).file
        progress(f"fetching {words(version)}", 0, stored.size or None)

        loop = asyncio.get_running_loop()

        def tell() -> None:
            progress(f"fetching {words(version)}", _size(file), stored.size or None)

        def read(pulse: Pulse) -> tuple[Path, str]:
            return self._share.read(stored, into, _Told(pulse, lambda: loop.call_soon_threadsafe(tell)))

        try:
            path, digest = await self._do(f"fetching {words(version)}", read)
        except (StorageFull, Unreachable):
            raise
        except PluginError as error:
            raise PluginError(f"version {words(version)} cannot be used: {error.message}") from None
        if version.digest not in {"", digest}:
            path.unlink()
            raise PluginError(
                f"version {words(version)} cannot be used: {file.name} holds image {digest}, not {version.digest}"
            )
        return Image(kind=KIND, digest=digest, path=path, environment=version.environment, number=version.number)

    async def list(self) -> Sequence[Stored]:
        return await self._do("listing the share", self._share.list)

    async def remove(self, stored: Stored) -> None:
        file = locate(stored).file
        await self._do(f"removing {words(stored.version)}", lambda pulse: self._share.remove(file, pulse))

    async def _do(self, doing: str, work: Callable[[Pulse], Result]) -> Result:
        if not self._settings.path or not self._settings.enabled:
            raise PluginError(f"{doing}: no directory is set, or it is switched off: [plugins.nfs] path")
        try:
            return await self._patience.run(work)
        except OSError as error:
            raise faults.explain(error, doing) from None


class _Told(Pulse):
    """Tells how far it is at every beat."""

    def __init__(self, pulse: Pulse, tell: Callable[[], object]) -> None:
        super().__init__()
        self._pulse = pulse
        self._tell = tell

    def beat(self) -> None:
        self._pulse.beat()
        self._tell()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
