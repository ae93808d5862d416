"""How many compilers this machine can feed: at the start, and while they run."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from tritonbuild.console import terminal
from tritonbuild.executors.cgroup import MemoryReading, read_memory, read_processor_limit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from tritonbuild.engine.jobs import JobPool

# Percent of time in which everything waits for memory. Where it is this much, the machine reads
# back what it has just thrown out; below the second, it is over.
_PRESSURE_HIGH = 10.0
_PRESSURE_LOW = 2.0
# Readings that have to be good before one more compiler may run: the pressure is an average over
# 10 s, and a compiler that has just started has not taken its memory yet.
_GOOD_READINGS = 5


def measure_host() -> tuple[int, int]:
    """Return the processors that we may use and the memory that we may take, in bytes.

    What this process is bound to counts, and what its control groups allow.
    """
    cores = len(os.sched_getaffinity(0))
    limit = read_processor_limit()
    available = read_memory().available
    if available is None:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(cores, limit or cores), available


class MemoryBrake:
    """Holds back job tokens while memory is short, and gives them back one by one afterwards.

    Compilers that run are left alone: as they end, no new one takes their place. One always runs.
    """

    def __init__(
        self,
        pool: JobPool,
        memory_per_job: int,
        *,
        read: Callable[[], MemoryReading] = read_memory,
        interval: float = 1.0,
    ) -> None:
        """Make a brake; it works while its block runs.

        Args:
            pool: The tokens.
            memory_per_job: Bytes that one compiler may take: with less than that left, memory is
                short.
            read: Returns how things are.
            interval: Seconds between readings.
        """
        self._pool = pool
        self._floor = memory_per_job
        self._read = read
        self._interval = interval
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory brake", daemon=True)
        self._held = 0
        self._good = 0
        self._said = False

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()
        self._pool.hold(0)

    def _watch(self) -> None:
        while not self._end.wait(self._interval):
            self.look()

    def look(self) -> None:
        """Take a reading and act on it."""
        reading = self._read()
        before = self._held
        most = self._pool.count - 1
        if self._is_short(reading):
            self._good = 0
            self._held = min(most, self._held + 1)
        elif self._is_plenty(reading):
            self._good += 1
            if self._good >= _GOOD_READINGS:
                self._good = 0
                self._held = max(0, self._held - 1)
        else:
            self._good = 0
        if self._held != before:
            self._pool.hold(self._held)
            self._say()

    def _is_short(self, reading: MemoryReading) -> bool:
        little = reading.available is not None and reading.available < self._floor
        return little or (reading.pressure or 0.0) >= _PRESSURE_HIGH

    def _is_plenty(self, reading: MemoryReading) -> bool:
        # Room for the compilers that run to grow, and for one more.
        enough = reading.available is None or reading.available >= 2 * self._floor
        return enough and (reading.pressure or 0.0) < _PRESSURE_LOW

    def _say(self) -> None:
        text = f"memory is short: {self._held} of {self._pool.count} jobs held back"
        if self._said or not self._held:
            terminal.detail(text if self._held else "memory is no longer short")
        else:
            self._said = True
            terminal.info(f"{text}; it goes on more slowly")
