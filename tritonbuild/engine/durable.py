"""What a build keeps when the machine itself is lost: power cuts, crashed kernels.

A file that was written shortly before may then be there with its name and time, and empty. So a step
is only noted as done when all that it left is on the disk. What Ninja or a patch wrote while the
machine went down is not trusted either: it is made from an earlier step's result, which it has
changed, so that one is done again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild.paths import write_text
from tritonbuild.plan.model import StepKind

if TYPE_CHECKING:
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Step

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# The step that makes something from nothing, and the later one that works on it.
_WORKERS = {StepKind.FETCH: StepKind.PATCH, StepKind.CONFIGURE: StepKind.BUILD}


def flush() -> None:
    """Wait until everything that was written is on the disk."""
    os.sync()


def note_start(ws: Workspace, step: Step) -> None:
    """Note that a step begins to change what an earlier one left."""
    if step.kind in _WORKERS.values():
        write_text(_note_of(ws, step), f"{_read_boot()} {step.kind}\n")


def note_end(ws: Workspace, step: Step) -> None:
    """Note that a step has ended, well or not: what it left is on the disk."""
    flush()
    _note_of(ws, step).unlink(missing_ok=True)


def is_spoilt(ws: Workspace, step: Step) -> bool:
    """Return whether the machine was lost while a later step worked on what this one left."""
    try:
        words = _note_of(ws, step).read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    worker = _WORKERS.get(step.kind)
    if worker is None or (words and words[0] == _read_boot()):
        return False
    # Where the note itself did not reach the disk, nobody knows what did.
    return words[1:] == [str(worker)] or len(words) != 2


def _note_of(ws: Workspace, step: Step) -> Path:
    return ws.state_dir / f"{step.component}.underway"


def _read_boot() -> str:
    """Return what names this run of the kernel."""
    try:
        return _BOOT_ID.read_text(encoding="utf-8").strip()
    except OSError:
        return "unknown"
