"""A stranger's plugin: its own package in a runner's own installation, and a host that has never heard of it."""

import importlib.metadata
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cluster import Cluster, a_cluster
from .strangers import EXAMPLE, Installation, install
from .waits import until


@pytest.fixture(scope="module")
def installed() -> Iterator[Installation]:
    top = Path(tempfile.mkdtemp(prefix="kr-own-"))
    try:
        yield install(top)
    finally:
        shutil.rmtree(top)


@pytest.fixture(scope="module")
def cluster(installed: Installation) -> Iterator[Cluster]:
    """The host from the environment of the tests, the node `one` from the stranger's, which runs no plain processes."""
    with a_cluster(heartbeat_interval_seconds=1.0) as made:
        made.start_host()
        made.add_runner("one", folder=installed.folder, process={"enabled": False})
        yield made


def test_it_passes_the_contract_suite_where_it_is_installed(installed: Installation, tmp_path: Path) -> None:
    for name in ("pyproject.toml", "tests"):
        source = EXAMPLE / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    done = installed.python("-m", "pytest", "-q", cwd=tmp_path)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    passed = int(done.stdout.splitlines()[-1].split(" passed")[0].split()[-1])
    assert passed > 30, done.stdout


def test_the_hosts_installation_has_not_got_it(installed: Installation) -> None:
    assert importlib.util.find_spec("kohakuriver_example") is None
    assert "example" not in {point.name for point in importlib.metadata.entry_points(group="kohakuriver")}
    place = installed.python(
        "-c", "import kohakuriver, kohakuriver_example.plugin as one; print(kohakuriver.__file__, one.__file__)"
    )
    assert all(path.startswith(str(installed.top)) for path in place.stdout.split()), place


def test_the_list_of_plugins_shows_where_it_is(cluster: Cluster) -> None:
    rows = {row["name"]: row for row in json.loads(cluster.cli("plugins", "-o", "json").stdout)["items"]}
    example = rows["example"]
    assert (example["distribution"], example["version"], example["api"]) == ("kohakuriver-example", "0.1.0", 1)
    assert (example["state"], example["nodes"]) == ("on nodes", ["one"])
    assert example["provides"] == ["backend example", "syncer example"]
    assert example["probes"] == ["one: example: commands run without limits", "one: example: ok"]
    assert rows["direct"]["probes"] == ["one: direct: ok"]
    assert "[plugins.nfs] path" in rows["nfs"]["probes"][0]
    assert rows["process"]["state"] == "enabled"


def test_a_task_runs_with_it(cluster: Cluster) -> None:
    submit = ("task", "submit", "--backend", "example", "-c", "0", "--wait", "-q")
    done = cluster.cli(*submit, "-e", "COLOUR=green", "--", "sh", "-c", "echo $COLOUR; echo bad >&2; exit 7")
    assert done.returncode == 7, f"{done}\n{cluster.story()}"
    task = done.stdout.strip()
    assert cluster.cli("task", "logs", task).stdout == "green\n"
    assert cluster.cli("task", "logs", "--stderr", task).stdout == "bad\n"


def test_what_it_cannot_apply_is_refused_with_its_own_words(cluster: Cluster) -> None:
    task = cluster.api.submit("true", backend="example", cores=2)
    assert "this asks for limits" in str(cluster.until_status(task, "failed", within=60))


def test_a_killed_runner_loses_no_run_and_no_exit_code(cluster: Cluster, tmp_path: Path) -> None:
    gates = [tmp_path / "first", tmp_path / "second"]
    scripts = [
        f"echo begun; while ! [ -e {gate} ]; do sleep 0.05; done; echo over; exit {code}"
        for gate, code in zip(gates, (5, 6), strict=True)
    ]
    tasks = [cluster.api.submit("sh", "-c", script, backend="example", cores=0) for script in scripts]
    for task in tasks:
        cluster.until_status(task, "running", within=60)
    runner = cluster.runners["one"].server
    runner.kill()
    gates[0].touch()  # ends while nobody looks
    bodies = cluster.runners["one"].data / "backends" / "example"
    until(lambda: list(bodies.glob("*/exit")), within=60, what="the first has ended", tell=cluster.story)
    runner.start()
    assert cluster.until_status(tasks[0], "failed", within=60)["exit"]["code"] == 5
    gates[1].touch()  # ends under the next life of the runner
    assert cluster.until_status(tasks[1], "failed", within=60)["exit"]["code"] == 6
    for task in tasks:
        assert cluster.cli("task", "logs", task).stdout == "begun\nover\n"
        assert len(cluster.api.get(f"/api/v1/tasks/{task}/attempts")["items"]) == 1


def test_a_kill_ends_everything_and_nothing_of_it_stays(cluster: Cluster) -> None:
    task = cluster.api.submit("sh", "-c", "trap '' TERM; sleep 1000 & wait; wait", backend="example", cores=0)
    cluster.until_status(task, "running", within=60)
    assert cluster.cli("task", "kill", task, "--grace", "0s").returncode == 0
    cluster.until_status(task, "killed", within=60)
    bodies = cluster.runners["one"].data / "backends" / "example"
    until(lambda: not list(bodies.iterdir()), within=60, what="no body is left", tell=cluster.story)
