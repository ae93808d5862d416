"""Where a running step is: what ninja and make count, how long it may take, what a silent one does."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import threading
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tritonbuild.console import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from tritonbuild.console import RunningStep

# Seconds without a line after which a step is asked what it does.
_SILENT = 5.0
_INTERVAL = 0.5

# Part of the work that must be done before its pace says anything.
_ENOUGH = 0.1


class Counter:
    """What ninja (`[12/345]`) or make (`[ 12%]`) say of how much is done.

    An ExternalProject's own build prints counts too: as they come where it has the terminal
    (USES_TERMINAL), else all at once when it is done. Only the outermost build's are taken.
    """

    _COUNT = re.compile(r"\[(?:(\d+)/(\d+)|\s*(\d+)%)\]\s*")

    def __init__(self) -> None:
        self.done = 0
        self.total = 0
        self.is_percent = False
        self._nested = 0

    def feed(self, line: str) -> bool:
        """Look at a line; return whether it says something new."""
        if not line.startswith("["):
            return False
        found = self._COUNT.match(line)
        if not found:
            return False
        if found[3]:
            return self._feed_percent(int(found[3]))
        return self._feed_count(int(found[1]), int(found[2]))

    def _feed_percent(self, percent: int) -> bool:
        # make beneath ninja counts for itself.
        if (self.total and not self.is_percent) or percent < self.done:
            return False
        self.done, self.total, self.is_percent = percent, 100, True
        return True

    def _feed_count(self, done: int, total: int) -> bool:
        # Also after [0/1], with which ninja says that it runs CMake first.
        is_finished = self.done in (0, self.total)
        if self.total == total and done in (self.done, self.done + 1):
            self._nested = 0
        elif not is_finished and (done <= 1 or self._nested == total):
            self._nested = total
            return False
        elif self._nested or (not is_finished and done != self.done + 1):
            # Ninja drops what turns out to be up to date: the total changes, the count goes on.
            return False
        self.done, self.total, self.is_percent = done, total, False
        return True

    @property
    def part(self) -> float:
        """The part that is done, from 0 to 1."""
        return self.done / self.total if self.total else 0.0

    def __str__(self) -> str:
        if not self.total:
            return ""
        return f"{self.done} %" if self.is_percent else f"[{self.done}/{self.total}]"


class StepProgress:
    """Shows where a step is, while its block runs; its lines come from `feed`."""

    def __init__(
        self,
        shown: RunningStep,
        *,
        expected_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make the progress of a step.

        Args:
            shown: The step on the terminal.
            expected_seconds: How long it took the last time.
            clock: Seconds since some moment.
        """
        self._shown = shown
        self._expected = expected_seconds
        self._clock = clock
        self._counter = Counter()
        # When it was last seen to have printed something.
        self._started = self._fed = clock()
        # When the first and the last count came, and what was done then.
        self._first: tuple[float, int] | None = None
        self._last = (self._started, 0)
        self._line = ""
        self._heard = False
        self._note = ""
        self._pid: int | None = None
        self._end = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end.set()
        self._ticker.join()

    def feed(self, line: str) -> None:
        """Take a line that the step printed. Cheap: a step may print millions."""
        self._line = line
        self._heard = True
        if line.startswith("[") and self._counter.feed(line):
            self._last = (self._clock(), self._counter.done)
            if self._first is None or self._counter.done <= self._first[1]:
                self._first = self._last

    def follow(self, pid: int) -> None:
        """Take the process below which all of the step's are."""
        self._pid = pid
        self._note = ""
        self._fed = self._clock()

    def note(self, text: str) -> None:
        """Say what goes on until the step's process starts."""
        self._note = text

    def _tick(self) -> None:
        while not self._end.wait(_INTERVAL):
            text, detail = self.describe()
            if text or detail:
                self._shown.progress(text, detail)

    def describe(self) -> tuple[str, str]:
        """Return where the step is, and what it said last."""
        if self._note:
            return self._note, ""
        now = self._clock()
        if self._heard:
            self._heard = False
            self._fed = now
        parts = [str(self._counter), format_estimate(self._estimate(now))]
        line = clean_line(self._line)
        if self._pid is not None and now - self._fed >= _SILENT:
            parts.append(describe_processes(self._pid))
            line = ""
        return ", ".join(part for part in parts if part), line

    def _estimate(self, now: float) -> float | None:
        """Return how many seconds it may still take: by its own pace, else as the last time."""
        when, done = self._last
        if self._first and self._counter.part >= _ENOUGH and done > self._first[1]:
            pace = (when - self._first[0]) / (done - self._first[1])
            return max(0.0, pace * (self._counter.total - done) - (now - when))
        left = (self._expected or 0.0) - (now - self._started)
        return left if left > 0 else None


