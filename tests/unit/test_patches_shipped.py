"""The shipped patches: each with its reason, switched on where it is needed, and exact."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tritonbuild.patches.series import PatchInSeries, inspect_series
from tritonbuild.patches.text import State
from tritonbuild.paths import data_dir
from tritonbuild.plan.conditions import holds
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Machine, Request
from tritonbuild.recipe.load import RecipeBook, load_patch

PATCHES = sorted(
    str(path.relative_to(data_dir("patches"))) for path in data_dir("patches").rglob("*.yaml")
)
BOOK = RecipeBook((data_dir("recipes"),))
JAMMY = Machine("arm64", "ubuntu-22.04", "11.4.0", "3.27.7", "2.35", "3.10", "os/ubuntu-22.04")
NEWER = replace(JAMMY, gcc="13.2.0", cmake="4.0.1", glibc="2.39")


def listed() -> set[str]:
    found: set[str] = set()
    for name in BOOK.names("components"):
        source = BOOK.component(name).source
        if source:
            found.update(source.patches)
            found.update(*(variant.patches for variant in source.variants.values()))
    return found


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_says_why_and_where_more_is_told(name):
    patch = load_patch(name)
    assert len(patch.why) > 60
    assert patch.upstream
    assert all(re.fullmatch(r"https://github\.com/\S+", link) for link in patch.upstream)
    assert patch.changes


def test_every_patch_is_some_components():
    assert listed() == set(PATCHES)


def test_a_boost_address_changes_and_nothing_else():
    for name in ("python/boost-1.79-mirror.yaml", "core/boost-1.80-mirror.yaml"):
        (change,) = load_patch(name).changes
        assert change.old.rpartition("/release/")[2] == change.new.rpartition("/release/")[2]
        assert change.new.startswith("https://archives.boost.io/release/")


def test_the_mirror_of_packages_is_that_of_the_mirror_recipe():
    (change,) = load_patch("onnxruntime/apt-mirror-cn.yaml").changes
    found = re.search(r"sed -i s@http://(\S+)@http://(\S+)@ /etc/apt/sources.list", change.new)
    assert found
    ports, mirror = found.groups()
    assert f"https://{mirror}" == BOOK.mirror("cn").apt["ubuntu"]
    assert f"http://{ports}" == BOOK.mirror("upstream").apt["ubuntu"]


def test_the_root_flag_keeps_its_blank_and_loses_its_condition():
    (change,) = load_patch("onnxruntime/allow-running-as-root.yaml").changes
    assert '" --allow_running_as_root"' in change.new
    assert "getuid" in change.old
    assert "getuid" not in change.new


# The lines of the third_party repository that two patches meet in.
THIRD_PARTY = b"""\
ExternalProject_Add(nlohmann-json
  CMAKE_CACHE_ARGS
    -DCMAKE_INSTALL_PREFIX:PATH=${TRITON_THIRD_PARTY_INSTALL_PREFIX}/nlohmann_json
    -DBUILD_TESTING:BOOL=OFF
)
ExternalProject_Add(libevent
    -DCMAKE_INSTALL_PREFIX:PATH=${TRITON_THIRD_PARTY_INSTALL_PREFIX}/libevent
  PATCH_COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/tools/install_src.py --src <SOURCE_DIR> ${INSTALL_SRC_DEST_ARG}
)
ExternalProject_Add(libevhtp
    -DLibevent_DIR:PATH=${TRITON_THIRD_PARTY_INSTALL_PREFIX}/libevent/lib/cmake/libevent
    -Dnlohmann_json_DIR:PATH=${TRITON_THIRD_PARTY_INSTALL_PREFIX}/nlohmann_json/lib/cmake
)
"""


def test_the_patches_of_third_party_go_together():
    names = ("core/nlohmann-json-tests.yaml", "core/libevent-arc4random.yaml")
    series = [PatchInSeries.of("core", name, load_patch(name)) for name in names]
    states = [report.state for report in inspect_series(series, lambda *_: THIRD_PARTY)]
    assert states == [State.APPLIES, State.APPLIES]


def plan(machine: Machine, **more: object):
    request = Request("orangepi5b", os="ubuntu-22.04", **more)
    return make_plan(BOOK, request, machine=machine)


def test_nothing_switches_itself_on_where_upstream_builds():
    made = plan(JAMMY)
    # Upstream has newer headers of Boost in the container that it builds in.
    found = [step.environment for step in made.steps if step.environment]
    assert {name for environment in found for name in environment} == {"BOOST_ROOT"}
    assert not any("libevent" in step.id for step in made.steps)
    assert any("nlohmann" in step.id for step in made.steps), "memory is short everywhere"


def test_newer_machines_get_what_they_need():
    made = plan(NEWER)
    assert any("libevent" in step.id for step in made.steps)
    got = {step.component: step.environment for step in made.steps if step.environment}
    assert got["core"] == {"CMAKE_POLICY_VERSION_MINIMUM": "3.5", "CXXFLAGS": "-include cstdint"}
    assert got["python"] == {
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5", "CXXFLAGS": "-Wno-error=deprecated-declarations",
    }  # fmt: skip
    assert got["onnxruntime"] == got["rknn"] == {"CMAKE_POLICY_VERSION_MINIMUM": "3.5"}


@pytest.mark.parametrize(
    ("component", "machine", "count"),
    [
        # One of them is for Boost's headers.
        ("core", JAMMY, 1),
        ("core", replace(JAMMY, glibc="2.36"), 0),
        ("core", replace(JAMMY, gcc="12.2.0"), 1),
        ("core", replace(JAMMY, gcc="13.1.0"), 2),
        ("core", replace(JAMMY, cmake="3.31.6"), 1),
        ("core", replace(JAMMY, cmake="4.0.0"), 2),
        ("python", JAMMY, 0),
        ("python", replace(JAMMY, gcc="12.2.0"), 1),
    ],
)
def test_adjustments_begin_with_the_version_that_needs_them(component, machine, count):
    source = BOOK.component(component).source
    assert sum(holds(one.when, machine) for one in source.adjustments) == count


def test_the_container_build_takes_the_mirrors_image(run_cli, tmp_path):
    (tmp_path / "mirrors").mkdir()
    (tmp_path / "mirrors" / "office.yaml").write_text(
        "name: office\nsummary: x\nimages: [{from: docker.io/, to: images.office.example/hub/}]\n"
    )
    choice = ("--board", "orangepi5b", "--from", "source", "--recipes", tmp_path)
    for mirror, image in (
        ("office", "images.office.example/hub/library/ubuntu:22.04"),
        ("upstream", "ubuntu:22.04"),
        ("auto", "ubuntu:22.04"),
    ):
        done = run_cli(
            "plan", *choice, "--mirror", mirror, "--variant", "onnxruntime=docker", "--json"
        )
        assert done.code == 0, done.stderr
        steps = {step["id"]: step for step in json.loads(done.stdout)["steps"]}
        found = re.findall(r"-DTRITON_BUILD_CONTAINER(?::\w+)?=([^\"]+)",
                           json.dumps(steps["configure-onnxruntime"]["commands"]))  # fmt: skip
        assert found == [image]
        assert steps["sources"]["details"]["images"] == ["ubuntu:22.04"], "the lock has its name"


def test_the_container_build_is_patched_for_its_mirror_only():
    def patches(mirror: str) -> list[str]:
        made = plan(JAMMY, mirror=mirror, variants={"onnxruntime": "docker"})
        return [step.id for step in made.steps if step.id.startswith("patch-onnxruntime")]

    assert patches("upstream") == ["patch-onnxruntime-allow-running-as-root"]
    assert patches("cn") == [
        "patch-onnxruntime-allow-running-as-root", "patch-onnxruntime-apt-mirror-cn",
    ]  # fmt: skip


def test_cmake_4_takes_the_policy_from_the_environment(require_or_skip, tmp_path):
    """The variable's effect, with whatever CMake is here; 4 and newer refuse without it."""
    import shutil
    import subprocess

    cmake = shutil.which("cmake")
    require_or_skip(cmake, "cmake")
    version = subprocess.run([cmake, "--version"], capture_output=True, text=True, check=True)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.2)\nproject(x NONE)\n"
    )
    argv = [cmake, "-S", tmp_path, "-B", tmp_path / "build"]
    env = {"PATH": "/usr/bin:/bin", "CMAKE_POLICY_VERSION_MINIMUM": "3.5"}
    assert subprocess.run(argv, env=env, capture_output=True, check=False).returncode == 0
    cache = Path(tmp_path / "build" / "CMakeCache.txt").read_text()
    newer = int(re.findall(r"\d+", version.stdout)[0]) >= 4
    assert ("CMAKE_POLICY_VERSION_MINIMUM:STRING=3.5" in cache) is newer


