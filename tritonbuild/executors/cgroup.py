"""What the kernel lets us have, and what it says about it: memory, processors, pressure.

A container or a user's session may be allowed less than the machine has. Version 2 of control
groups says so in one tree, version 1 (Jetson, older vendor kernels) in one for each resource:
https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/accounting/psi.html.

`root` is the folder that holds `proc` and `sys`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path("/")
# Version 1 says "no limit" with the largest number that fits.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True)
class MemoryReading:
    """Memory at one moment.

    Attributes:
        available: Bytes that new processes can have without others being pushed out; None where
            the kernel does not say.
        pressure: How much of the last 10 seconds nothing went on because all waited for memory,
            in per cent; None where the kernel does not say.
    """

    available: int | None
    pressure: float | None


def read_memory(root: Path = _ROOT) -> MemoryReading:
    """Return how much memory is available here, and how hard it is to get."""
    available = [room for folder in _find_groups("memory", root) for room in _room_in(folder)]
    in_machine = _read_fields(root / "proc/meminfo").get("MemAvailable:")
    if in_machine is not None:
        available.append(in_machine * 1024)
    pressures = [
        float(found[1])
        for path in (
            root / "proc/pressure/memory",
            *(folder / "memory.pressure" for folder in _find_groups("memory", root)),
        )
        if (found := re.search(r"^full avg10=(\d+(?:\.\d+)?)", _read(path), re.MULTILINE))
    ]
    return MemoryReading(min(available, default=None), max(pressures, default=None))


def _room_in(folder: Path) -> Iterator[int]:
    """Yield how much a control group may still take; what it keeps of files can go."""
    for limit_file, used_file, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = _read_number(folder / limit_file), _read_number(folder / used_file)
        if limit is not None and used is not None and limit < _NO_LIMIT:
            reclaimable = _read_fields(folder / "memory.stat").get(cache, 0)
            yield max(0, limit - max(0, used - reclaimable))


def read_processor_limit(root: Path = _ROOT) -> int | None:
    """Return how many processors' time we may use at most, rounded up; None without a limit."""
    limits = []
    for folder in _find_groups("cpu", root):
        quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
        if not quota:
            quota = _read(folder / "cpu.cfs_quota_us").strip()
            period = _read(folder / "cpu.cfs_period_us").strip()
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            limits.append(max(1, math.ceil(int(quota) / int(period))))
    return min(limits, default=None)


def count_oom_kills(root: Path = _ROOT) -> int:
    """Return how many processes were killed for memory so far; only a difference means something.

    In our control group where it counts them, else in the whole machine.
    """
    for folder in _find_groups("memory", root):
        for name in ("memory.events", "memory.oom_control"):
            count = _read_fields(folder / name).get("oom_kill")
            if count is not None:
                return count
    return _read_fields(root / "proc/vmstat").get("oom_kill", 0)


def _find_groups(resource: str, root: Path) -> list[Path]:
    """Return the folders of our control groups that may limit a resource, ours first."""
    found = []
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        resources, _, path = rest.partition(":")
        if resources and resource not in resources.split(","):
            continue
        # In a container the path may be the one outside, and the tree begin at our own group.
        group = PurePosixPath(path.lstrip("/"))
        top = mounts / resources if resources else mounts
        found += [top / part for part in (group, *group.parents) if (top / part).is_dir()]
    return list(dict.fromkeys(found))


def _read_fields(path: Path) -> dict[str, int]:
    """Return a file's lines of a name and a whole number."""
    fields = {}
    for line in _read(path).splitlines():
        words = line.split()
        if len(words) >= 2 and words[1].isdigit():
            fields[words[0]] = int(words[1])
    return fields


def _read_number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
