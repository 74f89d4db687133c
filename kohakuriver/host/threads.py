"""Bounded thread pools for what blocks: password hashing and files. Each has its own threads and its own limit."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kohakuriver.errors import NotReady, TooMany

Result = TypeVar("Result")

PASSWORD_THREADS = 2
PASSWORD_WAITING = 32
FILE_THREADS = 4
CONTENT_THREADS = 2


class Threads:
    """The host's pools. Closed with the role."""

    def __init__(self) -> None:
        self._password = ThreadPoolExecutor(PASSWORD_THREADS, thread_name_prefix="password")
        self._file = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="file")
        self._content = ThreadPoolExecutor(CONTENT_THREADS, thread_name_prefix="content")
        self._hashing = 0

    async def password(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Runs the function on the password pool. Raises TooMany when 32 wait already."""
        if self._hashing >= PASSWORD_THREADS + PASSWORD_WAITING:
            raise TooMany("too many sign-ins at once; try again", retry_after=2)
        self._hashing += 1
        future = asyncio.get_running_loop().run_in_executor(self._password, function, *arguments)
        future.add_done_callback(self._hashed)
        return await future

    async def file(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Runs the function on the pool for files; waits for a free thread. Raises NotReady once it is closed."""
        return await self._soon(self._file, function, *arguments)

    async def content(self, function: Callable[..., Result], *arguments: object) -> Result:
        """The same on the pool for contents of environments, whose functions take seconds."""
        return await self._soon(self._content, function, *arguments)

    async def _soon(self, pool: ThreadPoolExecutor, function: Callable[..., Result], *arguments: object) -> Result:
        try:
            future = asyncio.get_running_loop().run_in_executor(pool, function, *arguments)
        except RuntimeError:
            raise NotReady("the host stops") from None
        return await future

    def close(self) -> None:
        """Lets running functions end and takes no more."""
        self._password.shutdown(wait=False, cancel_futures=True)
        self._file.shutdown(wait=False, cancel_futures=True)
        self._content.shutdown(wait=False, cancel_futures=True)

    def _hashed(self, _future: object) -> None:
        self._hashing -= 1