def test_cmake_takes_boosts_headers_from_the_environment(require_or_skip, tmp_path):
    """BOOST_ROOT reaches nested projects, and goes before headers of the system."""
    import shutil
    import subprocess

    cmake = shutil.which("cmake")
    require_or_skip(cmake and shutil.which("g++"), "cmake and g++")
    headers = tmp_path / "archives" / "boost" / "boost"
    headers.mkdir(parents=True)
    (headers / "config.hpp").touch()  # CMake looks for this one
    (headers / "version.hpp").write_text(
        '#define BOOST_VERSION 108000\n#define BOOST_LIB_VERSION "1_80"\n'
    )
    # As triton-core asks for it; systems with such old headers have no files of Boost's own for CMake.
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(x CXX)\nset(Boost_NO_BOOST_CMAKE ON)\n"
        "find_package(Boost 1.78 REQUIRED)\n"
        'message(STATUS "found ${Boost_VERSION} in ${Boost_INCLUDE_DIRS}")\n'
    )
    argv = [cmake, "-S", tmp_path, "-B", tmp_path / "build"]
    env = {"PATH": "/usr/bin:/bin", "BOOST_ROOT": str(headers.parent)}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"found (1\.80\.0|108000) in {headers.parent}$", done.stdout, re.MULTILINE)


