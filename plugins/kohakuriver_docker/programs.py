"""Whether the program of a job is in its container, asked before the start: the container's init cannot tell later."""

import posixpath
from collections.abc import Sequence
from urllib.parse import quote

from kohakuriver.errors import PluginError
from kohakuriver.hooks.values import Job
from kohakuriver_docker.container import Container
from kohakuriver_docker.engine import Engine, EngineError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MOST_KNOWN = 1000


class Programs:
    """What was found is remembered by image: looking costs some thirty milliseconds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: set[tuple[str, str, str]] = set()

    async def must_exist(self, container: str, job: Job) -> None:
        """Raises PluginError when the program is surely not there; what lies in a mount is not looked for."""
        program = job.argv[0]
        if "/" in program and not program.startswith("/"):
            return
        if any(posixpath.normpath(program).startswith(f"{mount.target}/") for mount in job.mounts):
            return
        image = "" if job.image is None else job.image.reference or ""
        key = (image, program, job.env.get("PATH", ""))
        if key in self._known:
            return
        for place in await self._places(container, program):
            if await self._is_there(container, place):
                if len(self._known) >= MOST_KNOWN:
                    self._known.clear()
                self._known.add(key)
                return
        raise PluginError(f"body {job.instance}: there is no such program in image {image}: {program}")

    async def _places(self, container: str, program: str) -> Sequence[str]:
        if program.startswith("/"):
            return [program]
        found = await self._engine.ask(Container, f"/containers/{container}/json")
        env = dict(word.partition("=")[::2] for word in found.config.env or [])
        folders = [folder for folder in (env.get("PATH") or PATH).split(":") if folder.startswith("/")]
        return [posixpath.join(folder, program) for folder in folders]

    async def _is_there(self, container: str, path: str) -> bool:
        try:
            await self._engine.send("HEAD", f"/containers/{container}/archive?path={quote(path, safe='')}")
        except EngineError as error:
            if error.status == 404:
                return False
            raise
        return True