def format_estimate(seconds: float | None) -> str:
    """Return how long something may still take, as roughly as it is known; empty where it is not."""
    if seconds is None or seconds < 1:
        return ""
    if seconds < 90:
        return f"about {max(1, round(seconds / 10)) * 10} s left"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"about {minutes} min left"
    return f"about {minutes // 60} h {minutes % 60} min left"


_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)")
_COUNT_AT_START = re.compile(r"^(?:\[[\d/ %]+\]|--)\s+")


def clean_line(line: str) -> str:
    """Return a line of a program's as it can stand in a live line: no count, no control codes."""
    text = _COUNT_AT_START.sub("", _ESCAPES.sub("", line))
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


# --- what a silent step does ------------------------------------------------------------------

_SOURCE = re.compile(r"\.(?:c|cc|cpp|cxx|c\+\+|cu|s|S|i|ii|f90|rs|go|py|sh|cmake|proto)$")
_WORD = re.compile(r"[a-z][a-z-]{1,20}")
_MIB = 1 << 20


def describe_processes(pid: int, proc_dir: Path = Path("/proc")) -> str:
    """Return what the newest process below one is, for how long, and how much it has written.

    Of its arguments only the file that it compiles, links or runs, or a word such as git's verb:
    an address could hold a password.
    """
    leaves = _find_leaves(pid, proc_dir)
    if not leaves:
        return ""
    newest, started = leaves[-1]
    facts = [format_duration(max(0.0, _read_uptime(proc_dir) - started))]
    written = _read_written(proc_dir / str(newest))
    if written >= _MIB:
        facts.append(f"{written // _MIB} MiB written")
    more = f" and {len(leaves) - 1} more" if len(leaves) > 1 else ""
    return f"{_name_process(proc_dir / str(newest))} ({', '.join(facts)}){more}"


def _find_leaves(pid: int, proc_dir: Path) -> list[tuple[int, float]]:
    """Return the processes below one that have none below them, and when they began, in order."""
    children: dict[int, list[int]] = {}
    begun: dict[int, float] = {}
    ticks = os.sysconf("SC_CLK_TCK")
    for stat in proc_dir.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            # The name, in brackets, may hold anything; after it come the 3rd field and so on. The
            # 4th is the parent, the 22nd the start: man 5 proc_pid_stat.
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            child = int(stat.parent.name)
            children.setdefault(int(fields[1]), []).append(child)
            begun[child] = int(fields[19]) / ticks
    leaves, queue = [], list(children.get(pid, ()))
    while queue:
        one = queue.pop()
        below = children.get(one, [])
        queue += below
        if not below:
            leaves.append((one, begun[one]))
    return sorted(leaves, key=lambda leaf: leaf[1])


def _name_process(folder: Path) -> str:
    words: list[str] = []
    with contextlib.suppress(OSError):
        raw = (folder / "cmdline").read_bytes().decode(errors="replace")
        words = raw.rstrip("\0").split("\0")
    if not words or not words[0]:
        return "a process that ends"
    program = PurePosixPath(words[0]).name
    target = next((after for word, after in itertools.pairwise(words) if word == "-o"), "")
    sources = [word for word in words[1:] if _SOURCE.search(word)]
    if program.startswith(("ld", "collect2", "ar", "lld", "gold", "mold")) and target:
        argument = PurePosixPath(target).name
    elif sources:
        argument = PurePosixPath(sources[0]).name
    else:
        argument = next((word for word in words[1:2] if _WORD.fullmatch(word)), "")
    return clean_line(f"{program} {argument}")


def _read_written(folder: Path) -> int:
    with contextlib.suppress(OSError):
        found = re.search(r"^wchar: (\d+)", (folder / "io").read_text(), re.MULTILINE)
        return int(found[1]) if found else 0
    return 0


def _read_uptime(proc_dir: Path) -> float:
    with contextlib.suppress(OSError, ValueError):
        return float((proc_dir / "uptime").read_text().split()[0])
    return 0.0
