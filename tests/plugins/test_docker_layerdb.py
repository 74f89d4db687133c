"""Layers from a daemon's own directory: exactly the tar that they came from, or an error; nothing outside is opened."""

import base64
import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from kohakuriver_docker.layerdb import LayerDb

from kohakuriver.errors import PluginError

CHAIN = "sha256:" + "a" * 64
NAMES = {"top": b"t" * 10, "deep/er/one": b"1" * 3_000_000, "deep/er/two": b"", "deep/other": b"o" * 513, "last": b"l"}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The folder of the layer's files; its record is that of `_tar`."""
    layer = tmp_path / "image/overlay2/layerdb/sha256" / CHAIN.removeprefix("sha256:")
    layer.mkdir(parents=True)
    (layer / "cache-id").write_text("abc")
    lines: list[dict[str, object]] = []
    data = _tar()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        at = 0
        for member in tar.getmembers():
            lines.append({"type": 2, "payload": base64.b64encode(data[at : member.offset_data]).decode()})
            lines.append({"type": 1, **_name(member.name), **({"size": member.size} if member.size else {})})
            at = member.offset_data + member.size
        lines.append({"type": 2, "payload": base64.b64encode(data[at:]).decode()})
    text = "".join(json.dumps({**line, "position": number}) + "\n" for number, line in enumerate(lines))
    (layer / "tar-split.json.gz").write_bytes(gzip.compress(text.encode()))
    files = tmp_path / "overlay2/abc/diff"
    files.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(files, filter="tar")
    return files


def _name(name: str) -> dict[str, str]:
    raw = os.fsencode(name)
    return {"name": name} if raw.isascii() else {"name_raw": base64.b64encode(raw).decode()}


def _tar() -> bytes:
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in {**NAMES, "\udcff\udcfe": b"a name that is no UTF-8"}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return found.getvalue()


def read(tmp_path: Path) -> bytes:
    return b"".join(LayerDb(tmp_path, "overlay2").pieces(CHAIN))


def test_the_tar_is_what_it_was(tmp_path: Path, files: Path) -> None:
    assert files.is_dir()
    assert hashlib.sha256(read(tmp_path)).digest() == hashlib.sha256(_tar()).digest()
    assert LayerDb(tmp_path, "overlay2").size(CHAIN) == len(_tar())
    assert max(len(piece) for piece in LayerDb(tmp_path, "overlay2").pieces(CHAIN)) < 3 << 20


def test_only_what_is_known_is_looked_at(tmp_path: Path, files: Path) -> None:
    assert files.is_dir()
    assert LayerDb(tmp_path, "overlay2").is_readable
    assert not LayerDb(tmp_path, "zfs").is_readable
    assert not LayerDb(tmp_path / "nowhere", "overlay2").is_readable
    assert not LayerDb(Path(), "overlay2").is_readable


def test_a_link_is_never_followed(tmp_path: Path, files: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(NAMES["top"])
    (files / "top").unlink()
    (files / "top").symlink_to(secret)
    with pytest.raises(PluginError, match="file 'top' of a layer cannot be read"):
        read(tmp_path)


def test_a_folder_that_is_a_link_is_never_entered(tmp_path: Path, files: Path) -> None:
    (files / "deep/er").rename(tmp_path / "elsewhere")
    (files / "deep/er").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PluginError, match="file 'deep/er/one' of a layer cannot be read"):
        read(tmp_path)


def test_a_pipe_holds_nobody_up(tmp_path: Path, files: Path) -> None:
    (files / "top").unlink()
    os.mkfifo(files / "top")
    with pytest.raises(PluginError, match="file 'top' of a layer is shorter"):
        read(tmp_path)


def test_a_file_that_is_shorter_or_gone_is_told(tmp_path: Path, files: Path) -> None:
    (files / "deep/other").write_bytes(b"o")
    with pytest.raises(PluginError, match="file 'deep/other' of a layer is shorter"):
        read(tmp_path)
    (files / "deep/other").unlink()
    with pytest.raises(PluginError, match="file 'deep/other' of a layer cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["../outside", "deep/../../outside", "/", "", "..", "a/" * 300 + "b"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, files: Path, name: str) -> None:
    assert files.is_dir()
    (tmp_path / "overlay2/abc/outside").write_bytes(b"x")
    record = tmp_path / "image/overlay2/layerdb/sha256" / CHAIN.removeprefix("sha256:") / "tar-split.json.gz"
    record.write_bytes(gzip.compress(json.dumps({"type": 1, "name": name, "size": 1}).encode()))
    with pytest.raises(PluginError, match="has a file with the name"):
        read(tmp_path)


@pytest.mark.parametrize("record", [b"", b"no gzip", gzip.compress(b'{"type": "x"}'), gzip.compress(b"{}")[:-9]])
def test_a_damaged_record_is_told(tmp_path: Path, files: Path, record: bytes) -> None:
    assert files.is_dir()
    path = tmp_path / "image/overlay2/layerdb/sha256" / CHAIN.removeprefix("sha256:") / "tar-split.json.gz"
    path.write_bytes(record)
    if not record:
        assert LayerDb(tmp_path, "overlay2").size(CHAIN) == 0
        return
    with pytest.raises(PluginError, match="record of layer"):
        LayerDb(tmp_path, "overlay2").size(CHAIN)
