"""The cards of a node through the real binding, on a stand-in of NVIDIA's library that fails on demand."""

import asyncio
import ctypes
import os
import threading

import pytest

from kohakuriver.runner.probes.gpu import Gpus
from kohakuriver.runner.probes.nvml import LIBRARY, Session
from kohakuriver.runner.probes.pci import normal
from kohakuriver.runner.probes.reading import Missing
from kohakuriver.testing.nvml import Cards, build, why_not
from kohakuriver.wire.link import Heartbeat, Hello, Refresh, WireReserved

GIB = 2**30
PATIENCE = 30.0


@pytest.fixture(scope="module")
def nvml_folder(tmp_path_factory):
    """A folder with the stand-in for NVIDIA's library in it."""
    if reason := why_not():
        pytest.skip(reason)
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def cards(tmp_path, nvml_folder, monkeypatch):
    """Three cards. A library that is loaded already is found by its name, as LD_LIBRARY_PATH is read at the start alone."""
    ctypes.CDLL(str(nvml_folder / LIBRARY))
    found = Cards(tmp_path / "cards", 3)
    monkeypatch.setenv("NVML_DOUBLE", str(found.path))
    return found


@pytest.fixture
def gpus(cards):
    found = Gpus()
    yield found
    cards.all(hang=None)
    found.close()


def faults(reading):
    return [device.fault for device in reading.devices]


async def test_cards_are_told_with_all_that_names_them(cards, tmp_path):
    folder = tmp_path / "sys/bus/pci/devices" / cards.address(1)
    folder.mkdir(parents=True)
    (folder / "numa_node").write_text("1\n")
    (folder / "iommu_group").symlink_to("../../../kernel/iommu_groups/42")
    cards.set(1, model="NVIDIA RTX A6000", memory_mb=49152)
    gpus = Gpus(lambda: Session(tmp_path / "sys"))
    devices = (await gpus.look(PATIENCE)).devices
    gpus.close()
    assert [(device.id, device.index) for device in devices] == [(cards.address(i), i) for i in range(3)]
    card = devices[1]
    assert (card.model, card.memory, card.uuid) == ("NVIDIA RTX A6000", 48 * GIB, cards.uuid(1))
    assert (card.numa, card.group, card.driver, card.modes, card.fault) == (1, "42", "550.54.15", ["host"], None)
    assert (devices[0].numa, devices[0].group) == (None, None)


async def test_use_is_told_with_processes(cards, gpus):
    cards.set(0, util=87, used_mb=1024, temp=71, power_mw=250_500, ecc=-1)
    cards.run(0, [(11, 512), (12, 256)])
    use = (await gpus.look(PATIENCE)).uses[0]
    assert (use.id, use.utilization, use.memory_used, use.temperature) == (cards.address(0), 0.87, GIB, 71)
    assert (use.power, use.power_limit, use.uncorrected) == (250.5, 400, None)
    assert [(process.pid, process.memory) for process in use.processes] == [(11, GIB // 2), (12, GIB // 4)]


async def test_a_parted_card_is_told_by_its_parts(cards, gpus):
    cards.set(1, mig=2)
    devices = (await gpus.look(PATIENCE)).devices
    assert [device.id for device in devices[1:3]] == [f"{cards.address(1)}/{device.uuid}" for device in devices[1:3]]
    assert [device.index for device in devices] == [0, 1, 1, 2]
    assert all(device.uuid.startswith("MIG-") for device in devices[1:3])
    assert gpus.reading.uses[1].utilization is None
    cards.set(1, mig=0)
    assert [device.modes for device in (await gpus.look(PATIENCE)).devices] == [["host"], [], ["host"]]
    cards.set(1, mig=None)
    reading = await gpus.look(PATIENCE)
    assert (len(reading.devices), faults(reading)) == (3, [None] * 3)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("lost", 1, "NVML says 'gpu is lost' (error 15)"),
        ("lost", 2, "NVML says 'gpu is lost' (error 15)"),
        ("ecc", 1, "1 uncorrectable ECC error since its driver was loaded"),
        ("remap_failed", 1, "a row of its memory could not be remapped"),
        ("xid", 79, "critical error XID 79"),
    ],
)
async def test_what_speaks_against_a_card_is_told_and_the_others_stay_good(cards, gpus, key, value, words):
    before = (await gpus.look(PATIENCE)).devices
    assert faults(gpus.reading) == [None] * 3
    cards.set(1, **{key: value})
    reading = await gpus.look(PATIENCE)
    assert faults(reading) == [None, words, None]
    assert (reading.devices[1].id, reading.devices[1].uuid) == (before[1].id, before[1].uuid)
    assert faults(await gpus.look(PATIENCE)) == [None, words, None]


