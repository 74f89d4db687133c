"""Terminals in environment containers: a program of the container's on a terminal of the daemon's.

The connection is the terminal's and nobody else's; its end ends the program with everything that it started.
"""

import asyncio
import contextlib
import secrets
import string
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from kohakuriver.errors import Conflict, PluginError
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.environments import Terminal
from kohakuriver_docker import leftovers
from kohakuriver_docker.engine import LONG, Engine, EngineError
from kohakuriver_docker.hijack import Hijacked, hijack
from kohakuriver_docker.setups import Setup

#: seconds between two questions for the end of a program whose output nobody reads
LOOK = 1.0
#: looks, and seconds between them, for the exit code after the end of the output
CODE_LOOKS, CODE_PAUSE = 100, 0.05
#: tries to tell a program that is being started the size of its window, and seconds between them
SIZE_TRIES, SIZE_PAUSE = 250, 0.02
#: the daemon takes no empty sequence; this one begins with Ctrl-\ and goes on with what nobody can guess
DETACH_FIRST, DETACH_LETTERS = "ctrl-\\", 24


class _Exec(msgspec.Struct):
    """Of `ExecInspect`."""

    running: bool = msgspec.field(name="Running")
    code: int | None = msgspec.field(name="ExitCode", default=None)


class DockerTerminal:
    """One of them."""

    def __init__(self, owner: "Terminals", stream: Hijacked, *, container: str, name: str, id: str, mark: str) -> None:
        self._owner = owner
        self._container = container
        self._name = name
        self._id = id
        self._mark = mark
        self._stream = stream
        self._over = asyncio.Event()
        self._closing = asyncio.Lock()
        self._closed = False

    async def read(self, most: int) -> bytes:
        data = await self._stream.read(most)
        if not data:
            self._over.set()
        return data

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)

    async def resize(self, columns: int, rows: int) -> None:
        with contextlib.suppress(EngineError):
            await self._owner.resize(self._id, columns, rows)

    async def wait(self) -> int:
        while not self._over.is_set():
            if not (await self._owner.inspect(self._id)).running:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._over.wait()
        for _ in range(CODE_LOOKS):
            found = await self._owner.inspect(self._id)
            if not found.running and found.code is not None:
                return found.code
            await asyncio.sleep(CODE_PAUSE)
        raise PluginError(f"container {self._name}: its terminal has ended and the daemon does not say how")

    async def close(self) -> None:
        async with self._closing:
            if self._closed:
                return
            try:
                await self._owner.end(self._container, self._name, self._mark)
                if not await self._is_over():
                    raise PluginError(
                        f"container {self._name}: a terminal cannot be ended from here; stop the container"
                    )
            finally:
                await self._stream.close()
                self._over.set()
            self._closed = True

    async def _is_over(self) -> bool:
        """Whether the daemon says so, too: processes of another machine, or of a user namespace, are not seen here."""
        with contextlib.suppress(PluginError):  # it does not know of it any more, or is away
            for _ in range(CODE_LOOKS):
                if not (await self._owner.inspect(self._id)).running:
                    return True
                await asyncio.sleep(CODE_PAUSE)
            return False
        return True


class Terminals:
    """Those of one runner that are open."""

    def __init__(self, engine: Engine, ctx: Context) -> None:
        self._engine = engine
        self._in_thread = ctx.in_thread
        #: name of the container, by mark
        self._open: dict[str, str] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """How many are open, by the name of the container."""
        return Counter(self._open.values())

    async def open(
        self, name: str, found: Setup, argv: Sequence[str], *, columns: int, rows: int, env: Mapping[str, str]
    ) -> Terminal:
        """Raises Conflict when the container does not run, PluginError with the engine's words."""
        mark = secrets.token_hex(16)
        self._open[mark] = name
        try:
            size = {"ConsoleSize": [rows, columns]}  # for daemons that know it: API 1.42
            made = await self._make(found.id, argv, {**env, leftovers.MARK: mark}, size)
            stream = await hijack(self._engine, f"/exec/{made}/start", {"Detach": False, "Tty": True, **size})
        except EngineError as error:
            del self._open[mark]
            if error.status == 409:
                raise Conflict(f"container {name} does not run; start it first") from None
            raise PluginError(f"container {name}: {argv[0]} cannot be started: {error.message}") from None
        except BaseException:
            await self.end(found.id, name, mark)
            raise
        terminal = DockerTerminal(self, stream, container=found.id, name=name, id=made, mark=mark)
        try:
            await self._first_size(made, columns, rows)
        except BaseException:
            await terminal.close()
            raise
        return terminal

    async def _first_size(self, id: str, columns: int, rows: int) -> None:
        """The connection is there before the program is, and only a program has a window."""
        for _ in range(SIZE_TRIES):
            try:
                await self.resize(id, columns, rows)
            except EngineError:
                found = await self.inspect(id)
                if not found.running and found.code is not None:
                    return
                await asyncio.sleep(SIZE_PAUSE)
            else:
                return

    async def _make(
        self, container: str, argv: Sequence[str], env: Mapping[str, str], size: Mapping[str, object]
    ) -> str:
        letters = ",".join(secrets.choice(string.ascii_letters) for _ in range(DETACH_LETTERS))
        body = {
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": True,
            "DetachKeys": f"{DETACH_FIRST},{letters}",
            "User": "0:0",
            "Env": [f"{key}={value}" for key, value in env.items()],
            "Cmd": list(argv),
            **size,
        }
        path = f"/containers/{container}/exec"
        made = await self._engine.ask(dict[str, str], path, method="POST", body=body, limit=LONG)
        return made["Id"]

    async def resize(self, id: str, columns: int, rows: int) -> None:
        """Raises EngineError when it has ended."""
        params = {"w": str(columns), "h": str(rows)}
        await self._engine.send("POST", f"/exec/{id}/resize", params=params)

    async def inspect(self, id: str) -> _Exec:
        try:
            return await self._engine.ask(_Exec, f"/exec/{id}/json")
        except EngineError as error:
            raise PluginError(f"a terminal is not known to the daemon any more: {error.message}") from None

    async def end(self, container: str, name: str, mark: str) -> None:
        """Nothing of this terminal runs on return, and with the last one nothing that terminals left."""
        await self._in_thread(leftovers.hang_up, container, mark)
        gone = await self._in_thread(leftovers.end, container, mark)
        self._open.pop(mark, None)
        if not gone or not await self.clear(container, name):
            raise PluginError(f"container {name}: processes of a terminal cannot be ended; stop the container")

    async def clear(self, container: str, name: str) -> bool:
        """Ends what terminals left that are not open any more, an earlier life's included; whether all is gone."""
        try:
            found = await self._engine.ask(Setup, f"/containers/{container}/json")
        except EngineError:
            return True
        if not found.state.running:
            return True

        def marks() -> frozenset[str]:
            return frozenset(mark for mark, owner in list(self._open.items()) if owner == name)

        gone: bool = await self._in_thread(leftovers.end_rest, container, found.state.pid, marks)
        return gone
