"""A plan and a work directory in, a checked tree out."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        write_text(ws.plan_path, plan.to_json())
        _remove_stale_scripts(plan, ws)
        return run_plan(plan, ws, WheelRunner(plan, ws, make_dir(cache_dir())))


def _remove_stale_scripts(plan: Plan, ws: Workspace) -> None:
    """Delete scripts and states of steps that are in no plan any more."""
    names = {plan.name_of(step) for step in plan.steps}
    for folder in (ws.scripts_dir, ws.state_dir):
        for path in folder.iterdir():
            if path.stem not in names:
                path.unlink()
