"""What doctor tells: one finding for each need of a plan."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Status(str, Enum):
    """How a need is met."""

    OK = "ok"
    MISSING = "missing"
    OLD = "old"
    WARN = "warn"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Finding:
    """One line of what doctor tells.

    Attributes:
        tool: What was looked for.
        status: `missing` and `old` stop a build; `warn` does not.
        found: Version or state that was found; empty where there is nothing.
        needed: Version or state that is needed.
        why: What for.
        fix: The command that mends it; None where nothing has to be, or can be, done.
        by_hand: The command changes how this machine is secured or which of several versions is
            used, so it is shown and never run.
    """

    tool: str
    status: Status
    found: str
    needed: str
    why: str
    fix: tuple[str, ...] | None = None
    by_hand: bool = False

    @property
    def stops(self) -> bool:
        """Whether a build cannot work like this."""
        return self.status in (Status.MISSING, Status.OLD)


class Need(Protocol):
    """Something that a plan needs of the host."""

    @property
    def tool(self) -> str:
        """What it is called."""

    def examine(self) -> Finding:
        """Look at this machine."""


def apt_argv(*packages: str) -> tuple[str, ...]:
    """Return the command that installs Debian packages."""
    return ("apt-get", "install", "-y", "--no-install-recommends", *packages)


def parse_version(text: str) -> tuple[int, ...]:
    """Return the first dotted number of what a program says of itself, () where there is none."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def format_version(version: tuple[int, ...]) -> str:
    """Return a version as people write it."""
    return ".".join(map(str, version))
