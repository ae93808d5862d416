"""Builds for an arm64 board on another machine: in its root, or with a cross compiler."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from tritonbuild import proc
from tritonbuild.arch import Arch
from tritonbuild.engine.systems import make_step_compilers
from tritonbuild.executors.compilers import BIN, Compilers
from tritonbuild.executors.rootfs import Root
from tritonbuild.executors.sandbox import Sandbox
from tritonbuild.paths import Workspace, cache_dir
from tritonbuild.plan.layout import HOST_PROGRAMS
from tritonbuild.plan.model import read_plan

pytestmark = [pytest.mark.emulation, pytest.mark.network, pytest.mark.timeout(900)]

CROSS = ("--executor", "cross", "--os", "debian-12")
# Its core is the same as that of everything.
RKNN = ("--component", "ensemble", "--component", "rknn")


@pytest.fixture(scope="module")
def emulated_build(arm64_world, tmp_path_factory) -> Workspace:
    """A finished build of everything; tests must not change it."""
    work = tmp_path_factory.mktemp("emulated-build") / "work"
    outcome = arm64_world.build(work, timeout=900)
    assert outcome.code == 0, outcome.stderr
    assert "run under QEMU" not in outcome.stderr, "the host's compilers did the work"
    return Workspace(work)


@pytest.fixture(scope="module")
def cross_build(arm64_world, emulated_build, tmp_path_factory) -> Workspace:
    """The same with a cross compiler, after the emulated one: they share roots and compilers."""
    work = tmp_path_factory.mktemp("cross-build") / "work"
    if Arch.native() is Arch.ARM64:
        pytest.skip("on arm64 nothing has to be cross-compiled")
    world = replace(arm64_world, executor=CROSS)
    outcome = world.build(work, timeout=900)
    assert outcome.code == 0, outcome.stderr
    return Workspace(work)


def read_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def outputs_of(ws: Workspace, step: str):
    path = next(path for path in ws.state_dir.glob("*.json") if path.stem.endswith(f"-{step}"))
    return read_json(path)["outputs"]


@pytest.fixture(scope="module")
def systems(emulated_build) -> tuple[Root, Compilers]:
    folder = outputs_of(emulated_build, "compilers")["compilers"]
    return Root(Path(outputs_of(emulated_build, "build-root")["root"])), Compilers(Path(folder))


def test_tree_is_for_the_board_and_the_server_in_it_answers(emulated_build, arm64_world):
    verified = read_json(emulated_build.verify_path)
    assert verified["arch"] == "arm64"
    assert verified["files"] >= 8
    installs = set(verified["to_install"].values())
    assert {"libarchive13", "libnuma1", "libpython3.11", "python3-numpy"} == installs
    done = arm64_world.run(
        "smoke", "--work-dir", emulated_build.root, "--json", cwd=emulated_build.root, timeout=300
    )
    assert done.code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["passed"]
    assert {"http-binary", "onnx-auto", "ensemble"} <= {
        one["name"] for one in report["results"] if one["status"] == "pass"
    }


def test_tree_is_that_of_a_native_build(emulated_build, source_build):
    """Same files with the same modes, and the same in each ELF file but what names a machine."""
    trees = {}
    for ws in (emulated_build, source_build):
        files = read_json(ws.manifest_path)["files"]
        trees[ws.root] = {entry["path"]: (entry.get("mode"), entry.get("link")) for entry in files}
    assert trees[emulated_build.root] == trees[source_build.root]
    for path in trees[emulated_build.root]:
        facts = []
        for ws in (emulated_build, source_build):
            file = ws.tritonserver_dir / path
            if not file.is_symlink() and file.read_bytes()[:4] == b"\x7fELF":
                facts.append(read_dynamic(file))
        assert len(facts) in (0, 2), path
        assert facts[:1] == facts[1:], path


def read_dynamic(file: Path) -> list[str]:
    said = subprocess.run(
        ["readelf", "--dynamic", "--wide", file], check=True, capture_output=True, text=True
    )
    tags = ("(NEEDED)", "(SONAME)", "(RUNPATH)", "(RPATH)")
    found = [line.split(None, 2)[1:] for line in said.stdout.splitlines()
             if any(tag in line for tag in tags)]  # fmt: skip
    return sorted(" ".join(each) for each in found if "ld-linux" not in each[1])


def test_cross_build_gives_the_same_bytes(cross_build, emulated_build, arm64_world):
    assert arm64_world.sums(cross_build.root) == arm64_world.sums(emulated_build.root)
    installs = [read_json(ws.verify_path)["to_install"] for ws in (cross_build, emulated_build)]
    assert installs[0] == installs[1]


PROJECT = """\
cmake_minimum_required(VERSION 3.18)
project(probe C CXX)
include(CheckCSourceRuns)
check_c_source_runs("int main(void) { return sizeof(long) != 8; }" RUNS)
if(NOT RUNS)
  message(FATAL_ERROR "try_run does not run")
