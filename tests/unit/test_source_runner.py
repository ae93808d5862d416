"""What a source build takes from this machine: compilers that decide results, and its memory."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from tritonbuild.console import terminal
from tritonbuild.engine import build, durable, memory, source
from tritonbuild.engine.build import BuildOptions, build_plan
from tritonbuild.engine.jobs import JobPool
from tritonbuild.engine.outside import Outside
from tritonbuild.engine.source import SourceRunner
from tritonbuild.engine.toolchain import Toolchain, describe_programs
from tritonbuild.engine.workplace import Workplace
from tritonbuild.errors import HostError
from tritonbuild.executors.cgroup import MemoryReading
from tritonbuild.executors.native import ScriptResult
from tritonbuild.executors.sandbox import DIRECT
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
COMPILER = "g++ (Debian 12.2.0-14) 12.2.0"
TOOLCHAIN = Toolchain(
    path="/usr/bin", compiler=COMPILER, description=describe_programs(COMPILER, "1.13.0", MACHINE),
    ccache=None, file=Path("/w/t"),
)  # fmt: skip


def make(work_dir: Path):
    request = Request(
        board="orangepi5b", os="debian-12", provider=ProviderKind.SOURCE, components=("rknn",)
    )
    layout = SourceLayout.of_work_dir(PurePosixPath(work_dir))
    return make_plan(BOOK, request, layout=layout, machine=MACHINE)


def make_runner(tmp_path: Path, toolchain: Toolchain = TOOLCHAIN):
    """Return a runner as it is once the sources are there, and its plan."""
    plan = make(tmp_path)
    runner = SourceRunner(
        plan, Workspace(tmp_path), Outside(tmp_path), JobPool(1), (), use_ccache=True
    )
    runner._lock = Lock()
    runner._place = Workplace(DIRECT, toolchain)
    return runner, plan


def list_inputs(tmp_path: Path, toolchain: Toolchain = TOOLCHAIN):
    """Return what decides each step's result besides the plan."""
    runner, plan = make_runner(tmp_path, toolchain)
    return {step.id: (step.kind, runner.inputs(step)) for step in plan.steps}


@pytest.mark.parametrize(
    "description",
    [
        describe_programs("g++ (Debian 12.2.0-15) 12.2.0", "1.13.0", MACHINE),
        describe_programs(COMPILER, "1.14.0", MACHINE),
        describe_programs(COMPILER, "1.13.0", replace(MACHINE, cmake="3.31.0")),
        describe_programs(COMPILER, "1.13.0", replace(MACHINE, glibc="2.39")),
        describe_programs(COMPILER, "1.13.0", replace(MACHINE, python="3.12.1")),
    ],
    ids=["compiler", "ninja", "cmake", "glibc", "python"],
)
def test_another_toolchain_compiles_anew_and_fetches_nothing(tmp_path, description):
    before = list_inputs(tmp_path)
    after = list_inputs(tmp_path, replace(TOOLCHAIN, description=description))
    decided = {
        name
        for name, (kind, inputs) in after.items()
        if kind not in (StepKind.ASSEMBLE, StepKind.VERIFY) and inputs != before[name][1]
    }
    assert {"configure-core", "build-core", "configure-rknn", "build-rknn"} <= decided
    assert {after[name][0] for name in decided} == {StepKind.CONFIGURE, StepKind.BUILD}


def test_ccache_decides_nothing(tmp_path):
    with_it = replace(TOOLCHAIN, ccache=PurePosixPath("/usr/bin/ccache"))
    assert list_inputs(tmp_path, with_it) == list_inputs(tmp_path)


# --- a lost machine ---------------------------------------------------------------------------


@pytest.fixture
def steps(tmp_path):
    Workspace(tmp_path).make()
    return {step.kind: step for step in make(tmp_path).steps if step.component == "rknn"}


@pytest.mark.parametrize(
    ("note", "spoilt"),
    [
        pytest.param(None, [], id="none"),
        pytest.param("{boot} build\n", [], id="killed"),
        pytest.param("another build\n", [StepKind.CONFIGURE], id="lost while it compiled"),
        pytest.param("another patch\n", [StepKind.FETCH], id="lost while it patched"),
        pytest.param("", [StepKind.FETCH, StepKind.CONFIGURE], id="the note was lost"),
        pytest.param("\0" * 40, [StepKind.FETCH, StepKind.CONFIGURE], id="the note is garbage"),
    ],
)
def test_what_was_worked_on_when_the_machine_was_lost_is_made_anew(tmp_path, steps, note, spoilt):
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    if note is not None:
        (tmp_path / "state" / "rknn.underway").write_text(note.format(boot=boot))
    ws = Workspace(tmp_path)
    assert [kind for kind, step in steps.items() if durable.is_spoilt(ws, step)] == spoilt


@pytest.mark.parametrize("ends", ["well", "with an error"])
def test_only_while_a_step_works_it_is_noted(tmp_path, steps, monkeypatch, ends):
    ws = Workspace(tmp_path)
    runner, _ = make_runner(tmp_path)
    seen = []

    def run(*_, **__):
        seen.append((tmp_path / "state" / "rknn.underway").read_text().split()[1:])
        if ends != "well":
            raise HostError(ends)
        return ScriptResult(0, 1.0, killed_for_memory=False, tail="")

    flushed = []
    monkeypatch.setattr(source, "run_build_script", run)
    monkeypatch.setattr(
        os, "sync", lambda: flushed.append(ws.state_dir.joinpath("rknn.underway").exists())
    )
    with contextlib.suppress(HostError), terminal.step("x") as shown:
        runner.run(steps[StepKind.BUILD], "14-build-rknn", {}, shown)
    assert seen == [["build"]]
    assert flushed[0] is True, "the disk first, then the note"
    assert not (tmp_path / "state" / "rknn.underway").exists()


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
