"""Debian's docker-registry, started for tests, and a push to it as an engine does it, without an engine."""

import gzip
import hashlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from kohakuriver.errors import PluginError
from kohakuriver.hooks.packages import Package
from kohakuriver.testing.syncing import Push

PROGRAM = "docker-registry"
USER, PASSWORD = "ada", "correct horse"
#: bcrypt of the password: the only kind that the program reads
HTPASSWD = f"{USER}:$2b$04$cAbY2LkIRgUXe.hbKydwQOc6oy6/cyaAd/9RMfYvswxBy9SRMWAG2\n"
READY = 60.0
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def why_not() -> str | None:
    if shutil.which(PROGRAM) is None:
        return "needs the program docker-registry (Debian: docker-registry)"
    return None


@dataclass(frozen=True)
class OciRegistry:
    folder: Path
    host: str
    signed_in: bool

    def blob(self, digest: str) -> Path:
        """Where it keeps the content of this digest."""
        plain = digest.removeprefix("sha256:")
        return self.folder / "data/docker/registry/v2/blobs/sha256" / plain[:2] / plain / "data"


@contextmanager
def a_registry(
    folder: Path, *, sign_in: bool = False, inside: list[str] | None = None, port: int = 0
) -> Iterator[OciRegistry]:
    """A registry that answers. `inside` stands before the command, to start it in another network."""
    folder.mkdir(parents=True, exist_ok=True)
    if not port:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    host = f"127.0.0.1:{port}"
    (folder / "htpasswd").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: lab, path: {folder}/htpasswd}}}}\n" if sign_in else ""
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}, "
        f'delete: {{enabled: true}}}}\nhttp: {{addr: "{host}"}}\n{auth}'
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*(inside or []), PROGRAM, "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )
        try:
            _until_ready(process, inside or [], host, folder)
            yield OciRegistry(folder, host, sign_in)
        finally:
            process.kill()
            process.wait(READY)


def signed(wanted: bool) -> dict[str, str]:
    """The headers of whoever signs in."""
    return {"Authorization": aiohttp.encode_basic_auth(USER, PASSWORD)} if wanted else {}


def _until_ready(process: "subprocess.Popen[bytes]", inside: list[str], host: str, folder: Path) -> None:
    name, _, port = host.partition(":")
    probe = [*inside, "bash", "-c", f"exec 3<>/dev/tcp/{name}/{port}"]
    deadline = time.monotonic() + READY
    while time.monotonic() < deadline and process.poll() is None:
        if subprocess.run(probe, capture_output=True, timeout=READY, check=False).returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError(f"no registry: {(folder / 'log').read_text()[-2000:]}")


def pusher(step: Callable[[str], None]) -> Push:
    """Pushes as an engine does: what is missing of layers and configuration, then the manifest."""

    async def push(package: Package, contents: Mapping[str, bytes], reference: str, auth: str | None) -> str:
        host, _, rest = reference.partition("/")
        name, _, tag = rest.rpartition(":")
        async with aiohttp.ClientSession(f"http://{host}/v2/{name}/", headers=signed(bool(auth))) as session:
            layers = []
            for layer in package.layers:
                data = gzip.compress(contents[layer.digest], mtime=0)
                step("push a layer")
                layers.append(await _put_blob(session, data, "application/vnd.docker.image.rootfs.diff.tar.gzip"))
            step("push the configuration")
            config = await _put_blob(session, package.config, "application/vnd.docker.container.image.v1+json")
            body = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}).encode()
            step("push the manifest")
            await _put(session, f"manifests/{tag}", body, MANIFEST)
            step("say the digest")
        return f"{host}/{name}@sha256:{hashlib.sha256(body).hexdigest()}"

    return push


async def _put_blob(session: aiohttp.ClientSession, data: bytes, kind: str) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    async with session.head(f"blobs/{digest}") as answer:
        there = answer.status == 200
    if not there:
        async with session.post("blobs/uploads/") as begun:
            await _good(begun)
            place = begun.headers["Location"]
        await _put(session, f"{place}&digest={digest}", data, "application/octet-stream")
    return {"mediaType": kind, "size": len(data), "digest": digest}


async def _put(session: aiohttp.ClientSession, url: str, data: bytes, kind: str) -> None:
    async with session.put(url, data=data, headers={"Content-Type": kind}) as answer:
        await _good(answer)


async def _good(answer: aiohttp.ClientResponse) -> None:
    if answer.status >= 300:
        raise PluginError(f"the registry answers {answer.status}: {(await answer.text())[:200]}")
