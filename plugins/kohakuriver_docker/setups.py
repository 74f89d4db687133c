"""The containers in which people set up environments: found by our labels alone, made, started, stopped, replaced.

Knows no packaging. What is done here twice is done once.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from kohakuriver.domain.environments import check_environment
from kohakuriver.errors import Conflict, Invalid, NotFound, PluginError
from kohakuriver.hooks.environments import EnvironmentContainer
from kohakuriver_docker.config import Settings
from kohakuriver_docker.container import State
from kohakuriver_docker.engine import LONG, Engine, EngineError, Unreachable
from kohakuriver_docker.inspected import Inspected
from kohakuriver_docker.names import ENVIRONMENT, PREFIX, Names
from kohakuriver_docker.order import CAPABILITIES, LOGS
from kohakuriver_docker.programs import PATH

ORIGIN = PREFIX + "origin"
#: of what an ordinary task lacks, that which package managers need: useradd and su (AUDIT_WRITE), file capabilities of
#: packages (SETFCAP), chroot (SYS_CHROOT)
MORE_CAPABILITIES = ("AUDIT_WRITE", "SETFCAP", "SYS_CHROOT")
#: seconds of sleep: some 68 years, for an older busybox knows no "infinity"
FOREVER = "2147483647"
#: seconds for its programs to end before they are killed
GRACE = "10"
#: seconds: the daemon adds up what was written
MEASURED = 20.0
#: what init says of a program that is not there or cannot be run
NO_PROGRAM = re.compile(r"Exited \((126|127)\)")


class Driver(msgspec.Struct, frozen=True):
    """Of `ContainerInspect`: where the files lie."""

    name: str = msgspec.field(name="Name", default="")
    data: dict[str, str] | None = msgspec.field(name="Data", default=None)


class Config(msgspec.Struct, frozen=True):
    """Of `ContainerInspect`."""

    labels: dict[str, str] | None = msgspec.field(name="Labels", default=None)
    env: list[str] | None = msgspec.field(name="Env", default=None)


class Setup(msgspec.Struct, frozen=True):
    """Of `ContainerInspect`."""

    id: str = msgspec.field(name="Id")
    name: str = msgspec.field(name="Name")
    image: str = msgspec.field(name="Image")
    state: State = msgspec.field(name="State")
    config: Config = msgspec.field(name="Config")
    driver: Driver = msgspec.field(name="GraphDriver", default_factory=Driver)


class _Listed(msgspec.Struct, frozen=True):
    """Of `ContainerList`."""

    names: list[str] = msgspec.field(name="Names")
    image: str = msgspec.field(name="ImageID")
    created: int = msgspec.field(name="Created")
    state: str = msgspec.field(name="State")
    status: str = msgspec.field(name="Status")
    labels: dict[str, str] = msgspec.field(name="Labels", default_factory=dict)
    size: int | None = msgspec.field(name="SizeRw", default=None)


class Setups:
    """Those of one runner. `network` makes sure of the private network."""

    def __init__(
        self, engine: Engine, names: Names, settings: Settings, network: Callable[[], Awaitable[None]]
    ) -> None:
        self._engine = engine
        self._names = names
        self._settings = settings
        self._network = network

    async def find(self, name: str) -> Setup:
        """Raises NotFound for a name that none of ours has."""
        found = await self.look(name)
        if found is None:
            successor = await self.successor(name)
            if successor is not None:  # whoever replaced it died between the last two steps
                await self.rename(successor.id, name)
                found = await self.look(name)
        if found is None:
            raise NotFound(f"there is no environment container {name}")
        return found

    async def look(self, name: str) -> Setup | None:
        """The container in which this environment is set up."""
        return await self._ours(self._names.environment(name), name)

    async def successor(self, name: str) -> Setup | None:
        """The container that is to take its place."""
        return await self._ours(self._names.successor(name), name)

    async def _ours(self, container: str, name: str) -> Setup | None:
        try:
            check_environment(name)
            found = await self._engine.ask(Setup, f"/containers/{container}/json")
        except Invalid:
            return None
        except EngineError as error:
            if error.status == 404:
                return None
            raise
        same = found.name == f"/{container}" and self._names.environment_of(found.config.labels) == name
        return found if same else None

    async def list(self, shells: Mapping[str, int]) -> Sequence[EnvironmentContainer]:
        """All of them, by name; without what they have written where adding that up takes too long."""
        known: int | None = 0
        try:
            listed = await self._listed("1", MEASURED)
        except Unreachable:
            listed, known = await self._listed("0", LONG), None
        found: dict[str, EnvironmentContainer] = {}
        for name, is_successor, item in listed:
            if is_successor:  # whoever replaces one died, or is about to rename it
                found.setdefault(name, _told(name, item, known, 0))
            else:
                found[name] = _told(name, item, known, shells.get(name, 0))
        return [found[name] for name in sorted(found)]

    async def names(self) -> Sequence[str]:
        """Those of all environments that have a container."""
        return sorted({name for name, _, _ in await self._listed("0", LONG)})

    async def _listed(self, size: str, limit: float) -> Sequence[tuple[str, bool, _Listed]]:
        filters = msgspec.json.encode({"label": [self._names.filter, ENVIRONMENT]}).decode()
        params = {"all": "1", "size": size, "filters": filters}
        found = []
        for item in await self._engine.ask(list[_Listed], "/containers/json", params=params, limit=limit):
            name = self._names.environment_of(item.labels)
            if name and f"/{self._names.environment(name)}" in item.names:
                found.append((name, False, item))
            elif name and f"/{self._names.successor(name)}" in item.names:
                found.append((name, True, item))
        return found

    async def make(self, name: str, image: Inspected, origin: str, *, successor: bool = False) -> str:
        """The id of a new container of the image; it does not run. Raises Conflict when its name is taken, PluginError
        when nothing could keep it running.
        """
        check_environment(name)
        if self._settings.network == "private":
            await self._network()
        container = self._names.successor(name) if successor else self._names.environment(name)
        made = await self._make(container, self._body(name, image, origin))
        try:
            await self._must_stay_up(made, origin or image.id)
        except BaseException:
            await self.remove(made)
            raise
        return made

    async def _must_stay_up(self, container: str, image: str) -> None:
        found = await self._engine.ask(Setup, f"/containers/{container}/json")
        env = dict(word.partition("=")[::2] for word in found.config.env or [])
        for folder in (env.get("PATH") or PATH).split(":"):
            if folder.startswith("/") and await self.has(container, f"{folder}/sleep"):
                return
        raise PluginError(
            f"image {image} cannot become an environment container: it has no program sleep, which keeps it running; "
            "name an image with a shell and its tools"
        )

    async def _make(self, container: str, body: Mapping[str, Any]) -> str:
        try:
            made = await self._engine.ask(
                dict[str, object],
                "/containers/create",
                method="POST",
                params={"name": container},
                body=body,
                limit=LONG,
            )
        except EngineError as error:
            if error.status == 409:
                raise Conflict(f"there is a container {container} already; delete it first") from None
            raise PluginError(f"container {container} cannot be made: {error.message}") from None
        return str(made["Id"])

    async def has(self, container: str, path: str) -> bool:
        """Whether there is such a file."""
        try:
            await self._engine.send("HEAD", f"/containers/{container}/archive?path={quote(path, safe='')}", limit=LONG)
        except EngineError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def start(self, container: str) -> None:
        """Idempotent. Raises PluginError with the engine's words."""
        try:
            await self._engine.send("POST", f"/containers/{container}/start", limit=LONG)
        except EngineError as error:
            raise PluginError(f"container {container[:12]} cannot be started: {error.message}") from None

    async def stop(self, container: str) -> None:
        """Idempotent; nothing of it runs on return."""
        try:
            await self._engine.send("POST", f"/containers/{container}/stop", params={"t": GRACE}, limit=LONG)
        except EngineError as error:
            if error.status != 404:
                raise PluginError(f"container {container[:12]} cannot be stopped: {error.message}") from None

    async def remove(self, container: str) -> None:
        """With everything in it, running or not. Idempotent."""
        try:
            await self._engine.send("DELETE", f"/containers/{container}", params={"force": "1", "v": "1"}, limit=LONG)
        except EngineError as error:
            if error.status != 404:
                raise PluginError(f"container {container[:12]} cannot be removed: {error.message}") from None

    async def rename(self, container: str, name: str) -> None:
        """Gives a successor its place. Idempotent."""
        wanted = self._names.environment(name)
        try:
            await self._engine.send("POST", f"/containers/{container}/rename", params={"name": wanted}, limit=LONG)
        except EngineError as error:
            found = await self.look(name)
            if found is None or found.id != container:
                raise PluginError(f"container {name} cannot have its name: {error.message}") from None

    def _body(self, name: str, image: Inspected, origin: str) -> Mapping[str, Any]:
        """What the image has no setting for is left alone, so that a commit finds nothing to take over."""
        return {
            "Image": image.id,
            "Entrypoint": ["sleep", FOREVER],
            "Cmd": [],
            "Labels": {**self._names.environment_labels(name), ORIGIN: origin},
            "Hostname": re.sub(r"[._]+", "-", name),
            **({"StopSignal": "SIGTERM"} if image.setting("StopSignal") else {}),
            **({"Healthcheck": {"Test": ["NONE"]}} if image.setting("Healthcheck") else {}),
            "HostConfig": {
                "Privileged": False,
                "CapDrop": ["ALL"],
                "CapAdd": [*CAPABILITIES, *MORE_CAPABILITIES],
                "SecurityOpt": ["no-new-privileges"],
                "IpcMode": "private",
                "PidsLimit": self._settings.most_processes,
                "NetworkMode": self._names.network if self._settings.network == "private" else "none",
                "LogConfig": LOGS,
                "RestartPolicy": {"Name": "no"},
                "AutoRemove": False,
                "PublishAllPorts": False,
                "Init": True,
                "ShmSize": self._settings.shm_size,
            },
        }


def _told(name: str, item: _Listed, least: int | None, shells: int) -> EnvironmentContainer:
    """`least`: what an unsaid size means."""
    state: Literal["running", "stopped", "broken"] = "running" if item.state == "running" else "stopped"
    note = ""
    if item.state == "dead":
        state, note = "broken", "the daemon could not remove it; delete it again"
    elif NO_PROGRAM.match(item.status):
        state, note = "broken", "its program sleep is gone or cannot be run; put it back, or delete the container"
    return EnvironmentContainer(
        name=name,
        state=state,
        base=item.image,
        origin=item.labels.get(ORIGIN, ""),
        created=datetime.fromtimestamp(item.created, UTC),
        size=least if item.size is None else item.size,
        shells=shells,
        note=note,
    )
