"""plan and render: what will happen, before anything does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from tritonbuild.cli.options import (
    Board,
    Components,
    Executor,
    From,
    Jobs,
    Json,
    Mirror,
    Os,
    Recipes,
    Release,
    Settings,
    make_request,
    open_book,
)

if TYPE_CHECKING:
    from tritonbuild.plan.model import Plan


def plan(
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
    as_json: Json = False,
) -> None:
    """Print what a build would do, step by step and why. Offline, writes nothing."""
    from tritonbuild.console import terminal
    from tritonbuild.plan.make import make_plan

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
    made = make_plan(open_book(recipes), request)
    terminal.output(made.to_json() if as_json else format_plan(made))


def format_plan(plan: Plan) -> str:
    """Return a plan for people: the choice, the steps with their reasons, and what to know."""
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


def render(
    board: Board,
    build_dir: Annotated[Path, typer.Option(help="Where the script will build; absolute.")],
    output: Annotated[Path, typer.Option(help="Folder that gets cmake_build.")],
    server_dir: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The server's sources [the folder around --build-dir]."),
    ] = None,
    os: Os = None,
    release: Release = None,
    component: Components = None,
    mirror: Mirror = "upstream",
    jobs: Jobs = None,
    settings: Settings = None,
    recipes: Recipes = None,
) -> None:
    """Write cmake_build, a script that builds from source without tritonbuild. Offline."""
    from pathlib import PurePosixPath

    from tritonbuild.console import terminal
    from tritonbuild.errors import UsageError
    from tritonbuild.paths import make_dir, write_text
    from tritonbuild.plan.make import make_plan
    from tritonbuild.render.cmake_build import render_cmake_build

    for option, path in (("--build-dir", build_dir), ("--server-dir", server_dir)):
        if path is not None and not path.is_absolute():
            msg = f"{option} {path}: an absolute path is wanted"
            raise UsageError(msg, hint=f"the script changes folders: say {option} {path.resolve()}")
    request = make_request(
        board=board,
        os=os,
        release=release,
        provider="source",
        components=component,
        mirror=mirror,
        jobs=jobs,
        settings=settings,
    )
    book = open_book(recipes)
    made = make_plan(
        book,
        request,
        build_dir=PurePosixPath(build_dir),
        server_dir=PurePosixPath(server_dir) if server_dir else None,
    )
    path = make_dir(output) / "cmake_build"
    write_text(path, render_cmake_build(made, book), executable=True)
    terminal.output(str(path))
