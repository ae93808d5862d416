"""What ran in a work directory: each step's log, script and state, and which one failed."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tritonbuild.engine.state import read_done
from tritonbuild.errors import NothingToDoError, UsageError
from tritonbuild.recipe.load import suggest

if TYPE_CHECKING:
    from pathlib import Path

    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan, Step


@dataclass(frozen=True)
class StepLog:
    """What is there of one step.

    Attributes:
        name: `NN-<step>`.
        state: `done`, `incomplete`, `failed`, `running`, `stopped` (began and neither ended nor
            failed) or `-` where it has not run.
        seconds: Wall time, None where it has not ended.
        size: Bytes of the log, None where the step has none.
        log, script: Files; they need not be there.
    """

    name: str
    state: str
    seconds: float | None
    size: int | None
    log: Path
    script: Path

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return asdict(self) | {"log": str(self.log), "script": str(self.script)}


@dataclass(frozen=True)
class Failure:
    """The step that failed last.

    Attributes:
        name: `NN-<step>`.
        returncode: Exit code; negative is the signal that ended it.
    """

    name: str
    returncode: int


def read_failure(plan: Plan, ws: Workspace) -> Failure | None:
    """Return the step that failed last, None where none did, or where it is not in the plan."""
    try:
        content = json.loads(ws.failed_path.read_text(encoding="utf-8"))
        failure = Failure(str(content["step"]), int(content["returncode"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return failure if failure.name in {plan.name_of(step) for step in plan.steps} else None


def require_failure(plan: Plan, ws: Workspace) -> Failure:
    """Return the step that failed last.

    Raises:
        NothingToDoError: None did.
    """
    failure = read_failure(plan, ws)
    if failure is None:
        msg = f"no step has failed in {ws.root}"
        raise NothingToDoError(msg, hint="`tritonbuild logs` lists the steps; name one of them")
    return failure


def list_logs(plan: Plan, ws: Workspace) -> list[StepLog]:
    """Return what is there of each step, in the plan's order."""
    failure = read_failure(plan, ws)
    is_held = find_holder(ws) is not None
    return [
        _read_step(ws, plan.name_of(step), failure=failure, is_held=is_held) for step in plan.steps
    ]


def _read_step(ws: Workspace, name: str, *, failure: Failure | None, is_held: bool) -> StepLog:
    log = ws.logs_dir / f"{name}.log"
    size = log.stat().st_size if log.is_file() else None
    done = read_done(ws.state_dir / f"{name}.json")
    seconds = done.seconds if done else _read_seconds(log)
    if done:
        state = "incomplete" if done.key is None else "done"
    elif failure and failure.name == name:
        state = "failed"
    elif size is None:
        state = "-"
    else:
        # The twin is written when a program has ended.
        state = "running" if is_held and seconds is None else "stopped"
    return StepLog(name, state, seconds, size, log, ws.scripts_dir / f"{name}.sh")


def _read_seconds(log: Path) -> float | None:
    """Return how long the program ran whose log this is; None where it has not ended."""
    twin = log.with_suffix(".json")
    try:
        if twin.stat().st_mtime_ns < log.stat().st_mtime_ns - 10**9:  # of an earlier run
            return None
        return float(json.loads(twin.read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find_step_name(plan: Plan, wanted: str) -> str:
    """Return `NN-<step>` of the step that is meant by its number, id, name or start of an id.

    Raises:
        UsageError: It is none, or more than one.
    """
    names = {plan.name_of(step): step for step in plan.steps}
    exact = [name for name, step in names.items() if wanted in (name, step.id)]
    if not exact and wanted.isascii() and wanted.isdigit():
        exact = [name for name in names if int(name.split("-", 1)[0]) == int(wanted)]
    found = exact or [
        name
        for name, step in names.items()
        if wanted and (step.id.startswith(wanted) or name.startswith(wanted))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        msg = f'"{wanted}" is the start of {", ".join(found)}'
        raise UsageError(msg, hint="write some more of it, or the number")
    known = [*(step.id for step in plan.steps), *names]
    msg = f'there is no step "{wanted}"{suggest(wanted, known)}'
    raise UsageError(msg, hint="`tritonbuild logs` lists the steps")


def find_step(plan: Plan, name: str) -> Step:
    """Return the step of a `NN-<step>`."""
    return plan.find_step(name.split("-", 1)[1])


def find_holder(ws: Workspace) -> int | None:
    """Return the process that works in a work directory, None where none does."""
    try:
        pid = int(json.loads((ws.root / ".lock.holder").read_text(encoding="utf-8"))["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # another user's
        pass
    return pid
