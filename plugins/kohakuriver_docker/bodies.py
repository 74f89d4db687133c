"""Making and starting containers: once each, whoever dies or hangs in between.

The daemon would start an ended container again when asked to. So nothing is started that may have been started: a
container that this process did not just make is looked at, twice, before.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Sequence

from kohakuriver.errors import PluginError
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.values import Job, Mount
from kohakuriver_docker import order, orphans
from kohakuriver_docker.attached import Attached
from kohakuriver_docker.config import Settings
from kohakuriver_docker.container import Container, run_of
from kohakuriver_docker.devices import Way
from kohakuriver_docker.engine import LONG, Engine, EngineError, Unreachable
from kohakuriver_docker.names import Names
from kohakuriver_docker.programs import Programs

logger = logging.getLogger(__name__)

#: seconds in which a request that reached the daemon before it was restarted or stopped has begun to act
SETTLED = 0.2
#: seconds between two tries of a start whose way has been cleared
RESCUES = (0.2, 0.5, 1.0, 2.0, 4.0)
#: looks, and seconds between them, for what a daemon that died in a start had made; the next one may delete it
TRACES, TRACE_PAUSE = 40, 0.025
CONFLICT, MISSING = 409, 404
CANNOT_BE_KNOWN = "its daemon died in its start; whether it ran cannot be known"


class Bodies:
    """Those of one runner."""

    def __init__(self, engine: Engine, names: Names, settings: Settings, ctx: Context) -> None:
        self._engine = engine
        self._ctx = ctx
        self._names = names
        self._settings = settings
        self._programs = Programs(engine)
        #: the daemon gets slower with more
        self._gate = asyncio.Semaphore(settings.most_starts or 4 * (os.cpu_count() or 1))
        self._turns: dict[str, asyncio.Lock] = {}
        #: who makes the body of an instance or clears it away, and how many there are
        self._makers: dict[str, tuple[asyncio.Lock, int]] = {}
        #: made by this process and never asked to start
        self._fresh: set[str] = set()
        #: containers in whose start the daemon died: whether they surely did not run
        self._cut_short: dict[str, bool] = {}
        self._has_network = False
        self._networking = asyncio.Lock()
        #: containers that have ended, as they were then: none is started again
        self._ended: dict[str, Container] = {}
        self._looks: dict[str, asyncio.Lock] = {}
        #: attachments that no reader has taken yet, by container
        self.attached: dict[str, Attached] = {}
        #: instances whose creation was asked for and not answered: a container may come to be that nobody knows
        self.doubtful: set[str] = set()

    async def find(self, instance: str) -> Container | None:
        """The container under our name for this instance, whoever's it is."""
        try:
            return await self.inspect(self._names.container(instance))
        except EngineError as error:
            if error.status == MISSING:
                return None
            raise

    async def inspect(self, container: str) -> Container:
        return await self._engine.ask(Container, f"/containers/{container}/json")

    async def look(self, container: str) -> Container:
        """As `inspect`, of an id; asked once about an end, whoever wants to know of it."""
        async with self._looks.setdefault(container, asyncio.Lock()):
            found = self._ended.get(container) or await self.inspect(container)
            if found.state.over:
                self._ended[container] = found
        return found

    async def create(self, job: Job, mounts: Sequence[Mount], how: Way | None) -> str:
        """The id of the container, new or found under its name. Raises PluginError for a stranger's."""
        body = order.body(job, self._settings, self._names, mounts=mounts, how=how)
        async with self._gate, self._making(job.instance):
            if order.network_of(job, self._settings) == "private":
                await self.network()
            try:
                made = await self._engine.ask(
                    dict[str, object],
                    "/containers/create",
                    method="POST",
                    params={"name": self._names.container(job.instance)},
                    body=body,
                    limit=LONG,
                )
            except EngineError as error:
                if error.status != CONFLICT:
                    raise PluginError(f"body {job.instance} cannot be made: {error.message}") from None
                return await self._known(job, error.message)
            except BaseException:
                self.doubtful.add(job.instance)
                raise
            self.doubtful.discard(job.instance)
        container = str(made["Id"])
        self._fresh.add(container)
        return container

    async def _known(self, job: Job, message: str) -> str:
        found = await self.find(job.instance)
        if found is None:
            raise PluginError(f"body {job.instance} cannot be made now: {message}")
        self.doubtful.discard(job.instance)
        if not self._names.is_ours(found.config.labels, job.instance):
            name = self._names.container(job.instance)
            raise PluginError(f"body {job.instance}: somebody else's container is named {name}; rename or remove it")
        return found.id

    async def start(self, container: str, job: Job) -> str:
        """The run: of this start, or of the one that was."""
        async with self._turns.setdefault(container, asyncio.Lock()):
            fresh = container in self._fresh
            self._fresh.discard(container)
            if not fresh and await self._was_started(container):
                return run_of(container)
            if not self._cut_short.get(container, True):
                await self._ctx.in_thread(orphans.end, container)
                raise PluginError(f"body {job.instance}: {CANNOT_BE_KNOWN}")
            await self._programs.must_exist(container, job)
            attached = Attached(self._engine, container)
            await attached.open()
            try:
                async with self._gate:
                    await self._start(container, job)
            except BaseException as error:
                await attached.close()
                if isinstance(error, EngineError):
                    self._has_network = False
                    raise PluginError(f"body {job.instance} cannot be started: {error.message}") from None
                raise
            self.attached[container] = attached
            return run_of(container)

    async def _start(self, container: str, job: Job) -> None:
        """Asks the daemon, again where one that died before has left something that stands in the way and never ran."""
        pauses = iter(RESCUES)
        rescued = False
        while (error := await self._refused(container)) is not None:
            rescued = await self._rescue(container, job, error) or rescued
            pause = next(pauses, None)
            if not rescued or pause is None:
                raise error
            logger.warning("what a dead daemon left of a start is cleared away", extra={"instance": job.instance})
            await asyncio.sleep(pause)
            folder = orphans.bundle(container, error.message)
            if folder is not None:
                await self._ctx.in_thread(orphans.clear, folder)

    async def _refused(self, container: str) -> EngineError | None:
        """Asks the daemon to start it; what it says against it."""
        try:
            await self._engine.send("POST", f"/containers/{container}/start", limit=LONG)
        except EngineError as error:
            return error
        except Unreachable as error:
            if error.broken:
                self._cut_short[container] = await self._never_began(container)
            raise
        return None

    async def _never_began(self, container: str) -> bool:
        """Whether a start over which the connection broke surely came to nothing."""
        for _ in range(TRACES):
            verdict: bool | None = await self._ctx.in_thread(orphans.cut_short, container)
            if verdict is not None:
                return verdict
            await asyncio.sleep(TRACE_PAUSE)
        return True

    async def _rescue(self, container: str, job: Job, error: EngineError) -> bool:
        """Whether it may be asked again: something unfinished is in the way, and the program never ran."""
        found: orphans.Remains = await self._ctx.in_thread(orphans.end, container)
        if found.born:
            raise PluginError(f"body {job.instance} was started by a daemon that died over it; it is ended, being lost")
        folder = orphans.bundle(container, error.message)
        never = orphans.never_ran(found, folder) or (folder is not None and self._cut_short.get(container, False))
        if folder is not None and not never:
            raise PluginError(f"body {job.instance}: {CANNOT_BE_KNOWN}")
        return never

    async def remove(self, container: str) -> None:
        """The container and everything of it is gone on return, running or not."""
        await self.forget(container)
        began = await self._was_begun(container)
        async with asyncio.timeout(LONG):
            while not await self._removed(container):  # noqa: ASYNC110 -- the daemon tells nobody when it has
                await asyncio.sleep(SETTLED)
        if not began:
            await self._ctx.in_thread(orphans.end, container)
        self._ended.pop(container, None)
        self._looks.pop(container, None)

    async def _was_begun(self, container: str) -> bool:
        """Whether the daemon knows of a start; what it does not know of, it does not end."""
        try:
            return (await self.look(container)).state.ever_started
        except EngineError as error:
            if error.status != MISSING:
                raise
            return False

    async def _removed(self, container: str) -> bool:
        try:
            await self._engine.send("DELETE", f"/containers/{container}", params={"force": "1", "v": "1"}, limit=LONG)
        except EngineError as error:
            if error.status == MISSING:
                return True
            if error.status == CONFLICT:  # its removal is in progress
                return False
            raise
        return True

    async def _was_started(self, container: str) -> bool:
        for pause in (SETTLED, 0.0):
            if (await self.inspect(container)).state.ever_started:
                return True
            await asyncio.sleep(pause)
        return False

    async def forget(self, container: str) -> None:
        """Lets go of what is kept of a container that is gone."""
        self._fresh.discard(container)
        self._cut_short.pop(container, None)
        self._turns.pop(container, None)
        attached = self.attached.pop(container, None)
        if attached is not None:
            await attached.close()

    async def clear_doubtful(self) -> None:
        """Removes containers that came to be after their creation was given up; none that ever ran."""
        for instance in list(self.doubtful):
            async with self._making(instance):
                if instance in self.doubtful:  # else somebody asked again and has it now
                    await self._clear(instance)

    async def _clear(self, instance: str) -> None:
        found = await self.find(instance)
        if found is not None and self._names.is_ours(found.config.labels, instance):
            if found.state.ever_started:
                return
            logger.warning("a container that nobody waited for is removed", extra={"instance": instance})
            await self.remove(found.id)
        self.doubtful.discard(instance)

    @contextlib.asynccontextmanager
    async def _making(self, instance: str) -> AsyncIterator[None]:
        """One at a time makes or clears away the body of an instance."""
        turn, waiting = self._makers.get(instance, (asyncio.Lock(), 0))
        self._makers[instance] = turn, waiting + 1
        try:
            async with turn:
                yield
        finally:
            turn, waiting = self._makers.pop(instance)
            if waiting > 1:
                self._makers[instance] = turn, waiting - 1

    async def network(self) -> None:
        """A bridge of ours, on which containers do not reach each other. It stays as long as the node."""
        async with self._networking:  # the daemon makes two of one name when it is asked twice at once
            if self._has_network:
                return
            try:
                await self._engine.send("GET", f"/networks/{self._names.network}")
            except EngineError as error:
                if error.status != MISSING:
                    raise
                await self._make_network()
            self._has_network = True

    async def _make_network(self) -> None:
        body = {
            "Name": self._names.network,
            "CheckDuplicate": True,
            "Driver": "bridge",
            "Options": {"com.docker.network.bridge.enable_icc": "false"},
            "Labels": self._names.own,
        }
        try:
            await self._engine.send("POST", "/networks/create", body=body, limit=LONG)
        except EngineError as error:
            if error.status != CONFLICT:
                raise PluginError(
                    f"no network for containers can be made: {error.message}; "
                    'see the daemon\'s log, or set plugins.docker.network = "none"'
                ) from None
