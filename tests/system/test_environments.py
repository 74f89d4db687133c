"""Environments from a person's terminal to a node that has never seen any, on real daemons, by every syncer."""

import os
import re
from collections.abc import Iterator

import pytest

from kohakuriver.testing.dockerd import IMAGE, Dockerd
from tests.plugins import oci_registry

from .cluster import end_all
from .talk import FINAL
from .test_docker_apart import person
from .tty import on_a_terminal
from .waits import until
from .workshop import BUILDER, NODE, SYNCERS, Workshop, a_workshop, two_daemons

pytestmark = pytest.mark.docker

MIB = 2**20
#: a file that nothing makes smaller
CHANGE = 2 * MIB
TASKS = 20
FULL = bool(os.environ.get("KOHAKURIVER_FULL_LENGTH"))


@pytest.fixture(scope="module")
def daemons() -> Iterator[dict[str, Dockerd]]:
    with two_daemons() as made:
        yield made


@pytest.fixture(scope="module", params=SYNCERS)
def shop(request: pytest.FixtureRequest, daemons: dict[str, Dockerd]) -> Iterator[Workshop]:
    if request.param == "registry" and (reason := oci_registry.why_not()):
        pytest.skip(reason)
    with a_workshop(daemons, request.param, environment_versions_kept=0) as made:
        yield made


direct = pytest.mark.parametrize("shop", ["direct"], indirect=True)
by_archives = pytest.mark.parametrize("shop", ["nfs"], indirect=True)
by_contents = pytest.mark.parametrize("shop", ["direct", "registry"] if FULL else ["direct"], indirect=True)


def test_what_is_changed_in_a_shell_is_seen_where_nobody_has_been(shop: Workshop) -> None:
    """Acceptance 1."""
    assert shop.daemons[NODE].docker("images", "-aq") == ""
    shop.create("my-env")
    with on_a_terminal(("docker", "container", "shell", "my-env"), shop.cluster.as_admin()) as person_at:
        person_at.expect(b"# ")
        person_at.type("stty size\r")
        person_at.expect(b"30 100\r\n")
        person_at.type('until [ "$(stty size)" = "40 120" ]; do sleep 0.1; done; echo is wi""der\r')
        person_at.resize(120, 40)
        person_at.expect(b"is wider\r\n")
        person_at.type("""sh -c 'echo sle""eps; exec sleep 1000'\r""")
        person_at.expect(b"sleeps\r\n")
        person_at.type("\x03")
        person_at.expect(b"# ")
        person_at.type('echo "co""de $?"; echo one >/etc/change\r')
        person_at.expect(b"code 130\r\n")
        person_at.type("exit 7\r")
        assert person_at.end() == 7
    assert shop.package("my-env") == 1
    assert shop.seen("my-env", "cat", "/etc/change") == "one\n"
    shop.change("my-env", f"echo two >/etc/change; dd if=/dev/urandom of=/etc/large bs={CHANGE} count=1 2>/dev/null")
    before = shop.fetched_bytes()
    assert shop.package("my-env") == 2
    assert shop.seen("my-env", "cat", "/etc/change") == "two\n"
    if shop.syncer != "nfs":  # there a version is an archive of its own
        moved = shop.fetched_bytes() - before
        assert CHANGE <= moved <= 1.2 * CHANGE, "the changed layer alone is fetched"
    assert shop.seen("my-env:1", "cat", "/etc/change") == "one\n"
    assert [line.split()[0] for line in shop.ok("docker", "tar", "list", "my-env").splitlines()[1:]] == [
        "my-env:2",
        "my-env:1",
    ]


def crowd(shop: Workshop) -> None:
    """Sees to it that there is version 1 of `crowd`, with a word in it; on the builder alone."""
    if not shop.versions("crowd"):
        shop.create("crowd")
        shop.change("crowd", f"dd if=/dev/urandom of=/etc/large bs={CHANGE} count=1 2>/dev/null; echo here >/etc/word")
        assert shop.package("crowd") == 1


@by_contents
def test_twenty_tasks_that_name_a_missing_environment_cause_one_transfer(shop: Workshop) -> None:
    """G5."""
    crowd(shop)
    bytes_before, before = shop.fetched_bytes(), shop.fetched()
    body = {"container": "crowd", "cores": 0, "targets": [NODE]}
    tasks = [shop.cluster.api.submit("cat", "/etc/word", **body) for _ in range(TASKS)]
    for task in tasks:
        assert shop.cluster.until_status(task, *FINAL, within=120)["status"] == "completed", shop.cluster.told(task)
        assert shop.cluster.api.output(task) == b"here\n"
    came = shop.fetched() - before
    assert set(came.values()) == {1}, came
    assert shop.fetched_bytes() - bytes_before <= 2 * CHANGE


