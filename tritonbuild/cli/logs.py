"""logs: what the steps of the last build said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from tritonbuild.cli.options import (
    Json,
    Recipes,
    WorkDir,
    complete_step,
    open_book,
    open_workspace,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tritonbuild.engine.history import StepLog
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan


def logs(
    step: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            help="A step's number, id, or how its id begins.", autocompletion=complete_step
        ),
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Say why the step failed that failed last.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as the log grows, until the step ends.")
    ] = False,
    work_dir: WorkDir = None,
    recipes: Recipes = None,
    as_json: Json = False,
) -> None:
    """List the logs of the last build's steps, print one, or say why one failed. Needs a build."""
    import json

    from tritonbuild.console import terminal
    from tritonbuild.engine.history import find_step_name, list_logs
    from tritonbuild.errors import UsageError

    if failed and (step or follow):
        msg = "--failed goes neither with a step nor with --follow"
        raise UsageError(msg, hint="`tritonbuild logs STEP` prints the whole log of a step")
    if follow and as_json:
        msg = "--follow does not go with --json"
        raise UsageError(msg, hint="--follow prints the log as it is; --json says where it is")
    ws, plan = open_workspace(work_dir)
    if failed:
        _explain(ws, plan, recipes, as_json=as_json)
        return
    steps = list_logs(plan, ws)
    if follow:
        _follow(ws, plan, _choose_running(steps, plan, step))
        return
    if step is None:
        _list(steps, as_json=as_json)
        return
    name = find_step_name(plan, step)
    chosen = next(one for one in steps if one.name == name)
    if as_json:
        terminal.output(json.dumps(chosen.to_dict(), indent=2))
        return
    for block in _read(_require_log(chosen).log):
        terminal.output(block.decode(errors="replace"))


def _list(steps: list[StepLog], *, as_json: bool) -> None:
    import json

    from tritonbuild.console import terminal

    if as_json:
        terminal.output(json.dumps([one.to_dict() for one in steps], indent=2))
        return
    rows = [
        (
            one.name,
            one.state,
            "" if one.seconds is None else f"{one.seconds:.1f}",
            "" if one.size is None else _format_size(one.size),
            "" if one.size is None else str(one.log),
        )
        for one in steps
    ]
    terminal.table(("STEP", "STATE", "SECONDS", "SIZE", "LOG"), rows)


def _format_size(size: int) -> str:
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size} B"


def _explain(ws: Workspace, plan: Plan, recipes: Path | None, *, as_json: bool) -> None:
    """Print what was said when the step failed, as data."""
    import json

    from tritonbuild.console import terminal
    from tritonbuild.engine.diagnose import describe_step_failure, diagnose
    from tritonbuild.engine.history import find_step, list_logs, require_failure
    from tritonbuild.recipe.failures import load_rules

    failure = require_failure(plan, ws)
    one = next(one for one in list_logs(plan, ws) if one.name == failure.name)
    step = find_step(plan, failure.name)
    rules = load_rules(open_book(recipes))
    if as_json:
        found = diagnose(one.log, step.kind, rules=rules)
        content = one.to_dict() | {"returncode": failure.returncode} | found.to_dict()
        terminal.output(json.dumps(content, indent=2))
        return
    error = describe_step_failure(
        step=failure.name, title=step.title, kind=step.kind, returncode=failure.returncode,
        log=one.log, script=one.script, rules=rules,
    )  # fmt: skip
    terminal.output(error.message)
    terminal.info(f"hint: {error.hint}")


def _require_log(one: StepLog) -> StepLog:
    from tritonbuild.errors import NothingToDoError

    if one.size is None:
        msg = f"{one.name} has no log: " + (
            "it has not run" if one.state == "-" else "it started no program"
        )
        raise NothingToDoError(msg, hint="`tritonbuild logs` lists the steps and their logs")
    return one


def _choose_running(steps: list[StepLog], plan: Plan, wanted: str | None) -> StepLog:
    """Return the step that is named, else the one whose log was written to last.

    Raises:
        NothingToDoError: No step runs, and none is named.
    """
    from tritonbuild.engine.history import find_step_name
    from tritonbuild.errors import NothingToDoError

    if wanted is not None:
        name = find_step_name(plan, wanted)
        return next(one for one in steps if one.name == name)
    running = [one for one in steps if one.state == "running"]
    if not running:
        msg = "no step is running"
        raise NothingToDoError(msg, hint="`tritonbuild logs STEP` prints the log of a step")
    return max(running, key=lambda one: one.log.stat().st_mtime_ns)


def _follow(ws: Workspace, plan: Plan, one: StepLog) -> None:
    """Print a log as it grows, until its step or the whole build has ended."""
    import time

    from tritonbuild.console import terminal
    from tritonbuild.engine.history import list_logs

    offset = 0
    while True:
        now = next(other for other in list_logs(plan, ws) if other.name == one.name)
        if now.size is not None:
            offset = 0 if now.size < offset else offset  # it began anew
            for block in _read(now.log, offset):
                # Half a line can wait until the rest of it is there.
                part = block[: block.rfind(b"\n") + 1] if now.state == "running" else block
                offset += len(part)
                if part:
                    terminal.output(part.decode(errors="replace"))
        waits = now.state == "-" and _is_held(ws)
        if now.state != "running" and not waits:
            if now.size is None:
                _require_log(now)
            return
        time.sleep(_POLL)


# Seconds between two looks at a log that grows.
_POLL = 0.2


def _is_held(ws: Workspace) -> bool:
    from tritonbuild.engine.history import find_holder

    return find_holder(ws) is not None


def _read(path: Path, offset: int = 0) -> Iterator[bytes]:
    """Yield a log in blocks of whole lines: it may be larger than memory."""
    with path.open("rb") as file:
        file.seek(offset)
        while block := file.read(1 << 20):
            yield block + file.readline(1 << 20)
