"""Versions in an OCI registry: the engine pushes and pulls, and everything goes by digest. Knows no engine."""

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kohakuriver.errors import KohakuRiverError, NotFound, PluginError, Unreachable
from kohakuriver.hooks import bundles
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.packages import DIGEST, Held, Package, Packages, Stored, Version
from kohakuriver.hooks.syncer import SyncContext, Syncer
from kohakuriver.hooks.values import Image, Probe
from kohakuriver_registry import config, credentials
from kohakuriver_registry.api import Registry
from kohakuriver_registry.credentials import Credentials

#: what backends that pull say in `Features.images`
KIND = "oci"


class RegistrySyncer(Syncer):
    """One registry; `[plugins.registry] repository` says which."""

    name = "registry"

    async def open(self, ctx: SyncContext) -> None:
        self._ctx = ctx
        self._settings = settings = config.read(ctx.config)
        self._host, _, self._path = settings.repository.partition("/")
        tls = await ctx.in_thread(_trust, settings.ca_file) if settings.ca_file else None
        self._registry = (
            Registry(self._host, plain=settings.plain_http, patience=settings.patience, tls=tls)
            if settings.repository and settings.enabled
            else None
        )

    async def close(self) -> None:
        if self._registry is not None:
            await self._registry.close()

    async def probe(self) -> Probe:
        if self._registry is None:
            return Probe(usable=False, problems=("no registry is set, or it is off: [plugins.registry] repository",))
        try:
            await self._registry.check(await self._who())
        except KohakuRiverError as error:
            return Probe(usable=False, problems=(error.message,))
        return Probe(usable=True, facts={"repository": self._settings.repository})

    async def publish(
        self,
        version: Version,
        package: Package,
        packages: Packages,
        into: Path,  # noqa: ARG002 -- the engine pushes
        progress: Progress,
    ) -> Stored:
        """Pushes under the version's number; what the registry has already is not pushed again, layer by layer."""
        bundles.check(package)
        if package.digest != version.digest:
            raise PluginError(f"version {_words(version)} is image {version.digest}, and not {package.digest}")
        name, who = f"{self._path}/{version.environment}", await self._who()
        try:
            digest, manifest = await self._open.manifest(name, str(version.number), who)
            there = _holds(manifest) == version.digest
        except NotFound:
            there, digest, manifest = False, "", {}
        if not there:
            reference = f"{self._host}/{name}:{version.number}"
            pushed = await packages.push(package.digest, reference, who.for_engine if who else None, progress)
            digest = pushed.rpartition("@")[2]
            manifest = await self._manifest(version, name, digest, who)
        progress(f"{_words(version)} is in the registry")
        return _stored(version, f"{self._host}/{name}@{digest}", manifest)

    async def ensure(self, stored: Stored, held: Held, into: Path, progress: Progress) -> Image:  # noqa: ARG002 -- the engine fetches
        """A reference, after the registry was seen to have it: the engine fetches the layers that it lacks."""
        version = stored.version
        name, digest = self._locate(stored)
        progress(f"looking for {_words(version)} in {self._host}")
        who = await self._who()
        await self._manifest(version, name, digest, who)
        return Image(
            kind=KIND,
            digest=version.digest,
            reference=f"{self._host}/{name}@{digest}",
            auth=who.for_engine if who else None,
            environment=version.environment,
            number=version.number,
        )

    async def list(self) -> Sequence[Stored]:
        """Tags that are numbers, in repositories below ours; nobody else's are looked at."""
        who = await self._who()
        found: list[Stored] = []
        for name in await self._open.repositories(who):
            environment = name.removeprefix(f"{self._path}/")
            if environment == name or "/" in environment:
                continue
            for tag in await self._open.tags(name, who):
                if not (tag.isascii() and tag.isdigit()):
                    continue
                try:
                    digest, manifest = await self._open.manifest(name, tag, who)
                except NotFound:
                    continue  # removed meanwhile, or no image
                version = Version(environment=environment, number=int(tag), digest=_holds(manifest))
                found.append(_stored(version, f"{self._host}/{name}@{digest}", manifest))
        return sorted(found, key=lambda one: (one.version.environment, one.version.number))

    async def remove(self, stored: Stored) -> None:
        """Takes the manifest away, or where another version is the same image, only the tag. The registry's own
        garbage collection frees the space.
        """
        name, digest = self._locate(stored)
        who, tag = await self._who(), str(stored.version.number)
        leads = {one: await self._leads(name, one, who) for one in await self._open.tags(name, who)}
        if any(one != tag and leads[one] == digest for one in leads):
            if leads.get(tag) == digest:
                await self._open.delete(name, await self._open.empty(name, tag, who), who)
            return
        await self._open.delete(name, digest, who)

    @property
    def _open(self) -> Registry:
        if self._registry is None:
            raise PluginError("no registry is set, or it is off: [plugins.registry] repository")
        return self._registry

    async def _leads(self, name: str, tag: str, who: Credentials | None) -> str:
        try:
            return (await self._open.manifest(name, tag, who))[0]
        except NotFound:
            return ""

    async def _manifest(self, version: Version, name: str, digest: str, who: Credentials | None) -> dict[str, Any]:
        """By digest, and of the right image. Raises PluginError with the version and the cause."""
        try:
            _, manifest = await self._open.manifest(name, digest, who)
        except NotFound:
            raise PluginError(f"version {_words(version)} is gone from {self._host}: {name}@{digest}") from None
        except Unreachable:
            raise
        except PluginError as error:
            raise PluginError(f"version {_words(version)} cannot be used: {error.message}") from None
        if _holds(manifest) != version.digest:
            raise PluginError(
                f"version {_words(version)}: {name}@{digest} is image {_holds(manifest)[:80]}, not its own"
            )
        return manifest

    def _locate(self, stored: Stored) -> tuple[str, str]:
        _ = self._open
        place, _, digest = stored.locator.partition("@")
        host, _, name = place.partition("/")
        if config.REPOSITORY.fullmatch(place) is None or DIGEST.fullmatch(digest) is None:
            raise PluginError(f"version {_words(stored.version)} has no place: {stored.locator[:80]!r} leads nowhere")
        if host != self._host:
            raise PluginError(
                f"version {_words(stored.version)} is in registry {host}, and this node uses {self._host}"
            )
        return name, digest

    async def _who(self) -> Credentials | None:
        """Asked each time: tokens and files of passwords change."""
        _ = self._open
        found = await self._ctx.in_thread(credentials.configured, self._settings, self._host)
        if found is None:
            found = await self._ctx.in_thread(credentials.kept, self._settings, self._host)
        if isinstance(found, str):
            found = await credentials.ask_helper(found, self._host, self._ctx.run)
        assert found is None or isinstance(found, Credentials)
        return found


def _words(version: Version) -> str:
    return f"{version.environment}:{version.number}"


def _holds(manifest: dict[str, Any]) -> str:
    return str(manifest["config"].get("digest", ""))


def _stored(version: Version, locator: str, manifest: dict[str, Any]) -> Stored:
    parts = [manifest["config"], *(manifest.get("layers") or ())]
    size = sum(part["size"] for part in parts if isinstance(part, dict) and isinstance(part.get("size"), int))
    return Stored(version=version, locator=locator, size=size)


def _trust(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise PluginError(f"[plugins.registry] ca_file {ca_file}: {error}") from None
