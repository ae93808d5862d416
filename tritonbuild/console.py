"""What tritonbuild says to people: steps, warnings and errors on stderr, data on stdout.

Recipes, paths and tool output are printed without rich markup: a compiler line such as
`[/usr/lib]` would otherwise vanish or crash the printer.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from tritonbuild.errors import TritonBuildError


class RunningStep:
    """A step that is shown; `failed` says that it ended without an error, but not well."""

    def __init__(self, shown_on: Terminal, title: str) -> None:
        self.failed = False
        self.title = title
        self._terminal = shown_on
        self._started = self._said = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self._started

    def progress(self, text: str, detail: str = "") -> None:
        """Say where the step is, from any thread.

        In its live line; elsewhere as a line now and then, so that nobody takes it for dead.

        Args:
            text: Such as `[12/345]`.
            detail: What only a live line has room for.
        """
        self._terminal.show_progress(self, text, detail)

    def is_due(self) -> bool:
        """Return whether it is time for another line, and take it as said."""
        now = time.monotonic()
        if now - self._said < _HEARTBEAT:
            return False
        self._said = now
        return True


class Terminal:
    """The process's one pair of output streams, and how much to say on them.

    A process has one stdout and one stderr, so one instance (`terminal`) is made below.
    """

    def __init__(self) -> None:
        self.verbosity = 0
        self._live: Progress | None = None
        self._tasks: dict[RunningStep, TaskID] = {}
        self._lock = threading.RLock()

    def configure(self, *, verbosity: int) -> None:
        """Set how much is said: -1 errors only, 0 steps, 1 commands too."""
        self.verbosity = verbosity

    def _err(self) -> Console:
        from rich.console import Console

        return Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def output(self, text: str) -> None:
        """Print data: what a caller may pipe into another program."""
        try:
            sys.stdout.write(text if text.endswith("\n") else text + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read our output (head, less) has seen enough; that is no error of ours.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None
    ) -> None:
        """Print a table of data on stdout; a line a row where nobody looks at it."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, title=title, box=None, pad_edge=False, title_justify="left")
        for row in rows:
            table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
        if sys.stdout.isatty():
            Console(markup=False, highlight=False, emoji=False).print(table)
            return
        console = Console(markup=False, highlight=False, emoji=False, width=_NO_WRAP)
        with console.capture() as captured:
            console.print(table)
        self.output("\n".join(line.rstrip() for line in captured.get().splitlines()))

    def _say(self, text: str, style: str = "") -> None:
        with self._lock:
            if self._live is not None:
                # The live lines move down for it; NO_COLOR is rich's to obey.
                self._live.console.print(text, style=style or None)
            elif sys.stderr.isatty() and "NO_COLOR" not in os.environ and style:
                self._err().print(text, style=style)
            else:
                sys.stderr.write(text + "\n")
                sys.stderr.flush()

    def info(self, text: str) -> None:
        """Say what is going on."""
        if self.verbosity >= 0:
            self._say(text)

    def detail(self, text: str) -> None:
        """Say it only to those who asked for more (-v)."""
        if self.verbosity >= 1:
            self._say(text, "dim")

    def warning(self, text: str) -> None:
        """Say what may bite later."""
        self._say(f"warning: {text}", "yellow")

    def error(self, err: TritonBuildError) -> None:
        """Print an error and, once and last, its hint."""
        self._say(f"error: {err.message}", "bold red")
        if err.hint:
            self._say(f"hint: {err.hint}", "cyan")

    def bug(self) -> None:
        """Announce the traceback that follows."""
        from tritonbuild import __version__

        self._say(
            f"error: This is a bug in tritonbuild {__version__}. Please report it with the lines "
            "below and the work directory's logs.",
            "bold red",
        )

    @contextmanager
    def step(self, title: str) -> Iterator[RunningStep]:
        """Show a running step: a live line with its time on a terminal, plain lines elsewhere.

        Steps may run side by side in threads. One that ends in an error, or whose `failed` was
        set, gets a cross instead of a tick.
        """
        running = RunningStep(self, title)
        if self.verbosity < 0:
            yield running
            return
        self._begin(running)
        mark, style = "✗", "red"
        try:
            yield running
            if not running.failed:
                mark, style = "✓", "green"
        finally:
            self._end(running)
            self._say(f"{mark} {title} ({format_seconds(running.seconds)})", style)

    def _begin(self, running: RunningStep) -> None:
        with self._lock:
            if not self._can_be_live():
                self._say(f"… {running.title}")
                return
            if self._live is None:
                self._live = self._make_live()
                self._live.start()
            self._tasks[running] = self._live.add_task(running.title, total=None)

    def _can_be_live(self) -> bool:
        """Return whether lines can be painted over; with -v what runs is said line by line."""
        term = os.environ.get("TERM", "")
        return sys.stderr.isatty() and self.verbosity == 0 and term not in ("", "dumb", "unknown")

    def _end(self, running: RunningStep) -> None:
        with self._lock:
            task = self._tasks.pop(running, None)
            if self._live is None or task is None:
                return
            self._live.remove_task(task)
            if not self._tasks:
                self._live.stop()
                self._live = None

    def _make_live(self) -> Progress:
        """Return what shows a line for each running step, with its time, and vanishes after it."""
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column

        # A line that is too long is cut: one that wraps could not be painted over.
        columns = (
            SpinnerColumn(table_column=Column(min_width=1, no_wrap=True)),
            TimeElapsedColumn(table_column=Column(min_width=len("0:00:00"), no_wrap=True)),
            TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis"),
            ),
        )
        return Progress(*columns, console=self._err(), transient=True)

    def show_progress(self, running: RunningStep, text: str, detail: str = "") -> None:
        """Say where a step is (see `RunningStep.progress`)."""
        with self._lock:
            task = self._tasks.get(running)
            if self._live is not None and task is not None:
                shown = " ".join(part for part in (text, detail) if part)
                self._live.update(task, description=f"{running.title}: {shown}")
            elif self.verbosity >= 0 and running.is_due():
                seconds = format_duration(running.seconds)
                self._say(f"… {running.title}: {text or detail}, {seconds}")

    def progress(self, text: str) -> None:
        """Say where the step is that began last."""
        with self._lock:
            if self._live is not None and self._tasks:
                self.show_progress(list(self._tasks)[-1], text)
                return
        self.detail(text)


def format_duration(seconds: float) -> str:
    """Return a time as h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def format_seconds(seconds: float) -> str:
    """Return a time as seconds, or as h:mm:ss where it is long."""
    return f"{seconds:.1f} s" if seconds < 60 else format_duration(seconds)


# Seconds between two lines about a step that runs, where lines stay.
_HEARTBEAT = 30.0

# Columns that no row fills: a script that reads a table gets one line a row.
_NO_WRAP = 100_000

_STYLES = {
    "ok": "green",
    "pass": "green",
    "missing": "red",
    "fail": "red",
    "warn": "yellow",
    "incomplete": "yellow",
    "skip": "yellow",
}

terminal = Terminal()
