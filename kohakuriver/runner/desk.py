"""What every supervisor and handler of one runner works with. Made once by `runner.py`, passed along."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kohakuriver.errors import StorageFull
from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.values import Job
from kohakuriver.runner.clock import Clock
from kohakuriver.runner.entry import Entry
from kohakuriver.runner.environments.service import EnvironmentService
from kohakuriver.runner.journal import Journal
from kohakuriver.runner.lease import Lease
from kohakuriver.runner.output import OutputStore
from kohakuriver.runner.probes.gpu import Gpus
from kohakuriver.runner.settings import RunnerSettings
from kohakuriver.runner.steps import environment, inside, script
from kohakuriver.runner.steps import job as jobs
from kohakuriver.wire.link import Assign, Report, WireDevice

LONGEST_REASON = 1000
#: no longer than this, so that a kill holds within seconds of the backend answering again
LONGEST_RETRY = 5.0


@dataclass(frozen=True, kw_only=True)
class Desk:
    """The parts."""

    settings: RunnerSettings
    journal: Journal
    output: OutputStore
    clock: Clock
    lease: Lease
    boot: str
    backends: Mapping[str, Backend]
    #: the node's devices by id, as last found
    devices: Mapping[str, WireDevice]
    gpus: Gpus
    environments: EnvironmentService
    in_thread: Callable[..., Awaitable[Any]]
    #: told how far a preparation is: (attempt, note)
    progress: Callable[[str, str], None]

    def directory(self, instance: str) -> Path:
        """The directory of a job."""
        return self.settings.data_dir / "jobs" / instance

    def places(self, instance: str) -> Sequence[Path]:
        """All that lies on this node for a job, besides its output."""
        directory = self.directory(instance)
        return directory, inside.scratch(self.settings, directory)

    def report(self, attempt: str, what: str, reason: str | None = None, **fields: Any) -> Report:
        """A report of now; the journal gives it its seq."""
        short = None if reason is None else reason[:LONGEST_REASON]
        return Report(seq=0, attempt=attempt, what=what, at=self.clock.wall(), reason=short, **fields)

    async def keep(self, attempt: str, report: Report | None = None, *, sync: bool = True, **changes: Any) -> Entry:
        """Journals a change of what has already happened; a full disk is waited out, for it must not be lost.

        Without `sync` it does not wait for the disk: see Journal.change.
        """
        wait = 0.5
        while True:
            try:
                return await self.journal.change(attempt, report, sync=sync, **changes)
            except StorageFull:
                await self.clock.sleep(wait)
                wait = min(wait * 2, LONGEST_RETRY)

    def plan(self, assign: Assign, backend: Backend) -> Job:
        """The job as it can be checked before anything exists. Raises Invalid for what can never run here."""
        return self._job(assign, backend)

    async def prepare(self, entry: Entry, backend: Backend) -> Job:
        """The job, with its directory and script made. May be called again."""
        return await self.in_thread(self._prepare, entry.assign, backend)  # type: ignore[no-any-return]

    def _prepare(self, assign: Assign, backend: Backend) -> Job:
        directory = self.directory(assign.instance)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if assign.script is not None:
            script.write_script(directory, assign.script, apart=inside.is_apart(backend))
        if inside.is_apart(backend):
            inside.make(self.settings, assign, directory)
        return self._job(assign, backend)

    def _job(self, assign: Assign, backend: Backend) -> Job:
        directory = self.directory(assign.instance)
        apart = inside.is_apart(backend)
        argv = tuple(assign.argv)
        if assign.script is not None:
            argv = script.script_argv(inside.OURS if apart else directory, assign.script, argv)
        shared = self.settings.shared_dir
        env = environment.environment(
            assign,
            node=self.settings.name,
            now=self.clock.wall(),
            shared_dir=inside.SHARED if apart and shared is not None else shared,
            local_temp_dir=inside.SCRATCH if apart else self.settings.local_temp_dir,
        )
        return jobs.job(
            assign,
            backend,
            directory=directory,
            devices=self.devices,
            env=env,
            argv=argv,
            mounts=inside.mounts(self.settings, assign, directory) if apart else (),
        )
