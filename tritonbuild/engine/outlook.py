"""What a build would do again, told beforehand from what an earlier one left; changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild.engine.build import plan_in, read_plan_of
from tritonbuild.engine.state import describe_change, read_done
from tritonbuild.paths import Workspace
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import StepKind, key_of, key_parts_of
from tritonbuild.recipe.fields import ProviderKind

if TYPE_CHECKING:
    from tritonbuild.plan.model import Plan, Request
    from tritonbuild.recipe.load import RecipeBook


def foresee(
    book: RecipeBook, request: Request, plan: Plan, work_dir: Path | None
) -> tuple[Plan, dict[str, str]]:
    """Return the plan of the next build and, where there was one before, what it would do again.

    The machine is taken to be the one of the earlier build: asking it takes programs.

    Args:
        book: The recipes.
        request: What the user asked for.
        plan: The plan for any machine.
        work_dir: Where the earlier build is; the usual place where it is not said.

    Returns:
        The plan; for each step `kept`, or why it would be done again. Empty without a build.
    """
    ws = Workspace((work_dir or Path("build") / plan.selection.work_name).resolve())
    before = read_plan_of(ws)
    if before is None or before.selection.provider is not plan.selection.provider:
        return plan, {}
    if plan.selection.provider is ProviderKind.SOURCE:
        plan = plan_in(book, request, ws, before.machine)
    else:
        plan = make_plan(book, request)
    return plan, _compare(plan, ws)


def _compare(plan: Plan, ws: Workspace) -> dict[str, str]:
    """Return for each step whether it is kept, as far as the plan and the notes tell."""
    outlook: dict[str, str] = {}
    keys: dict[str, str] = {}
    runs: dict[str, str] = {}
    for step in plan.steps:
        # The number may be another one by now: then the next build gives it the new one.
        found = [path for path in ws.state_dir.glob(f"[0-9]*-{step.id}.json")
                 if path.stem.partition("-")[2] == step.id]  # fmt: skip
        done = read_done(max(found, key=_read_time)) if found else None
        again = [other for other in step.needs if outlook[other] != "kept"]
        if done is None:
            outlook[step.id] = "to do: not done yet"
        elif again:
            outlook[step.id] = f"to do again, after {', '.join(again)}"
        else:
            # What is not in the plan (commits, compilers) is taken to be as it was.
            needed = {other: keys[other] for other in step.needs}
            parts = key_parts_of(step, needed, {})
            known = {name: value for name, value in done.parts.items() if name in parts}
            same = key_of(known) == key_of(parts) and done.key is not None
            anew = [other for other in step.needs if done.made_from.get(other) != runs[other]]
            if step.kind is StepKind.SOURCES and plan.selection.checkouts:
                outlook[step.id] = "to do again: local checkouts are looked at in every build"
            elif same and not anew:
                outlook[step.id] = "kept"
            else:
                why = describe_change(known, parts, made_anew=anew)
                outlook[step.id] = f"to do again, {why}"
            keys[step.id] = done.key or ""
            runs[step.id] = done.run
    return outlook


def _read_time(path: Path) -> int:
    return path.stat().st_mtime_ns