endif()
find_package(ZLIB REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(ARCHIVE REQUIRED libarchive)
find_program(GIT git REQUIRED)
find_library(HOSTS_ONLY NAMES opcodes-2.40-arm64)
if(HOSTS_ONLY)
  message(FATAL_ERROR "a library of this machine is found: ${HOSTS_ONLY}")
endif()
message(STATUS "zlib ${ZLIB_LIBRARIES} archive ${ARCHIVE_LIBRARY_DIRS} git ${GIT}")
message(STATUS "for ${CMAKE_SYSTEM_PROCESSOR}, cross ${CMAKE_CROSSCOMPILING}")
file(WRITE ${CMAKE_BINARY_DIR}/generator.cc [=[
#include <iostream>
int main() { std::cout << "int main() { return 0; }"; }
]=])
add_executable(generator ${CMAKE_BINARY_DIR}/generator.cc)
add_custom_command(OUTPUT made.cc COMMAND generator > made.cc)
add_executable(made ${CMAKE_BINARY_DIR}/made.cc)
target_link_libraries(made PRIVATE ZLIB::ZLIB)
"""


def test_cross_build_sees_the_boards_libraries_and_runs_what_it_makes(cross_build, arm64_world):
    project = cross_build.root / "probe"
    project.mkdir()
    (project / "CMakeLists.txt").write_text(PROJECT)
    try:
        done = arm64_world.run(
            "shell", "build-rknn", "--work-dir", cross_build.root, "--", "sh", "-ec",
            'cmake -S "$0" -B "$0/b" && ninja -C "$0/b" && "$0/b/made" && uname -m', project,
            cwd=cross_build.root, timeout=300,
        )  # fmt: skip
    finally:
        shutil.rmtree(project)
    assert done.code == 0, done.stdout + done.stderr
    assert "zlib /sysroot/usr/lib/aarch64-linux-gnu/libz.so " in done.stdout
    assert "git /usr/bin/git" in done.stdout
    assert "for aarch64, cross TRUE" in done.stdout
    assert done.stdout.endswith("x86_64\n")


def test_cross_build_does_not_tell_where_the_boards_headers_were(cross_build, arm64_world):
    """Else `__FILE__` in them, and so the bytes, would be other than those of an emulated build."""
    done = arm64_world.run(
        "shell", "build-rknn", "--work-dir", cross_build.root, "--", "sh", "-ec",
        'printf "#include <stdio.h>\nFILE *f;\n" >/tmp/a.c; cd /tmp; '
        f'{BIN}/gcc --sysroot=/sysroot $CFLAGS -g -c a.c; grep -c /usr/include a.o; '
        '! grep -q /sysroot a.o',
        cwd=cross_build.root,
    )  # fmt: skip
    assert done.code == 0, done.stdout + done.stderr


def test_nothing_is_done_again(emulated_build, arm64_world):
    again = arm64_world.build(emulated_build.root, "--json")
    assert again.code == 0, again.stderr
    assert set(arm64_world.statuses(again).values()) == {"kept"}


def test_compilers_take_only_programs_from_this_machine(systems):
    root, compilers = systems
    place = Sandbox(root.tree, network=False).with_bind(compilers.tree, HOST_PROGRAMS)
    place = place.with_path(BIN)
    said = proc.capture(place.argv(["g++", "-x", "c++", "-std=c++17", "-M", "-include", "vector",
                                    "-include", "stdint.h", "/dev/null"]))  # fmt: skip
    assert said.returncode == 0, said.output
    headers = [word for word in said.output.split() if word.endswith((".h", "vector"))]
    assert "/usr/include/c++/12/vector" in headers
    assert [one for one in headers if str(HOST_PROGRAMS) in os.path.normpath(one)] == []
    for name in ("crtbeginS.o", "libgcc.a", "libstdc++.so"):
        said = proc.capture(place.argv(["readlink", "-f", *_print_file_name(place, name)]))
        assert said.output.startswith("/usr/lib/"), name


def _print_file_name(place: Sandbox, name: str) -> list[str]:
    return proc.capture(place.argv(["g++", f"-print-file-name={name}"])).output.split()


def test_own_compiler_called_by_its_path_works_beside_the_hosts(systems, tmp_path):
    root, compilers = systems
    (tmp_path / "a.c").write_text("int main(void) { return 0; }\n")
    place = Sandbox(root.tree, network=False).with_bind(compilers.tree, HOST_PROGRAMS)
    place = place.with_bind(tmp_path, PurePosixPath("/w"), writable=True).with_path(BIN)
    done = proc.capture(place.argv(["/usr/bin/gcc", "-O2", "/w/a.c", "-o", "/w/a"]))
    assert done.returncode == 0, done.output
    assert proc.capture(place.argv(["/w/a"])).returncode == 0


@pytest.fixture
def step_of(emulated_build):
    plan = read_plan(emulated_build.plan_path.read_text(encoding="utf-8"), "plan.json")
    return plan, plan.find_step("compilers")


def test_other_compilers_are_not_used_and_the_cost_is_said(step_of, tmp_path, capsys):
    """GCC 11's cross compiler for a root that has GCC 12."""
    plan, step = step_of
    other = replace(step, details={**step.details, "gcc": "11"})
    ws = Workspace(tmp_path / "work")
    ws.make()
    outputs = make_step_compilers(plan, other, "03-compilers", ws, cache_dir())
    assert outputs["compilers"] is None
    said = capsys.readouterr().err
    assert "the root has no /usr/lib/gcc/aarch64-linux-gnu/11" in said
    assert "takes some eight times as long" in said


def test_compilers_that_compile_differently_are_not_used(step_of, tmp_path, capsys, monkeypatch):
    plan, step = step_of
    ws = Workspace(tmp_path / "work")
    ws.make()
    monkeypatch.setattr(Compilers, "difference", "one file came out differently")
    outputs = make_step_compilers(plan, step, "03-compilers", ws, cache_dir())
    assert outputs["compilers"] is None
    said = capsys.readouterr().err
    assert "is not like the root's own: one file came out differently" in said


def test_without_acceleration_the_roots_own_compile(step_of, tmp_path, capsys):
    plan, step = step_of
    plain = replace(plan, selection=replace(plan.selection, accelerate=False))
    ws = Workspace(tmp_path / "work")
    ws.make()
    outputs = make_step_compilers(plain, step, "03-compilers", ws, cache_dir())
    assert outputs == {"compilers": None, "reason": "--no-accelerate"}
    assert "run under QEMU" in capsys.readouterr().err


def test_command_can_be_run_where_scripts_run(emulated_build, arm64_world):
    script = next(emulated_build.scripts_dir.glob("*-install-rknn.sh"))
    done = subprocess.run(
        [emulated_build.entry_path, "sh", "-c", 'uname -m; test -r "$0" && touch /nowhere', script],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "aarch64\n"
    assert "Read-only file system" in done.stderr
    said = arm64_world.run(
        "shell", "build-rknn", "--work-dir", emulated_build.root, "--", "sh", "-c",
        'uname -m; echo "$CXX"; pwd', cwd=emulated_build.root,
    )  # fmt: skip
    assert said.code == 0, said.stderr
    machine, compiler, folder = said.stdout.splitlines()
    assert machine == "aarch64"
    assert compiler == str(BIN / "aarch64-linux-gnu-g++")
    assert folder == str(emulated_build.root / "build" / "rknn" / "build")


def mounts_and_processes(folder: Path) -> list[str]:
    found = [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        found += [line] if str(folder) in line else []
    return found


def kill_while_it_builds(world, work: Path) -> None:
    """Kill a build once the core is configured; nothing of it is mounted or running then."""
    work.parent.mkdir()
    argv = [sys.executable, "-m", "tritonbuild", "-q", "build", *world.options, *RKNN,
            "--work-dir", work]  # fmt: skip
    child = subprocess.Popen(
        [str(word) for word in argv], cwd=work.parent,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while not (work / "build" / "tritonserver" / "build" / "build.ninja").exists():
        assert child.poll() is None, "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert mounts_and_processes(work)
    child.send_signal(signal.SIGKILL)
    child.wait()
    deadline = time.monotonic() + 5
    while mounts_and_processes(work) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert mounts_and_processes(work) == []


def test_killed_emulated_build_leaves_nothing(arm64_world, emulated_build, tmp_path):
    kill_while_it_builds(arm64_world, tmp_path / "killed" / "work")


def test_killed_cross_build_leaves_nothing_and_goes_on(
    arm64_world, cross_build, emulated_build, tmp_path
):
    work = tmp_path / "killed" / "work"
    world = replace(arm64_world, executor=CROSS)
    kill_while_it_builds(world, work)
    again = world.build(work, *RKNN, timeout=600)
    assert again.code == 0, again.stderr
    undisturbed = arm64_world.sums(emulated_build.root)
    found = arm64_world.sums(work)
    assert "backends/rknn/libtriton_rknn.so" in found
    assert {path: undisturbed.get(path) for path in found} == found


def test_docker_way_is_refused(arm64_world, tmp_path):
    outcome = arm64_world.build(tmp_path / "work", "--variant", "onnxruntime=docker")
    assert outcome.code == 2
    assert "calls docker" in outcome.stderr


def test_sandbox_has_a_network_where_ccache_asks_a_server(cross_build, arm64_world, run_redis):
    world, entry = replace(arm64_world, executor=CROSS), cross_build.root / "enter"
    url = f"redis://127.0.0.1:{run_redis()}"
    # What no cache of this machine knows.
    flags = f"rknn.CMAKE_CXX_FLAGS=-DNONCE={time.time_ns()}"
    outcome = world.build(cross_build.root, "--set", flags, "--ccache-remote", url)
    assert outcome.code == 0, outcome.stderr
    assert re.search(rf"^{url}: 0 of \d+ results found$", outcome.stderr, re.MULTILINE)
    assert f"{url} failed" not in outcome.stderr
    assert "--unshare-net" not in entry.read_text()
    outcome = world.build(cross_build.root)
    assert outcome.code == 0, outcome.stderr
    assert "--unshare-net" in entry.read_text()
