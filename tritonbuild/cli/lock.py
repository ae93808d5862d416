"""lock: what a plan comes to today, written down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from tritonbuild.cli.options import Choice, Json, takes_choice

if TYPE_CHECKING:
    from tritonbuild.plan.model import Plan
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.sources.lock import Difference, Lock
    from tritonbuild.sources.resolve import Report
    from tritonbuild.sources.wheel import Wheel


@takes_choice()
def lock(
    choice: Choice,
    update: Annotated[
        bool, typer.Option("--update", help="Show what moved since, and take it.")
    ] = False,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="File to write, or to compare with [./tritonbuild.lock]."),
    ] = None,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Take --source checkouts with changes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write tritonbuild.lock: commits, submodules, checksums and digests. Fetches, builds nothing.

    Where there is one already, it is compared with what the plan comes to today.
    """
    from tritonbuild.console import terminal
    from tritonbuild.errors import SourceError
    from tritonbuild.sources.lock import LOCK_NAME, differences, write_lock

    path = (output or Path(LOCK_NAME)).absolute()
    before = _read_old(path, update=update)
    plan = plan_sources(choice)
    with terminal.step("resolve sources") as shown:
        found = resolve_plan(plan, choice.book, shown.progress, allow_dirty=allow_dirty)
    moved = differences(before, found) if before is not None else []
    if moved and not update:
        lines = [
            f"{path} is not what the plan comes to today:",
            *(f"  {d.format()}" for d in moved),
        ]
        hint = "`tritonbuild lock --update` with the same options takes it"
        raise SourceError("\n".join(lines), hint=hint)
    status = "written" if before is None else "updated" if moved else "unchanged"
    if before is None or update:
        write_lock(path, found)
    if as_json:
        terminal.output(_to_json(path, status, moved, found))
        return
    _report(path, status, moved, found)


def _read_old(path: Path, *, update: bool) -> Lock | None:
    """Return the lock that is there; one that cannot be read can still be replaced."""
    from tritonbuild.console import terminal
    from tritonbuild.errors import SourceError
    from tritonbuild.sources.lock import read_lock

    if not path.is_file():
        return None
    try:
        return read_lock(path)
    except SourceError as err:
        if not update:
            raise
        terminal.warning(f"{err.message}; it is written anew")
        return None


def _report(path: Path, status: str, moved: list[Difference], found: Lock) -> None:
    from tritonbuild.console import terminal

    for one in moved:
        terminal.output(one.format())
    for note in found.notes:
        terminal.info(note)
    counts = (
        f"{len(found.repositories)} repositories, {len(found.archives)} archives, "
        f"{len(found.wheels)} wheels, {len(found.images)} images"
    )
    terminal.info(f"{status}: {path} ({counts})")


def _to_json(path: Path, status: str, moved: list[Difference], found: Lock) -> str:
    import dataclasses
    import json

    content: dict[str, Any] = {
        "path": str(path),
        "status": status,
        "moved": [dataclasses.asdict(one) for one in moved],
        "lock": dataclasses.asdict(found),
    }
    return json.dumps(content, indent=2)


def plan_sources(choice: Choice) -> Plan:
    """Return the plan whose sources are wanted: for the board, or for this machine if so asked."""
    from tritonbuild.plan.make import make_plan

    if choice.request.executor is None:
        return make_plan(choice.book, choice.request)
    from tritonbuild.engine.build import plan_build

    # Nothing is built, so that no place for it can be wrong: this one is never made.
    return plan_build(choice.book, choice.request, Path("/build"))[0]


def wheels_of(plan: Plan) -> list[Wheel]:
    """Return the wheels that a plan fetches; none where it builds from source."""
    from tritonbuild.engine.wheel import wheel_of
    from tritonbuild.plan.model import StepKind
    from tritonbuild.recipe.fields import ProviderKind

    if plan.selection.provider is not ProviderKind.WHEEL:
        return []
    return [wheel_of(step) for step in plan.steps if step.kind is StepKind.FETCH]


def resolve_plan(plan: Plan, book: RecipeBook, report: Report, *, allow_dirty: bool) -> Lock:
    """Return what a plan comes to today; what it fetches stays in the cache."""
    import tempfile
    from dataclasses import replace

    from tritonbuild.paths import cache_dir, make_dir
    from tritonbuild.sources.bundle import lock_wheels
    from tritonbuild.sources.lock import Lock

    cache = make_dir(cache_dir())
    wheels = wheels_of(plan)
    if wheels:
        return replace(Lock(), wheels=lock_wheels(wheels)).sorted()
    with tempfile.TemporaryDirectory(dir=cache, prefix=".lock-") as name:
        return bring_plan(plan, book, Path(name) / "sources", None, report, allow_dirty=allow_dirty)


def bring_plan(
    plan: Plan,
    book: RecipeBook,
    store: Path,
    held: Lock | None,
    report: Report,
    *,
    allow_dirty: bool,
) -> Lock:
    """Bring the sources of a plan into a folder."""
    from tritonbuild.paths import cache_dir, make_dir
    from tritonbuild.plan.model import StepKind
    from tritonbuild.sources.rank import choose_mirrors
    from tritonbuild.sources.resolve import bring_sources, wanted_of

    step = next(step for step in plan.steps if step.kind is StepKind.SOURCES)
    wanted = wanted_of(step)
    cache = make_dir(cache_dir())
    return bring_sources(
        wanted,
        store=store,
        cache=cache,
        mirrors=choose_mirrors(book, plan.selection.mirror, wanted),
        lock=held,
        offline=False,
        allow_dirty=allow_dirty,
        log=cache / "logs" / "sources.log",
        report=report,
    )