# --- against the stand-ins for upstream -------------------------------------------------------

STANDINS = Path(__file__).parents[1] / "upstream"
REPOSITORIES = {
    "core": "server", "python": "python_backend", "onnxruntime": "onnxruntime_backend",
    "rknn": "rknn_backend",
}  # fmt: skip
NESTED = "build/_deps/repo-third-party-src/"
# tests/integration/test_tnn.py builds with them.
OF_2009 = ("core-r20.09/", "tnn/")


@pytest.fixture(scope="module")
def releases() -> dict[str, dict[str, str]]:
    spec = importlib.util.spec_from_file_location("materialise", STANDINS / "materialise.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    del sys.modules[spec.name]
    return module.RELEASES


@pytest.mark.parametrize("release", ["r23.12", "r24.01"])
@pytest.mark.parametrize("name", [name for name in PATCHES if not name.startswith(OF_2009)])
def test_a_patch_fits_the_stand_ins_or_is_fixed_there(releases, name, release):
    component = name.partition("/")[0]

    def read(_: str, path: str) -> bytes | None:
        nested = path.startswith(NESTED)
        folder = STANDINS / ("third_party" if nested else REPOSITORIES[component])
        text = (folder / path.removeprefix(NESTED)).read_text(encoding="utf-8")
        for key, value in releases[release].items():
            text = text.replace(f"@{key}@", value)
        return text.encode()

    (report,) = inspect_series([PatchInSeries.of(component, name, load_patch(name))], read)
    moved = release == "r24.01" and "boost" in name
    assert (report.state, report.problems) == (State.UPSTREAM if moved else State.APPLIES, ())
