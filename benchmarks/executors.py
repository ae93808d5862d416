"""What the ways to build for an arm64 board cost: one real C++ project, each way in turn.

The project is Debian's source package of protobuf, built by CMake and Ninja with Debian's compilers,
so that all ways compile the same with the same. ccache is left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from figures import Aim, Row, Table, ratio

from tritonbuild import proc
from tritonbuild.arch import Arch
from tritonbuild.engine.systems import make_step_compilers, make_step_root
from tritonbuild.engine.workplace import (
    find_plan_compilers,
    find_sandbox,
    get_root_of,
    make_workplace,
)
from tritonbuild.errors import BuildError, HostError
from tritonbuild.executors.buildx import find_builder
from tritonbuild.paths import Workspace
from tritonbuild.plan.layout import HOME, HOST_PROGRAMS
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Executor, Request, StepKind
from tritonbuild.recipe.load import RecipeBook
from tritonbuild.stage.image_base import write_base

if TYPE_CHECKING:
    from figures import Options

    from tritonbuild.plan.model import Plan

PACKAGE = "protobuf"

# What is compared with what, and at most how many times as long it may take.
_NEAR_CROSS = 1.25
_FASTER_THAN_PLAIN = 6.0


@dataclass(frozen=True)
class _Way:
    """A way to build.

    Attributes:
        native: Compile for this machine, in the root of tools of a cross build.
    """

    name: str
    executor: Executor
    accelerate: bool = True
    native: bool = False


_WAYS = (
    _Way("native x86-64", Executor.CROSS, native=True),
    _Way("cross", Executor.CROSS),
    _Way("emulated, accelerated", Executor.EMULATED),
    _Way("emulated, plain QEMU", Executor.EMULATED, accelerate=False),
    _Way("buildx, accelerated", Executor.BUILDX),
    _Way("buildx, plain QEMU", Executor.BUILDX, accelerate=False),
)


def measure_executors(options: Options) -> Table:
    """Make each root anew, then configure and build the project each way.

    Raises:
        TritonBuildError: This machine cannot build for arm64, or has no source packages.
    """
    if Arch.native() is not Arch.AMD64:
        msg = "these ways are compared on an x86-64 machine"
        raise HostError(msg, hint="leave `executors` out")
    rows: list[Row] = []
    builds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="tritonbuild-bench-") as name:
        folder = Path(name)
        cache = folder / "cache"
        source = _fetch_source(folder / "source")
        ways, missing = _list_ways()
        for way in ways:
            plan = _plan(way)
            ws = Workspace(folder / way.name.replace(" ", "-").replace(",", ""))
            ws.make()
            rows += [{"what": what, "seconds": f"{seconds:.1f}"}
                     for what, seconds in _make_systems(plan, ws, cache)]  # fmt: skip
            shutil.copytree(source, ws.root / "source", symlinks=True)
            if options.quick and not way.accelerate:
                continue
            measure = _build_in_container if way.executor is Executor.BUILDX else _build
            configure, build = measure(way, plan, ws, cache, quick=options.quick)
            builds[way.name] = configure + build
            rows.append({
                "what": f"{PACKAGE}: {way.name}", "configure_s": f"{configure:.1f}",
                "build_s": f"{build:.1f}", "seconds": f"{configure + build:.1f}",
            })  # fmt: skip
    _relate(rows, builds)
    notes = [
        f"Debian's {PACKAGE} {source.name.partition('-')[2]}, {os.cpu_count()} jobs, once each way.",
        "Roots are made with an empty cache; one that is there takes no time.",
        *missing,
    ]
    columns = ("what", "configure_s", "build_s", "seconds", "x_cross")
    rows = [{column: row.get(column) for column in columns} for row in rows]
    return Table("executors", "ways to build for arm64", rows, _aims(builds), notes)


def _list_ways() -> tuple[list[_Way], list[str]]:
    """Return what can be measured here, and a note of what cannot."""
    try:
        find_builder(None, Arch.ARM64)
    except HostError as err:
        ways = [way for way in _WAYS if way.executor is not Executor.BUILDX]
        return ways, [f"Without buildx: {err.message}."]
    return list(_WAYS), []


def _relate(rows: list[Row], builds: dict[str, float]) -> None:
    for row in rows:
        seconds = builds.get(str(row["what"]).partition(": ")[2])
        if seconds is not None:
            row["x_cross"] = ratio(seconds, builds["cross"])


def _aims(builds: dict[str, float]) -> list[Aim]:
    aims = []
    for name in ("emulated", "buildx"):
        fast, plain = builds.get(f"{name}, accelerated"), builds.get(f"{name}, plain QEMU")
        if fast is None:
            continue
        row = f"{name}, accelerated"
        aims.append(Aim(row, "x cross", ratio(fast, builds["cross"]), _NEAR_CROSS))
        if plain is not None:
            limit = ratio(1, _FASTER_THAN_PLAIN)
            aims.append(Aim(row, "x plain QEMU", ratio(fast, plain), limit))
    return aims


def _plan(way: _Way) -> Plan:
    request = Request(
        board="orangepi5b", os="debian-12", executor=way.executor, accelerate=way.accelerate
    )
    return make_plan(RecipeBook.open(None), request)


def _make_systems(plan: Plan, ws: Workspace, cache: Path) -> list[tuple[str, float]]:
    """Make the roots and compilers of a plan; return how long those took that were not there."""
    taken = []
    for step in plan.steps:
        started = time.perf_counter()
        if step.kind is StepKind.ROOT:
            make_step_root(step, plan.name_of(step), ws, cache)
        elif step.kind is StepKind.COMPILERS:
            make_step_compilers(plan, step, plan.name_of(step), ws, cache)
        else:
            continue
        seconds = time.perf_counter() - started
        if seconds > 0.5:
            taken.append((step.title, seconds))
    return taken


def _build(
    way: _Way, plan: Plan, ws: Workspace, cache: Path, *, quick: bool
) -> tuple[float, float]:
    """Configure and build; return the seconds of each."""
    place = make_workplace(plan, ws, cache, use_ccache=False)
    sandbox = find_sandbox(plan, ws, cache)
    environment = {"PATH": place.toolchain.path, **place.toolchain.environment}
    if not way.native:
        environment["CMAKE_TOOLCHAIN_FILE"] = str(place.toolchain.file)
    seconds = []
    for argv in _commands(quick=quick):
        started = time.perf_counter()
        proc.run(
            replace(sandbox, folder=PurePosixPath(ws.root)).argv(argv, environment),
            log=ws.logs_dir / f"{argv[0]}.log",
        )
        seconds.append(time.perf_counter() - started)
    return seconds[0], seconds[1]


def _commands(*, quick: bool) -> tuple[list[str], list[str]]:
    """Return what configures and what builds."""
    configure = ["cmake", "-G", "Ninja", "-S", "source", "-B", "build"]
    target = "libprotobuf-lite" if quick else "all"
    build = ["ninja", "-C", "build", f"-j{os.cpu_count()}", target]
    return [*configure, "-DCMAKE_BUILD_TYPE=Release", "-Dprotobuf_BUILD_TESTS=OFF"], build


def _build_in_container(
    way: _Way, plan: Plan, ws: Workspace, cache: Path, *, quick: bool
) -> tuple[float, float]:
    """Configure and build in a container; what brings system and sources there does not count."""
    place = make_workplace(plan, ws, cache, use_ccache=False)
    root = get_root_of(plan, "build-root", cache)
    context = ws.context_dir
    write_base(root.tree, context / "build-root.tar", 0)
    compilers = find_plan_compilers(plan, root, cache)
    shutil.copytree(
        compilers.tree if compilers else ws.state_dir, context / "native", symlinks=True
    )
    shutil.copytree(ws.root / "source", context / "source", symlinks=True)
    environment = {
        "PATH": place.toolchain.path,
        "CMAKE_TOOLCHAIN_FILE": str(place.toolchain.file),
        **place.toolchain.environment,
        # Nothing that an earlier run left in BuildKit counts.
        "TRITONBUILD_BENCH": f"{way.name} {time.time_ns()}",
    }
    configure, build = _commands(quick=quick)
    lines = [
        "FROM scratch AS ready",
        "ADD build-root.tar /",
        f"COPY native {HOST_PROGRAMS}",
        f"COPY tools {HOME}/tools",
        f"COPY toolchain.cmake {HOME}/",
        f"COPY source {HOME}/source",
        f"WORKDIR {HOME}",
        *(f"ENV {name}={json.dumps(value)}" for name, value in environment.items()),
        "FROM ready AS configured",
        f"RUN {json.dumps(configure)}",
        "FROM configured AS built",
        f"RUN {json.dumps(build)}",
    ]
    (context / "Dockerfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
    builder = find_builder(None, Arch.ARM64)
    seconds = []
    for stage in ("ready", "configured", "built"):
        more = ["--network=none", "--output=type=cacheonly", f"--target={stage}"]
        started = time.perf_counter()
        proc.run(builder.build(Arch.ARM64, context, *more), log=ws.logs_dir / f"{stage}.log")
        seconds.append(time.perf_counter() - started)
    return seconds[1], seconds[2]


def _fetch_source(folder: Path) -> Path:
    """Unpack the package's sources from where this machine's apt looks for packages.

    Raises:
        BuildError: apt cannot fetch them.
    """
    folder.mkdir(parents=True)
    sources = folder / "sources.list.d"
    sources.mkdir()
    for path in [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]:
        if path.is_file() and path.suffix in (".list", ".sources"):
            text = path.read_text(encoding="utf-8")
            text = re.sub(r"^(\s*)deb(\s)", r"\1deb-src\2", text, flags=re.MULTILINE)
            text = re.sub(r"^Types:.*$", "Types: deb-src", text, flags=re.MULTILINE)
            (sources / path.name).write_text(text, encoding="utf-8")
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True)
    apt = ["apt-get", "-o", "Dir::Etc::sourcelist=/dev/null",
           "-o", f"Dir::Etc::sourceparts={sources}", "-o", f"Dir::State::lists={lists}",
           "-o", "APT::Sandbox::User=root"]  # fmt: skip
    proc.run([*apt, "update"])
    proc.run([*apt, "source", "--download-only", PACKAGE], cwd=folder)
    described = next(folder.glob("*.dsc"))
    proc.run(["dpkg-source", "--no-check", "-x", described.name], cwd=folder)
    found = next((path for path in folder.glob(f"{PACKAGE}-*") if path.is_dir()), None)
    if found is None:
        msg = f"apt has no sources of {PACKAGE}"
        raise BuildError(msg, hint="look at /etc/apt/sources.list.d")
    return found
