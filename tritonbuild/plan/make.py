"""Recipes and a request in, a plan out: the same answer on any machine, no network, no process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import tritonbuild
from tritonbuild.errors import RecipeError
from tritonbuild.plan.archive import plan_archive_steps
from tritonbuild.plan.fitness import check_cuda, check_machine
from tritonbuild.plan.flags import resolve_flags
from tritonbuild.plan.jobs import count_jobs
from tritonbuild.plan.layout import SourceLayout
from tritonbuild.plan.model import Machine, Plan
from tritonbuild.plan.options import MACHINES, SourceOptions
from tritonbuild.plan.packages import packages_of
from tritonbuild.plan.select import lineage, resolve_selection
from tritonbuild.plan.source import plan_source_steps
from tritonbuild.plan.wheel import plan_wheel_steps
from tritonbuild.recipe.fields import ProviderKind

if TYPE_CHECKING:
    from tritonbuild.plan.model import JobCount, Request, Selection
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import Board


def make_plan(
    book: RecipeBook,
    request: Request,
    *,
    layout: SourceLayout | None = None,
    machine: Machine | None = None,
    options: SourceOptions | None = None,
) -> Plan:
    """Return what a request comes to.

    Args:
        book: The recipes.
        request: What the user asked for.
        layout: Where a source build works, and in which form its commands are; a work directory
            below /build where it is not said.
        machine: The machine that a native source build runs on; one like the board, with the
            versions that the os recipe has, where it is not said.
        options: What build.py's options ask for.

    Raises:
        RecipeError: A recipe is missing or wrong.
        UsageError: The request contradicts itself or the board.
    """
    book = _suit_to_release(book, request)
    selection = resolve_selection(book, request, machine)
    board = book.board(selection.board)
    options = _complete_options(book, options or SourceOptions(platform=board.platform), selection)
    if options.machine is not None:
        selection = replace(selection, arch=MACHINES[options.machine])
    notes = _collect_notes(book, selection, request)
    if selection.provider.is_ready_made:
        resolve_flags(book, selection, dict.fromkeys(selection.components, ""))
        is_wheel = selection.provider is ProviderKind.WHEEL
        steps = (plan_wheel_steps if is_wheel else plan_archive_steps)(book, selection)
        return Plan(tritonbuild.__version__, selection, steps, {}, (), (), notes)
    layout = layout or SourceLayout.of_build(
        selection.executor, PurePosixPath("/build") / selection.work_name
    )
    machine = machine or _describe_machine(book, selection)
    notes += check_machine(book, selection, machine)
    prefixes = {name: str(layout.install_prefix_of(name)) for name in selection.components}
    archives_dir = str(layout.build_dir / "archives")
    jobs = _count_all(book, selection, machine, request.jobs)
    counts = {job.component: job.count for job in jobs}
    flags = resolve_flags(book, selection, prefixes, archives_dir, options=options, jobs=counts)
    check_cuda(selection, flags)
    if not options.core_build:
        jobs = tuple(job for job in jobs if book.component(job.component).kind != "core")
    return Plan(
        tritonbuild.__version__,
        selection,
        plan_source_steps(book, selection, flags, jobs, layout, machine, options),
        flags,
        jobs,
        packages_of(book, selection),
        notes,
        machine,
    )


def _complete_options(
    book: RecipeBook, options: SourceOptions, selection: Selection
) -> SourceOptions:
    """Return options with the ready-made libraries that the board has, where none were named."""
    board = book.board(selection.board)
    if not options.board_switches:
        return options
    libraries = {n: path for n, path in board.libraries.items() if n in selection.components}
    return replace(options, library_paths={**libraries, **options.library_paths})


def _suit_to_release(book: RecipeBook, request: Request) -> RecipeBook:
    """Return the recipes as the release wants them; a name that is wrong is found out later."""
    name = request.release or book.board(request.board).release
    return book.suit_to(book.release(name)) if name in book.names("releases") else book


def _describe_machine(book: RecipeBook, selection: Selection) -> Machine:
    """Return a machine like the board, with the versions that its operating system has."""
    system = book.operating_system(selection.os)
    if system.gcc is None or system.cmake is None:
        where = book.locate("os", system.name)
        msg = f"{where}: a source build has to know the versions of gcc and cmake"
        raise RecipeError(msg, hint="add `gcc: VERSION` and `cmake: VERSION`")
    return Machine(
        selection.arch, system.name, system.gcc, system.cmake, system.glibc, system.python,
        f"os/{system.name}",
    )  # fmt: skip


def _count_all(
    book: RecipeBook, selection: Selection, machine: Machine, wanted: int | None
) -> tuple[JobCount, ...]:
    board = book.board(selection.board)
    counts = []
    for name in selection.components:
        component = book.component(name)
        if component.source is None:
            continue
        counts.append(
            count_jobs(
                name,
                cores=machine.cores or board.cpu.cores,
                memory=machine.memory or board.memory,
                memory_per_job=component.source.memory_per_job,
                wanted=wanted,
            )
        )
    return tuple(counts)


def _collect_notes(book: RecipeBook, selection: Selection, request: Request) -> tuple[str, ...]:
    board = book.board(selection.board)
    system = book.operating_system(selection.os)
    notes = [
        f"{board.name}: {note}" for note in (*board.notes, *(board.npu.notes if board.npu else ()))
    ]
    notes += _collect_limits(board, selection, request)
    notes += [f"{system.name}: {note}" for note in system.notes]
    notes += [f"{selection.release}: {note}" for note in book.release(selection.release).notes]
    for name in selection.components:
        component = book.component(name)
        if component.needs_npu and board.npu is None:
            notes.append(
                f"{name}: the recipe of {board.name} tells of no NPU, without which no model of its loads"
            )
        if selection.provider is ProviderKind.WHEEL and component.wheel:
            notes += [f"{name} from wheel: {limit}" for limit in component.wheel.limits]
        if selection.provider is ProviderKind.ARCHIVE and component.archive:
            notes += [f"{name} from archive: {limit}" for limit in component.archive.limits]
        if selection.provider is ProviderKind.SOURCE:
            parts = lineage(book, component)
            notes += [f"{name}: {note}" for part in parts for note in part.notes]
    return tuple(notes)


def _collect_limits(board: Board, selection: Selection, request: Request) -> list[str]:
    """Return what components cannot do on a board, and which of its own are left out."""
    notes = []
    for limit in board.limits:
        if limit.provider not in (None, selection.provider):
            continue
        if limit.component in selection.components:
            notes.append(f"{limit.component} on {board.name}: {limit.what}")
        elif limit.component in board.components and not request.components:
            notes.append(f"{limit.component} is left out: {limit.what}; instead: {limit.instead}")
    return notes
