"""Every rule of `hooks/backend.py` as a test. Bind it with a subclass that has a fixture `kit`:

class TestMine(BackendContract):
    @pytest.fixture
    def kit(self, tmp_path): return MyKit(tmp_path)
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import msgspec
import pytest

from kohakuriver.errors import NotFound, PluginError
from kohakuriver.hooks import bundles
from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.capabilities import CanClaim, CanPackage, CanPause
from kohakuriver.hooks.values import Exit, Handle, Image, Job, Offsets
from kohakuriver.testing.contracts.kit import BackendKit

#: nothing in the suite takes this long on a machine that works
LIMIT = 60.0
#: every byte once, some of them twice and in a row
BINARY = bytes(range(256)) + b"\0\0\r\n\xff\xfe"
NUMBERS = 1_500_000


async def collect(backend: Backend, handle: Handle, run: str, at: Offsets | None = None) -> dict[str, bytes]:
    """The whole output from these offsets on; fails on a gap or an overlap."""
    at = at or Offsets()
    found = {"stdout": bytearray(), "stderr": bytearray()}
    begin = {"stdout": at.stdout, "stderr": at.stderr}
    async for chunk in backend.output(handle, run, at):
        assert chunk.offset == begin[chunk.stream] + len(found[chunk.stream]), "a gap in the output"
        found[chunk.stream] += chunk.data
    return {name: bytes(data) for name, data in found.items()}


async def until_up(backend: Backend, handle: Handle, run: str) -> None:
    """Returns when the program has said that it is up."""
    async for chunk in backend.output(handle, run, Offsets()):
        if chunk.data:
            return


class BackendContract:
    """The suite."""

    @pytest.fixture
    async def backend(self, kit: BackendKit) -> AsyncIterator[Backend]:
        async with AsyncExitStack() as stack, asyncio.timeout(LIMIT):
            backend = await stack.enter_async_context(kit.open())
            yield backend
            for _, handle in await backend.found():
                await backend.remove(handle)

    async def begin(self, backend: Backend, job: Job) -> tuple[Handle, str]:
        assert list(await backend.check(job)) == []
        handle = await backend.create(job)
        return handle, await backend.start(handle, job)

    async def finish(self, backend: Backend, job: Job) -> Exit:
        handle, run = await self.begin(backend, job)
        return await backend.wait(handle, run)

    async def test_probe_finds_it_usable(self, backend: Backend) -> None:
        probe = await backend.probe()
        assert probe.usable, probe.problems

    async def test_create_runs_nothing(self, backend: Backend, kit: BackendKit) -> None:
        job = kit.job(kit.programs.sleep())
        handle = await backend.create(job)
        seen = await backend.see(handle)
        assert (seen.phase, seen.run) == ("created", None)
        assert await kit.processes(job) == 0

    async def test_create_twice_is_one_body(self, backend: Backend, kit: BackendKit) -> None:
        job = kit.job(kit.programs.sleep())
        assert await backend.create(job) == await backend.create(job)
        assert [instance for instance, _ in await backend.found()] == [job.instance]

    async def test_create_refuses_a_foreign_body(self, backend: Backend, kit: BackendKit) -> None:
        job = kit.job(kit.programs.sleep())
        await kit.occupy(job)
        with pytest.raises(PluginError, match=job.instance):
            await backend.create(job)

    async def test_handle_is_small_and_plain(self, backend: Backend, kit: BackendKit) -> None:
        job = kit.job(kit.programs.sleep(), secrets={"TOKEN": "hunter2"})
        handle = await backend.create(job)
        text = msgspec.json.encode(handle.data)
        assert handle.backend == backend.name
        assert len(text) <= 16 * 1024
        assert b"hunter2" not in text
        assert msgspec.json.decode(text) == handle.data

    @pytest.mark.parametrize("code", [0, 1, 7, 126, 127, 255])
    async def test_exit_code_is_kept(self, backend: Backend, kit: BackendKit, code: int) -> None:
        ended = await self.finish(backend, kit.job(kit.programs.say(code=code)))
        assert (ended.code, ended.signal) == (code, None)
        assert not ended.oom
        assert ended.finished is not None

    @pytest.mark.parametrize("signal", [6, 9, 15])
    async def test_signal_is_told(self, backend: Backend, kit: BackendKit, signal: int) -> None:
        ended = await self.finish(backend, kit.job(kit.programs.die(signal)))
        assert (ended.code, ended.signal) == (128 + signal, signal)

    async def test_missing_program_is_an_error_of_start(self, backend: Backend, kit: BackendKit) -> None:
        job = kit.job(kit.programs.missing())
        handle = await backend.create(job)
        with pytest.raises(PluginError, match="no such"):
            await backend.start(handle, job)
        assert (await backend.see(handle)).run is None

    async def test_start_twice_is_one_run(self, backend: Backend, kit: BackendKit) -> None:
        job = kit.job(kit.programs.sleep())
        handle, run = await self.begin(backend, job)
        assert await backend.start(handle, job) == run
        assert (await backend.see(handle)).run == run

    async def test_start_after_the_end_finds_the_same_run(self, backend: Backend, kit: BackendKit) -> None:
        job = kit.job(kit.programs.say(b"once\n", code=3))
        handle, run = await self.begin(backend, job)
        await backend.wait(handle, run)
        assert await backend.start(handle, job) == run
        assert (await backend.wait(handle, run)).code == 3
        assert (await collect(backend, handle, run))["stdout"] == b"once\n"

    async def test_environment_and_secrets_arrive(self, backend: Backend, kit: BackendKit) -> None:
        for fields in ({"env": {"COLOUR": "a b='$"}}, {"secrets": {"COLOUR": "a b='$"}}):
            job = kit.job(kit.programs.variable("COLOUR"), **fields)
            handle, run = await self.begin(backend, job)
            assert (await collect(backend, handle, run))["stdout"] == b"a b='$"

    async def test_see_follows_the_life(self, backend: Backend, kit: BackendKit) -> None:
        job = kit.job(kit.programs.sleep())
        handle, run = await self.begin(backend, job)
        assert (await backend.see(handle)).phase == "running"
        await backend.stop(handle, run, 10)
        seen = await backend.see(handle)
        assert (seen.phase, seen.run) == ("exited", run)
        assert seen.exit is not None
        await backend.remove(handle)
        assert (await backend.see(handle)).phase == "gone"

    async def test_cancelled_wait_touches_nothing(self, backend: Backend, kit: BackendKit) -> None:
        handle, run = await self.begin(backend, kit.job(kit.programs.sleep()))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await backend.wait(handle, run)
        assert (await backend.see(handle)).phase == "running"

    async def test_all_that_wait_are_told(self, backend: Backend, kit: BackendKit) -> None:
        handle, run = await self.begin(backend, kit.job(kit.programs.sleep()))
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(backend.wait(handle, run)) for _ in range(3)]
            await until_up(backend, handle, run)
            group.create_task(backend.stop(handle, run, 10))
        assert [wait.result().code for wait in waits] == [kit.terminated] * 3

    async def test_stop_asks_first(self, backend: Backend, kit: BackendKit) -> None:
        handle, run = await self.begin(backend, kit.job(kit.programs.sleep()))
        await until_up(backend, handle, run)
        await backend.stop(handle, run, 30)
        assert (await backend.wait(handle, run)).code == kit.terminated

    async def test_stop_ends_the_whole_tree_of_the_unwilling(self, backend: Backend, kit: BackendKit) -> None:
        job = kit.job(kit.programs.stubborn())
        handle, run = await self.begin(backend, job)
        await until_up(backend, handle, run)
        assert await kit.processes(job) >= 1
        await backend.stop(handle, run, 0.1)
        assert await kit.processes(job) == 0
        assert (await backend.wait(handle, run)).code == kit.killed

    async def test_a_second_stop_may_be_shorter(self, backend: Backend, kit: BackendKit) -> None:
        handle, run = await self.begin(backend, kit.job(kit.programs.stubborn()))
        await until_up(backend, handle, run)
        async with asyncio.TaskGroup() as group:
            group.create_task(backend.stop(handle, run, 3600))
            await asyncio.sleep(0)
            group.create_task(backend.stop(handle, run, 0))
        await backend.stop(handle, run, 0)
        assert (await backend.wait(handle, run)).code == kit.killed

    async def test_a_cancelled_stop_may_be_repeated(self, backend: Backend, kit: BackendKit) -> None:
        handle, run = await self.begin(backend, kit.job(kit.programs.sleep()))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await backend.stop(handle, run, 30)
        await backend.stop(handle, run, 30)
        assert (await backend.see(handle)).phase == "exited"

    async def test_the_end_of_the_command_ends_what_it_left(self, backend: Backend, kit: BackendKit) -> None:
        job = kit.job(kit.programs.leaves_behind(4))
        ended = await self.finish(backend, job)
        assert ended.code == 4
        assert await kit.processes(job) == 0

    async def test_output_is_exact_and_apart(self, backend: Backend, kit: BackendKit) -> None:
        handle, run = await self.begin(backend, kit.job(kit.programs.say(BINARY, BINARY[::-1])))
        assert await collect(backend, handle, run) == {"stdout": BINARY, "stderr": BINARY[::-1]}

    @pytest.mark.parametrize("offset", [0, 1, 100, len(BINARY) - 1, len(BINARY)])
    async def test_output_from_an_offset(self, backend: Backend, kit: BackendKit, offset: int) -> None:
        handle, run = await self.begin(backend, kit.job(kit.programs.say(BINARY, b"error")))
        found = await collect(backend, handle, run, Offsets(stdout=offset, stderr=2))
        assert found == {"stdout": BINARY[offset:], "stderr": b"ror"}

    async def test_output_is_followed_while_it_runs(self, backend: Backend, kit: BackendKit) -> None:
        handle, run = await self.begin(backend, kit.job(kit.programs.sleep()))
        chunks = backend.output(handle, run, Offsets())
        assert (await anext(chunks)).data == b"up\n"
        await backend.stop(handle, run, 30)
        assert [chunk async for chunk in chunks] == []

    async def test_ten_megabytes_arrive(self, backend: Backend, kit: BackendKit) -> None:
        handle, run = await self.begin(backend, kit.job(kit.programs.count(NUMBERS)))
        found = (await collect(backend, handle, run))["stdout"]
        assert found == b"".join(b"%d\n" % number for number in range(1, NUMBERS + 1))

    async def test_a_restart_keeps_runs(self, backend: Backend, kit: BackendKit) -> None:
        job = kit.job(kit.programs.sleep())
        handle, run = await self.begin(backend, job)
        await backend.close()
        async with kit.open() as again:
            assert (await again.see(handle)).phase == "running"
            assert await again.create(job) == handle
            assert await again.start(handle, job) == run
            await until_up(again, handle, run)
            await again.stop(handle, run, 30)
            assert (await again.wait(handle, run)).code == kit.terminated
            await again.remove(handle)

    async def test_a_restart_keeps_exit_codes_and_output(self, backend: Backend, kit: BackendKit) -> None:
        handle, run = await self.begin(backend, kit.job(kit.programs.say(b"kept", code=9)))
        await backend.wait(handle, run)
        await backend.close()
        async with kit.open() as again:
            assert (await again.wait(handle, run)).code == 9
            assert (await collect(again, handle, run))["stdout"] == b"kept"
            await again.remove(handle)

    async def test_found_lists_every_body(self, backend: Backend, kit: BackendKit) -> None:
        created, running, over = (
            kit.job(kit.programs.sleep()),
            kit.job(kit.programs.sleep()),
            kit.job(kit.programs.say()),
        )
        handles = {created.instance: await backend.create(created)}
        handles[running.instance], _ = await self.begin(backend, running)
        handles[over.instance], run = await self.begin(backend, over)
        await backend.wait(handles[over.instance], run)
        assert dict(await backend.found()) == handles

    async def test_remove_leaves_nothing_and_may_come_twice(self, backend: Backend, kit: BackendKit) -> None:
        for program in (kit.programs.say(BINARY), kit.programs.stubborn(), kit.programs.count(NUMBERS)):
            job = kit.job(program)
            handle, _ = await self.begin(backend, job)
            await backend.remove(handle)
            await backend.remove(handle)
            assert (await backend.see(handle)).phase == "gone"
            assert await kit.processes(job) == 0
            assert kit.leftovers(job, handle) == []
        assert list(await backend.found()) == []

    async def test_stop_of_what_is_gone_is_no_error(self, backend: Backend, kit: BackendKit) -> None:
        handle, run = await self.begin(backend, kit.job(kit.programs.say()))
        await backend.wait(handle, run)
        await backend.stop(handle, run, 0)
        await backend.remove(handle)
        await backend.stop(handle, run, 0)

    async def test_check_refuses_what_cannot_be_applied(self, backend: Backend, kit: BackendKit) -> None:
        job = kit.job(kit.programs.say())
        assert list(await backend.check(job)) == []
        accepted = [
            name for name, value in kit.impossible().items() if not await backend.check(replace(job, **{name: value}))
        ]
        assert accepted == []

    async def test_stats_leave_out_what_is_gone(self, backend: Backend, kit: BackendKit) -> None:
        handle, _ = await self.begin(backend, kit.job(kit.programs.sleep()))
        other, _ = await self.begin(backend, kit.job(kit.programs.sleep()))
        await backend.remove(other)
        assert len(await backend.stats([handle, other])) == 1

    async def test_a_foreign_process_is_claimed_by_no_body(self, backend: Backend, kit: BackendKit) -> None:
        if not isinstance(backend, CanClaim):
            assert not hasattr(backend, "claim"), "claim() is asked of a backend that derives from CanClaim alone"
            return
        handle, run = await self.begin(backend, kit.job(kit.programs.sleep()))
        await until_up(backend, handle, run)
        assert await backend.claim([handle], [os.getpid(), 1]) == {}
        await backend.remove(handle)
        assert await backend.claim([handle], [os.getpid()]) == {}

    async def test_pause_holds_everything_until_resume(self, backend: Backend, kit: BackendKit) -> None:
        if not isinstance(backend, CanPause):
            pytest.skip("this backend cannot pause")
        handle, run = await self.begin(backend, kit.job(kit.programs.sleep()))
        await until_up(backend, handle, run)
        for _ in range(2):
            await backend.pause(handle, run)
            assert (await backend.see(handle)).phase == "paused"
        for _ in range(2):
            await backend.resume(handle, run)
            assert (await backend.see(handle)).phase == "running"
        await backend.stop(handle, run, 30)
        assert (await backend.wait(handle, run)).code == kit.terminated

    async def test_what_is_paused_can_be_stopped(self, backend: Backend, kit: BackendKit) -> None:
        if not isinstance(backend, CanPause):
            pytest.skip("this backend cannot pause")
        job = kit.job(kit.programs.stubborn())
        handle, run = await self.begin(backend, job)
        await until_up(backend, handle, run)
        await backend.pause(handle, run)
        await backend.stop(handle, run, 0)
        assert await kit.processes(job) == 0

    async def test_an_image_comes_apart_into_layers_that_are_what_they_say(
        self, backend: Backend, kit: BackendKit
    ) -> None:
        if not isinstance(backend, CanPackage):
            assert not hasattr(backend, "packages"), "a backend that takes images apart derives from CanPackage"
            return
        package = await backend.packages.describe(kit.packaged)
        held = await backend.packages.held()
        assert kit.packaged in held.images[package.digest].names
        assert held.lacks(package) == ()
        into = kit.directory / "bundle"
        into.mkdir()
        digests = [layer.digest for layer in package.layers]
        for layers in (digests[:1], digests):
            await backend.packages.export(package, layers, into, lambda *_, **__: None)
            assert bundles.read_index(into) == package
            assert bundles.carried(into, package) == frozenset(layers)
        for layer in package.layers:
            assert bundles.verify(bundles.blob(into, layer.digest), layer.digest, layer.size) == layer.size
        image = Image(kind=min(backend.features.images), digest=package.digest, path=into)
        await backend.prepare(image, lambda *_, **__: None)
        assert not await backend.packages.drop(package.digest)
        with pytest.raises(NotFound):
            await backend.packages.describe("sha256:" + "0" * 64)
