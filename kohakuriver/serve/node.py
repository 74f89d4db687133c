"""The composition root of the runner: membership and configuration become one runner in its TaskGroup.

Loads nothing of the host: a runner is small because of it. Stopping touches no workload.
"""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from kohakuriver.config.schema import Config, RunnerConfig
from kohakuriver.errors import ConfigError
from kohakuriver.hooks.manager import PluginManager
from kohakuriver.net.process import run_command
from kohakuriver.runner.enrol import Membership, join
from kohakuriver.runner.enrol import load as load_membership
from kohakuriver.runner.runner import Runner
from kohakuriver.runner.settings import OutputLimits, RunnerSettings
from kohakuriver.serve.process import in_group, run, say

#: seconds that a runner has to end
SHUTDOWN = 5.0


def main(args: argparse.Namespace) -> int:
    """`--role runner`."""
    return run(args, _up)


def join_cluster(url: str, pin: str | None, token: str, name: str, data_dir: Path) -> Membership:
    """This machine becomes a node: trades a one-use token for its credential. Raises what `runner.enrol.join` does."""
    return asyncio.run(join(url, pin, token, name, data_dir))


@contextlib.asynccontextmanager
async def _up(config: Config, plugins: PluginManager, stop: asyncio.Event) -> AsyncIterator[None]:
    membership = load_membership(config.runner.data_dir)
    if membership is None:
        raise ConfigError(
            f"this machine belongs to no cluster yet ({config.runner.data_dir}): an admin runs "
            "`kohakuriver node token NAME` and gives you the command that joins it"
        )
    settings = runner_settings(config, plugins, membership, lab=False)
    async with runner_role(settings, plugins, stop):
        say(f"ready: runner {membership.name} of {settings.host_url}")
        yield


def runner_settings(
    config: Config, plugins: PluginManager, membership: Membership, *, lab: bool, url: str = ""
) -> RunnerSettings:
    """What the runner is told. In the lab every backend is on unless its own section says otherwise."""
    everywhere = {"enabled": True} if lab else {}
    runner: RunnerConfig = config.runner
    sections = config.plugins.sections
    return RunnerSettings(
        data_dir=runner.data_dir,
        host_url=url or runner.host_url or membership.url,
        fingerprint=membership.fingerprint,
        credential=membership.credential,
        name=membership.name,
        cluster=membership.cluster,
        shared_dir=runner.shared_dir,
        reserved_cores=runner.reserved_cores,
        reserved_memory=runner.reserved_memory,
        pinnable_cpus=runner.pinnable_cpus or None,
        local_temp_dir=runner.local_temp_dir,
        closed=(config.host.data_dir,),
        labels=runner.labels,
        backend_config={name: {**everywhere, **sections.get(name, {})} for name in {*sections, *plugins.backends()}},
        syncer_config={name: sections.get(name, {}) for name in plugins.syncers()},
        output=OutputLimits(head=runner.output_head, tail=runner.output_tail),
        image_unused_days=runner.image_unused_days,
        image_disk_floor=runner.image_disk_floor,
    )


@contextlib.asynccontextmanager
async def runner_role(settings: RunnerSettings, plugins: PluginManager, stop: asyncio.Event) -> AsyncIterator[Runner]:
    """A runner that runs inside the block; `stop` is set when it ends by itself."""
    async with in_group() as group:
        backends = [kind() for kind in plugins.backends().values()]
        syncers = [kind() for kind in plugins.syncers().values()]
        runner = Runner(settings, backends, syncers=syncers, run_command=run_command)
        running = group.create_task(runner.run())
        running.add_done_callback(lambda _: stop.set())
        try:
            yield runner
        finally:
            runner.stop()
            await asyncio.wait([running], timeout=SHUTDOWN)
