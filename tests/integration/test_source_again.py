"""A second source build of a work directory: what it takes as done, and what it does not fall for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from tritonbuild.paths import Workspace

RKNN = ("--component", "rknn")


@pytest.fixture(scope="module")
def built(world, tmp_path_factory):
    """A build of the core and rknn; each test leaves it built."""
    work = tmp_path_factory.mktemp("again") / "work"
    outcome = world.build(work, *RKNN)
    assert outcome.code == 0, outcome.stderr
    return Workspace(work), world.sums(work)


def find_again(world, outcome) -> set[str]:
    assert outcome.code == 0, outcome.stderr
    return {name for name, status in world.statuses(outcome).items() if status != "kept"}


def test_fetch_script_that_was_run_by_hand_is_noticed(world, built):
    """It clones anew: patches and CMake's folder are gone, and nobody told tritonbuild."""
    ws, sums = built
    script = next(ws.scripts_dir.glob("*-fetch-rknn.sh"))
    subprocess.run(["bash", script], check=True, capture_output=True)
    again = find_again(world, world.build(ws.root, *RKNN, "--json"))
    assert {"fetch-rknn", "configure-rknn", "build-rknn", "install-rknn"} <= again
    assert any(name.startswith("patch-rknn") for name in again)
    assert not any(name.endswith("-core") for name in again)
    assert world.sums(ws.root) == sums


def test_component_before_others_leaves_them_as_they_are(world, built):
    ws, sums = built
    choice = ("--component", "python", *RKNN)
    outcome = world.build(ws.root, *choice, "--json")
    again = find_again(world, outcome)
    assert "build-python" in again
    assert not any("rknn" in name or "-core" in name for name in again), again
    assert "the lock does not hold" not in outcome.stderr, "nobody keeps a lock here"
    scripts = {path.stem for path in ws.scripts_dir.iterdir()}
    numbers = [name.partition("-")[0] for name in sorted(scripts)]
    assert len(set(numbers)) == len(numbers) == len(world.statuses(outcome)) - 4
    planned = world.run(
        "plan", *world.options, *RKNN, "--work-dir", ws.root, cwd=ws.root, env=world.env
    )
    assert re.search(r"\d+-build-rknn: .*\n.*\n +kept\n", planned.stdout)
    assert not any("rknn" in name for name in find_again(world, world.build(
        ws.root, *RKNN, "--json")))  # fmt: skip
    assert world.sums(ws.root) == sums


def test_mirrors_are_measured_where_something_is_fetched(world, tmp_path):
    outcome = world.run(
        "lock", *world.options, *RKNN, "--mirror", "auto", cwd=tmp_path, env=world.env
    )
    assert outcome.code == 0, outcome.stderr
    (said,) = re.findall(r"^mirrors, the nearest first: (.*)$", outcome.stderr, re.MULTILINE)
    assert said.startswith("standins ("), "a folder of this machine is the nearest"
    assert "cn (" in said
    assert "upstream (" in said


def test_mirrors_are_not_measured_where_nothing_is_fetched(world, built):
    ws, _ = built
    options = [*RKNN, "--mirror", "auto", "--json"]
    outcome = world.build(ws.root, *options)
    assert "sources" not in find_again(world, outcome)
    assert "the nearest first" not in outcome.stderr


def test_power_cut_while_it_compiled_leaves_nothing_half_written(world, built):
    """As after a power cut: files with their names and times, and nothing in them."""
    ws, sums = built
    objects = sorted((ws.root / "build/rknn/build").rglob("*.[oa]"))
    assert objects
    for path in objects:
        status = path.stat()
        os.truncate(path, 0)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    next(ws.state_dir.glob("*-build-rknn.json")).unlink()
    (ws.state_dir / "rknn.underway").write_text("the-boot-before build\n")
    again = find_again(world, world.build(ws.root, *RKNN, "--json"))
    assert {"configure-rknn", "build-rknn", "install-rknn"} <= again
    assert not any(name.endswith("-core") or name == "fetch-rknn" for name in again)
    assert world.sums(ws.root) == sums
    assert not list(ws.state_dir.glob("*.underway"))