@direct
def test_versions_go_and_the_one_that_a_task_uses_stays(shop: Workshop) -> None:
    shop.create("used")
    assert [shop.package("used"), shop.package("used")] == [1, 2]
    task = shop.cluster.api.submit("sleep", "1000", container="used:1", cores=0, targets=[NODE])
    shop.cluster.until_status(task, "running")
    said = shop.refused("docker", "tar", "delete", "used", "--version", "1")
    assert f"used:1 is what task {task} is to run in" in said
    said = shop.ok("docker", "tar", "delete", "used")
    assert shop.versions("used") == [1], said
    end_all(shop.cluster)
    shop.ok("docker", "tar", "delete", "used", "--version", "1")
    assert shop.versions("used") == []
    assert "used" in shop.refused("run", "--container", "used", "--", "true")
    assert "used" not in shop.ok("env", "stored", "--output", "name")


@direct
def test_a_dockerfile_and_an_archive_become_versions(shop: Workshop) -> None:
    folder = shop.cluster.top / "context"
    folder.mkdir()
    (folder / "word").write_text("built\n")
    (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY word /etc/word\n")
    assert "built:1 is there" in shop.ok("env", "build", "built", str(folder))
    assert shop.seen("built", "cat", "/etc/word") == "built\n"
    archive = shop.cluster.top / "saved.tar"
    (image,) = re.findall(r"\S+/built:1", shop.daemons[NODE].docker("images", "--format", "{{.Repository}}:{{.Tag}}"))
    shop.daemons[NODE].docker("save", "-o", str(archive), image)
    assert "taken:1 is there" in shop.ok("env", "import", "taken", str(archive))
    assert shop.seen("taken", "cat", "/etc/word") == "built\n"


@direct
def test_an_archive_that_is_cut_off_is_refused_and_the_old_version_stays(shop: Workshop) -> None:
    crowd(shop)
    archive = shop.cluster.top / "cut.tar"
    whole = saved(shop)
    archive.write_bytes(whole[: len(whole) // 2])
    said = shop.refused("env", "import", "crowd", str(archive))
    assert "archive" in said, said
    assert shop.seen("crowd", "cat", "/etc/word") == "here\n"


def saved(shop: Workshop) -> bytes:
    """An archive as Docker writes it."""
    path = shop.cluster.top / "whole.tar"
    shop.daemons[BUILDER].docker("save", "-o", str(path), IMAGE)
    return path.read_bytes()


@by_archives
def test_a_publishing_that_fails_leaves_the_container_as_it_was(shop: Workshop) -> None:
    shop.create("kept")
    shop.change("kept", "echo kept >/etc/word")
    (shop.medium / ".kohakuriver").unlink()
    assert "not mounted" in shop.refused("docker", "tar", "create", "kept")
    (shop.medium / ".kohakuriver").touch()
    shop.change("kept", "grep kept /etc/word")
    assert shop.package("kept") == 2, "no number is given twice"
    assert shop.versions("kept") == [2]


@direct
def test_the_default_environment_is_made_when_the_first_task_needs_it(shop: Workshop) -> None:
    assert shop.versions("kohakuriver-base") == []
    assert shop.seen(None, "echo", "in the base") == "in the base\n"
    assert shop.versions("kohakuriver-base") == [1]
    assert shop.seen(None, "echo", "again", node=BUILDER) == "again\n"
    assert shop.versions("kohakuriver-base") == [1]


@direct
@pytest.mark.parametrize("name", ["a..b", "a-", "a___b", "x" * 64, "Upper"])
def test_a_name_that_cannot_be_is_refused(shop: Workshop, name: str) -> None:
    said = shop.refused("docker", "container", "create", IMAGE, name)
    assert "name" in said
    assert repr(name)[1:-1] in said or "63" in said, said


@direct
def test_users_run_in_environments_and_change_none(shop: Workshop) -> None:
    crowd(shop)
    ada = person(shop.cluster, "ada")
    as_ada = {"KOHAKURIVER_TOKEN": ada.token}
    done = shop.cluster.cli("run", "--container", "crowd", "-t", NODE, "--", "cat", "/etc/word", **as_ada)
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr
    for words in (
        ("docker", "container", "create", IMAGE, "adas"),
        ("docker", "container", "shell", "crowd", "--", "true"),
        ("docker", "container", "delete", "crowd"),
        ("docker", "tar", "create", "crowd"),
        ("docker", "tar", "delete", "crowd", "--version", "1"),
        ("env", "add", "adas", IMAGE),
    ):
        assert "operator" in shop.refused(*words, **as_ada), words
    assert shop.versions("crowd") == [1]


@direct
def test_what_is_not_ours_cannot_be_named(shop: Workshop) -> None:
    builder = shop.daemons[BUILDER]
    builder.docker("run", "-d", "--name", "stranger", "--network", "none", IMAGE, "sleep", "100000")
    try:
        for words in (("shell", "stranger", "--", "true"), ("stop", "stranger"), ("delete", "stranger")):
            assert "stranger" in shop.refused("docker", "container", *words)
        assert "stranger" in shop.refused("docker", "tar", "create", "stranger")
        state = "{{.State.Running}}"
        until(lambda: builder.docker("inspect", "-f", state, "stranger").strip() == "true", within=30, what="it runs")
    finally:
        builder.docker("rm", "-f", "stranger")
