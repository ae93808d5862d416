"""Asking a server for as long as one likes, and watching whether its memory keeps growing.

A server takes memory until everything was used once, and then no more. So the first part of a soak
is warming up; what comes after is cut into windows, and a leak is memory that grows from each
window to the next, as fast in the end as before.
"""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild.smoke.trial import CheckFailedError, CheckSkippedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tritonbuild.smoke.trial import Trial

MIB = 1 << 20

# The share of a soak that is warming up, and the windows that the rest is cut into.
_WARM_UP = 1 / 3
_WINDOWS = 4
# Allocators keep some of what was freed, and pages come back late: less than this is no leak.
_NOISE_BYTES = 4 * MIB
_NOISE_SHARE = 0.02
# What levels off is no leak: the last step has to be this much of the mean one.
_STILL_GROWING = 0.25
# Fewer samples than this tell nothing.
_LEAST_SAMPLES = 24
_MOST_SAMPLES = 2000


@dataclass(frozen=True)
class Soak:
    """How long a server is asked; whichever of the two comes first ends it.

    Attributes:
        seconds: At most so long; None for as long as the requests take.
        requests: At most so many; None for as many as there is time for.
    """

    seconds: float | None = None
    requests: int | None = None

    def is_over(self, seconds: float, requests: int) -> bool:
        """Return whether it has gone on for long enough."""
        by_time = self.seconds is not None and seconds >= self.seconds
        return by_time or (self.requests is not None and requests >= self.requests)


@dataclass
class Record:
    """What was seen: the memory in bytes after so many requests, and after so many seconds."""

    memory: list[int] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def note(self, memory: int, requests: int, seconds: float) -> None:
        """Add a sample; where there are too many, every second one of the old ones goes."""
        self.memory.append(memory)
        self.requests.append(requests)
        self.seconds.append(seconds)
        if len(self.memory) > _MOST_SAMPLES:
            for values in (self.memory, self.requests, self.seconds):
                del values[1::2]


@dataclass(frozen=True)
class Growth:
    """How memory went once the server was warm.

    Attributes:
        before, after: Bytes in the first and in the last window.
        requests: Asked between the two.
        seconds: Passed between the two.
        is_steady: It grew from each window to the next, and still does.
    """

    before: int
    after: int
    requests: int
    seconds: float
    is_steady: bool

    def __str__(self) -> str:
        grown = self.after - self.before
        text = f"{self.before / MIB:.1f} to {self.after / MIB:.1f} MiB"
        if self.seconds > 0 and self.requests > 0:
            text += f", {grown / MIB / self.seconds * 60:+.1f} MiB a minute"
            text += f" and {grown / self.requests:+.0f} bytes a request"
        return text


def measure_growth(record: Record) -> Growth:
    """Return how memory went after the warm-up.

    Args:
        record: At least a few samples.
    """
    start = int(len(record.memory) * _WARM_UP)
    bounds = [
        start + (len(record.memory) - start) * index // _WINDOWS for index in range(_WINDOWS + 1)
    ]
    spans = [slice(low, max(high, low + 1)) for low, high in itertools.pairwise(bounds)]
    levels = [statistics.median(record.memory[span]) for span in spans]
    middles = [(span.start + span.stop - 1) // 2 for span in spans]
    steps = [after - before for before, after in itertools.pairwise(levels)]
    grown = levels[-1] - levels[0]
    is_much = grown > max(_NOISE_BYTES, _NOISE_SHARE * levels[0])
    goes_on = steps[-1] >= _STILL_GROWING * grown / len(steps)
    return Growth(
        before=int(levels[0]),
        after=int(levels[-1]),
        requests=record.requests[middles[-1]] - record.requests[middles[0]],
        seconds=record.seconds[middles[-1]] - record.seconds[middles[0]],
        is_steady=is_much and goes_on and all(step > 0 for step in steps),
    )


def run_soak(trial: Trial, soak: Soak, questions: Sequence[Callable[[], object]]) -> str:
    """Ask a server over and over, and return how its memory went.

    Args:
        trial: The server.
        soak: How long.
        questions: What is asked in turn; each raises where the answer is wrong.

    Raises:
        CheckFailedError: Memory grows steadily.
        CheckSkippedError: There is nothing to ask, or it was too short to tell.
    """
    if not questions:
        msg = "no model of this build can be asked over and over"
        raise CheckSkippedError(msg)
    pid = trial.server.pid
    if pid is None:
        msg = "the memory of a server on a board cannot be read from here"
        raise CheckSkippedError(msg)
    record, asked, started = Record(), 0, time.monotonic()
    pause = _choose_pause(soak)
    due = 0.0
    while not soak.is_over(time.monotonic() - started, asked):
        questions[asked % len(questions)]()
        asked += 1
        passed = time.monotonic() - started
        if passed >= due:
            due = passed + pause
            record.note(read_memory(pid), asked, passed)
    took = time.monotonic() - started
    said = f"{asked} requests in {took:.0f} s"
    if len(record.memory) < _LEAST_SAMPLES:
        msg = f"{said}: too short to tell how memory goes"
        raise CheckSkippedError(msg)
    growth = measure_growth(record)
    if growth.is_steady:
        msg_0 = "memory that levels off"
        raise CheckFailedError(msg_0, f"{growth}, still growing after {said}")
    return f"{said}; memory {growth}"


def _choose_pause(soak: Soak) -> float:
    """Return the seconds between two samples; where only requests count, one for each."""
    return min(soak.seconds / 200, 1.0) if soak.seconds else 0.0


# --- processes --------------------------------------------------------------------------------


def read_memory(pid: int) -> int:
    """Return the resident memory of a process and all below it, in bytes.

    What they share counts once for each; for growth that does not matter.
    """
    return sum(_read_resident(one) for one in list_processes(pid))


def list_processes(pid: int) -> list[int]:
    """Return a process and all below it, as far as they are still there."""
    found, queue = [], [pid]
    while queue:
        one = queue.pop()
        found.append(one)
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                queue += [int(child) for child in task.read_text(encoding="ascii").split()]
            except OSError:  # it ended just now
                continue
    return found


def _read_resident(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
