"""A container as the daemon describes it, and what that means in the contract's words."""

from datetime import UTC, datetime

import msgspec

from kohakuriver.hooks.values import Exit, Handle, Seen
from kohakuriver_docker.engine import Engine

#: the zero time of the daemon's language: it never happened
NEVER = datetime(1, 1, 1, tzinfo=UTC)
LARGEST_SIGNAL = 64
#: what the daemon says of an end that it did not see
UNKNOWN_CODE = 255
STOPPED = "the container runtime stopped or restarted while this ran, and ended it"
LOST = "the container ended while its runtime was away, and the exit code is unknown"


class State(msgspec.Struct, frozen=True):
    """Of `ContainerInspect`."""

    status: str = msgspec.field(name="Status")
    running: bool = msgspec.field(name="Running")
    paused: bool = msgspec.field(name="Paused")
    oom_killed: bool = msgspec.field(name="OOMKilled")
    pid: int = msgspec.field(name="Pid")
    exit_code: int = msgspec.field(name="ExitCode")
    error: str = msgspec.field(name="Error")
    started: datetime = msgspec.field(name="StartedAt")
    finished: datetime = msgspec.field(name="FinishedAt")

    @property
    def ever_started(self) -> bool:
        return self.running or self.paused or self.started > NEVER

    @property
    def over(self) -> bool:
        return self.ever_started and not self.running


class Config(msgspec.Struct, frozen=True):
    """Of `ContainerInspect`."""

    labels: dict[str, str] | None = msgspec.field(name="Labels", default=None)
    env: list[str] | None = msgspec.field(name="Env", default=None)


class Container(msgspec.Struct, frozen=True):
    """Of `ContainerInspect`."""

    id: str = msgspec.field(name="Id")
    state: State = msgspec.field(name="State")
    config: Config = msgspec.field(name="Config")
    image: str = msgspec.field(name="Image", default="")


class Listed(msgspec.Struct, frozen=True):
    """Of `ContainerList`."""

    id: str = msgspec.field(name="Id")
    labels: dict[str, str] = msgspec.field(name="Labels", default_factory=dict)


def run_of(container: str) -> str:
    """A container of ours is started once and never again, so its id names its run."""
    return container[:12]


def container_of(handle: Handle) -> str:
    return str(handle.data["container"])


def seen(found: Container, engine: Engine) -> Seen:
    """What stands there."""
    state = found.state
    if not state.ever_started:
        return Seen(phase="created", note=state.error)
    run = run_of(found.id)
    if state.paused:
        return Seen(phase="paused", run=run)
    if state.running:
        return Seen(phase="running", run=run)
    return Seen(phase="exited", run=run, exit=ended(state, engine), note=state.error)


def ended(state: State, engine: Engine) -> Exit:
    """How it ended. An end in the daemon's absence is told as such, and a code that it made up is none."""
    code: int | None = state.exit_code
    finished = state.finished if state.finished > NEVER else None
    away = finished is not None and engine.was_away(finished)
    signal = state.exit_code - 128 if 128 < state.exit_code <= 128 + LARGEST_SIGNAL else None
    reason = state.error or None
    if state.exit_code == UNKNOWN_CODE and away:
        code, reason = None, LOST
    oom = state.oom_killed and state.exit_code != 0
    if signal in (9, 15) and away and not oom:
        reason = STOPPED
    return Exit(code=code, signal=signal, oom=oom, reason=reason, finished=finished)
