"""Simulated runners that speak contrib/notes/wire.md over real links: hello, inventory, one heartbeat a second.

    python simulator.py <file with one credential a line> <url> <seconds>

Prints one JSON line when all are live, and one with the heartbeats sent and sessions lost at the end.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import aiohttp

CELL = {"id": 0, "cpus": list(range(64)), "memory": 256 << 30}
BACKEND = {"name": "process", "capabilities": ["pause"]}


class Node:
    """One runner: everything but work."""

    def __init__(self, url: str, credential: str) -> None:
        self.url = url
        self.credential = credential
        self.live = asyncio.Event()
        self.sent = 0
        self.lost = 0

    async def run(self, http: aiohttp.ClientSession) -> None:
        headers = {"Authorization": f"Bearer {self.credential}"}
        while True:
            try:
                async with http.ws_connect(f"{self.url}/link", headers=headers, compress=0) as socket:
                    await self._speak(socket)
            except aiohttp.WSServerHandshakeError:  # 503: too many handshakes at once
                await asyncio.sleep(0.2)
                continue
            self.lost += 1

    async def _speak(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        session = os.urandom(16).hex()
        await socket.send_json({
            "t": "hello", "major": 1, "epoch": time.time_ns() // 1000, "boot": "simulated", "session": session,
            "cells": [CELL], "backends": [BACKEND], "version": "0",
        })  # fmt: skip
        await _until(socket, "welcome")
        await socket.send_json({"t": "inventory", "last": True})
        while not (await _until(socket, "wanted")).get("complete"):
            pass
        self.live.set()
        beating = asyncio.ensure_future(self._beat(socket))
        try:
            async for _ in socket:  # nothing is assigned; pings are answered by the library
                pass
        finally:
            beating.cancel()

    async def _beat(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        await asyncio.sleep(int.from_bytes(os.urandom(2), "big") / 65536)
        while True:
            await socket.send_json({
                "t": "heartbeat", "cpu": 0.5, "load": 1.5, "memory_used": 1 << 34, "memory_total": 1 << 38,
                "disk_used": 1 << 36, "disk_total": 1 << 40, "temperature": 51.5,
            })  # fmt: skip
            self.sent += 1
            await asyncio.sleep(1)


async def _until(socket: aiohttp.ClientWebSocketResponse, tag: str) -> dict[str, object]:
    while True:
        message = dict(await socket.receive_json())
        if message["t"] == tag:
            return message


async def main(url: str, credentials: list[str], seconds: float) -> None:
    nodes = [Node(url, credential) for credential in credentials]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        running = [asyncio.ensure_future(node.run(http)) for node in nodes]
        await asyncio.gather(*(node.live.wait() for node in nodes))
        print(json.dumps({"live": len(nodes)}), flush=True)
        await asyncio.sleep(seconds)
        print(json.dumps({"sent": sum(node.sent for node in nodes), "lost": sum(node.lost for node in nodes)}))
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[2], Path(sys.argv[1]).read_text().split(), float(sys.argv[3])))
