"""Archives of images: what real daemons write is taken, everything else is refused by what is wrong with it."""

import asyncio
import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from kohakuriver_docker import archives, tars
from kohakuriver_docker.loading import composed
from kohakuriver_docker.steps import Step

from kohakuriver.errors import Invalid, PluginError

MOST = 1 << 30
LAYERS = (b"the lowest layer" * 100, b"the one above" * 50)
IDS = ("a" * 64, "b" * 64)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Draft:
    """An archive in the making: members by name, each with its bytes or as it is in the tar."""

    config: dict[str, object] = field(
        default_factory=lambda: {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha(layer)}" for layer in LAYERS]},
        }
    )
    members: dict[str, bytes | tarfile.TarInfo] = field(default_factory=dict)
    manifest: list[dict[str, object]] = field(default_factory=list)

    @property
    def text(self) -> bytes:
        return json.dumps(self.config).encode()

    def old(self) -> "Draft":
        """As 20.10 writes it."""
        for name, layer in zip(IDS, LAYERS, strict=True):
            self.members |= {name: folder(name), f"{name}/VERSION": b"1.0", f"{name}/json": b"{}"}
            self.members[f"{name}/layer.tar"] = layer
        self.members[f"{sha(self.text)}.json"] = self.text
        self.manifest = [
            {
                "Config": f"{sha(self.text)}.json",
                "RepoTags": ["debian:12"],
                "Layers": [f"{name}/layer.tar" for name in IDS],
            }
        ]
        self.members["repositories"] = b'{"debian": {"12": "' + IDS[1].encode() + b'"}}'
        return self

    def new(self) -> "Draft":
        """As newer ones do, in the layout of OCI."""
        blobs = [*LAYERS, self.text]
        self.members = {"blobs": folder("blobs"), "blobs/sha256": folder("blobs/sha256")}
        self.members |= {f"blobs/sha256/{sha(data)}": data for data in blobs}
        self.members |= {"index.json": b"{}", "oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
        names = [f"blobs/sha256/{sha(data)}" for data in blobs]
        self.manifest = [{"Config": names[-1], "RepoTags": None, "Layers": names[:-1], "LayerSources": {}}]
        return self

    def tar(self, form: int = tarfile.PAX_FORMAT) -> bytes:
        found = io.BytesIO()
        with tarfile.open(fileobj=found, mode="w", format=form) as tar:
            for name, data in (self.members | {"manifest.json": json.dumps(self.manifest).encode()}).items():
                entry = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
                entry.size = len(data) if isinstance(data, bytes) else entry.size
                tar.addfile(entry, io.BytesIO(data) if isinstance(data, bytes) else None)
        return found.getvalue()


def folder(name: str) -> tarfile.TarInfo:
    return special(name, tarfile.DIRTYPE)


def special(name: str, kind: bytes, target: str = "", size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, target, size
    return entry


def read(path: Path, data: bytes, most: int = MOST) -> tuple[archives.Archive, list[bytes]]:
    """The archive, and its layers as they are sent on."""
    path.write_bytes(data)
    with archives.opened(path, most=most, architecture="amd64") as archive:
        wanted = frozenset(layer.digest for layer in archive.package.layers)
        found = {layer.digest: b"".join(pieces) for layer, pieces in archive.layers(wanted)}
        return archive, [found[layer.digest] for layer in archive.package.layers]


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd, lambda data: zstd(data[:700]) + zstd(data[700:])])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("layout", [Draft.old, Draft.new])
def test_what_daemons_write_is_taken(
    tmp_path: Path, layout: Callable[[Draft], Draft], form: int, pack: Callable[[bytes], bytes]
) -> None:
    draft = layout(Draft())
    archive, layers = read(tmp_path / "a.tar", pack(draft.tar(form)))
    assert archive.package.digest == f"sha256:{sha(draft.text)}"
    assert archive.package.config == draft.text
    assert [layer.size for layer in archive.package.layers] == [len(layer) for layer in LAYERS]
    assert layers == list(LAYERS)


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_layers_that_are_compressed_are_known_by_what_is_in_them(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    draft = Draft().new()
    packed = [pack(layer) for layer in LAYERS]
    draft.members |= {f"blobs/sha256/{sha(data)}": data for data in packed}
    draft.manifest[0]["Layers"] = [f"blobs/sha256/{sha(data)}" for data in packed]
    assert read(tmp_path / "a.tar", draft.tar())[1] == list(LAYERS)


def test_a_layer_that_two_have_in_common_is_found_behind_its_link(tmp_path: Path) -> None:
    draft = Draft()
    draft.config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{sha(LAYERS[0])}"] * 2}
    draft = draft.old()
    draft.members[f"{IDS[1]}/layer.tar"] = special(f"{IDS[1]}/layer.tar", tarfile.SYMTYPE, f"../{IDS[0]}/layer.tar")
    assert read(tmp_path / "a.tar", draft.tar())[1] == [LAYERS[0], LAYERS[0]]


def test_names_inside_are_never_read(tmp_path: Path) -> None:
    draft = Draft().old()
    draft.manifest[0]["RepoTags"] = ["--privileged", 7, None]
    draft.members["repositories"] = b"\xff no JSON at all"
    assert read(tmp_path / "a.tar", draft.tar())[1] == list(LAYERS)


def with_member(name: str, data: bytes | tarfile.TarInfo = b"x") -> Callable[[Draft], object]:
    return lambda draft: draft.members.update({name: data})


def with_special(name: str, kind: bytes, target: str = "", size: int = 0) -> Callable[[Draft], object]:
    return with_member(name, special(name, kind, target, size))


def with_manifest(**changes: object) -> Callable[[Draft], object]:
    return lambda draft: draft.manifest[0].update(changes)


LINK = f"{'c' * 64}/layer.tar"
SPOILED = {
    "parent directory": (with_member("../etc/passwd"), "'../etc/passwd' does not belong"),
    "parent inside": (with_member(f"{IDS[0]}/../../x"), "does not belong"),
    "absolute": (with_member("/etc/passwd"), "'/etc/passwd' does not belong"),
    "like an option": (with_member("--checkpoint-action=exec=sh"), "'--checkpoint-action=exec=sh' does not belong"),
    "foreign file": (with_member("run.sh"), "'run.sh' does not belong"),
    "foreign folder": (with_special("etc", tarfile.DIRTYPE), "'etc/' does not belong"),
    "control characters": (with_member("\x1b[2J"), "member '\N{REPLACEMENT CHARACTER}"),
    "link outside": (with_special(LINK, tarfile.SYMTYPE, "/etc/shadow"), "symbolic link to '/etc/shadow'"),
    "link upwards": (with_special(LINK, tarfile.SYMTYPE, f"../../{IDS[0]}/layer.tar"), "is a symbolic link"),
    "link as a manifest": (with_special("oci-layout", tarfile.SYMTYPE, f"../{IDS[0]}/layer.tar"), "is a symbolic link"),
    "hard link": (with_special(LINK, tarfile.LNKTYPE, f"{IDS[0]}/layer.tar"), "is a hard link"),
    "character device": (with_special(LINK, tarfile.CHRTYPE), "is a character device"),
    "block device": (with_special(LINK, tarfile.BLKTYPE), "is a block device"),
    "pipe": (with_special(LINK, tarfile.FIFOTYPE), "is a named pipe"),
    "sparse file": (with_special(LINK, tarfile.GNUTYPE_SPARSE), "is a sparse file"),
    "unknown kind": (with_special(LINK, b"Z"), "is of an unknown kind"),
    "config of another name": (with_manifest(Config="../config.json"), "'../config.json'.* is not there"),
    "missing config": (with_manifest(Config=f"{'d' * 64}.json"), "is not there"),
    "missing layer": (with_manifest(Layers=[f"{IDS[0]}/layer.tar", LINK]), f"'{LINK[:60]}.*is not there"),
    "layer that is a path": (with_manifest(Layers=[f"{IDS[0]}/layer.tar", "/etc/shadow"]), "is not there"),
    "fewer layers": (with_manifest(Layers=[f"{IDS[0]}/layer.tar"]), "has 1 layers.*names 2"),
    "layers in another order": (
        with_manifest(Layers=[f"{name}/layer.tar" for name in reversed(IDS)]),
        f"member {IDS[1]}/layer.tar has the SHA-256",
    ),
    "layers that are none": (with_manifest(Layers=[{}]), "manifest.json cannot be read"),
    "changed layer": (with_member(f"{IDS[0]}/layer.tar", b"another"), f"member {IDS[0]}/layer.tar has the SHA-256"),
    "several images": (lambda draft: draft.manifest.append(dict(draft.manifest[0])), "it has 2 images"),
    "no image": (lambda draft: draft.manifest.clear(), "it has 0 images"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_what_no_daemon_writes_is_refused(tmp_path: Path, how: str) -> None:
    spoil, words = SPOILED[how]
    draft = Draft().old()
    spoil(draft)
    with pytest.raises(Invalid, match=words) as told:
        read(tmp_path / "spoiled.tar", draft.tar())
    assert told.value.message.startswith("archive spoiled.tar: ")


CONFIGS: dict[str, tuple[dict[str, object], str]] = {
    "other architecture": ({"architecture": "arm64"}, "architecture 'arm64', not for amd64"),
    "other system": ({"os": "windows"}, "system 'windows', not for linux"),
    "no layers": ({"rootfs": None}, "configuration cannot be read"),
    "layers of another kind": ({"rootfs": {"diff_ids": "abc"}}, "configuration cannot be read"),
    "digests that are none": ({"rootfs": {"diff_ids": ["md5:1", "md5:2"]}}, "has the SHA-256"),
    "a thousand layers": ({"rootfs": {"diff_ids": ["sha256:" + "0" * 64] * 1000}}, "1000 layers, more than 128"),
}


@pytest.mark.parametrize("how", CONFIGS)
def test_an_image_for_something_else_is_refused(tmp_path: Path, how: str) -> None:
    changes, words = CONFIGS[how]
    draft = Draft()
    draft.config |= changes
    with pytest.raises(Invalid, match=words):
        read(tmp_path / "a.tar", draft.old().tar())


def test_a_configuration_that_was_changed_is_refused(tmp_path: Path) -> None:
    draft = Draft().old()
    name = f"{sha(draft.text)}.json"
    draft.members[name] = draft.text + b" "
    with pytest.raises(Invalid, match=f"member {name} has the SHA-256"):
        read(tmp_path / "a.tar", draft.tar())


def test_a_text_that_nests_for_ever_is_refused(tmp_path: Path) -> None:
    draft = Draft().old()
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        text = b"[" * 1_000_000
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(text)
        file.addfile(entry, io.BytesIO(text))
    with pytest.raises(Invalid, match="cannot be read"):
        read(tmp_path / "a.tar", tar.getvalue())
    assert read(tmp_path / "b.tar", draft.tar())


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    draft = Draft().old()
    tar = io.BytesIO(draft.tar())
    with tarfile.open(fileobj=tar, mode="a") as file:
        entry = tarfile.TarInfo("manifest.json")
        file.addfile(entry, io.BytesIO(b""))
    with pytest.raises(Invalid, match=r"member manifest\.json is there twice"):
        read(tmp_path / "a.tar", tar.getvalue())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"#!/bin/sh\ntouch owned\n" * 100, "it is no tar"),
        (b"\x1f\x8b\x08\x00garbage", "compression is damaged"),
        (b"\x28\xb5\x2f\xfdgarbage", "compression is damaged"),
        (bytes(range(256)) * 16, "it is no tar"),
        (bytes(10_240), "no manifest.json"),
    ],
)
def test_what_is_no_tar_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        read(tmp_path / "a.tar", data)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_one_that_is_cut_off_anywhere_is_refused(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    whole = Draft().old().tar()
    content = len(whole.rstrip(b"\0"))
    data = pack(whole)
    end = content if pack is bytes else len(data) * 9 // 10
    for size in range(1, end, max(1, end // 97)):
        with pytest.raises(Invalid):
            read(tmp_path / "a.tar", data[:size])


def test_a_sparse_file_of_100_gb_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tars.header(f"{IDS[0]}/layer.tar", 100 << 30))
    os.truncate(path, 100 << 30)
    read_so_far = 0

    def told(at: int) -> None:
        nonlocal read_so_far
        read_so_far = at

    with (
        pytest.raises(Invalid, match="more than 1073741824 bytes") as refused,
        archives.opened(path, most=MOST, told=told),
    ):
        pass
    assert (refused.value.value, refused.value.limit) == (str(100 << 30), str(MOST))
    assert read_so_far < 1 << 20


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    draft = Draft().new()
    bomb = pack(bytes(50 << 20))
    draft.members[f"blobs/sha256/{sha(bomb)}"] = bomb
    with pytest.raises(Invalid, match="more than 10485760 bytes"):
        read(tmp_path / "inside.tar", draft.tar(), most=10 << 20)
    with pytest.raises(Invalid, match="more than 10485760 bytes"):
        read(
            tmp_path / "outside.tar",
            pack(tars.header(f"{IDS[0]}/layer.tar", 50 << 20) + bytes(50 << 20)),
            most=10 << 20,
        )


def test_headers_without_end_are_refused(tmp_path: Path) -> None:
    long = special("long", b"L", size=1 << 40).tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(Invalid, match="a header at byte 512 has 1099511627776 bytes"):
        read(tmp_path / "long.tar", long)
    one = special("x", b"L", size=1).tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")
    with pytest.raises(Invalid, match="too many headers"):
        read(tmp_path / "names.tar", one * 100)
    many = b"".join(tars.header(f"{number:064x}.json", 0) for number in range(tars.MOST_MEMBERS + 1))
    with pytest.raises(Invalid, match="more than 4096 members"):
        read(tmp_path / "many.tar", many)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "nothing"])
