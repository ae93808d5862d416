"""The ELF check, the manifest and the package of a real arm64 build.

`wheel_build` is the Workspace of a finished `tritonbuild build --from wheel`. The tests read it;
what they break is a copy made of hard links.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from tritonbuild.arch import Arch
from tritonbuild.executors.rootfs import find_root, root_spec_of
from tritonbuild.paths import cache_dir
from tritonbuild.plan.model import read_plan
from tritonbuild.stage.elf import check_tree, raise_if_bad
from tritonbuild.stage.libraries import SystemLibraries
from tritonbuild.stage.manifest import check_manifest, read_manifest
from tritonbuild.stage.package import make_package


def find_step(ws, step_id):
    return read_plan(ws.plan_path.read_text(encoding="utf-8"), "plan.json").find_step(step_id)


@pytest.fixture(scope="module")
def root(wheel_build):
    """The root that the build was checked against."""
    found = find_root(root_spec_of(find_step(wheel_build, "root")), cache_dir())
    assert found is not None
    return found


@pytest.fixture(scope="module")
def system(root):
    return SystemLibraries.from_root(root.tree, root.packages_path, Arch.ARM64)


@pytest.fixture
def tree(wheel_build, tmp_path):
    """A copy of the tree to break: files may be replaced, not written into."""
    target = tmp_path / "opt/tritonserver"
    shutil.copytree(wheel_build.tritonserver_dir, target, symlinks=True, copy_function=copy_fast)
    return target


def copy_fast(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def test_build_left_a_report_of_a_check_against_the_root(wheel_build):
    report = json.loads(wheel_build.verify_path.read_text(encoding="utf-8"))
    assert report["source"] == "root"
    assert report["arch"] == "arm64"
    assert report["problems"] == []
    assert report["to_install"] == {}
    # tritonserver, its libraries, the python backend, numpy, onnxruntime.
    assert report["files"] > 60


def test_real_tree_fits_the_real_root_in_little_time(wheel_build, system):
    report = check_tree(wheel_build.tritonserver_dir, arch=Arch.ARM64, system=system)
    raise_if_bad(report)
    assert report.system_libraries["libc.so.6"] == "libc6"
    assert report.system_libraries["libstdc++.so.6"] == "libstdc++6"
    assert all(report.system_libraries.values()), "a library whose package nobody knows"
    assert set(report.highest) >= {"GLIBC", "GLIBCXX"}
    assert report.seconds < 3


def test_recipe_agrees_with_the_root(wheel_build, system):
    """What the os recipe claims is what the archive's real packages have."""
    recipe = SystemLibraries.from_recipe(find_step(wheel_build, "verify").details)
    assert {key: system.versions[key] for key in recipe.versions} == recipe.versions
    assert recipe.packages.items() <= system.packages.items()


def test_tree_fits_the_recipe_alone(wheel_build):
    """Where the archive cannot be reached, the same tree passes against the recipe's list."""
    recipe = SystemLibraries.from_recipe(find_step(wheel_build, "verify").details)
    report = check_tree(wheel_build.tritonserver_dir, arch=Arch.ARM64, system=recipe)
    raise_if_bad(report)
    assert report.source == "recipe"


def test_tree_can_be_moved(tree, system):
    """The copy is somewhere else, and the board's folder is not there."""
    raise_if_bad(check_tree(tree, arch=Arch.ARM64, system=system))


def test_library_taken_away_is_noticed(tree, system):
    next(tree.glob("lib/libtritonserver-*.so")).unlink()
    report = check_tree(tree, arch=Arch.ARM64, system=system)
    files = {problem.file for problem in report.problems}
    assert "bin/tritonserver" in files
    assert all("needs libtritonserver" in problem.what for problem in report.problems)


def test_missing_libpython_can_be_installed(tree, system, wheel_build):
    bundled = find_step(wheel_build, "verify").details["bundled"]
    installable = {lib: package for package, libs in bundled.items() for lib in libs}
    assert installable
    for library in installable:
        (tree / "lib" / library).unlink()
    report = check_tree(tree, arch=Arch.ARM64, system=system, installable=installable)
    raise_if_bad(report)
    assert report.to_install == installable


def test_system_that_is_too_old_is_noticed(wheel_build, system):
    old = SystemLibraries("recipe", system.packages, {"GLIBC": "2.28", "GLIBCXX": "3.4.25"})
    report = check_tree(wheel_build.tritonserver_dir, arch=Arch.ARM64, system=old)
    what = [problem.what for problem in report.problems]
    assert any(line.endswith("the board has GLIBC_2.28") for line in what)
    assert any(line.endswith("the board has GLIBCXX_3.4.25") for line in what)


def test_tree_for_another_machine_is_noticed(wheel_build, system):
    report = check_tree(wheel_build.tritonserver_dir, arch=Arch.AMD64, system=system)
    assert len(report.problems) == report.files
    assert report.problems[0].what == "is for arm64, the board is amd64"


def test_manifest_lists_the_stage_and_every_files_origin(wheel_build):
    manifest = read_manifest(wheel_build.manifest_path)
    assert check_manifest(wheel_build.tritonserver_dir, manifest) == []
    unknown = [entry["path"] for entry in manifest["files"] if not entry["origin"]]
    assert unknown == []
    assert manifest["selection"]["os"] == "debian-12"
    assert {"nvidia-pytriton", "numpy"} <= {w["distribution"] for w in manifest["wheels"]}
    text = wheel_build.manifest_path.read_text(encoding="utf-8")
    assert str(wheel_build.root) not in text
    assert str(cache_dir()) not in text


def test_package_of_the_real_tree_is_whole_and_the_same_again(
    wheel_build, tmp_path, require_or_skip
):
    require_or_skip(shutil.which("zstd"), "zstd")
    first = make_package(wheel_build, name="test-verify", date="2023-12-22")
    again = make_package(wheel_build, name="test-verify", date="2023-12-22")
    try:
        assert first.sha256 == again.sha256
        subprocess.run(["tar", "--zstd", "-xf", again.path, "-C", tmp_path], check=True)
    finally:
        for path in (again.path, again.checksum_path, again.manifest_path):
            path.unlink()
    tree = tmp_path / "opt/tritonserver"
    assert check_manifest(tree, read_manifest(tree / "manifest.json")) == []
    assert os.access(tree / "bin/tritonserver", os.X_OK)
