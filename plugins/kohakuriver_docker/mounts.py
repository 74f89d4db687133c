"""Directories of the node inside a container: who may mount what, symlinks resolved. Blocks; called in a thread."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from kohakuriver.errors import Invalid
from kohakuriver.hooks.values import Job, Mount
from kohakuriver_docker.config import Options, Settings

#: what the container's own system and the platform keep for themselves
TAKEN = ("/proc", "/sys", "/dev", "/kohakuriver")
SOCKETS = ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd", "/var/run/containerd")


def resolve(job: Job, settings: Settings, forbidden: Sequence[Path]) -> tuple[Mount, ...]:
    """All mounts of a job, each source as it lies on the disk. Raises Invalid with the reason.

    `forbidden`: what nobody may mount, nor anything below or above it: our data and the daemon's socket.
    """
    options = job.options if isinstance(job.options, Options) else Options()
    found = list(job.mounts)
    for text in options.mounts:
        mount = _read(text, "mounts")
        if not any(mount.source.is_relative_to(os.path.realpath(root)) for root in settings.mounts_allowed):
            raise Invalid(
                f"{text.partition(':')[0]} is not below a directory that may be mounted on this node",
                field="options.mounts",
                value=text,
                limit=", ".join(settings.mounts_allowed) or "none",
            )
        found.append(_guarded(mount, text, forbidden))
    found += [_guarded(_read(text, "foreign_mounts"), text, forbidden) for text in options.foreign_mounts]
    _refuse_twice(found)
    return tuple(found)


def _read(text: str, field: str) -> Mount:
    """The mount that the words mean, its source without symlinks and both ends in their one spelling."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if mode not in ("", "ro", "rw") or not source.startswith("/") or not target.startswith("/") or "\0" in text:
        raise Invalid("this is no mount", field=f"options.{field}", value=text, limit="/SOURCE:/TARGET or …:ro")
    path = PurePosixPath(f"/{target.lstrip('/')}")  # two slashes at the beginning would be kept (POSIX), and mean one
    clean = str(path)
    if ".." in path.parts or clean == "/" or any(clean == own or clean.startswith(f"{own}/") for own in TAKEN):
        raise Invalid("nothing can be mounted there", field=f"options.{field}", value=target)
    return Mount(source=_real(Path(source), field), target=clean, read_only=mode == "ro")


def _real(source: Path, field: str) -> Path:
    try:
        return Path(os.path.realpath(source, strict=True))
    except OSError as error:
        raise Invalid(f"{source} cannot be mounted: {error.strerror}", field=f"options.{field}", value=source) from None


def _guarded(mount: Mount, text: str, forbidden: Iterable[Path]) -> Mount:
    closed = [Path(os.path.realpath(path)) for path in (*forbidden, *map(Path, SOCKETS))]
    for path in closed:
        if mount.source.is_relative_to(path) or path.is_relative_to(mount.source):
            raise Invalid(f"{mount.source} holds what belongs to the platform or the runtime", value=text)
    return mount


def _refuse_twice(mounts: Sequence[Mount]) -> None:
    seen: set[str] = set()
    for mount in mounts:
        if mount.target in seen:
            raise Invalid(f"two directories are to be mounted at {mount.target}", field="options.mounts")
        seen.add(mount.target)
