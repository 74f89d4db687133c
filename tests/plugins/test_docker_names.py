"""Names of images: whose an image is can be read from them, and nothing else is taken for ours."""

import asyncio
from pathlib import Path

import pytest
from kohakuriver_docker.names import Names
from kohakuriver_docker.refusals import REFERENCE

from kohakuriver.hooks.context import Context
from kohakuriver.net.process import run_command


def names(cluster: str, node: str = "n") -> Names:
    return Names(
        Context(
            cluster=cluster,
            node=node,
            boot="b",
            state=Path("/nowhere"),
            run=run_command,
            in_thread=asyncio.to_thread,
        )
    )


def test_a_version_is_read_back_from_its_name() -> None:
    ours = names("c")
    name = ours.image("my-env__2.x", 12)
    assert ours.version(name) == ("my-env__2.x", 12)
    assert REFERENCE.fullmatch(name)
    assert names("c", "other node").image("my-env__2.x", 12) == name


def test_an_image_without_a_version_has_a_name_of_ours_too() -> None:
    ours = names("c")
    name = ours.unsettled("sha256:" + "ab" * 32)
    assert REFERENCE.fullmatch(name)
    assert ours.is_our_image(name)
    assert ours.version(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "debian:12",
        "my-env:1",
        "registry.test/{ours}my-env:1",
        "{ours}my-env:latest",
        "{ours}my-env:0",
        "{ours}my-env",
        "{ours}a/b:1",
        "{ours}unsettled/abc:1",
        "{other}my-env:1",
        "<none>:<none>",
        "",
    ],
)
def test_no_other_name_is_a_version_of_ours(name: str) -> None:
    ours = names("c")
    assert ours.version(name.format(ours=ours.images, other=names("d").images)) is None
