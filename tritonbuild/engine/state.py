"""What is done: a file a step, with the key of everything that decided its result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritonbuild.paths import write_text

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Done:
    """A step that is done.

    Attributes:
        key: Checksum of all that decided the result; None is never taken as done again.
        outputs: What later steps need to know.
        seconds: How long it took.
    """

    key: str | None
    outputs: dict[str, Any]
    seconds: float


def read_done(path: Path) -> Done | None:
    """Return a step's state, None where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Done(content["key"], content["outputs"], content["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_done(path: Path, done: Done) -> None:
    """Note that a step is done."""
    content = {"key": done.key, "outputs": done.outputs, "seconds": round(done.seconds, 3)}
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
