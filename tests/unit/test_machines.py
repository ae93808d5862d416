"""Other machines of a build: what names them, what may not be told, and what stands before compilers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tritonbuild.engine.build import plan_in
from tritonbuild.engine.machines import Machines, check_machines
from tritonbuild.engine.toolchain import Toolchain
from tritonbuild.errors import UsageError
from tritonbuild.executors.distcc import (
    Helper,
    describe_trouble,
    format_hosts,
    parse_helpers,
    write_launcher,
)
from tritonbuild.executors.remotecache import parse_remote
from tritonbuild.paths import Workspace
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Executor, Machine, Request, StepKind
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import RecipeBook

BOOK = RecipeBook.open()
MACHINE = Machine(
    "arm64", "debian-12", "12.2.0", "3.25.1", "2.36", "3.11.2", "this machine", 4, 3 << 30
)
HELPERS = (Helper("laptop", 8), Helper("10.0.0.7:4200", 4))


def test_helpers_are_read():
    text = "laptop/8,10.0.0.7:3632/4, me@big-one.lan/16,@pi/1,[fe80::1]:3633/2"
    assert [str(one) for one in parse_helpers(text)] == [part.strip() for part in text.split(",")]


@pytest.mark.parametrize(
    "text",
    [
        "", "laptop", "laptop/0", "laptop/x", "laptop/8,", "laptop/8 pi/2", "a;b/2", "$(id)/2",
        "--randomize", "-x/2", "laptop/8,lzo", "me@host:/opt/distccd/2", "a/9999", "localhost/2",
        "a/2,a/3",
    ],
)  # fmt: skip
def test_what_is_no_helper_is_refused(text):
    with pytest.raises(UsageError) as caught:
        parse_helpers(text)
    assert caught.value.hint


def test_what_runs_here_is_bounded_by_memory_and_preprocessors_by_cores():
    assert format_hosts(HELPERS, local=2, cores=4) == (
        "--localslots=2 --localslots_cpp=4 laptop/8 10.0.0.7:4200/4 localhost/2"
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("distcc[1] ERROR: compile s.cc on h/1 failed with exit code 110\n", "it has no g++-12"),
        (
            "distcc[1] (dcc_writex) ERROR: failed to write: Connection reset by peer\ndistcc[1] ERROR: x",
            "--allow",
        ),
        (
            "s.cc:1: error: no\ndistcc[1] ERROR: compile s.cc on h/1 failed\n",
            "fails on a small file: s.cc:1: error: no",
        ),
        ("timed out after 60 seconds", "timed out"),
        ("", "does not say why"),
    ],
)
def test_trouble_is_told_in_one_line(said, told):
    text = describe_trouble(said, "g++-12")
    assert told in text
    assert "\n" not in text


def test_launcher_asks_distcc_for_files_of_the_build_only(tmp_path):
    distcc = tmp_path / "a distcc"
    distcc.write_text('#!/bin/sh\nprintf "distcc %s" "$*"\n')
    distcc.chmod(0o755)
    launcher = tmp_path / "tools" / "distcc"
    write_launcher(launcher, distcc)
    check = tmp_path / "b" / "CMakeFiles" / "CMakeScratch" / "TryCompile-x"
    check.mkdir(parents=True)

    def run(folder: Path, **env: str) -> str:
        return subprocess.run(
            [launcher, "/bin/echo", "-c", "a b.cc"], cwd=folder, capture_output=True, text=True,
            check=True, env={"PATH": os.environ["PATH"], **env},
        ).stdout.strip()  # fmt: skip

    assert run(tmp_path, DISTCC_HOSTS="h/1") == "distcc /bin/echo -c a b.cc"
    assert run(tmp_path) == "-c a b.cc"
    assert run(check, DISTCC_HOSTS="h/1") == "-c a b.cc"


# --- a shared cache ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://cache", "redis://cache"),
        ("redis://user:secret@cache:6380/1|read-only", "redis://cache:6380/1"),
        ("http://secret@[::1]:8080/x|bearer-token=secret", "http://[::1]:8080/x"),
    ],
)
def test_address_is_shown_without_what_is_secret(text, shown):
    found = parse_remote(text)
    assert found.value == text
    assert str(found) == shown
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        "secret", "secret@cache:6379", "https://secret@cache", "file:///secret", "ftp://secret@c",
        "redis://secret@", "http://secret@cache:x", "http://secret@cache:99999", "http://secret@c/a b",
        "redis://secret@a redis://b", "http://secret@cache-*|shards=a,b", "http://secret@c\n",
    ],
)  # fmt: skip
def test_address_that_ccache_cannot_use_is_refused_and_not_shown(text):
    with pytest.raises(UsageError) as caught:
        parse_remote(text)
    assert caught.value.hint
    assert "secret" not in caught.value.message + caught.value.hint


# --- what goes with what ----------------------------------------------------------------------


def make(tmp_path: Path, executor: Executor | None):
    provider = ProviderKind.SOURCE if executor else ProviderKind.WHEEL
    request = Request("orangepi5b", os="debian-12", provider=provider, executor=executor)
    if executor is None:
        return make_plan(BOOK, request)
    return plan_in(BOOK, request, Workspace(tmp_path), MACHINE)


@pytest.mark.parametrize("executor", [Executor.EMULATED, Executor.CROSS, None], ids=str)
def test_helpers_are_for_native_builds(tmp_path, executor):
    with pytest.raises(UsageError, match="--distcc does not go with") as caught:
        check_machines(make(tmp_path, executor), HELPERS, None, use_ccache=True)
    assert caught.value.hint


def test_shared_cache_is_for_builds_with_ccache(tmp_path):
    remote = parse_remote("redis://cache")
    for executor in (Executor.NATIVE, Executor.EMULATED, Executor.CROSS):
        check_machines(make(tmp_path, executor), (), remote, use_ccache=True)
    with pytest.raises(UsageError, match="--executor buildx"):
        check_machines(make(tmp_path, Executor.BUILDX), (), remote, use_ccache=True)
    with pytest.raises(UsageError, match="--no-ccache"):
        check_machines(make(tmp_path, Executor.NATIVE), (), remote, use_ccache=False)
    with pytest.raises(UsageError, match="--from wheel"):
        check_machines(make(tmp_path, None), (), remote, use_ccache=True)


@pytest.mark.parametrize("ccache", [None, Path("/usr/bin/ccache")], ids=str)
def test_checks_of_a_configure_step_stay_here(tmp_path, ccache):
    plan, ws = make(tmp_path, Executor.NATIVE), Workspace(tmp_path)
    toolchain = Toolchain("/usr/bin", "g++", "g++", ccache, tmp_path / "t")
    for step in plan.steps:
        if step.kind in (StepKind.CONFIGURE, StepKind.BUILD):
            env = Machines(HELPERS).make_environment(plan, ws, step, toolchain)
            assert ("DISTCC_HOSTS" in env) is (step.kind is StepKind.BUILD)
            assert ("CCACHE_PREFIX" in env) is (ccache is not None)
            assert ("CMAKE_CXX_COMPILER_LAUNCHER" in env) is (ccache is None)
            # Without helpers the launchers are there already: somebody may name one later.
            alone = Machines().make_environment(plan, ws, step, toolchain)
            assert {name: env[name] for name in alone} == alone
            assert all(name.endswith("_LAUNCHER") for name in alone)
            assert "CMAKE_CXX_LINKER_LAUNCHER" in alone
