"""What is done: a file a step, with the checksums of everything that decided its result."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tritonbuild.paths import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Done:
    """A step that is done.

    Attributes:
        key: Checksum of all that decided the result; None is never taken as done again.
        outputs: What later steps need to know.
        seconds: How long it took.
        parts: The checksum of each kind of thing that decided the result, to say what changed.
        run: Names this one run of the step; a step that is done again, even from the same, gets
            another one.
        made_from: The runs of the steps that it needs whose results it took.
    """

    key: str | None
    outputs: dict[str, Any]
    seconds: float
    parts: dict[str, str] = field(default_factory=dict)
    run: str = ""
    made_from: dict[str, str] = field(default_factory=dict)


def read_done(path: Path) -> Done | None:
    """Return a step's state, None where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Done(
            content["key"], content["outputs"], content["seconds"], content["parts"],
            content["run"], content["made_from"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_done(path: Path, done: Done) -> None:
    """Note that a step is done."""
    content = {
        "key": done.key,
        "outputs": done.outputs,
        "seconds": round(done.seconds, 3),
        "parts": done.parts,
        "run": done.run,
        "made_from": done.made_from,
    }
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def read_durations(path: Path) -> dict[str, float]:
    """Return how many seconds each step took the last time, by its id."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(seconds) for name, seconds in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def note_duration(path: Path, step_id: str, seconds: float) -> None:
    """Note how many seconds a step took; its state is forgotten before it runs again."""
    known = read_durations(path) | {step_id: round(seconds, 3)}
    write_text(path, json.dumps(known, indent=2, sort_keys=True) + "\n")


def describe_change(
    before: Mapping[str, str], now: Mapping[str, str], *, made_anew: Iterable[str] = ()
) -> str:
    """Return in words why a step that was done has to be done again.

    Args:
        before: Checksums of what decided the result that is there.
        now: The same for the result that is wanted.
        made_anew: Steps that it needs which were done again since.
    """
    changed = [name for name in now if before.get(name) != now[name]]
    changed += [name for name in before if name not in now]
    words = [_WORDS.get(name, name.removeprefix("needs ")) for name in dict.fromkeys(changed)]
    if words:
        return f"changed: {', '.join(words)}"
    again = ", ".join(made_anew)
    return f"made anew: {again}" if again else "what it left is gone or was changed"


_WORDS = {
    "commands": "its commands",
    "details": "its inputs",
    "environment": "its environment",
    "plan": "tritonbuild's own format",
}
