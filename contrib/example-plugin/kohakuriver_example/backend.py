"""A body is a folder: `job` leads to whose it is, a keeper claims `run` and holds it, `exit` says how that ended."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from kohakuriver.errors import PluginError
from kohakuriver.hooks.backend import Backend, Progress
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.values import Chunk, Exit, Features, Grant, Handle, Image, Job, Net, Offsets, Probe, Seen, Stats


class ExampleBackend(Backend):
    name, features = "example", Features()
    Options = msgspec.defstruct("Options", [("umask", int, 0o022)], frozen=True, forbid_unknown_fields=True)

    async def open(self, ctx: Context) -> None:
        self.ctx = ctx

    async def close(self) -> None:
        return

    async def probe(self) -> Probe:
        return Probe(usable=True, problems=("commands run without limits",))

    async def check(self, job: Job) -> Sequence[str]:
        asked = {"an image": job.image, "mounts": job.mounts, "a user": job.user, "persistence": job.persistent}
        asked |= {"limits": job.grant not in (None, Grant()), "a network": job.net != Net(), "nothing": not job.argv}
        return [f"plain commands run here; this asks for {name} (no limits: -c 0)" for name in asked if asked[name]]

    async def prepare(self, image: Image, progress: Progress) -> None:
        raise PluginError("plain commands take no image")

    async def create(self, job: Job) -> Handle:
        body = self.ctx.state / job.instance
        body.mkdir(exist_ok=True)
        with suppress(FileExistsError):
            (body / "job").symlink_to(job.directory)
        if (body / "job").readlink() != job.directory:
            raise PluginError(f"body {job.instance} belongs to somebody else")
        return Handle(backend=self.name, data={"body": str(body)})

    async def start(self, handle: Handle, job: Job) -> str:
        umask, env = getattr(job.options, "umask", 0o022), {"PATH": os.defpath, **job.env, **job.secrets}
        order = {"args": job.argv, "cwd": job.workdir or str(job.directory), "env": env, "umask": umask}
        argv = [sys.executable, "-I", "-S", f"{Path(__file__).parent}/keeper.py", handle.data["body"], job.attempt]
        done = await self.ctx.run(argv, limit=30, input=json.dumps(order).encode())
        run = (await self.see(handle)).run
        if run is None or not run.endswith(f" {job.attempt}"):
            raise PluginError(f"body {job.instance}: {f'it has run, as {run}' if run else done.stderr.decode()}")
        return run

    async def see(self, handle: Handle) -> Seen:
        body, run, ended = Path(handle.data["body"]), None, Exit(reason="its keeper was killed")
        try:
            with (body / "run").open() as claim:
                run = claim.read()
                os.lockf(claim.fileno(), os.F_TEST, 0)
            ended = msgspec.json.decode((body / "exit").read_bytes(), type=Exit, strict=False)
        except PermissionError:  # its keeper lives
            return Seen(phase="running", run=run)
        except (FileNotFoundError, msgspec.DecodeError):  # the latter by a disk that was full
            if run is None:
                return Seen(phase="created" if body.exists() else "gone")
        return Seen(phase="exited", run=run, exit=ended)

    async def wait(self, handle: Handle, run: str) -> Exit:
        while (seen := await self.see(handle)).phase == "running":
            await asyncio.sleep(0.05)
        return seen.exit or Exit(reason="the body is gone")

    async def stop(self, handle: Handle, run: str, grace: float) -> None:
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGUSR1, None)):
            if (await self.see(handle)).phase == "running":
                with suppress(TimeoutError, ProcessLookupError):
                    os.kill(int(run.partition(" ")[0]), number)
                    await asyncio.wait_for(self.wait(handle, run), patience)

    async def remove(self, handle: Handle) -> None:
        await self.stop(handle, (await self.see(handle)).run or "", 0)
        await self.ctx.run(["rm", "-rf", "--", handle.data["body"]], limit=100)

    async def found(self) -> Sequence[tuple[str, Handle]]:
        return [(body.name, Handle(backend=self.name, data={"body": str(body)})) for body in self.ctx.state.iterdir()]

    async def output(self, handle: Handle, run: str, at: Offsets) -> AsyncIterator[Chunk]:
        places, more = {"stdout": at.stdout, "stderr": at.stderr}, True
        while more:
            more = (await self.see(handle)).phase == "running"
            for name, place in places.items():
                with Path(handle.data["body"], name).open("rb") as file:
                    file.seek(place)
                    if data := await self.ctx.in_thread(file.read, 1 << 20):
                        yield Chunk(stream=name, offset=place, data=data)  # type: ignore[arg-type]
                        places[name], more = place + len(data), True
            await asyncio.sleep(0.05)

    async def stats(self, handles: Sequence[Handle]) -> Mapping[str, Stats]:
        return {body.name: Stats() for body in (Path(h.data["body"]) for h in handles) if body.exists()}
