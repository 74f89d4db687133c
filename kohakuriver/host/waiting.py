"""Who waits for the end of which task."""

import asyncio

from kohakuriver.domain.tasks import Status, Task


class Ends:
    """Futures by task, resolved at the commit of a final status (or `stopped`)."""

    def __init__(self) -> None:
        self._waiting: dict[int, set[asyncio.Future[None]]] = {}

    def ended(self, task: int) -> None:
        for future in self._waiting.pop(task, ()):
            if not future.done():
                future.set_result(None)

    async def wait(self, task: int, seconds: float) -> bool:
        """Whether the task ended within that time. Cancelling it leaves nothing behind."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(task, set()).add(future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return False
        finally:
            waiting = self._waiting.get(task)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    self._waiting.pop(task, None)
        return True


def ended(task: Task) -> bool:
    """Whether waiting for the task is over."""
    return task.final or task.status is Status.STOPPED
