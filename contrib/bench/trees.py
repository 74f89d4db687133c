"""A real Python tree as a tar: what is installed beside this interpreter, its library, and those of its neighbours."""

import io
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

#: where it lies in a container
TOP = "opt/python"


def write(into: IO[bytes], most: int, word: str) -> int:
    """At most so many bytes of files, and one with this word, so that no two trees are the same. How many they were."""
    size = 0
    with tarfile.open(fileobj=into, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        _word(tar, word)
        for number, folder in enumerate(_folders()):
            for path in _files(folder):
                more = path.lstat().st_size
                if size + more > most:
                    continue
                tar.add(path, f"{TOP}/{number}/{path.relative_to(folder)}", recursive=False, filter=_owned)
                size += more
    return size


def copy(words: list[str], most: int, word: str) -> int:
    """The same into the standard input of a command."""
    with subprocess.Popen(words, stdin=subprocess.PIPE) as running:
        assert running.stdin is not None
        size = write(running.stdin, most, word)
        running.stdin.close()
        if running.wait():
            raise SystemExit(f"{' '.join(words)}: exit {running.returncode}")
    return size


def _folders() -> list[Path]:
    """Those of this interpreter first; none twice, none below another."""
    neighbours = sorted(Path(sys.base_prefix).parent.glob("*/lib/python*"), reverse=True)
    named = [Path(sysconfig.get_paths()["purelib"]), Path(sysconfig.get_paths()["stdlib"]), *neighbours]
    found: list[Path] = []
    for folder in named:
        real = folder.resolve()
        if real.is_dir() and not any(real.is_relative_to(one) for one in found):
            found.append(real)
    return found


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() or path.is_symlink():
            yield path


def _owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def _word(tar: tarfile.TarFile, word: str) -> None:
    data = word.encode()
    entry = tarfile.TarInfo(f"{TOP}/word")
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
