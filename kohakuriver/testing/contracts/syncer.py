"""Every rule of `hooks/syncer.py` as a test. Bind it with a subclass that has a fixture `kit`:

class TestMine(SyncerContract):
    @pytest.fixture
    def kit(self, tmp_path): return MyKit(tmp_path)
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kohakuriver.errors import PluginError
from kohakuriver.hooks.packages import Held, Package, Stored, Version
from kohakuriver.hooks.syncer import Syncer
from kohakuriver.testing.contracts.syncer_kit import SyncerKit
from kohakuriver.testing.syncing import chains_below, silent

#: nothing in the suite takes this long on a machine that works
LIMIT = 300.0
#: no publish or ensure of these small images has more steps
MOST_STEPS = 200
#: has something happen to a task at its step with this number
Arm = Callable[[int, "asyncio.Task[None]"], None]
BASE = b"".join(number.to_bytes(3) for number in range(20_000))


class SyncerContract:
    """The suite."""

    @pytest.fixture
    async def syncer(self, kit: SyncerKit) -> AsyncIterator[Syncer]:
        async with AsyncExitStack() as stack, asyncio.timeout(LIMIT):
            yield await stack.enter_async_context(kit.open())

    async def publish(self, kit: SyncerKit, syncer: Syncer, package: Package, number: int = 1) -> Stored:
        version = Version(environment="my-env", number=number, digest=package.digest)
        return await syncer.publish(version, package, kit.images, kit.folder(), silent)

    async def ensure(
        self, kit: SyncerKit, stored: Stored, package: Package, held: Held | None = None, into: Path | None = None
    ) -> None:
        """On a node that was never seen before."""
        held = held or Held()
        async with kit.open("node") as syncer:
            image = await syncer.ensure(stored, held, into or kit.folder(), silent)
        assert (image.environment, image.number) == (stored.version.environment, stored.version.number)
        assert image.kind
        await kit.check(image, package, held)

    async def test_probe_finds_it_usable(self, syncer: Syncer) -> None:
        probe = await syncer.probe()
        assert probe.usable, probe.problems

    async def test_what_is_published_reaches_another_node(self, kit: SyncerKit, syncer: Syncer) -> None:
        package = kit.packages.add(BASE, b"more", BASE)
        stored = await self.publish(kit, syncer, package)
        assert stored.version == Version(environment="my-env", number=1, digest=package.digest)
        assert len(stored.locator.encode()) <= 4096
        assert not stored.foreign
        await self.ensure(kit, stored, package)
        await self.ensure(kit, stored, package, Held(chains=chains_below(package, 2)))

    async def test_publishing_twice_is_one_version(self, kit: SyncerKit, syncer: Syncer) -> None:
        package = kit.packages.add(BASE)
        first = await self.publish(kit, syncer, package)
        second = await self.publish(kit, syncer, package)
        assert (first.version, first.locator) == (second.version, second.locator)
        assert list(await kit.leftovers([first])) == []
        assert [one.version for one in await syncer.list()] == ([first.version] if kit.lists else [])

    async def test_publishing_one_version_twice_at_once_is_one_version(self, kit: SyncerKit, syncer: Syncer) -> None:
        package = kit.packages.add(BASE)
        first, second = await asyncio.gather(*(self.publish(kit, syncer, package) for _ in range(2)))
        assert first.locator == second.locator
        await self.ensure(kit, first, package)

    async def test_two_nodes_publish_at_once(self, kit: SyncerKit, syncer: Syncer) -> None:
        packages = [kit.packages.add(BASE, bytes([number])) for number in range(4)]
        async with kit.open("other") as other:
            stored = await asyncio.gather(
                *(
                    self.publish(kit, (syncer, other)[number % 2], one, number + 1)
                    for number, one in enumerate(packages)
                )
            )
        assert list(await kit.leftovers(stored)) == []
        for one, package in zip(stored, packages, strict=True):
            await self.ensure(kit, one, package)

    async def test_an_image_that_contradicts_itself_is_not_published(self, kit: SyncerKit, syncer: Syncer) -> None:
        package = kit.packages.add(BASE)
        version = Version(environment="my-env", number=1, digest=package.digest)
        with pytest.raises(PluginError):
            await syncer.publish(version, replace(package, config=b"{}"), kit.images, kit.folder(), silent)
        other = replace(version, digest=kit.packages.add(b"another").digest)
        with pytest.raises(PluginError, match="my-env:1"):
            await syncer.publish(other, package, kit.images, kit.folder(), silent)
        assert list(await kit.leftovers([])) == []

    async def test_several_nodes_fetch_at_once(self, kit: SyncerKit, syncer: Syncer) -> None:
        package = kit.packages.add(BASE, b"more")
        stored = await self.publish(kit, syncer, package)
        await asyncio.gather(*(self.ensure(kit, stored, package) for _ in range(4)))

    async def test_fetching_again_is_right_whatever_an_earlier_call_left(self, kit: SyncerKit, syncer: Syncer) -> None:
        package = kit.packages.add(BASE, b"more")
        stored = await self.publish(kit, syncer, package)
        into = kit.folder()
        await self.ensure(kit, stored, package, into=into)
        await self.ensure(kit, stored, package, into=into)
        for path in into.iterdir():
            path.write_bytes(path.read_bytes()[:20] + b"spoiled")
        await self.ensure(kit, stored, package, into=into)

    async def test_a_backend_that_wants_more_gets_it_by_a_second_call(self, kit: SyncerKit, syncer: Syncer) -> None:
        package = kit.packages.add(BASE, b"more")
        stored = await self.publish(kit, syncer, package)
        into = kit.folder()
        await self.ensure(kit, stored, package, Held(chains=frozenset(package.chains)), into)
        await self.ensure(kit, stored, package, into=into)

    async def test_a_spoiled_version_is_refused_by_its_name_and_others_stay(
        self, kit: SyncerKit, syncer: Syncer
    ) -> None:
        old = kit.packages.add(BASE)
        whole = await self.publish(kit, syncer, old)
        for number, (name, spoil) in enumerate(kit.spoilings().items(), 2):
            package = kit.packages.add(BASE + BASE, name.encode())
            stored = await self.publish(kit, syncer, package, number)
            await spoil(stored)
            with pytest.raises(PluginError, match=f"my-env:{number}"):
                await syncer.ensure(stored, Held(), kit.folder(), silent)
            await self.ensure(kit, whole, old)

    async def test_progress_is_told(self, kit: SyncerKit, syncer: Syncer) -> None:
        told: list[tuple[str, int | None, int | None]] = []

        def tell(note: str, done: int | None = None, total: int | None = None) -> None:
            told.append((note, done, total))

        package = kit.packages.add(BASE)
        version = Version(environment="my-env", number=1, digest=package.digest)
        stored = await syncer.publish(version, package, kit.images, kit.folder(), tell)
        assert told
        told.clear()
        await syncer.ensure(stored, Held(), kit.folder(), tell)
        assert all(done <= total for _, done, total in told if done is not None and total is not None)
        assert told

    async def test_whoever_dies_while_publishing_leaves_a_whole_version_or_none(self, kit: SyncerKit) -> None:
        await self._interrupted_publishing(kit, lambda at, _: kit.steps.die(at))

    async def test_cancelled_publishing_leaves_a_whole_version_or_none(self, kit: SyncerKit) -> None:
        await self._interrupted_publishing(kit, lambda at, task: _cancel_at(kit, at, task))

    async def _interrupted_publishing(self, kit: SyncerKit, arm: Arm) -> None:
        old = kit.packages.add(BASE)
        async with asyncio.timeout(LIMIT), kit.open() as first:
            known = {old.digest: (await self.publish(kit, first, old), old)}
        for at in range(MOST_STEPS):
            package = kit.packages.add(BASE, at.to_bytes(2))
            reached = await self._interrupted(kit, at, arm, package)
            async with asyncio.timeout(LIMIT), kit.open() as syncer:
                for stored in await syncer.list():
                    if stored.version.digest not in known:
                        await self.ensure(kit, stored, kit.packages.images[stored.version.digest][0])
                stored = await self.publish(kit, syncer, package, at + 2)
                known[package.digest] = stored, package
                await self.ensure(kit, stored, package)
                assert list(await kit.leftovers([one for one, _ in known.values()])) == []
            if not reached:
                break
        else:
            pytest.fail("publishing never ends")
        for stored, package in known.values():
            await self.ensure(kit, stored, package)

    async def _interrupted(self, kit: SyncerKit, at: int, arm: Arm, package: Package) -> bool:
        """Whether it came so far as to be interrupted."""
        into = kit.folder()
        version = Version(environment="my-env", number=at + 2, digest=package.digest)
        async with asyncio.timeout(LIMIT), kit.open() as syncer, asyncio.TaskGroup() as group:
            with kit.steps.watching(*kit.watched, into):

                async def publish() -> None:
                    with suppress(Exception):
                        await syncer.publish(version, package, kit.images, into, silent)

                task = group.create_task(publish())
                arm(at, task)
                await asyncio.wait([task])
                reached = len(kit.steps.taken) > at
                kit.steps.live()
        return reached

    async def test_whoever_dies_or_is_cancelled_while_fetching_can_fetch_again(
        self, kit: SyncerKit, syncer: Syncer
    ) -> None:
        package = kit.packages.add(BASE, b"more")
        stored = await self.publish(kit, syncer, package)
        ways: tuple[Arm, ...] = (lambda at, _: kit.steps.die(at), lambda at, task: _cancel_at(kit, at, task))
        for arm in ways:
            for at in range(MOST_STEPS):
                into = kit.folder()
                with kit.steps.watching(*kit.watched, into):
                    async with asyncio.TaskGroup() as group:

                        async def fetch(into: Path = into) -> None:
                            with suppress(Exception):
                                await syncer.ensure(stored, Held(), into, silent)

                        task = group.create_task(fetch())
                        arm(at, task)
                        await asyncio.wait([task])
                        reached = len(kit.steps.taken) > at
                        kit.steps.live()
                await self.ensure(kit, stored, package, into=into)
                if not reached:
                    break
            else:
                pytest.fail("fetching never ends")

    async def test_removing_takes_one_version_and_leaves_what_others_share(
        self, kit: SyncerKit, syncer: Syncer
    ) -> None:
        one, other = kit.packages.add(BASE, b"one"), kit.packages.add(BASE, b"other")
        first, second = await self.publish(kit, syncer, one), await self.publish(kit, syncer, other, 2)
        same = await self.publish(kit, syncer, other, 3)
        await syncer.remove(first)
        await syncer.remove(first)
        if kit.lists:
            assert {found.version for found in await syncer.list()} == {second.version, same.version}
            with pytest.raises(PluginError, match="my-env:1"):
                await syncer.ensure(first, Held(), kit.folder(), silent)
            assert list(await kit.leftovers([second, same])) == []
        await self.ensure(kit, second, other)
        await syncer.remove(second)
        await self.ensure(kit, same, other)

    async def test_whoever_dies_while_removing_can_remove_again(self, kit: SyncerKit, syncer: Syncer) -> None:
        other = kit.packages.add(BASE, b"other")
        stays = await self.publish(kit, syncer, other)
        for at in range(MOST_STEPS):
            stored = await self.publish(kit, syncer, kit.packages.add(BASE, at.to_bytes(2)), at + 2)
            async with kit.open() as dying:
                with kit.steps.watching(*kit.watched):
                    kit.steps.die(at)
                    with suppress(Exception):
                        await dying.remove(stored)
                    reached = len(kit.steps.taken) > at
                    kit.steps.live()
            async with kit.open() as again:
                await again.remove(stored)
                assert [one.version for one in await again.list()] == ([stays.version] if kit.lists else [])
            assert list(await kit.leftovers([stays])) == []
            if not reached:
                break
        else:
            pytest.fail("removing never ends")
        await self.ensure(kit, stays, other)

    async def test_what_is_foreign_is_shown_and_not_removed(self, kit: SyncerKit, syncer: Syncer) -> None:
        stored = await self.publish(kit, syncer, kit.packages.add(BASE))
        foreign = await kit.foreign()
        found = [one for one in await syncer.list() if one.foreign]
        assert found == ([] if foreign is None else [foreign])
        if foreign is not None:
            with pytest.raises(PluginError):
                await syncer.remove(foreign)
            assert [one for one in await syncer.list() if one.foreign] == [foreign]
        assert not stored.foreign

    async def test_a_locator_that_leads_nowhere_is_refused(self, kit: SyncerKit, syncer: Syncer) -> None:
        stored = await self.publish(kit, syncer, kit.packages.add(BASE))
        for locator in ("", "../../etc/passwd", "sha256:" + "0" * 64, '{"file": "../my-env-1700000000.tar"}'):
            with pytest.raises(PluginError, match="my-env:1"):
                await syncer.ensure(replace(stored, locator=locator), Held(), kit.folder(), silent)


def _cancel_at(kit: SyncerKit, at: int, task: "asyncio.Task[None]") -> None:
    loop = asyncio.get_running_loop()
    kit.steps.interrupt(at, lambda: loop.call_soon_threadsafe(task.cancel))
