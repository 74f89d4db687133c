"""What is said across the link, and how far a fetch is in words."""

import pytest

from kohakuriver.hooks.environments import FileInfo
from kohakuriver.hooks.packages import Held, HeldImage
from kohakuriver.runner.environments import words
from kohakuriver.runner.environments.ensure import amount, need
from kohakuriver.wire import codec
from kohakuriver.wire.link import WireVersion


@pytest.mark.parametrize(
    ("note", "done", "total", "told"),
    [
        ("layers", 412_345_678, 909_999_999, "fetching my-env v3, 412 of 910 MB"),
        ("layers", 0, 4096, "fetching my-env v3, 0 of 5 kB"),
        ("layers", None, None, "fetching my-env v3: layers"),
        ("layers", 5, 0, "fetching my-env v3: layers"),
        ("", None, None, "fetching my-env v3"),
    ],
)
def test_how_far_it_is_has_numbers_where_there_are_any(note, done, total, told):
    assert amount("fetching my-env v3", note, done, total) == told


def test_a_new_version_of_what_is_here_takes_the_difference():
    wanted = WireVersion(environment="my-env", number=4, digest="sha256:x", size=1000)
    other = HeldImage(digest="a", size=900, environment=("other", 1))
    before = HeldImage(digest="b", size=800, environment=("my-env", 3))
    assert need(wanted, Held(images={"a": other})) == 1000
    assert need(wanted, Held(images={"a": other, "b": before})) == 200


def test_a_name_of_any_bytes_can_be_told():
    name = b"caf\xe9 \xc3\xa9".decode("utf-8", "surrogateescape")
    told = words.file(FileInfo(name=name, kind="link", target=name))
    assert (told.name, told.target) == ("caf\\xe9 \u00e9",) * 2
    assert codec.encode(told)


def test_a_version_is_named_by_its_digest_alone():
    version = WireVersion(
        environment="my-env", number=4, digest="sha256:x", syncer="fake", locator="there", blobs=["y"]
    )
    image = words.image_of(version)
    assert (image.reference, image.digest, image.pull, image.environment, image.number) == (
        "sha256:x",
        "sha256:x",
        "never",
        "my-env",
        4,
    )
    assert words.wire_version(words.stored_of(version), "fake") == version