def test_only_a_regular_file_is_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tar"
    whole = tmp_path / "whole.tar"
    whole.write_bytes(Draft().old().tar())
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link":
            path.symlink_to(whole)
    with pytest.raises(Invalid, match=r"archive a\.tar"), archives.opened(path, most=MOST):
        pass


def test_what_is_put_in_its_place_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(Draft().old().tar())
    with archives.opened(path, most=MOST) as archive:
        other = tmp_path / "other.tar"
        other.write_bytes(b"another file")
        other.rename(path)
        wanted = frozenset(layer.digest for layer in archive.package.layers)
        assert sorted(b"".join(pieces) for _, pieces in archive.layers(wanted)) == sorted(LAYERS)


async def test_what_is_written_into_it_meanwhile_ends_it_before_it_is_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(Draft().old().tar())
    with archives.opened(path, most=MOST) as archive:
        path.write_bytes(path.read_bytes().replace(LAYERS[1], LAYERS[1].upper()))
        wanted = frozenset(layer.digest for layer in archive.package.layers)
        step = Step(asyncio.to_thread, lambda *_, **__: None, "loading", 1)
        sent: list[bytes] = []
        with pytest.raises(PluginError, match="it was changed while it was read"):
            sent.extend(composed(archive.package, "a:1", wanted, archive.layers(wanted), step))
        assert b"manifest.json" not in b"".join(sent)


WHOLE = Draft().old().tar()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(WHOLE.rstrip(b"\0"))), st.binary(min_size=1, max_size=9)), min_size=1, max_size=4
    )
)
def test_whatever_bytes_are_changed_it_is_the_same_image_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]]
) -> None:
    data = bytearray(WHOLE)
    for at, piece in changes:
        data[at : at + len(piece)] = piece
    path = tmp_path_factory.getbasetemp() / "changed.tar"
    try:
        archive, layers = read(path, bytes(data))
    except Invalid:
        return
    assert archive.package.digest == f"sha256:{sha(Draft().text)}"
    assert layers == list(LAYERS)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes_at_all_are_refused_in_words(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    with pytest.raises(Invalid):
        read(tmp_path_factory.getbasetemp() / "any.tar", data)
