"""Where a task of another user lives: in a directory that this user can reach, for the job's own lies among the
runner's files, which nobody else may enter. Knows no shepherd.
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from kohakuriver.errors import PluginError
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.values import Job
from kohakuriver_process.shepherd.spawn import User

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
REMOVE_SECONDS = 100.0


def ground(base: Path, state: Path) -> Path:
    """The directory of this runner's places, made if need be: others may go through it, not list it, not write to it.
    Raises PluginError.
    """
    found = base / _name(state)
    try:
        for directory in (*reversed(base.parents), base):
            _make(directory)
        _check(base, base.stat(), base)
        _make(found)
        _check(found, found.lstat(), base)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise PluginError(f"work_dir {base} cannot be used: {error.filename}: {reason}", field="work_dir") from None
    return found


def _make(directory: Path) -> None:
    if not directory.exists():
        directory.mkdir(mode=0o711)
        directory.chmod(0o711)  # whatever the umask


def _check(directory: Path, seen: os.stat_result, base: Path) -> None:
    writable = seen.st_mode & WRITABLE_BY_OTHERS and not (directory == base and seen.st_mode & stat.S_ISVTX)
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or writable:
        raise PluginError(f"work_dir {directory} must belong to root, and nobody else may change it", field="work_dir")


def furnish(place: Path, job: Job, user: User) -> None:
    """Hands `work` to the user, with copies of the job's own files that its command names. May be called again."""
    place.chmod(0o711)
    os.chown(place / "work", user["uid"], user["gid"])
    for source in own_files(job):
        fresh = place / f"{source.name}.new"
        shutil.copyfile(source, fresh)
        os.chown(fresh, user["uid"], user["gid"])
        fresh.chmod(0o500)
        fresh.replace(place / source.name)


def moved(job: Job, place: Path) -> list[str]:
    """The command, with the names that its files have in the place."""
    names = {str(source): str(place / source.name) for source in own_files(job)}
    return [names.get(word, word) for word in job.argv]


def own_files(job: Job) -> Sequence[Path]:
    """The files of the job's directory that its command names, such as a script."""
    words = {word: Path(word) for word in job.argv if word.startswith(f"{job.directory}/")}
    return [path for path in words.values() if path.parent == job.directory and path.is_file()]


def is_ours(directory: Path, state: Path) -> bool:
    """Whether the directory is a place that was made here, and so goes with its body."""
    return directory.parent.name == _name(state)


async def clear(ctx: Context, paths: Sequence[Path]) -> None:
    """Removes trees that workloads could fill as they liked; what cannot be removed is left."""
    try:
        for path in paths:
            await ctx.in_thread(shutil.rmtree, path, ignore_errors=True)
    except RecursionError:  # deeper than Python goes; rm(1) has no such limit
        await ctx.run(["rm", "-rf", "--", *map(str, paths)], limit=REMOVE_SECONDS)


def _name(state: Path) -> str:
    """Tells the runners of one machine apart."""
    return hashlib.sha256(os.fsencode(state)).hexdigest()[:12]
