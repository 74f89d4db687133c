"""What probes read of a machine, from made-up /sys trees and from this one."""

import pytest

from kohakuriver.runner.probes import cpu, disk, memory, temperature
from kohakuriver.runner.probes.numa import cells, parse_list
from kohakuriver.runner.probes.reading import Missing


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def two_cells(root):
    files = {
        "node/node0/cpulist": "0-3\n",
        "node/node0/meminfo": "Node 0 MemTotal:       1000 kB\nNode 0 MemFree: 10 kB\n",
        "node/node1/cpulist": "4-5,7\n",
        "node/node1/meminfo": "Node 1 MemTotal:       2000 kB\n",
    }
    for number in range(8):
        files[f"cpu/cpu{number}/topology/thread_siblings_list"] = f"{number // 2 * 2}-{number // 2 * 2 + 1}\n"
    return tree(root, files)


def test_cells_are_read_with_cpus_siblings_and_memory(tmp_path):
    first, second = cells(two_cells(tmp_path), usable=frozenset(range(8)))
    assert (first.id, first.cpus, first.siblings, first.memory) == (0, [0, 1, 2, 3], [0, 0, 2, 2], 1000 * 1024)
    assert (second.id, second.cpus, second.siblings, second.memory) == (1, [4, 5, 7], [4, 4, 6], 2000 * 1024)


def test_only_processors_that_may_be_used_are_offered(tmp_path):
    first, second = cells(two_cells(tmp_path), usable=frozenset({1, 7}))
    assert (first.cpus, second.cpus) == ([1], [7])


def test_what_is_reserved_is_taken_off_and_one_core_stays(tmp_path):
    first, second = cells(
        two_cells(tmp_path), usable=frozenset(range(8)), reserved_cores=5, reserved_memory=1500 * 1024
    )
    assert (first.cpus, second.cpus) == ([], [5, 7])
    assert (first.memory, second.memory) == (0, 1500 * 1024)
    assert sum(len(cell.cpus) for cell in cells(tmp_path, usable=frozenset(range(8)), reserved_cores=99)) == 1


def test_a_kernel_without_cells_is_one_cell(tmp_path):
    (only,) = cells(tmp_path, usable=frozenset({3, 1}))
    assert (only.id, only.cpus, only.siblings) == (0, [1, 3], [1, 3])
    assert only.memory > 0


@pytest.mark.parametrize(("text", "numbers"), [("0-2,8\n", [0, 1, 2, 8]), ("", []), ("5", [5]), ("x-y", [])])
def test_lists_of_the_kernel(text, numbers):
    assert parse_list(text) == numbers


def test_the_hottest_processor_sensor_counts(tmp_path):
    files = {
        "hwmon0/name": "nvme\n",
        "hwmon0/temp1_input": "99000\n",
        "hwmon1/name": "k10temp\n",
        "hwmon1/temp1_input": "41250\n",
        "hwmon1/temp2_input": "39000\n",
        "hwmon1/temp3_input": "broken\n",
    }
    assert temperature.temperature(tree(tmp_path, files)) == 41.25


def test_without_a_sensor_the_probe_says_why(tmp_path):
    with pytest.raises(Missing, match="no processor sensor"):
        temperature.temperature(tmp_path / "nothing")
    with pytest.raises(Missing, match="No such file"):
        disk.disk(tmp_path / "nothing")


def test_this_machine_answers():
    assert 0 <= cpu.busy() <= 1
    assert cpu.load() >= 0
    used, whole = memory.memory()
    assert 0 < used < whole
    assert sum(len(cell.cpus) for cell in cells()) > 0
