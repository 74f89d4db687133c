"""The runner's end of the shepherd's socket: finds or starts the shepherd, asks, and matches the answers."""

import asyncio
import itertools
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kohakuriver.errors import PluginError
from kohakuriver.hooks.context import RunCommand
from kohakuriver_process.shepherd import tree
from kohakuriver_process.shepherd.frames import MOST_JSON, PROTOCOL, BadFrame, Message, Unpacker, pack
from kohakuriver_process.shepherd.tree import STOPPED

logger = logging.getLogger(__name__)

SOCKET = "shepherd.sock"
START_SECONDS = 15.0
HELLO_SECONDS = 5.0
LEAVE_SECONDS = 1.0
TRIES = 3
BOOTSTRAP = "import sys; sys.path.append(sys.argv.pop(1)); from kohakuriver_process.shepherd.main import main; main()"

#: where the shepherd, which has no site packages, imports itself from
PLUGINS = str(Path(__file__).resolve().parent.parent)

Answer = tuple[Message, bytes]


class ConnectionGone(Exception):
    """the connection to the shepherd broke; what was asked may or may not have been done"""


class Connection(asyncio.Protocol):
    """Questions and answers on one socket. The first message that comes is the shepherd's hello."""

    def __init__(self) -> None:
        self.hello: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()
        self._unpacker = Unpacker()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._numbers = itertools.count(1)
        self._transport: asyncio.Transport | None = None
        #: what is asked in one turn of the loop goes out as one piece
        self._out: list[bytes] = []

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.gone.set()
        futures: list[asyncio.Future[Any]] = [self.hello, *self._waiting.values()]
        for future in futures:
            if not future.done():
                future.set_exception(ConnectionGone(str(exc or "closed")))
                future.exception()
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._unpacker.feed(data)
        except BadFrame as error:
            logger.warning("shepherd sent nonsense", extra={"action": "shepherd_frame", "error": str(error)})
            self.close()
            return
        for message, blob in messages:
            if not self.hello.done():
                self.hello.set_result(message)
                continue
            future = self._waiting.pop(message.get("id", 0), None)
            if future is not None and not future.done():
                future.set_result((message, blob))

    async def ask(self, op: str, fields: Message) -> Answer:
        """The answer to one order. Raises ConnectionGone, PluginError when it was refused. May be cancelled."""
        if self._transport is None:
            raise ConnectionGone("closed")
        number = next(self._numbers)
        frame = pack({"id": number, "op": op, **fields})
        if len(frame) > MOST_JSON:
            raise PluginError(f"this job is too large to be handed on: {len(frame)} bytes of at most {MOST_JSON}")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            if not self._out:
                asyncio.get_running_loop().call_soon(self._flush)
            self._out.append(frame)
            message, blob = await future
        finally:
            self._waiting.pop(number, None)
        if "error" in message:
            raise PluginError(message["error"])
        return message, blob

    def close(self) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and out:
            self._transport.write(b"".join(out))


class Client:
    """The one shepherd of a state directory. A dead one is replaced by a new one with another identity."""

    def __init__(self, state: Path, boot: str, run: RunCommand, idle: float, prefix: Sequence[str] = ()) -> None:
        """`prefix` goes before the shepherd's command: what gives it a scope with a delegated tree."""
        self._state = state
        self._boot = boot
        self._run = run
        self._idle = idle
        self._connection: Connection | None = None
        self._prefix = tuple(prefix)
        #: what the shepherd said of itself when it was met
        self.hello: Message = {}
        self._lock = asyncio.Lock()

    async def identity(self) -> str:
        """Who the shepherd is now; finds or starts one."""
        await self._ready()
        return str(self.hello["shepherd"])

    async def ask(self, op: str, **fields: Any) -> Answer:
        """Asks the shepherd that is there now. Raises ConnectionGone when it went while it was asked."""
        connection = await self._ready()
        return await connection.ask(op, fields)

    def wake(self) -> None:
        """Lets a shepherd go on that somebody stopped: a task of the runner's own user can do that (kill(2))."""
        process = tree.look(self.hello["pid"]) if "pid" in self.hello else None
        if process is not None and process.state in STOPPED and process.start == self.hello.get("start"):
            logger.warning("the shepherd was stopped by a signal", extra={"action": "shepherd_wake"})
            os.kill(process.pid, signal.SIGCONT)

    async def close(self) -> None:
        """Leaves the shepherd alone; it and its workloads go on. One that has none is asked to go as well."""
        connection = self._connection
        if connection is None:
            return
        with suppress(ConnectionGone, PluginError, TimeoutError, ProcessLookupError):
            async with asyncio.timeout(LEAVE_SECONDS):
                answer, _ = await connection.ask("list", {})
                if not answer["bodies"]:
                    os.kill(self.hello["pid"], signal.SIGTERM)
                    await connection.gone.wait()
        connection.close()

    async def _ready(self) -> Connection:
        if self._connection is not None and self._connection.open:
            return self._connection
        async with self._lock:
            if self._connection is None or not self._connection.open:
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> Connection:
        for _ in range(TRIES):
            with suppress(OSError, ConnectionGone, TimeoutError):
                return await self._dial()
            await self._start()
        raise PluginError(f"the shepherd of {self._state} cannot be reached; see {self._state / 'shepherd.log'}")

    async def _dial(self) -> Connection:
        with _short(self._state) as directory:
            _, connection = await asyncio.get_running_loop().create_unix_connection(Connection, f"{directory}/{SOCKET}")
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                hello = await connection.hello
        except BaseException:  # also when cancelled: nobody else would close it
            connection.close()
            raise
        if hello.get("protocol") != PROTOCOL:
            connection.close()
            raise PluginError(f"the shepherd of {self._state} speaks protocol {hello.get('protocol')}, not {PROTOCOL}")
        self.hello = hello
        return connection

    async def _start(self) -> None:
        argv = [*self._prefix, sys.executable, "-I", "-S", "-c", BOOTSTRAP, PLUGINS]
        argv += [str(self._state), self._boot, str(self._idle), "delegated" if self._prefix else "plain"]
        try:
            done = await self._run(argv, limit=START_SECONDS)
        except (OSError, TimeoutError) as error:
            raise PluginError(f"the shepherd did not start: {error or 'it took too long'}") from error
        if done.code != 0:
            words = done.stderr.decode(errors="replace").strip().splitlines()
            raise PluginError(f"the shepherd did not start; see {self._state / 'shepherd.log'} {words[-1:]}")


@contextmanager
def _short(directory: Path) -> Iterator[str]:
    """A short name of the directory: a socket's path has at most 108 bytes (unix(7))."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
