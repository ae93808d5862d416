"""doctor: what this machine has and lacks for a build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritonbuild.cli.options import (
    Board,
    Components,
    Executor,
    From,
    Json,
    NewWorkDir,
    Os,
    Recipes,
    Release,
    make_request,
    open_book,
)

if TYPE_CHECKING:
    from tritonbuild.doctor import Finding


def doctor(
    board: Board = "generic-arm64",
    os: Os = None,
    release: Release = None,
    provider: From = "wheel",
    executor: Executor = None,
    component: Components = None,
    recipes: Recipes = None,
    work_dir: NewWorkDir = None,
    fix: Annotated[bool, typer.Option("--fix", help="Run the commands that mend it.")] = False,
    as_json: Json = False,
) -> None:
    """Say what this machine has and lacks for a build, and what mends it. Needs nothing."""
    import json
    from os import geteuid

    from tritonbuild.arch import Arch
    from tritonbuild.console import terminal
    from tritonbuild.doctor import examine, make_needs, mend
    from tritonbuild.executors.place import runs_directly
    from tritonbuild.paths import cache_dir
    from tritonbuild.plan.make import make_plan

    request = make_request(
        board=board,
        os=os,
        release=release,
        provider=provider,
        executor=executor,
        components=component,
    )
    plan = make_plan(open_book(recipes), request)
    needs = make_needs(
        plan,
        native=Arch.native(),
        direct=runs_directly(Arch(plan.selection.arch), plan.selection.os),
        is_root=geteuid() == 0,
        work_dir=work_dir or Path("build") / plan.selection.work_name,
        cache=cache_dir(),
    )
    findings = mend(needs) if fix else examine(needs)
    if as_json:
        terminal.output(json.dumps([_to_json(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    _stop_if_lacking(findings)


def _to_json(finding: Finding) -> dict[str, object]:
    return {
        "tool": finding.tool,
        "status": finding.status.value,
        "found": finding.found,
        "needed": finding.needed,
        "why": finding.why,
        "fix": list(finding.fix) if finding.fix else None,
        "by_hand": finding.by_hand,
    }


def _print(findings: list[Finding]) -> None:
    import shlex

    from tritonbuild.console import terminal

    rows = [(f.tool, f.status.value, f.found, f.needed, f.why) for f in findings]
    terminal.table(("TOOL", "STATUS", "FOUND", "NEEDED", "WHY"), rows)
    fixes = {shlex.join(f.fix): f.tool for f in findings if f.fix and f.status != "ok"}
    if fixes:
        terminal.output("\nto mend:")
        for command, tool in fixes.items():
            terminal.output(f"  {command}    # {tool}")


def _stop_if_lacking(findings: list[Finding]) -> None:
    """Fail when something that a build cannot do without is missing.

    Raises:
        HostError: Names what is missing.
    """
    from tritonbuild.errors import HostError

    lacking = [finding.tool for finding in findings if finding.stops]
    if lacking:
        msg = f"this machine lacks: {', '.join(lacking)}"
        raise HostError(msg, hint="`tritonbuild doctor --fix` with the same options installs it")
