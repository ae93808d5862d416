"""A plan and a work directory in, a checked tree out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonbuild.console import terminal
from tritonbuild.engine.lock import hold
from tritonbuild.engine.run import run_plan
from tritonbuild.engine.wheel import WheelRunner
from tritonbuild.paths import cache_dir, make_dir, write_text

if TYPE_CHECKING:
    from tritonbuild.engine.run import StepResult
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan


def build_plan(plan: Plan, ws: Workspace) -> list[StepResult]:
    """Build a plan in a work directory; steps that are done already are kept.

    Raises:
        HostError: Another process holds the work directory, or this machine lacks something.
        TritonBuildError: A step failed; running again goes on from there.
    """
    ws.make()
    with hold(ws, "build"):
        _record(plan, ws)
        _remove_stale_scripts(plan, ws)
        try:
            return run_plan(plan, ws, WheelRunner(plan, ws, make_dir(cache_dir())))
        except KeyboardInterrupt:
            terminal.info("stopped; what is done is kept: the same command goes on from there")
            raise


def _record(plan: Plan, ws: Workspace) -> None:
    """Write plan.json; a tree that another plan made is not finished for this one.

    Without its manifest nobody packs it under this plan's name, should this build fail.
    """
    text = plan.to_json()
    if not ws.plan_path.is_file() or ws.plan_path.read_bytes() != text.encode():
        ws.manifest_path.unlink(missing_ok=True)
    write_text(ws.plan_path, text)


def _remove_stale_scripts(plan: Plan, ws: Workspace) -> None:
    """Delete scripts and states of steps that are in no plan any more."""
    names = {plan.name_of(step) for step in plan.steps}
    for folder in (ws.scripts_dir, ws.state_dir):
        for path in folder.iterdir():
            if path.stem not in names:
                path.unlink()
