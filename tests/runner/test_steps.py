"""What a job is told and given."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from kohakuriver.errors import Invalid
from kohakuriver.runner.steps import job as jobs
from kohakuriver.runner.steps.environment import environment
from kohakuriver.runner.steps.script import script_argv, write_script
from kohakuriver.testing.fakes import FakeBackend
from kohakuriver.wire.link import Assign, WireDevice, WireReserved

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def assignment(**fields):
    reserved = fields.pop("reserved", WireReserved(cpu_milli=2500, memory=1024))
    return Assign(attempt="7.2", instance="7.2", owner="ann", image="img", reserved=reserved, **fields)


def test_a_job_knows_who_it_is_and_what_it_got():
    env = environment(assignment(name="train", time_limit=90.0), node="n1", now=NOW, shared_dir=Path("/shared"))
    assert env == {
        "KOHAKURIVER_TASK_ID": "7",
        "KOHAKURIVER_TASK_NAME": "train",
        "KOHAKURIVER_ATTEMPT": "7.2",
        "KOHAKURIVER_NODE": "n1",
        "KOHAKURIVER_CPUS": "2.5",
        "KOHAKURIVER_MEMORY_BYTES": "1024",
        "KOHAKURIVER_DEADLINE": "2026-01-01T00:01:30Z",
        "KOHAKURIVER_SHARED_DIR": "/shared",
    }


def test_nobody_overrides_what_a_job_is_told():
    env = environment(assignment(env={"KOHAKURIVER_NODE": "mine", "A": "b"}), node="n1", now=NOW)
    assert (env["KOHAKURIVER_NODE"], env["A"]) == ("n1", "b")


def test_pinned_cores_set_the_threads_unless_the_task_says_otherwise():
    pinned = WireReserved(cpu_milli=2000, cpus=[4, 6])
    assert environment(assignment(reserved=pinned), node="n", now=NOW)["OMP_NUM_THREADS"] == "2"
    own = assignment(reserved=pinned, env={"OMP_NUM_THREADS": "1"})
    assert environment(own, node="n", now=NOW)["OMP_NUM_THREADS"] == "1"


def test_a_script_is_private_and_run_by_its_own_interpreter_or_the_shell(tmp_path):
    text = "#!/usr/bin/env python3\nprint(1)\n"
    write_script(tmp_path, text)
    path = tmp_path / "script"
    assert script_argv(tmp_path, text, ["a", "b c"]) == (str(path), "a", "b c")
    assert path.stat().st_mode & 0o777 == 0o700
    assert script_argv(tmp_path, "echo hi", []) == ("/bin/sh", str(path))
    write_script(tmp_path, "echo hi")
    assert path.read_text() == "echo hi"
    assert [entry.name for entry in tmp_path.iterdir()] == ["script"]


def make(assign, devices=None, **env):
    backend = FakeBackend()
    return jobs.job(assign, backend, directory=Path("/x"), devices=devices or {}, env=env, argv=assign.argv)


def test_granted_cards_are_named_to_cuda_by_uuid_in_the_order_of_nvidia_smi():
    cards = [
        WireDevice(id="0000:02:00.0", uuid="GPU-b", index=1),
        WireDevice(id="0000:01:00.0/MIG-c", uuid="MIG-c", index=0),
    ]
    reserved = WireReserved(devices=[card.id for card in cards])
    env = make(assignment(reserved=reserved), {card.id: card for card in cards}, CUDA_VISIBLE_DEVICES="7", MINE="1").env
    assert env == {"CUDA_VISIBLE_DEVICES": "MIG-c,GPU-b", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "MINE": "1"}


def test_without_a_card_none_is_visible_whatever_the_task_says():
    assert make(assignment(), CUDA_VISIBLE_DEVICES="0").env["CUDA_VISIBLE_DEVICES"] == ""


def test_the_grant_is_what_was_reserved():
    card = WireDevice(id="0000:01:00.0", model="X", memory=5, index=0)
    reserved = WireReserved(cpu_milli=2000, cpus=[4, 6], cell=1, memory_limit=99, devices=[card.id], share_milli=500)
    grant = make(assignment(reserved=reserved), {card.id: card}).grant
    assert (grant.cpus, grant.numa, grant.memory, grant.cpu_milli) == ((4, 6), 1, 99, None)
    assert (grant.devices[0].id, grant.devices[0].index, grant.device_share_milli) == (card.id, 0, 500)


def test_without_pinning_no_cell_is_bound():
    assert make(assignment(reserved=WireReserved(cell=1, cpu_limit_milli=1500))).grant.numa is None


def test_a_device_that_is_not_here_is_named():
    with pytest.raises(Invalid, match="no device 0000:09"):
        make(assignment(reserved=WireReserved(devices=["0000:09:00.0"])))


def test_options_are_the_plugins_own_struct():
    assert make(assignment(options={"colour": "red"})).options.colour == "red"
    with pytest.raises(Invalid):
        make(assignment(options={"colour": 5.5, "x": 1}))


def test_an_image_is_needed_where_bodies_are_made_from_one():
    with pytest.raises(Invalid, match="needs an image"):
        make(Assign(attempt="7.1", instance="7.1", owner="ann", reserved=WireReserved()))
