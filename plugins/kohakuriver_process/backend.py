"""Plain processes as a workload backend. The work is the shepherd's; here its answers become the contract's words.

A body belongs to the shepherd that it was created with. When that one is gone nothing is started again in its
name, and what still runs is found by `lost`.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import msgspec

from kohakuriver.errors import PluginError
from kohakuriver.hooks.backend import Backend, Progress
from kohakuriver.hooks.capabilities import CanClaim, CanPause
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.values import Chunk, Exit, Features, Handle, Image, Job, Offsets, Probe, Seen, Stats
from kohakuriver_process import adrift, claims, limits, lost, means, orders, place, probe, systemd, usage
from kohakuriver_process.client import Answer, Client, ConnectionGone
from kohakuriver_process.config import Options, Settings
from kohakuriver_process.shepherd.frames import Message

logger = logging.getLogger(__name__)

ONE_READ = 256 * 1024


class ProcessBackend(Backend, CanPause, CanClaim):
    """Runs command tasks as processes of the node, watched by one shepherd that outlives the runner."""

    name: ClassVar[str] = "process"
    features: ClassVar[Features] = Features(nets=frozenset({"host"}), device_modes=frozenset({"host"}))
    Options: ClassVar[type] = Options

    async def open(self, ctx: Context) -> None:
        try:
            self._settings = msgspec.convert(dict(ctx.config), Settings)
        except msgspec.ValidationError as error:
            raise PluginError(f"settings of the process backend: {error}") from None
        self._ctx = ctx
        self._limits: limits.Limits
        self._trouble: list[str] = []
        self._adrift = adrift.Adrift(ctx)
        #: what no group counts is known only when it is looked at
        self._peaks: dict[str, int] = {}
        #: what ended runs used, as their end was told, until they are removed
        self._used: dict[str, Stats] = {}
        try:
            self._me = await ctx.in_thread(orders.person, self._settings.run_as)
        except PluginError as error:
            self._me = orders.person(None)
            self._trouble.append(error.message)
        if not self._settings.enabled:
            self._trouble.append("plain processes are off on this node; to allow them: plugins.process.enabled = true")
        try:
            self._limits, self._reasons = await ctx.in_thread(limits.choose, self._settings.limits, means.FINDERS)
        except limits.Unavailable as error:
            self._limits, self._reasons = limits.NoLimits(), []
            self._trouble.append(f"limits = {self._settings.limits!r} cannot be used: {error}")
        prefix = self._limits.prefix if isinstance(self._limits, systemd.Systemd) else ()
        self._client = Client(ctx.state, ctx.boot, ctx.run, self._settings.idle_seconds, prefix)

    async def close(self) -> None:
        await self._client.close()

    async def probe(self) -> Probe:
        trouble = list(self._trouble)
        self._client.wake()
        if not trouble:
            try:
                await self._client.identity()
            except PluginError as error:
                trouble.append(error.message)
        return probe.describe(self._means(), self._reasons, self._me, trouble)

    async def check(self, job: Job) -> Sequence[str]:
        if not self._trouble and isinstance(self._limits, systemd.Systemd):
            await self._client.identity()
        return [*self._trouble, *orders.refusals(job, self._means(), self._me)]

    async def prepare(self, image: Image, progress: Progress) -> None:  # noqa: ARG002 -- nothing to prepare
        raise PluginError("plain processes take no image")

    async def create(self, job: Job) -> Handle:
        directory = str(job.directory)
        user = self._me.switch
        if user is not None:
            base = await self._ctx.in_thread(place.ground, Path(self._settings.work_dir), self._ctx.state)
            directory = str(base / job.instance)
        story, _ = await self._again("create", instance=job.instance, directory=directory, attempt=job.attempt)
        shepherd = story["shepherd"]
        if user is not None and story["phase"] == "created":
            await self._ctx.in_thread(place.furnish, Path(directory), job, user)
        data = {"instance": job.instance, "directory": directory, "shepherd": shepherd, "boot": self._ctx.boot}
        return Handle(backend=self.name, version=1, data=data)

    async def start(self, handle: Handle, job: Job) -> str:
        shepherd = handle.data["shepherd"]
        made = orders.order(
            job,
            settings=self._settings,
            limits=self._means(),
            me=self._me,
            shepherd=shepherd,
            place=None if self._me.switch is None else Path(handle.data["directory"]),
        )
        answer = await self._ask(handle, "start", attempt=job.attempt, order=made)
        if answer is None:
            raise PluginError(
                f"body {job.instance}: the shepherd that was to start it is gone; whether it did cannot be known"
            )
        return str(answer[0]["run"])

    async def see(self, handle: Handle) -> Seen:
        answer = await self._ask(handle, "see")
        if answer is None:
            return await self._adrift.see(handle)
        story = answer[0]
        ended = _exit(story) if story["phase"] == "exited" else None
        return Seen(phase=story["phase"], run=story.get("run"), exit=ended, note=_note(story))

    async def wait(self, handle: Handle, run: str) -> Exit:
        answer = await self._ask(handle, "wait", run=run)
        if answer is None:
            return await self._adrift.wait(handle, run)
        if answer[0].get("usage") is not None:
            self._note_peaks({handle.data["instance"]: usage.of_ended(answer[0])}, self._used)
        return _exit(answer[0])

    async def stop(self, handle: Handle, run: str, grace: float) -> None:
        if await self._ask(handle, "stop", run=run, grace=grace) is None:
            await self._adrift.stop(handle, grace)

    async def pause(self, handle: Handle, run: str) -> None:
        if await self._ask(handle, "pause", run=run) is None:
            raise PluginError(f"body {handle.data['instance']} cannot be paused: its shepherd is gone")

    async def resume(self, handle: Handle, run: str) -> None:
        if await self._ask(handle, "resume", run=run) is None:
            raise PluginError(f"body {handle.data['instance']} cannot be resumed: its shepherd is gone")

    async def remove(self, handle: Handle) -> None:
        self._used.pop(handle.data["instance"], None)
        self._peaks.pop(handle.data["instance"], None)
        answer = await self._ask(handle, "remove")
        if answer is None:
            await self._adrift.remove(handle)
        directory = Path(handle.data["directory"])
        ours = place.is_ours(directory, self._ctx.state)
        if ours or answer is None or answer[0].get("left", True):
            await place.clear(self._ctx, [directory] if ours else [directory / "work", directory / "output"])

    async def found(self) -> Sequence[tuple[str, Handle]]:
        await self._client.identity()
        return [
            (record.instance, self._handle(record))
            for record in await self._ctx.in_thread(lost.records, self._ctx.state)
        ]

    async def output(self, handle: Handle, run: str, at: Offsets) -> AsyncIterator[Chunk]:
        offsets = {"stdout": at.stdout, "stderr": at.stderr}
        while True:
            answer = await self._ask(
                handle, "read", run=run, most=ONE_READ, stdout=offsets["stdout"], stderr=offsets["stderr"]
            )
            if answer is None:
                async for chunk in self._adrift.output(handle, offsets):
                    yield chunk
                return
            story, blob = answer
            if story["end"]:
                for name, total in story["totals"].items():
                    if total > offsets[name]:  # a full disk took the last bytes: they were dropped and count
                        yield Chunk(stream=name, offset=total, data=b"")
                return
            begin = 0
            for part in story["parts"]:
                data = blob[begin : begin + part["length"]]
                begin += part["length"]
                offsets[part["stream"]] = part["offset"] + part["length"]
                yield Chunk(stream=part["stream"], offset=part["offset"], data=data)

    async def stats(self, handles: Sequence[Handle]) -> Mapping[str, Stats]:
        ended = {h.data["instance"] for h in handles} & self._used.keys()
        if not ended:  # the usage of one that has ended is asked for at every end, this at every heartbeat
            self._client.wake()
        found = {instance: self._used[instance] for instance in ended}
        stories = await self._stories([handle for handle in handles if handle.data["instance"] not in ended])
        if stories:
            self._note_peaks(await self._ctx.in_thread(usage.measure, stories), found)
        return found

    async def claim(self, handles: Sequence[Handle], pids: Sequence[int]) -> Mapping[int, str]:
        stories = await self._stories(handles)
        return await self._ctx.in_thread(claims.owners, stories, pids)  # type: ignore[no-any-return]

    async def _stories(self, handles: Sequence[Handle]) -> dict[str, Message]:
        """What there is to say of each body that is not gone."""
        stories: dict[str, Message] = {}
        for handle in handles:
            answer = await self._ask(handle, "see")
            story = await self._adrift.story(handle) if answer is None else answer[0]
            if story["phase"] != "gone":
                stories[handle.data["instance"]] = story
        return stories

    def _note_peaks(self, measured: Mapping[str, Stats], found: dict[str, Stats]) -> None:
        """Puts the figures into `found`, with the largest peak that each body was ever seen with."""
        for instance, stats in measured.items():
            peak = self._peaks[instance] = max(stats.memory_peak or 0, self._peaks.get(instance, 0))
            found[instance] = replace(stats, memory_peak=peak or None)

    def _means(self) -> limits.Limits:
        """The means of limiting; on a systemd machine it is known once the shepherd has been met."""
        hello = self._client.hello
        if isinstance(self._limits, systemd.Systemd) and "tree" in hello:
            return systemd.below(hello["tree"], hello["controllers"])
        return self._limits

    def _handle(self, record: lost.Record) -> Handle:
        data = {
            "instance": record.instance,
            "directory": record.directory,
            "shepherd": record.shepherd,
            "boot": record.boot,
        }
        return Handle(backend=self.name, version=1, data=data)

    async def _ask(self, handle: Handle, op: str, **fields: object) -> Answer | None:
        """Asks the shepherd of this body; None when that one is gone, for whatever reason."""
        if handle.data["boot"] != self._ctx.boot:
            return None
        while await self._client.identity() == handle.data["shepherd"]:
            try:
                return await self._client.ask(op, instance=handle.data["instance"], **fields)
            except ConnectionGone:
                logger.info("shepherd connection broke", extra={"action": "shepherd_again", "op": op})
                await asyncio.sleep(0)
        return None

    async def _again(self, op: str, **fields: object) -> Answer:
        """Asks whichever shepherd there is; the answer names it."""
        while True:
            shepherd = await self._client.identity()
            try:
                story, blob = await self._client.ask(op, **fields)
            except ConnectionGone:
                await asyncio.sleep(0)
                continue
            return {**story, "shepherd": shepherd}, blob


def _exit(story: Message) -> Exit:
    status = story["status"]
    code = os.waitstatus_to_exitcode(status)
    finished = datetime.fromtimestamp(story["finished"], UTC)
    if code < 0:
        return Exit(code=128 - code, signal=-code, oom=story["oom"], finished=finished)
    return Exit(code=code, oom=story["oom"], finished=finished)


def _note(story: Message) -> str:
    dropped = sum(story.get("dropped", {}).values())
    return f"{dropped} bytes of output were dropped" if dropped else ""