def test_ccache_is_used_where_it_is_and_decides_nothing(world, built, require_or_skip):
    require_or_skip(shutil.which("ccache"), "ccache")
    ws, sums = built

    rules = ws.root / "build/rknn/build/CMakeFiles/rules.ninja"

    def launchers() -> list[str]:
        script = next(ws.scripts_dir.glob("*-configure-rknn.sh")).read_text()
        return re.findall(
            r"^export CMAKE_(C|CXX)_COMPILER_LAUNCHER=\S*/ccache$", script, re.MULTILINE
        )

    changed = ("--set", "rknn.AGAIN=1", "--json")
    world.build(ws.root, *RKNN, *changed)
    assert sorted(launchers()) == ["C", "CXX"]
    assert "/ccache " in rules.read_text()
    assert find_again(world, world.build(ws.root, *RKNN, *changed, "--no-ccache")) == set()
    world.build(ws.root, *RKNN, "--json", "--no-ccache")
    assert launchers() == []
    assert "/ccache " not in rules.read_text()
    assert world.sums(ws.root) == sums


def test_another_time_to_take_for_now_is_another_build(world, built):
    ws, _ = built
    again = find_again(
        world, world.build(ws.root, *RKNN, "--json", env={"SOURCE_DATE_EPOCH": "86400"})
    )
    assert {"configure-rknn", "configure-core"} <= again
    assert "fetch-rknn" not in again


# --- what is the user's own -------------------------------------------------------------------

# Each would break the build or change what comes out.
ENVIRONMENT = {
    "CC": "false", "CXX": "false", "CFLAGS": "-DNOPE", "CXXFLAGS": "-O0", "LDFLAGS": "-lnope",
    "CPPFLAGS": "-include nope.h", "CPATH": "/nope", "MAKEFLAGS": "-n", "DESTDIR": "/nope",
    "PYTHONPATH": "/nope", "CMAKE_BUILD_TYPE": "Debug", "CMAKE_GENERATOR": "nope",
    "GIT_DIR": "/nope", "GIT_INDEX_FILE": "/nope", "GIT_OBJECT_DIRECTORY": "/nope",
}  # fmt: skip

GIT_SETTINGS = """\
[core]
    autocrlf = true
    hooksPath = {hooks}
[clone]
    rejectShallow = true
    defaultRemoteName = elsewhere
"""


def test_users_environment_and_git_settings_change_nothing(world, built, tmp_path):
    _, sums = built
    home, hooks = tmp_path / "home", tmp_path / "hooks"
    home.mkdir()
    hooks.mkdir()
    mark = tmp_path / "hook-ran"
    (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (hooks / "post-checkout").chmod(0o755)
    (home / ".gitconfig").write_text(GIT_SETTINGS.format(hooks=hooks))
    work = tmp_path / "work"
    outcome = world.build(work, *RKNN, env={**ENVIRONMENT, "HOME": str(home)})
    assert outcome.code == 0, outcome.stderr
    assert world.sums(work) == sums
    assert not mark.exists()
    # The same by hand, where nobody but the script itself makes the environment.
    ws = Workspace(work)
    installed = ws.trees_dir / "rknn/backends/rknn/libtriton_rknn.so"
    before = installed.read_bytes()
    for step in ("fetch", "patch", "configure", "build", "install"):
        for script in sorted(ws.scripts_dir.glob(f"*-{step}-rknn*.sh")):
            done = subprocess.run(
                ["env", *(f"{n}={v}" for n, v in ENVIRONMENT.items()), f"HOME={home}", "bash",
                 script], capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-2000:]
    assert installed.read_bytes() == before
    assert not mark.exists()
