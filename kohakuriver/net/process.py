"""The one door to subprocesses: an argument vector, a limit in seconds, bounded output, and no process left behind."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

from kohakuriver.hooks.context import Done

#: bytes kept of each stream; a helper command that says more is killed
MOST_OUTPUT = 16 * 1024 * 1024
ONE_READ = 64 * 1024


class TooMuchOutput(OSError):
    """the command said more than is taken"""


async def run_command(
    argv: Sequence[str],
    *,
    limit: float,
    input: bytes = b"",
    env: Mapping[str, str] | None = None,
    most: int = MOST_OUTPUT,
) -> Done:
    """Runs the command in a session of its own and returns its end; `code` is -N when signal N ended it.

    `env` None passes the own environment on. Raises TimeoutError after `limit` seconds, OSError when it cannot
    be started, TooMuchOutput. In each of these cases, and when cancelled, its process group is killed and waited for.
    """
    born: asyncio.Future[asyncio.subprocess.Process] = asyncio.get_running_loop().create_future()
    try:
        await asyncio.shield(_start(born, argv, env, fed=bool(input)))
    except asyncio.CancelledError:  # it may run already, and have children: asyncio would kill it alone
        with contextlib.suppress(OSError):
            await asyncio.shield(_bury(await asyncio.shield(born)))
        raise
    process = born.result()
    try:
        async with asyncio.timeout(limit):
            return await _talk(process, input, most)
    except BaseException as error:  # whatever it is, cancelling too, is raised again once the group is dead
        await asyncio.shield(_bury(process))
        if isinstance(error, TimeoutError):
            raise TimeoutError(f"{argv[0]} did not end within {limit:g} s") from None
        raise


async def _start(
    born: asyncio.Future[asyncio.subprocess.Process],
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    *,
    fed: bool,
) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE if fed else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=None if env is None else dict(env),
            start_new_session=True,
        )
    except BaseException as error:  # noqa: BLE001 -- whoever waits for the process gets it
        born.set_exception(error)
    else:
        born.set_result(process)


async def _talk(process: asyncio.subprocess.Process, data: bytes, most: int) -> Done:
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.TaskGroup() as group:
            stdout = group.create_task(_collect(process.stdout, most))
            stderr = group.create_task(_collect(process.stderr, most))
            if process.stdin is not None:
                group.create_task(_feed(process.stdin, data))
            code = group.create_task(process.wait())
    except* TooMuchOutput as errors:
        raise errors.exceptions[0] from None
    return Done(code=code.result(), stdout=stdout.result(), stderr=stderr.result())


async def _collect(stream: asyncio.StreamReader, most: int) -> bytes:
    data = bytearray()
    while piece := await stream.read(ONE_READ):
        data += piece
        if len(data) > most:
            raise TooMuchOutput(f"more than {most} bytes of output")
    return bytes(data)


async def _feed(stream: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # it may end without reading everything
        stream.write(data)
        await stream.drain()
        stream.close()
        await stream.wait_closed()


async def _bury(process: asyncio.subprocess.Process) -> None:
    """Kills what is left of the process group and waits for it; our ends of the pipes are closed first, for
    asyncio takes a process for running while a pipe is full.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    transport: asyncio.SubprocessTransport = process._transport  # type: ignore[attr-defined]  # noqa: SLF001 -- no other way
    transport.close()
    await process.wait()
