"""What a measurement hands back, and the arithmetic of all of them: medians, spreads, ratios."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

Row = dict[str, object]


@dataclass(frozen=True)
class Options:
    """What the command line asked for.

    Attributes:
        tritonbuild: The command line that starts tritonbuild.
        repeat: Rounds of every measurement; None leaves the number to each of them.
        quick: As little as shows that the benchmark works; its figures mean nothing.
    """

    tritonbuild: tuple[str, ...]
    repeat: int | None = None
    quick: bool = False

    def repeat_for(self, usual: int) -> int:
        """Return how many rounds a measurement makes that usually makes `usual`."""
        return self.repeat or (min(2, usual) if self.quick else usual)


@dataclass(frozen=True)
class Aim:
    """A figure that the project wants to stay below a limit.

    Attributes:
        what: What is limited.
        unit: Unit of both numbers.
        measured: The median that was measured.
        limit: What it must be below.
    """

    what: str
    unit: str
    measured: float
    limit: float

    @property
    def met(self) -> bool:
        """Whether the figure is below the limit."""
        return self.measured < self.limit


@dataclass(frozen=True)
class Table:
    """One measurement's figures.

    Attributes:
        name: What `--only` takes.
        title: What the figures are.
        rows: Name and value of each column; the names end in the unit.
        aims: Limits that apply to some of them.
        notes: What one has to know to read them.
    """

    name: str
    title: str
    rows: list[Row]
    aims: list[Aim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def spread(values: Sequence[float], factor: float = 1.0, digits: int = 1) -> str:
    """Return the lowest and the highest value, as `3.1 - 4.5`."""
    return f"{min(values) * factor:.{digits}f} - {max(values) * factor:.{digits}f}"


def in_ms(seconds: float) -> float:
    """Return seconds as milliseconds, to a tenth."""
    return round(seconds * 1e3, 1)


def ratio(value: float, base: float) -> float:
    """Return how many times `base` a value is, to two places."""
    return round(value / base, 2)


def time_call(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def time_command(
    argv: Sequence[str], *, env: Mapping[str, str | None] | None = None, cwd: Path | None = None
) -> float:
    """Return the seconds that a command takes, from its start until it is reaped.

    Raises:
        BuildError: It failed; a failure is not a figure.
    """
    started = time.perf_counter()
    run_command(argv, env=env, cwd=cwd)
    return time.perf_counter() - started


def run_command(
    argv: Sequence[str], *, env: Mapping[str, str | None] | None = None, cwd: Path | None = None
) -> str:
    """Run a command to its end and return what it wrote to stdout.

    Args:
        argv: Program and arguments.
        env: Additions to the environment; None takes a variable away.
        cwd: Working folder.

    Raises:
        BuildError: It failed; the message holds the end of what it said.
    """
    changed = {**os.environ, **(env or {})}
    child = subprocess.Popen(
        list(argv), env={name: value for name, value in changed.items() if value is not None},
        cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        stdout, stderr = child.communicate()
    except BaseException:
        # Asked, not killed: a build has programs of its own that write into our folder.
        proc.stop(child)
        raise
    if child.returncode != 0:
        said = "\n".join(
            f"  | {line}" for line in stderr.decode(errors="replace").splitlines()[-15:]
        )
        msg = f"{proc.format_argv(argv)} failed with exit code {child.returncode}\n{said}"
        raise BuildError(msg)
    return stdout.decode()
