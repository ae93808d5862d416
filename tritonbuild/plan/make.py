"""Recipes and a request in, a plan out: the same answer on any machine, no network, no process."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import tritonbuild
from tritonbuild.plan.flags import resolve_flags
from tritonbuild.plan.jobs import count_jobs
from tritonbuild.plan.model import Plan
from tritonbuild.plan.select import lineage, resolve_selection
from tritonbuild.plan.source import install_prefix_of, packages_of, plan_source_steps
from tritonbuild.plan.wheel import plan_wheel_steps
from tritonbuild.recipe.model import ProviderKind

if TYPE_CHECKING:
    from tritonbuild.plan.model import JobCount, Request, Selection
    from tritonbuild.recipe.load import RecipeBook


def make_plan(
    book: RecipeBook,
    request: Request,
    *,
    build_dir: PurePosixPath | None = None,
    server_dir: PurePosixPath | None = None,
) -> Plan:
    """Return what a request comes to.

    Args:
        book: The recipes.
        request: What the user asked for.
        build_dir: Where a source build works; absolute.
        server_dir: The server's sources; the folder around `build_dir` where it is not named, as
            in upstream's build.py.

    Raises:
        RecipeError: A recipe is missing or wrong.
        UsageError: The request contradicts itself or the board.
    """
    selection = resolve_selection(book, request)
    notes = _collect_notes(book, selection)
    if selection.provider is ProviderKind.WHEEL:
        resolve_flags(book, selection, dict.fromkeys(selection.components, ""))
        return Plan(
            tritonbuild.__version__, selection, plan_wheel_steps(book, selection), {}, (), (), notes
        )
    build_dir = build_dir or PurePosixPath("/build") / selection.work_name / "server" / "build"
    # As in upstream's build.py; but nobody wants a checkout in /.
    around = build_dir.parent if build_dir.parent.name else build_dir / "server"
    server_dir = server_dir or around
    prefixes = {name: install_prefix_of(name, build_dir) for name in selection.components}
    flags = resolve_flags(book, selection, prefixes)
    jobs = _count_all(book, selection, request.jobs)
    steps = plan_source_steps(book, selection, flags, jobs, build_dir, server_dir)
    packages = packages_of(book, selection)
    return Plan(tritonbuild.__version__, selection, steps, flags, jobs, packages, notes)


def _count_all(book: RecipeBook, selection: Selection, wanted: int | None) -> tuple[JobCount, ...]:
    board = book.board(selection.board)
    counts = []
    for name in selection.components:
        component = book.component(name)
        if component.source is None:
            continue
        counts.append(
            count_jobs(
                name,
                cores=board.cpu.cores,
                memory=board.memory,
                memory_per_job=component.source.memory_per_job,
                wanted=wanted,
            )
        )
    return tuple(counts)


def _collect_notes(book: RecipeBook, selection: Selection) -> tuple[str, ...]:
    board = book.board(selection.board)
    notes = [
        f"{board.name}: {note}" for note in (*board.notes, *(board.npu.notes if board.npu else ()))
    ]
    notes += [f"{selection.release}: {note}" for note in book.release(selection.release).notes]
    for name in selection.components:
        component = book.component(name)
        if selection.provider is ProviderKind.WHEEL and component.wheel:
            notes += [f"{name} from wheel: {limit}" for limit in component.wheel.limits]
        if selection.provider is ProviderKind.SOURCE:
            parts = lineage(book, component)
            notes += [f"{name}: {note}" for part in parts for note in part.notes]
    return tuple(notes)
