"""build: from a plan to a checked /opt/tritonserver tree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonbuild.cli.options import (
    Board,
    Components,
    Executor,
    From,
    Jobs,
    Json,
    Mirror,
    NewWorkDir,
    Os,
    Recipes,
    Release,
    Settings,
    make_request,
    open_book,
)

if TYPE_CHECKING:
    from tritonbuild.engine.run import StepResult
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan


def build(
    board: Board,
    os: Os = None,
    release: Release = None,
    provider: From = "source",
    executor: Executor = None,
    component: Components = None,
    mirror: Mirror = "upstream",
    jobs: Jobs = None,
    settings: Settings = None,
    recipes: Recipes = None,
    work_dir: NewWorkDir = None,
    as_json: Json = False,
) -> None:
    """Fetch, assemble and check /opt/tritonserver; a second run does only what is left."""
    from tritonbuild.console import terminal
    from tritonbuild.engine.build import build_plan
    from tritonbuild.errors import UsageError
    from tritonbuild.paths import Workspace, remember
    from tritonbuild.plan.make import make_plan
    from tritonbuild.recipe.model import ProviderKind

    request = make_request(
        board=board,
        os=os,
        release=release,
        provider=provider,
        executor=executor,
        components=component,
        mirror=mirror,
        jobs=jobs,
        settings=settings,
    )
    plan = make_plan(open_book(recipes), request)
    if plan.selection.provider is not ProviderKind.WHEEL:
        msg = "this version of tritonbuild builds from wheels only"
        raise UsageError(
            msg, hint="say --from wheel, or `tritonbuild render` a script that builds from source"
        )
    ws = Workspace((work_dir or Path("build") / plan.selection.work_name).resolve())
    results = build_plan(plan, ws)
    try:
        remember(ws.root)
    except OSError as err:
        terminal.warning(
            f"cannot note this build for later verbs ({err.filename}: {err.strerror}): "
            f"they need --work-dir {ws.root}"
        )
    _report(plan, ws, results, as_json=as_json)


def _report(plan: Plan, ws: Workspace, results: list[StepResult], *, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from tritonbuild.console import terminal

    verified = json.loads(ws.verify_path.read_text(encoding="utf-8"))
    if as_json:
        content = {
            "work_dir": str(ws.root),
            "tree": str(ws.tritonserver_dir),
            "steps": [asdict(result) for result in results],
            "verify": verified,
        }
        terminal.output(json.dumps(content, indent=2))
        return
    rows = [(r.name, r.title, r.status, f"{r.seconds:.1f}") for r in results]
    terminal.table(("STEP", "WHAT", "STATUS", "SECONDS"), rows)
    terminal.output("\n" + format_verification(plan.selection.os, verified))
    terminal.info(f"\n{ws.tritonserver_dir} is ready for {plan.selection.board}")
    terminal.info(
        "next: `tritonbuild smoke` proves that it answers, `tritonbuild package` packs it"
    )


def format_verification(system: str, verified: dict[str, Any]) -> str:
    """Return what the ELF check found, in a few lines: against what, how new, from where."""
    against = {"root": f"the libraries of {system}", "recipe": f"the recipe's list for {system}"}
    needs = [
        f"{prefix} {needed['version']} of {verified['board'][prefix]}"
        for prefix, needed in verified["highest"].items()
        if prefix in verified["board"]
    ]
    packages = sorted(set(verified["system_libraries"].values()))
    checked = f"{verified['files']} {verified['arch']} ELF files checked"
    lines = [
        f"{checked} against {against[verified['source']]}: no problem",
        f"  highest symbol versions: {', '.join(needs)}",
        f"  taken from the board: {', '.join(packages)}",
    ]
    if verified["to_install"]:
        lines.append(
            f"  to install there: {' '.join(sorted(set(verified['to_install'].values())))}"
        )
    return "\n".join(lines)
