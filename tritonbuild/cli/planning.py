"""plan: what will happen, before anything does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonbuild.cli.options import Choice, Json, NewWorkDir, takes_choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonbuild.plan.model import Plan


@takes_choice()
def plan(choice: Choice, work_dir: NewWorkDir = None, as_json: Json = False) -> None:
    """Print what a build would do, step by step and why. Offline, writes nothing.

    Where such a build was made before, it says which steps would be done again.
    """
    import json

    from tritonbuild.console import terminal
    from tritonbuild.engine.outlook import foresee
    from tritonbuild.plan.make import make_plan

    made = make_plan(choice.book, choice.request)
    if as_json and work_dir is None:
        terminal.output(made.to_json())
        return
    made, outlook = foresee(choice.book, choice.request, made, work_dir)
    if as_json:
        content = json.loads(made.to_json()) | {"outlook": outlook}
        terminal.output(json.dumps(content, indent=2, sort_keys=True))
        return
    terminal.output(format_plan(made, outlook))


def format_plan(plan: Plan, outlook: Mapping[str, str]) -> str:
    """Return a plan for people: the choice, the steps with their reasons, and what to know.

    Args:
        plan: The plan.
        outlook: For each step of a build that was made before, `kept` or why it is done again.
    """
    chosen = plan.selection
    lines = [
        f"{chosen.board} ({chosen.arch}), {chosen.os}, Triton {chosen.release} from "
        f"{chosen.provider}" + (f", executor {chosen.executor}" if chosen.executor else ""),
        f"components: {', '.join(chosen.components)}",
    ]
    lines += [f"  {name} is added: {by} needs it" for name, by in chosen.added.items()]
    addresses = {
        str(address)
        for step in plan.steps
        for address in (step.details.get("mirror"), step.details.get("index"))
        if address
    }
    lines.append(f"mirror: {', '.join([chosen.mirror, *sorted(addresses)])}")
    if plan.jobs:
        lines += ["", "jobs:"]
        lines += [f"  {job.component}: -j{job.count} ({job.reason})" for job in plan.jobs]
    lines += ["", "steps:"]
    for step in plan.steps:
        lines += [f"  {plan.name_of(step)}: {step.title}", f"      {step.why}"]
        if step.id in outlook:
            lines.append(f"      {outlook[step.id]}")
    changed = [
        f"  {component}.{flag.name}={flag.value} ({flag.origin})"
        for component, flags in plan.flags.items()
        for flag in flags
        if flag.origin == "--set" or flag.origin.startswith("boards/")
    ]
    if changed:
        lines += ["", "switches that differ from the components' own:", *changed]
    if plan.packages:
        lines += ["", f"packages that the build needs: {' '.join(plan.packages)}"]
    if plan.notes:
        lines += ["", "to know:", *(f"  - {note}" for note in plan.notes)]
    return "\n".join(lines)
