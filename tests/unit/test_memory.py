"""What this machine can feed: the kernel's files read, and jobs held back while memory is short."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tritonbuild.engine.jobs import JobPool
from tritonbuild.engine.memory import MemoryBrake, measure_host
from tritonbuild.executors.cgroup import MemoryReading, read_memory, read_processor_limit

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30

MEMINFO = "MemTotal:       8000000 kB\nMemFree:         100000 kB\nMemAvailable:   4194304 kB\n"
PRESSURE = """\
some avg10=41.50 avg60=12.00 avg300=3.00 total=12345
full avg10=17.25 avg60=5.00 avg300=1.00 total=2345
"""
V2 = "sys/fs/cgroup"


def write_files(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


# --- readings ---------------------------------------------------------------------------------


def test_nothing_is_known_where_the_kernel_says_nothing(tmp_path):
    assert read_memory(tmp_path) == MemoryReading(None, None)
    assert read_processor_limit(tmp_path) is None


def test_machine_without_control_groups(tmp_path):
    write_files(tmp_path, {"proc/meminfo": MEMINFO, "proc/pressure/memory": PRESSURE})
    assert read_memory(tmp_path) == MemoryReading(4 * GIB, 17.25)


def test_pressure_of_a_kernel_without_full_is_not_known(tmp_path):
    write_files(tmp_path, {"proc/pressure/memory": PRESSURE.splitlines()[0] + "\n"})
    assert read_memory(tmp_path).pressure is None


def test_what_our_control_group_may_still_take_counts_if_it_is_less(tmp_path):
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/user.slice/session\n",
        f"{V2}/user.slice/session/memory.max": "max\n",
        f"{V2}/user.slice/session/memory.current": f"{500 * MIB}\n",
        f"{V2}/user.slice/memory.max": f"{GIB}\n",
        f"{V2}/user.slice/memory.current": f"{700 * MIB}\n",
        f"{V2}/user.slice/memory.stat": f"anon 5\ninactive_file {100 * MIB}\n",
    }
    assert read_memory(write_files(tmp_path, files)).available == (1024 - 700 + 100) * MIB
    write_files(tmp_path, {f"{V2}/user.slice/memory.max": f"{64 * GIB}\n"})
    assert read_memory(tmp_path).available == 4 * GIB
    write_files(tmp_path, {f"{V2}/user.slice/memory.max": f"{512 * MIB}\n"})
    assert read_memory(tmp_path).available == 0, "it is over its limit"


def test_pressure_in_our_control_group_counts_if_it_is_more(tmp_path):
    files = {
        "proc/pressure/memory": PRESSURE,
        "proc/self/cgroup": "0::/\n",
        f"{V2}/memory.pressure": PRESSURE.replace("17.25", "60.00"),
    }
    assert read_memory(write_files(tmp_path, files)).pressure == 60.0


def test_version_1_of_control_groups(tmp_path):
    """In a container: the path is the one outside, the tree begins at our own group."""
    memory = f"{V2}/memory"
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n",
        f"{memory}/memory.limit_in_bytes": f"{2 * GIB}\n",
        f"{memory}/memory.usage_in_bytes": f"{GIB}\n",
        f"{memory}/memory.stat": f"total_inactive_file {GIB // 2}\n",
        f"{V2}/cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
        f"{V2}/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    write_files(tmp_path, files)
    assert read_memory(tmp_path).available == GIB + GIB // 2
    assert read_processor_limit(tmp_path) == 2
    unlimited = {
        f"{memory}/memory.limit_in_bytes": "9223372036854771712\n",
        f"{V2}/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
    }
    write_files(tmp_path, unlimited)
    assert read_memory(tmp_path).available == 4 * GIB
    assert read_processor_limit(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("10000 100000\n", 1),
        ("", None),
        ("what\n", None),
    ],
)
def test_processor_limit(tmp_path, text, expected):
    write_files(tmp_path, {"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": text})
    assert read_processor_limit(tmp_path) == expected


def test_this_machine_can_be_measured():
    cores, memory = measure_host()
    assert 1 <= cores <= len(os.sched_getaffinity(0))
    assert 64 * MIB < memory <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


# --- the brake --------------------------------------------------------------------------------


class Gauge:
    """Readings that a test sets; one compiler may take a GiB."""

    def __init__(self) -> None:
        self.reading = MemoryReading(8 * GIB, 0.0)

    def __call__(self) -> MemoryReading:
        return self.reading


@pytest.fixture
def gauge():
    return Gauge()


@pytest.fixture
def pool(tmp_path):
    with JobPool(4, tmp_path) as made:
        yield made


SHORT = MemoryReading(GIB - 1, 0.0)
PLENTY = MemoryReading(2 * GIB, 0.0)


def look(brake: MemoryBrake, times: int) -> None:
    for _ in range(times):
        brake.look()


def test_one_more_job_is_held_back_at_each_look_while_memory_is_short(pool, gauge, capsys):
    brake = MemoryBrake(pool, GIB, read=gauge)
    look(brake, 3)
    assert pool.held == 0
    gauge.reading = SHORT
    look(brake, 1)
    assert pool.held == 1
    look(brake, 9)
    assert (pool.held, pool.free) == (3, 1), "one compiler always runs"
    said = capsys.readouterr().err.splitlines()
    assert said == ["memory is short: 1 of 4 jobs held back; it goes on more slowly"]


def test_jobs_come_back_one_by_one_when_it_has_been_good_for_a_while(pool, gauge, capsys):
    brake = MemoryBrake(pool, GIB, read=gauge)
    gauge.reading = SHORT
    look(brake, 3)
    gauge.reading = PLENTY
    look(brake, 4)
    assert pool.held == 3
    look(brake, 1)
    assert pool.held == 2
    look(brake, 10)
    assert (pool.held, pool.free) == (0, 4)
    gauge.reading = SHORT
    look(brake, 1)
    assert pool.held == 1
    assert len(capsys.readouterr().err.splitlines()) == 1, "it is said once"


def test_between_short_and_plenty_nothing_changes(pool, gauge):
    brake = MemoryBrake(pool, GIB, read=gauge)
    gauge.reading = SHORT
    look(brake, 2)
    for reading in (MemoryReading(GIB, 0.0), MemoryReading(8 * GIB, 5.0)):
        gauge.reading = reading
        look(brake, 20)
        assert pool.held == 2
    gauge.reading = PLENTY
    look(brake, 4)
    gauge.reading = MemoryReading(GIB, 0.0)
    look(brake, 1)
    gauge.reading = PLENTY
    look(brake, 4)
    assert pool.held == 2, "good readings count in a row"


@pytest.mark.parametrize(
    ("reading", "held"),
    [
        (MemoryReading(8 * GIB, 10.0), 1),
        (MemoryReading(8 * GIB, 9.9), 0),
        (MemoryReading(None, 30.0), 1),
        (MemoryReading(8 * GIB, None), 0),
        (MemoryReading(10, None), 1),
        (MemoryReading(None, None), 0),
    ],
)
def test_either_sign_counts_and_none_is_needed(pool, gauge, reading, held):
    brake = MemoryBrake(pool, GIB, read=gauge)
    gauge.reading = reading
    look(brake, 1)
    assert pool.held == held


def test_brake_works_by_itself_and_lets_go_at_the_end(pool, gauge):
    gauge.reading = SHORT
    with MemoryBrake(pool, GIB, read=gauge, interval=0.01), pool.implicit():
        limit = time.monotonic() + 10
        while pool.held < 3 and time.monotonic() < limit:
            time.sleep(0.01)
        assert (pool.held, pool.free) == (3, 0)
    assert (pool.held, pool.free) == (0, 4)


def test_single_job_is_never_held_back(tmp_path, gauge, capsys):
    gauge.reading = SHORT
    with JobPool(1, tmp_path) as single:
        look(MemoryBrake(single, GIB, read=gauge), 5)
        assert (single.held, single.free) == (0, 1)
    assert capsys.readouterr().err == ""
