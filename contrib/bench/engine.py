"""The Engine's API with nothing of ours around: create, start, wait, logs, remove over the unix socket, by aiohttp.

python contrib/bench/engine.py SOCKET IMAGE NETWORK COUNT AT_ONCE
"""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

TRUE = ["true"]


@dataclass(frozen=True)
class Where:
    """A daemon, and what a container of it is made of."""

    socket: str
    image: str
    network: str


class Raw:
    """One session, connections kept, as much at once as the caller asks."""

    def __init__(self, where: Where) -> None:
        self._where = where

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(path=self._where.socket, limit=0)
        self._session = aiohttp.ClientSession("http://docker/v1.41/", connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def life(self) -> float:
        """Seconds of one container from its creation to its removal."""
        began = time.perf_counter()
        body = {"Image": self._where.image, "Cmd": TRUE, "HostConfig": {"NetworkMode": self._where.network}}
        made = json.loads(await self._ask("POST", "containers/create", json=body))["Id"]
        await self._ask("POST", f"containers/{made}/start")
        ended = json.loads(await self._ask("POST", f"containers/{made}/wait"))
        assert ended["StatusCode"] == 0, ended
        await self._ask("GET", f"containers/{made}/logs", params={"stdout": "1", "stderr": "1"})
        await self._ask("DELETE", f"containers/{made}")
        return time.perf_counter() - began

    async def none_left(self) -> None:
        """Returns when the daemon has no container, of whatever state."""
        while json.loads(await self._ask("GET", "containers/json", params={"all": "1"})):
            await asyncio.sleep(0.005)

    async def _ask(self, method: str, path: str, **more: Any) -> bytes:
        async with self._session.request(method, path, **more) as answer:
            data = await answer.read()
            assert answer.status < 300, data
            return data


def rate(where: Where, count: int, at_once: int) -> dict[str, Any]:
    """Containers a second and the seconds of each, in an interpreter of its own."""
    words = [sys.executable, __file__, where.socket, where.image, where.network, str(count), str(at_once)]
    return dict(json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout))


def settle(where: Where) -> None:
    """Returns when nothing is left of what ran before."""
    asyncio.run(_settle(where))


async def _settle(where: Where) -> None:
    async with Raw(where) as raw:
        await raw.none_left()


async def _rate(where: Where, count: int, at_once: int) -> None:
    took: list[float] = []
    left = iter(range(count))

    async def slot(raw: Raw) -> None:
        while next(left, None) is not None:
            took.append(await raw.life())

    async with Raw(where) as raw:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(slot(raw))
        print(json.dumps({"rate": count / (time.perf_counter() - began), "took": took}))


if __name__ == "__main__":
    asyncio.run(_rate(Where(*sys.argv[1:4]), int(sys.argv[4]), int(sys.argv[5])))
