"""The tar of a build's context: what tar reads of it is what lay in the directory, less what is ignored."""

import io
import os
import socket
import tarfile

import pytest

from kohakuriver.cli.context import tar_of
from kohakuriver.errors import Invalid


def members(context, piece=1000):
    data = b"".join(tar_of(context, piece))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: (member, tar.extractfile(member).read() if member.isreg() else None) for member in tar}


def fill(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 300)


def test_files_links_and_directories_arrive(tmp_path):
    fill(tmp_path, "Dockerfile", "a/b/c", "a/ü", "x" * 200)
    (tmp_path / "link").symlink_to("a/b")
    os.link(tmp_path / "Dockerfile", tmp_path / "hard")
    (tmp_path / "Dockerfile").chmod(0o640)
    found = members(tmp_path)
    assert set(found) == {"Dockerfile", "a", "a/b", "a/b/c", "a/ü", "x" * 200, "link", "hard"}
    assert found["a/b/c"][1] == b"a/b/c" * 300
    assert found["Dockerfile"][0].mode == 0o640
    assert (found["link"][0].issym(), found["link"][0].linkname) == (True, "a/b")
    assert (found["hard"][0].islnk(), found["hard"][0].linkname) == (True, "Dockerfile")
    assert {(member.uid, member.gid, member.uname) for member, _ in found.values()} == {(0, 0, "")}


def test_a_name_that_is_no_utf_8_keeps_its_bytes(tmp_path):
    name = os.fsdecode(b"\xff\xfe")
    (tmp_path / name).write_bytes(b"x")
    assert list(members(tmp_path)) == [name]


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        ("b\n# words\n\n", {".dockerignore", "a", "a/x.py", "a/x.pyc", "a/b", "a/b/y.pyc", "z.pyc"}),
        ("*.pyc", {".dockerignore", "a", "a/x.py", "a/x.pyc", "a/b", "a/b/y.pyc", "b", "b/k"}),
        ("**/*.pyc", {".dockerignore", "a", "a/x.py", "a/b", "b", "b/k"}),
        ("a\n!a/x.py", {".dockerignore", "a/x.py", "b", "b/k", "z.pyc"}),
        ("/a/b/\nb", {".dockerignore", "a", "a/x.py", "a/x.pyc", "z.pyc"}),
        ("*", set()),
    ],
)
def test_what_is_ignored_stays_here(tmp_path, ignore, left):
    fill(tmp_path, "a/x.py", "a/x.pyc", "a/b/y.pyc", "b/k", "z.pyc")
    (tmp_path / ".dockerignore").write_text(ignore)
    assert set(members(tmp_path)) == left


def test_a_file_that_shrinks_is_told(tmp_path):
    (tmp_path / "big").write_bytes(bytes(1_000_000))
    pieces = tar_of(tmp_path, 10)
    next(pieces)
    next(pieces)
    (tmp_path / "big").write_bytes(b"")
    with pytest.raises(Invalid, match="shorter"):
        list(pieces)


def test_a_socket_is_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        fill(tmp_path, "file")
        assert list(members(tmp_path)) == ["file"]


@pytest.mark.parametrize("name", ["Dockerfile", "docker/of[1]", "./docker/../Dockerfile"])
def test_a_dockerfile_that_is_ignored_is_sent_all_the_same(tmp_path, name):
    """As Docker's own client does, for nothing can be built without it."""
    needed = os.path.normpath(name)
    fill(tmp_path, needed, "docker/of1", "a")
    (tmp_path / ".dockerignore").write_text("**")
    data = b"".join(tar_of(tmp_path, 1000, name))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == [needed]
