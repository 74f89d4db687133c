"""A node with cards, from the library to the command line: who gets which, who keeps which, and what becomes of bad ones."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kohakuriver.testing.nvml import Cards, build, why_not

from .cluster import Cluster, a_cluster, end_all
from .waits import until

PATIENCE = 60.0
SAY = 'echo "$CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER"; exec sleep 1000'


@dataclass(frozen=True)
class Farm:
    """A host, and the node `gpu` with two cards."""

    cluster: Cluster
    cards: Cards

    def submit(self, words: str = SAY, **fields: Any) -> str:
        return self.cluster.api.submit("sh", "-c", words, **fields)

    def shown(self) -> list[dict[str, Any]]:
        return list(self.cluster.api.get("/api/v1/gpus")["items"])

    def said(self, task: str) -> list[str]:
        """The first line that the task wrote, in words."""

        def look() -> list[str]:
            return self.cluster.api.output(task).decode().split()

        self.cluster.until_status(task, "running", within=PATIENCE)
        return until(look, within=PATIENCE, what=f"task {task} says something", tell=self.cluster.story)

    def until_shown(self, what: str, look: Any) -> Any:
        return until(
            lambda: look(self.shown()),
            within=PATIENCE,
            what=what,
            tell=lambda: f"{self.shown()}\n{self.cluster.story()}",
        )

    def until_reason(self, task: str, words: str) -> None:
        def look() -> bool:
            return words in (self.cluster.api.task(task)["reason"] or {}).get("text", "")

        until(look, within=PATIENCE, what=f"task {task} waits: {words}", tell=lambda: self.cluster.told(task))


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    if reason := why_not():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="kr-nvml-"))
    try:
        cards = Cards(folder / "cards", 2)
        cards.set(0, model="NVIDIA RTX A6000", memory_mb=49152)
        with a_cluster(heartbeat_interval_seconds=1.0) as cluster:
            cluster.more = dict(cards.environment(build(folder)))
            cluster.start_host()
            cluster.add_runner("gpu")
            yield Farm(cluster, cards)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _clean(farm: Farm) -> Iterator[None]:
    yield
    farm.cards.all(hang=None)
    end_all(farm.cluster)


def test_a_task_sees_its_cards_alone_and_a_paused_one_keeps_its_own(farm: Farm) -> None:
    api, uuids = farm.cluster.api, {farm.cards.uuid(0), farm.cards.uuid(1)}
    first = farm.submit(devices={"count": 1, "model": "a6000"})
    assert farm.said(first) == [farm.cards.uuid(0), "PCI_BUS_ID"]
    api.change("pause", first)
    farm.cluster.until_status(first, "paused", within=PATIENCE)
    second = farm.submit(devices={"count": 1})
    both = farm.submit(devices={"count": 2})
    assert farm.said(second) == [farm.cards.uuid(1), "PCI_BUS_ID"]
    assert [(card["task"], card["owner"], card["status"]) for card in farm.shown()] == [
        (first, "admin", "paused"),
        (second, "admin", "running"),
    ]
    farm.until_reason(both, "0 GPUs")
    api.change("kill", second)
    farm.until_reason(both, "1 GPU on")
    api.change("resume", first)
    api.change("kill", first)
    seen, order = farm.said(both)
    assert (set(seen.split(",")), order) == (uuids, "PCI_BUS_ID")


def test_a_task_without_cards_sees_none_whatever_it_says(farm: Farm) -> None:
    task = farm.submit('echo "[$CUDA_VISIBLE_DEVICES]"', env={"CUDA_VISIBLE_DEVICES": "0"})
    farm.cluster.until_status(task, "completed", within=PATIENCE)
    assert farm.cluster.api.output(task) == b"[]\n"


def test_use_is_shown_with_the_task_of_each_process(farm: Farm) -> None:
    task = farm.submit("echo $$; sleep 1000; true", devices={"count": 1}, targets=["gpu::1"])
    pid = int(farm.said(task)[0])
    farm.cards.set(1, util=42, used_mb=1024)
    farm.cards.run(1, [(pid, 512), (os.getpid(), 64)])
    seen = farm.until_shown("two processes", lambda cards: cards[1] if len(cards[1]["processes"]) == 2 else None)
    assert {(process["pid"], process["task"], process["owner"]) for process in seen["processes"]} == {
        (pid, task, "admin"),
        (os.getpid(), None, None),
    }
    assert (seen["utilization"], seen["memory_used"]) == (0.42, 2**30)
    used = json.loads(farm.cluster.cli("top", "--json").stdout)
    (row,) = used["tasks"]
    assert (row["id"], row["gpus"], row["gpu_utilization"], row["unused"]) == (task, ["1"], 0.42, False)
    assert "42%" in farm.cluster.cli("gpus").stdout
    farm.cards.run(1, [])


def test_a_library_that_hangs_holds_up_no_task(farm: Farm) -> None:
    api = farm.cluster.api

    def hangs() -> bool:
        return "NVML has not answered" in str(api.node("gpu")["problems"])

    farm.cards.all(hang=1)
    until(hangs, within=PATIENCE, what="the node says that NVML hangs", tell=farm.cluster.story)
    task = farm.submit("exit 3")
    farm.cluster.until_status(task, "failed", within=PATIENCE)
    assert api.node("gpu")["status"] == "online"
    assert [card["cordon"] for card in farm.shown()] == [None, None]
    farm.cards.all(hang=None)
    until(lambda: not hangs(), within=PATIENCE, what="NVML answers again", tell=farm.cluster.story)


def test_a_lost_card_is_cordoned_over_restarts_until_an_operator_lets_it_work(farm: Farm) -> None:
    cluster, cards = farm.cluster, farm.cards
    holder = farm.submit(targets=["gpu::1"])
    assert farm.said(holder)[0] == cards.uuid(1)
    cards.set(1, lost=1)
    mark = farm.until_shown("the card is cordoned", lambda shown: shown[1]["cordon"])
    assert (mark["device"], mark["by"]) == (cards.address(1), "node gpu")
    assert "gpu is lost" in mark["reason"]
    assert (farm.shown()[1]["task"], cluster.api.status(holder)) == (holder, "running")
    after = farm.submit(targets=["gpu::1"])
    farm.until_reason(after, "1 card is cordoned: NVML says 'gpu is lost'")
    for words in (("gpus",), ("node", "info", "gpu")):
        assert "gpu is lost" in cluster.cli(*words).stdout
    events = cluster.api.get("/api/v1/events?node=gpu")["items"]
    assert [event["what"] for event in events if event["what"].startswith("gpu_")] == ["gpu_cordoned"]

    cluster.host.again()
    cluster.runners["gpu"].server.again()
    cluster.until_online("gpu", within=PATIENCE)
    assert farm.shown()[1]["cordon"]["reason"] == mark["reason"]
    cluster.until_status(holder, "running", within=PATIENCE)
    cluster.api.change("kill", holder, {"grace": 0})
    cluster.until_status(holder, "killed", within=PATIENCE)
    cards.set(1, lost=None)
    farm.until_shown("the card answers again", lambda shown: shown[1]["temperature"])
    farm.until_reason(after, "1 card is cordoned")
    assert cluster.cli("node", "uncordon", "gpu", "1").returncode == 0
    assert farm.said(after)[0] == cards.uuid(1)
