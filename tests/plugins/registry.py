"""A registry of one image, in the network of a test's daemon: `python registry.py FOLDER`. It prints its port.

FOLDER has `manifest.json` and blobs by digest. A file `silent` there holds back every blob for as long as it
exists, a file `halves` the second half of what is large.
"""

import contextlib
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"
MUCH = 100_000
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def write_image(folder: Path, layer: bytes) -> None:
    """An image with this one layer, an uncompressed tar."""
    digest = _blob(folder, layer)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }
    text = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "size": len(text), "digest": _blob(folder, text)},
        "layers": [{"mediaType": LAYER, "size": len(layer), "digest": digest}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _blob(folder: Path, data: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    (folder / digest).write_bytes(data)
    return digest


@contextmanager
def serving(folder: Path, inside: list[str]) -> Iterator[int]:
    """The registry's port."""
    process = subprocess.Popen([*inside, sys.executable, __file__, str(folder)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


class Handler(BaseHTTPRequestHandler):
    folder: Path

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if self.path == "/v2/":
            self._say(b"{}", "application/json")
        elif "/blobs/" in self.path and (self.folder / name).exists():
            while (self.folder / "silent").exists():
                time.sleep(0.05)
            self._say((self.folder / name).read_bytes(), "application/octet-stream")
        elif self.path.startswith("/v2/busybox/manifests/") and (name in {"1", self._digest}):
            self._say((self.folder / "manifest.json").read_bytes(), MANIFEST)
        else:
            self._say(b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}', "application/json", 404)

    def do_HEAD(self) -> None:
        self.do_GET()

    @property
    def _digest(self) -> str:
        return f"sha256:{hashlib.sha256((self.folder / 'manifest.json').read_bytes()).hexdigest()}"

    def _say(self, data: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(data).hexdigest()}")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # the daemon has asked and gone
            self._send(data if self.command == "GET" else b"")

    def _send(self, data: bytes) -> None:
        half = len(data) // 2
        self.wfile.write(data[:half])
        self.wfile.flush()
        while half > MUCH and (self.folder / "halves").exists():
            time.sleep(0.05)
        self.wfile.write(data[half:])

    def log_message(self, *_: Any) -> None:
        """Nothing is said."""


if __name__ == "__main__":
    Handler.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
