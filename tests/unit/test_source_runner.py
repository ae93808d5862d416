"""What a source build takes from this machine: compilers that decide results, and its memory."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from tritonbuild.engine import build, memory
from tritonbuild.engine.build import BuildOptions, build_plan
from tritonbuild.engine.jobs import JobPool
from tritonbuild.engine.source import Outside, SourceRunner
from tritonbuild.engine.toolchain import Toolchain
from tritonbuild.executors.cgroup import MemoryReading
from tritonbuild.paths import Workspace
from tritonbuild.plan.layout import SourceLayout
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Machine, Request, StepKind
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import RecipeBook
from tritonbuild.sources.lock import Lock

BOOK = RecipeBook.open()
MACHINE = Machine(
    "arm64", "debian-12", "12.2.0", "3.25.1", "2.36", "3.11.2", "this machine", 4, 8 << 30
)
TOOLCHAIN = Toolchain(
    Path("/w/tools"), "1.13.0", "g++ (Debian 12.2.0-14) 12.2.0", None, Path("/w/t")
)


def make(work_dir: Path, machine: Machine = MACHINE):
    request = Request(
        board="orangepi5b", os="debian-12", provider=ProviderKind.SOURCE, components=("rknn",)
    )
    layout = SourceLayout.of_work_dir(PurePosixPath(work_dir))
    return make_plan(BOOK, request, layout=layout, machine=machine)


def list_inputs(tmp_path: Path, machine: Machine = MACHINE, toolchain: Toolchain = TOOLCHAIN):
    """Return what decides each step's result besides the plan."""
    plan = make(tmp_path, machine)
    ws = Workspace(tmp_path)
    runner = SourceRunner(plan, ws, Outside(tmp_path), toolchain, JobPool(1), ())
    runner._lock = Lock()  # as the step of the sources leaves it
    return {step.id: (step.kind, runner.inputs(step)) for step in plan.steps}


@pytest.mark.parametrize(
    "changes",
    [
        {"toolchain": replace(TOOLCHAIN, compiler="g++ (Debian 12.2.0-15) 12.2.0")},
        {"toolchain": replace(TOOLCHAIN, ninja_version="1.14.0")},
        {"machine": replace(MACHINE, cmake="3.31.0")},
        {"machine": replace(MACHINE, glibc="2.39")},
        {"machine": replace(MACHINE, python="3.12.1")},
    ],
    ids=["compiler", "ninja", "cmake", "glibc", "python"],
)
def test_another_toolchain_compiles_anew_and_fetches_nothing(tmp_path, changes):
    before, after = list_inputs(tmp_path), list_inputs(tmp_path, **changes)
    decided = {
        name
        for name, (kind, inputs) in after.items()
        if kind not in (StepKind.ASSEMBLE, StepKind.VERIFY) and inputs != before[name][1]
    }
    assert {"configure-core", "build-core", "configure-rknn", "build-rknn"} <= decided
    assert {after[name][0] for name in decided} == {StepKind.CONFIGURE, StepKind.BUILD}


def test_ccache_decides_nothing(tmp_path):
    with_it = replace(TOOLCHAIN, ccache=Path("/usr/bin/ccache"))
    assert list_inputs(tmp_path, toolchain=with_it) == list_inputs(tmp_path)


def test_build_holds_jobs_back_while_memory_is_short(tmp_path, monkeypatch):
    """All of a build runs under the brake, with as many tokens as its plan says."""
    plan = make(tmp_path / "w")
    short = MemoryReading(1 << 20, None)
    monkeypatch.setattr(memory.MemoryBrake.__init__, "__kwdefaults__",
                        {"read": lambda: short, "interval": 0.01})  # fmt: skip
    seen = {}

    def run(plan, ws, runner, *, keep_going):
        pool = runner._pool
        with pool.implicit():
            limit = time.monotonic() + 10
            while pool.held < pool.count - 1 and time.monotonic() < limit:
                time.sleep(0.01)
        seen["tokens"] = (pool.count, pool.held)
        return []

    monkeypatch.setattr(build, "run_plan", run)
    build_plan(plan, Workspace(tmp_path / "w"), BOOK, BuildOptions())
    assert {job.component: job.count for job in plan.jobs} == {"core": 3, "rknn": 4}
    assert seen["tokens"] == (4, 3)
