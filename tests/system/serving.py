"""One `kohakuriver serve` as a process: started, killed, stopped, its log kept for the failure message."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .waits import until

ROOT = Path(__file__).parents[2]
READY = 60.0
STOP = 60.0
PROGRAM = [sys.executable, "-m", "kohakuriver"]


@dataclass
class Server:
    """`words` follow `serve`. The data directory, the port and the log are the same for every life of it."""

    words: Sequence[str]
    log: Path
    env: Mapping[str, str]
    #: what stands before the command, e.g. to enter a namespace
    before: Sequence[str] = ()
    program: Sequence[str] = field(default_factory=lambda: PROGRAM)
    process: subprocess.Popen[bytes] | None = None
    lives: int = 0
    _from: int = field(default=0, repr=False)

    def start(self, *, wait: bool = True, **more: str) -> None:
        assert self.process is None or self.process.poll() is not None, "it runs already"
        self.lives += 1
        with self.log.open("ab") as log:
            log.write(f"--- life {self.lives}\n".encode())
            log.flush()
            self._from = log.tell()
            self.process = subprocess.Popen(
                [*self.before, *self.program, "serve", *self.words],
                cwd=ROOT, env={**self.env, **more}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        if wait:
            self.ready()

    def ready(self) -> str:
        """What stands behind `ready:`, once it stands there."""

        def look() -> str | None:
            found = re.search(r"^ready: (.*)$", self.said(), re.MULTILINE)
            assert found or self.process is None or self.process.poll() is None, f"it ended by itself\n{self.story()}"
            return found and found[1]

        return until(look, within=READY, what=f"{' '.join(self.words)} is ready", tell=self.story)

    def said(self) -> str:
        """What this life wrote."""
        with self.log.open("rb") as log:
            log.seek(self._from)
            return log.read().decode(errors="replace")

    def story(self, lines: int = 60) -> str:
        """The end of the log, over all lives."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"=== {self.log.name}\n" + "\n".join(text.splitlines()[-lines:])

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to this process alone; what it started goes on. Nothing if it does not run."""
        if self.runs:
            assert self.process is not None
            self.process.kill()
            self.process.wait(timeout=STOP)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=STOP)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"SIGTERM did not end it within {STOP:g} s\n{self.story()}") from None

    def again(self) -> None:
        """kill -9 and the next life."""
        self.kill()
        self.start()


def run(
    words: Sequence[str], env: Mapping[str, str], *, before: Sequence[str] = (), within: float = 120.0, data: str = ""
) -> subprocess.CompletedProcess[str]:
    """A `kohakuriver` command to its end."""
    return subprocess.run(
        [*before, *PROGRAM, *words], cwd=ROOT, env=dict(env), input=data, capture_output=True, text=True,
        timeout=within, check=False,
    )  # fmt: skip


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing of this account's own cluster."""
    passed = {k: os.environ[k] for k in ("LANG", "PATH") if k in os.environ}
    return {**passed, "HOME": str(home), "KOHAKURIVER_CONFIG": str(home / "config.toml"), **more}