async def test_an_error_of_a_program_is_told_and_speaks_against_no_card(cards, gpus):
    await gpus.look(PATIENCE)
    cards.set(2, xid=13)
    reading = await gpus.look(PATIENCE)
    assert (reading.uses[2].xid, faults(reading)) == (13, [None] * 3)


async def test_a_card_lost_from_the_start_is_told_in_words(cards, gpus):
    cards.set(1, lost=2)
    reading = await gpus.look(PATIENCE)
    assert [device.index for device in reading.devices] == [0, 2]
    assert reading.problems == ("GPU 1: NVML says 'gpu is lost' (error 15)",)


async def test_a_card_that_vanished_is_remembered_until_it_is_back(cards, gpus):
    await gpus.look(PATIENCE)
    cards.set(0, gone=1)
    reading = await gpus.look(PATIENCE)
    vanished = [device.id for device in reading.devices if device.fault is not None]
    assert vanished == [cards.address(0)]
    assert "vanished" in faults(reading)[0]
    cards.set(0, gone=None)
    assert faults(await gpus.look(PATIENCE)) == [None] * 3


async def test_a_driver_that_goes_and_comes_back_needs_no_restart(cards, gpus):
    await gpus.look(PATIENCE)
    cards.all(driver=9)
    for _ in range(2):
        with pytest.raises(Missing, match="driver not loaded"):
            await gpus.look(PATIENCE)
    assert (gpus.told, len(gpus.reading.devices)) == (False, 3)
    cards.all(driver=None, cards=2)
    reading = await gpus.look(PATIENCE)
    assert gpus.told
    assert [device.fault is None for device in reading.devices] == [True, True, False]


async def test_a_hung_library_holds_up_nobody(cards, gpus):
    await gpus.look(PATIENCE)
    cards.set(1, hang=1)
    said = ""
    async with asyncio.timeout(PATIENCE):
        while "on GPU 1" not in said:
            with pytest.raises(Missing, match=r"has not answered for \d+ s \(nvml\w+") as missing:
                await gpus.look(0.05)
            said = str(missing.value)
            await asyncio.sleep(0)
    assert (gpus.told, len(gpus.reading.devices)) == (False, 3)
    assert len([thread for thread in threading.enumerate() if thread.name == "nvml"]) == 1
    cards.set(1, hang=None, util=50)
    async with asyncio.timeout(PATIENCE):
        while not gpus.told:
            try:
                await gpus.look(1.0)
            except Missing:
                continue
    assert (await gpus.look(PATIENCE)).uses[1].utilization == 0.5


@pytest.mark.parametrize(
    ("written", "address"),
    [("00000000:1B:00.0", "0000:1b:00.0"), ("00010000:03:00.1", "10000:03:00.1"), ("nonsense", "nonsense")],
)
def test_addresses_are_written_as_sysfs_does(written, address):
    assert normal(written) == address


async def test_a_lost_card_is_told_to_the_host_while_the_runner_runs(cards, lab, peer, monkeypatch):
    monkeypatch.setattr("kohakuriver.runner.runner.FIRST_LOOK_SECONDS", PATIENCE)
    await lab.start()
    hello = peer.hellos[0]
    assert [device.fault for device in hello.cells[0].devices] == [None] * 3
    assert hello.devices_told
    cards.set(1, lost=1)
    cards.run(0, [(os.getpid(), 64)])

    def told():
        """By the newest message that names the cards: a refresh, or the hello of a link that was lost on the way."""
        newest = [message for message in peer.received if isinstance(message, (Hello, Refresh))][-1]
        beats = [message for message in peer.received if isinstance(message, Heartbeat)]
        processes = [(process.pid, process.attempt) for use in beats[-1].devices for process in use.processes]
        return [d.fault is None for d in newest.cells[0].devices], [use.id for use in beats[-1].devices], processes

    wanted = [True, False, True], [cards.address(0), cards.address(2)], [(os.getpid(), "")]
    async with asyncio.timeout(PATIENCE):
        while not any(isinstance(message, Heartbeat) for message in peer.received) or told() != wanted:
            await lab.hands.pass_time(1)
    await lab.until_live()
    good, bad = ({"reserved": WireReserved(cpu_milli=1000, devices=[cards.address(i)])} for i in (0, 1))
    await peer.assign("2.1", "sleep", **bad)
    assert "gpu is lost" in (await peer.report("2.1", "refused_for_now")).reason
    await peer.assign("1.1", "sleep", **good)
    refused = await peer.report("1.1", "refused_for_good")  # by the fake backend, which applies no devices
    assert "a fake has no devices" in refused.reason
