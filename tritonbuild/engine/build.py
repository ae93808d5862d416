"""A plan and a work directory in, a checked tree out."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tritonbuild.arch import Arch
from tritonbuild.console import terminal
from tritonbuild.engine.lock import hold
from tritonbuild.engine.run import run_plan
from tritonbuild.errors import HostError, TritonBuildError, UsageError
from tritonbuild.executors.buildx import BuildxOptions
from tritonbuild.paths import Workspace, cache_dir, make_dir, write_text
from tritonbuild.plan.layout import SourceLayout
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Executor, StepKind, read_plan
from tritonbuild.recipe.fields import ProviderKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonbuild.engine.run import StepResult
    from tritonbuild.executors.distcc import Helper
    from tritonbuild.executors.remotecache import RemoteCache
    from tritonbuild.plan.model import Machine, Plan, Request
    from tritonbuild.recipe.load import RecipeBook


@dataclass(frozen=True)
class BuildOptions:
    """How a plan is built.

    Attributes:
        lock: Lock to hold to; None takes ./tritonbuild.lock where there is one.
        offline: Folder or tar that `fetch` wrote; None asks the network.
        keep_going: After a failure, do what does not need what failed.
        allow_dirty: Take local checkouts with changes.
        use_ccache: Use ccache where it is installed.
        helpers: Machines to compile on, besides this one.
        remote: A compiler cache that machines share.
        buildx: How BuildKit is used, for the executor of that name.
    """

    lock: Path | None = None
    offline: Path | None = None
    keep_going: bool = False
    allow_dirty: bool = False
    use_ccache: bool = True
    helpers: tuple[Helper, ...] = ()
    remote: RemoteCache | None = None
    buildx: BuildxOptions = field(default_factory=BuildxOptions)


def plan_build(
    book: RecipeBook,
    request: Request,
    work_dir: Path | None,
    buildx: BuildxOptions | None = None,
) -> tuple[Plan, Workspace]:
    """Return the plan of a build on this machine, and where it is built.

    Args:
        book: The recipes.
        request: What the user asked for.
        work_dir: Where it is built; None takes the usual place.
        buildx: How BuildKit is used, if it is.

    Raises:
        HostError: A cross build that cannot be made here, or no builder for the board.
        TritonBuildError: See `make_plan`.
    """
    if request.provider is not None and request.provider.is_ready_made:
        plan = make_plan(book, request)
        return plan, Workspace((work_dir or Path("build") / plan.selection.work_name).resolve())
    from tritonbuild.engine.memory import measure_host

    executor = request.executor or _choose_executor(book, request)
    if executor is Executor.CROSS:
        _check_cross(Arch(book.board(request.board).arch))
    if executor is Executor.BUILDX:
        request = _suit_to_builder(book, request, buildx or BuildxOptions())
    request = dataclasses.replace(request, executor=executor)
    cores, memory = measure_host()
    machine = _find_machine(book, request, cores=cores, memory=memory)
    name = make_plan(book, request, machine=machine).selection.work_name
    ws = Workspace((work_dir or Path("build") / name).resolve())
    _check_path(ws.root)
    return plan_in(book, request, ws, machine), ws


def _choose_executor(book: RecipeBook, request: Request) -> Executor:
    """Return where a build runs that nobody said it of: here, if this machine is like the board."""
    from tritonbuild.executors.place import runs_directly

    board = book.board(request.board)
    wanted = [request.os] if request.os else list(board.os)
    arch = Arch(board.arch)
    if any(runs_directly(arch, name) for name in wanted):
        return Executor.NATIVE
    terminal.info(
        f"this machine is not like {board.name}: what is built runs in a root of the board's "
        "system (--executor emulated)"
    )
    return Executor.EMULATED


def _suit_to_builder(book: RecipeBook, request: Request, options: BuildxOptions) -> Request:
    """Return the request as the builder can do it best: one like the board emulates nothing.

    Raises:
        HostError: There is no builder for the board.
    """
    from tritonbuild.executors.buildx import find_builder

    arch = Arch(book.board(request.board).arch)
    builder = find_builder(options.builder, arch)
    if not builder.native:
        return request
    terminal.info(f"{builder} has an {arch} machine: nothing is emulated")
    return dataclasses.replace(request, accelerate=False)


def _check_cross(arch: Arch) -> None:
    """Refuse machines for which distributions have no cross compiler, before anything is made.

    Raises:
        HostError: This is one, or it needs none.
    """
    native = Arch.native()
    if native is arch or native is not Arch.AMD64:
        msg = f"there is no cross compiler for {arch} that runs on this machine ({native})"
        raise HostError(msg, hint="--executor emulated builds here; on arm64 it emulates nothing")


def _find_machine(book: RecipeBook, request: Request, *, cores: int, memory: int) -> Machine:
    """Return the machine that builds: this one, or one like the board with our cores and memory."""
    if request.executor is not Executor.NATIVE:
        described = make_plan(book, request).machine
        assert described is not None
        return dataclasses.replace(described, cores=cores, memory=memory)
    from tritonbuild.executors.machine import detect_machine

    machine = detect_machine(cores=cores, memory=memory)
    _warn_of_machine(book, request, machine)
    return machine


def _check_path(path: Path) -> None:
    """Refuse a folder that upstream's own CMake files cannot build in.

    They hand paths to linkers without quotes (rknn_backend: `-L${RKNN_LIB_PATHS}`), and PATH and
    MAKEFLAGS know no quotes at all. -Wl, is cut at commas, -ffile-prefix-map= at the first `=`.

    Raises:
        UsageError: Its path has blanks, quotes or such.
    """
    if not re.fullmatch(r"[\w./+@~-]+", str(path)):
        msg = f"sources cannot be built in {str(path)!r}: its path has blanks, quotes or the like"
        raise UsageError(msg, hint="choose a plain one with --work-dir")


def plan_in(book: RecipeBook, request: Request, ws: Workspace, machine: Machine | None) -> Plan:
    """Return the plan of a source build in a work directory."""
    layout = SourceLayout.of_build(request.executor, PurePosixPath(ws.root))
    return make_plan(book, request, layout=layout, machine=machine)


def _warn_of_machine(book: RecipeBook, request: Request, machine: Machine) -> None:
    """Say that the board cannot run what a native build makes on another machine."""
    board = book.board(request.board)
    if Arch(board.arch).value == machine.arch and machine.os in board.os:
        return
    what = f"this machine is {machine.arch} with {machine.os}; {board.name} is {board.arch} with "
    what += " or ".join(board.os)
    terminal.warning(f"{what}: what is built here runs here, not on the board")


def build_plan(
    plan: Plan, ws: Workspace, book: RecipeBook, options: BuildOptions
) -> list[StepResult]:
    """Build a plan in a work directory; steps that are done already are kept.

    Raises:
        HostError: Another process holds the work directory, or this machine lacks something.
        TritonBuildError: A step failed; running again goes on from there.
    """
    ws.make()
    with hold(ws, "build"):
        _record(plan, ws)
        renumber(plan, ws)
        try:
            if plan.selection.provider is ProviderKind.WHEEL:
                return _build_from_wheels(plan, ws, options)
            if plan.selection.provider is ProviderKind.ARCHIVE:
                return _build_from_archive(plan, ws, book, options)
            return _build_from_source(plan, ws, book, options)
        except KeyboardInterrupt:
            terminal.info("stopped; what is done is kept: the same command goes on from there")
            raise


def _build_from_wheels(plan: Plan, ws: Workspace, options: BuildOptions) -> list[StepResult]:
    from tritonbuild.engine.wheel import WheelRunner, wheel_of
    from tritonbuild.sources.bundle import check_wheels, import_wheels
    from tritonbuild.sources.lock import find_lock

    cache = make_dir(cache_dir())
    wheels = [wheel_of(step) for step in plan.steps if step.kind is StepKind.FETCH]
    check_wheels(find_lock(options.lock), wheels)
    if options.offline is not None:
        import_wheels(options.offline, wheels, cache=cache)
    runner = WheelRunner(plan, ws, cache)
    return run_plan(plan, ws, runner, keep_going=options.keep_going)


def _build_from_archive(
    plan: Plan, ws: Workspace, book: RecipeBook, options: BuildOptions
) -> list[StepResult]:
    from tritonbuild.engine.archive import ArchiveRunner
    from tritonbuild.engine.outside import make_outside

    outside = make_outside(
        plan, book, lock_path=options.lock, offline=options.offline, allow_dirty=False
    )
    return run_plan(plan, ws, ArchiveRunner(plan, ws, outside), keep_going=options.keep_going)


def _build_from_source(
    plan: Plan, ws: Workspace, book: RecipeBook, options: BuildOptions
) -> list[StepResult]:
    from tritonbuild.engine.jobs import JobPool
    from tritonbuild.engine.machines import find_machines
    from tritonbuild.engine.memory import MemoryBrake
    from tritonbuild.engine.outside import make_outside
    from tritonbuild.engine.source import SourceRunner, remove_stale_trees
    from tritonbuild.recipe.failures import load_rules

    outside = make_outside(
        plan,
        book,
        lock_path=options.lock,
        offline=options.offline,
        allow_dirty=options.allow_dirty,
    )
    remove_stale_trees(plan, ws)
    containers = None
    if plan.selection.executor is Executor.BUILDX:
        from tritonbuild.engine.containers import ContainerBuild

        containers = ContainerBuild(plan, ws, book, outside.cache, options.buildx)
    machines = find_machines(plan, ws, options.helpers, options.remote)
    tokens = max(job.count for job in plan.jobs) + machines.jobs
    memory = max(job.memory_per_job for job in plan.jobs)
    with JobPool(tokens, ws.root) as pool, MemoryBrake(pool, memory):
        runner = SourceRunner(
            plan, ws, outside, pool, load_rules(book),
            use_ccache=options.use_ccache, containers=containers, machines=machines,
        )  # fmt: skip
        try:
            return run_plan(plan, ws, runner, keep_going=options.keep_going)
        finally:
            machines.report(ws)


def _record(plan: Plan, ws: Workspace) -> None:
    """Write plan.json; a tree that another plan made is not finished for this one.

    Without its manifest nobody packs it under this plan's name, should this build fail.
    """
    before = read_plan_of(ws)
    if before is None or before.signature != plan.signature:
        ws.manifest_path.unlink(missing_ok=True)
    text = plan.to_json()
    if not ws.plan_path.is_file() or ws.plan_path.read_bytes() != text.encode():
        write_text(ws.plan_path, text)


def read_plan_of(ws: Workspace) -> Plan | None:
    """Return the plan of the build before, None where there is none that can be read."""
    try:
        return read_plan(ws.plan_path.read_text(encoding="utf-8"), str(ws.plan_path))
    except (OSError, TritonBuildError, ValueError):
        return None


def renumber(plan: Plan, ws: Workspace) -> None:
    """Give the files of each step the number that it has in this plan.

    A component or patch more moves those that come after it, and what they did is still done.
    Scripts and states of steps that are not in the plan are deleted.
    """
    names = {step.id: plan.name_of(step) for step in plan.steps}
    for folder in (ws.scripts_dir, ws.state_dir, ws.logs_dir):
        # Of several for one step the newest counts, and comes last.
        for path in sorted(folder.iterdir(), key=lambda one: one.lstat().st_mtime_ns):
            found = _NUMBERED.fullmatch(path.stem)
            if found is None or not path.is_file():
                continue
            name = names.get(found[2])
            # What a write that was killed left has a dot.
            if found[1] or (name is None and folder != ws.logs_dir):
                path.unlink()
            elif name is not None and name != path.stem:
                _rename(path, name)
    _rename_failure(names, ws)


# `NN-<step>`: what a step's script, log and state are called.
_NUMBERED = re.compile(r"(\.?)\d{2,}-(.+)")


def _rename(path: Path, name: str) -> None:
    target = path.with_name(name + path.suffix)
    if target.exists() and target.stat().st_mtime_ns > path.stat().st_mtime_ns:
        path.unlink()
        return
    path.replace(target)
    if path.suffix == ".sh":  # it says what it is called
        text = target.read_text(encoding="utf-8")
        write_text(target, text.replace(path.stem, name, 2), executable=True)


def _rename_failure(names: Mapping[str, str], ws: Workspace) -> None:
    """Let the note of the step that failed last name it as it is called now."""
    try:
        text = ws.failed_path.read_text(encoding="utf-8")
        before = str(json.loads(text)["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    found = _NUMBERED.fullmatch(before)
    name = names.get(found[2]) if found else None
    if name is None:
        ws.failed_path.unlink()
    elif name != before:
        write_text(ws.failed_path, text.replace(before, name))
