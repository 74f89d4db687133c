"""A Docker daemon of the test's own: data, socket and network namespace apart from anybody else's. Needs root.

What it does to the daemon (kill, freeze, restart) is what happens to real ones.
"""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IMAGE = "kohakuriver.test/busybox:1"
READY = 60.0
BUSYBOX = Path("/bin/busybox")
LONGEST_SOCKET = 90


def why_not() -> str | None:
    """Why no daemon can be started here; None when one can."""
    if os.geteuid() != 0:
        return "needs root for a Docker daemon"
    for program in ("dockerd", "containerd", "docker"):
        if shutil.which(program) is None:
            return f"needs the program {program} (Debian: docker.io)"
    if not BUSYBOX.exists():
        return "needs a static busybox for an image (Debian: busybox-static)"
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, timeout=60, check=False).returncode:
        return "needs a kernel that makes network namespaces for a Docker daemon"
    return None


class Dockerd:
    """One daemon. May be started and ended as often as a test wants; containers and images stay on its disk."""

    def __init__(
        self, directory: Path, *, live_restore: bool = False, programs: Path | None = None, storage: str = ""
    ) -> None:
        """`directory` is its own; short, for its socket lies there. `programs`: a folder where it looks for
        programs first, such as a runtime hook. `storage`: its storage driver, where not the usual one.
        """
        self.directory = directory
        self.socket = directory / "docker.sock"
        assert len(str(self.socket)) < LONGEST_SOCKET
        self.live_restore = live_restore
        self.programs = programs
        self.storage = storage
        self._process: subprocess.Popen[bytes] | None = None
        self._containerd: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "daemon.json").write_text("{}")
        if self._containerd is None:
            self._containerd = self._start_containerd()
        places = {"--data-root": "data", "--exec-root": "exec", "--pidfile": "pid", "--config-file": "daemon.json"}
        words = [word for flag, name in places.items() for word in (flag, str(self.directory / name))]
        words += [
            "--containerd",
            str(self.directory / "containerd.sock"),
            "-H",
            f"unix://{self.socket}",
            "--cgroup-parent",
            f"/{self.directory.name}",
            "--iptables=false",
        ]
        words += ["--ip6tables=false", "--bridge=none", *(["--live-restore"] if self.live_restore else [])]
        words += ["--storage-driver", self.storage] if self.storage else []
        (self.directory / "pid").unlink(missing_ok=True)
        self._process = self._spawn(
            ["unshare", "--net", "sh", "-c", f'{BUSYBOX} ip link set lo up; exec dockerd "$@"', "sh", *words]
        )
        self._until_ready()

    def stop(self) -> None:
        """Asks it to end, as systemd does, and returns when it has."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(READY)
            self._process = None

    def kill(self) -> None:
        """Ends it at once, by SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(READY)
        self._process = None

    def freeze(self) -> None:
        """It answers nothing more, and holds every connection."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def load_image(self, name: str = IMAGE) -> None:
        """An image of busybox alone, made here: no registry is asked."""
        self.docker("import", "-", name, input=image_tree())

    @property
    def inside(self) -> list[str]:
        """What stands before a command that is to run in the daemon's network."""
        assert self._process is not None
        return ["nsenter", f"--net=/proc/{self._process.pid}/ns/net"]

    def docker(self, *words: str, input: bytes = b"", limit: float = 60.0) -> str:
        """Docker's own client. Raises CalledProcessError."""
        done = subprocess.run(
            ["docker", "-H", f"unix://{self.socket}", *words],
            input=input,
            capture_output=True,
            timeout=limit,
            check=True,
        )
        return done.stdout.decode()

    def close(self) -> None:
        """Ends it with everything that it runs, and leaves no mount and no file."""
        if self._process is not None:
            self.thaw()
            names = self.docker("ps", "-aq").split()
            if names:
                self.docker("rm", "-f", *names)
            self.stop()
        if self._containerd is not None:
            self._containerd.terminate()
            self._containerd.wait(READY)
            self._containerd = None
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for place in reversed([place for place in mounts if place.startswith(f"{self.directory}/")]):
            subprocess.run(["umount", "--lazy", place], timeout=60, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)
        for group in Path("/sys/fs/cgroup").glob(f"*/{self.directory.name}"):
            for folder in sorted([group, *(path for path in group.rglob("*") if path.is_dir())], reverse=True):
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def _start_containerd(self) -> subprocess.Popen[bytes]:
        """As a service of its own, as distributions have it: it and what runs survive the daemon."""
        place = self.directory / "containerd"
        place.mkdir(exist_ok=True)
        (place / "config.toml").write_text(
            f'version = 2\nroot = "{place}/root"\nstate = "{place}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{self.directory}/containerd.sock"\n'
        )
        return self._spawn(["containerd", "--config", str(place / "config.toml")])

    def _spawn(self, words: list[str]) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        if self.programs is not None:
            environment["PATH"] = f"{self.programs}:{environment['PATH']}"
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(
                words,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _until_ready(self) -> None:
        deadline = time.monotonic() + READY
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            try:
                self.docker("version", limit=READY)
            except subprocess.CalledProcessError:
                time.sleep(0.05)
                continue
            return
        raise RuntimeError(f"no Docker daemon: {(self.directory / 'log').read_text()[-2000:]}")


@contextmanager
def a_daemon(*, live_restore: bool = False, programs: Path | None = None, storage: str = "") -> Iterator[Dockerd]:
    """A daemon that runs and has an image, in a directory with a short name; both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="kr-d"))
    daemon = Dockerd(folder, live_restore=live_restore, programs=programs, storage=storage)
    try:
        daemon.start()
        daemon.load_image()
        yield daemon
    finally:
        daemon.close()


def image_tree(word: str = "") -> bytes:
    """A tar of busybox with all its names, and a file with this word in it."""
    found = io.BytesIO()
    names = subprocess.run([BUSYBOX, "--list"], capture_output=True, timeout=60, check=True).stdout.decode().split()
    with tarfile.open(fileobj=found, mode="w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        for folder, mode in (("tmp", 0o1777), ("etc", 0o755), ("root", 0o700)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        note = tarfile.TarInfo("etc/word")
        note.size = len(word.encode())
        tar.addfile(note, io.BytesIO(word.encode()))
        for name in names:
            if name != "busybox":
                entry = tarfile.TarInfo(f"bin/{name}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
    return found.getvalue()
