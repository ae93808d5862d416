"""The stand-ins of tests/upstream have upstream's own faults, and are the same each time.

What other tests prove with them is worth no more than this: docs/stand-ins.md.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

UPSTREAM = Path(__file__).parents[1] / "upstream"
TAGS = [f"-DTRITON_{part}_REPO_TAG:STRING=r23.12" for part in ("COMMON", "CORE", "BACKEND")]
ORT_X64 = (
    "https://github.com/microsoft/onnxruntime/releases/download/v1.16.3/"
    f"onnxruntime-linux-{'aarch64' if platform.machine() == 'aarch64' else 'x64'}-1.16.3.tgz"
)


@pytest.fixture(scope="session")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("standins", UPSTREAM / "materialise.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # its dataclasses look themselves up
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="session")
def standins(module, pristine, require_or_skip):
    for program in ("git", "g++", "cmake", "ninja", "readelf"):
        require_or_skip(shutil.which(program), f"{program} builds the stand-ins")
    return module.materialise(pristine)


def run(
    *argv: object, cwd: Path, env: Mapping[str, str], code: int | None = 0, timeout: float = 120
) -> str:
    """Run a program and return what it said; `code` None is any but 0."""
    done = subprocess.run(
        [str(part) for part in argv], cwd=cwd, env={**os.environ, **env}, capture_output=True,
        text=True, timeout=timeout, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == code if code is not None else done.returncode != 0, said
    return said


def clone(standins, name: str, tag: str, folder: Path, *options: str) -> Path:
    target = folder / name.rpartition("/")[2]
    url = f"https://github.com/{name}.git"
    run("git", "clone", "-q", "--depth=1", "-b", tag, *options, url, target,
        cwd=folder, env=standins.git_environment())  # fmt: skip
    return target


def configure(standins, source: Path, *options: str, code: int | None = 0) -> str:
    """Run cmake for a checkout, in its folder `build`."""
    install = f"-DCMAKE_INSTALL_PREFIX:PATH={source / 'install'}"
    return run("cmake", "-G", "Ninja", "-S", source, "-B", source / "build", install, *options,
               cwd=source, env=standins.git_environment(), code=code)  # fmt: skip


def build(standins, source: Path, target: str = "install", *, code: int | None = 0) -> str:
    return run("ninja", "-C", source / "build", target, cwd=source,
               env=standins.git_environment(), code=code)  # fmt: skip


def read_dynamic(library: Path) -> str:
    return run("readelf", "-dW", library, cwd=library.parent, env={"LC_ALL": "C"})


# --- made the same each time -----------------------------------------------------------------


def test_same_sources_give_the_same_commits_and_archives(module, standins, tmp_path):
    again = module.materialise(tmp_path / "again")
    assert again.commits == standins.commits
    assert again.sha256 == standins.sha256


def test_second_call_makes_nothing_anew(module, standins):
    before = {path: path.stat().st_mtime_ns for path in standins.root.rglob("*")}
    again = module.materialise(standins.root)
    assert again == standins
    assert {path: path.stat().st_mtime_ns for path in standins.root.rglob("*")} == before


def test_repositories_have_upstreams_tags(standins):
    for name in ("server", "core", "backend", "common", "third_party", "python_backend"):
        commits = standins.commits[f"triton-inference-server/{name}"]
        old = set() if name == "python_backend" else {"r20.09"}
        assert set(commits) == {"r23.12", "r24.01", *old}
        assert commits["r23.12"] != commits["r24.01"]
    refs = run("git", "show-ref", cwd=standins.repository("zjd1988/rknn_backend"), env={})
    assert "refs/heads/r23.12" in refs, "a branch, as upstream has it"
    assert "refs/tags/v1.5.2" in run(
        "git", "show-ref", cwd=standins.repository("rockchip-linux/rknpu2"), env={}
    )


def test_rewrites_reach_submodules_of_submodules(standins, tmp_path):
    grpc = clone(standins, "grpc/grpc", "v1.54.3", tmp_path, "--recursive")
    nested = grpc / "third_party" / "protobuf" / "third_party" / "googletest" / "CMakeLists.txt"
    assert nested.is_file()


def test_mirror_recipe_is_one_that_users_could_write(standins, run_cli):
    outcome = run_cli(
        "plan", "--board", "orangepi5b", "--recipes", standins.recipes_dir, "--mirror", "standins"
    )
    assert outcome.code == 0, outcome.stderr


# --- the server's refusals -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"STATS": "OFF"}, "METRICS=ON requires TRITON_ENABLE_STATS", id="metrics"),
        pytest.param({"STATS": "OFF", "METRICS": "OFF", "TRACING": "ON"},
                     "TRACING=ON requires TRITON_ENABLE_STATS", id="tracing"),
        pytest.param({"METRICS": "OFF"}, "METRICS_CPU=ON requires TRITON_ENABLE_METRICS", id="cpu"),
        pytest.param({"METRICS_GPU": "ON"}, "METRICS_GPU=ON requires TRITON_ENABLE_GPU", id="gpu"),
        pytest.param({"ASAN": "ON", "GPU": "ON"}, "ASAN=ON requires TRITON_ENABLE_GPU=OFF",
                     id="asan"),
    ],
)  # fmt: skip
def test_server_refuses_switches_that_do_not_go_together(standins, tmp_path, options, message):
    server = clone(standins, "triton-inference-server/server", "r23.12", tmp_path)
    given = {"GPU": "OFF", "METRICS_GPU": "OFF", **options}
    said = configure(
        standins, server, *(f"-DTRITON_ENABLE_{k}:BOOL={v}" for k, v in given.items()), code=None
    )
    assert message in said


# --- the backends' gaps ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def rknn(standins, tmp_path_factory) -> Path:
    """The rknn backend, built and installed as upstream has it."""
    source = clone(standins, "zjd1988/rknn_backend", "r23.12", tmp_path_factory.mktemp("rknn"))
    configure(standins, source, *TAGS, "-DTRITON_ENABLE_GPU:BOOL=OFF")
    build(standins, source)
    return source


def test_rknn_backend_has_no_run_path(rknn):
    folder = rknn / "install" / "backends" / "rknn"
    dynamic = read_dynamic(folder / "libtriton_rknn.so")
    assert "[librknn_api.so]" in dynamic
    assert "RUNPATH" not in dynamic
    assert "RPATH" not in dynamic
    assert {path.name for path in folder.iterdir()} == {
        "libtriton_rknn.so", "librknn_api.so", "librknnrt.so"
    }  # fmt: skip


def test_rknn_backend_does_not_link_to_a_runtime_of_one_library(module, tmp_path):
    newer = module.materialise(tmp_path / "newer", with_rknn_api=False)
    source = clone(newer, "zjd1988/rknn_backend", "r23.12", tmp_path)
    configure(newer, source, *TAGS, "-DTRITON_ENABLE_GPU:BOOL=OFF")
    assert "cannot find -lrknn_api" in build(newer, source, code=None)


def test_backends_want_cuda_unless_told_otherwise(standins, tmp_path):
    source = clone(standins, "zjd1988/rknn_backend", "r23.12", tmp_path)
    # The machine may have it; then it is as if not.
    without = "-DCMAKE_DISABLE_FIND_PACKAGE_CUDAToolkit:BOOL=ON"
    assert "CUDAToolkit" in configure(standins, source, *TAGS, without, code=None)


@pytest.fixture(scope="module")
def ready_made_ort(standins, tmp_path_factory) -> Path:
    """The archive of ONNX Runtime, unpacked as it is."""
    folder = tmp_path_factory.mktemp("ort")
    with tarfile.open(standins.archive(ORT_X64)) as archive:
        archive.extractall(folder)
    (top,) = folder.iterdir()
    return top


def test_onnxruntime_archive_has_its_headers_in_folders(ready_made_ort):
    assert (ready_made_ort / "include" / "onnxruntime_c_api.h").is_file()
    assert not (ready_made_ort / "include" / "cpu_provider_factory.h").exists()
    assert list(ready_made_ort.rglob("cpu_provider_factory.h"))
    link = ready_made_ort / "lib" / "libonnxruntime.so"
    assert link.readlink() == Path("libonnxruntime.so.1.16.3")


def test_onnxruntime_backend_leaves_a_ready_made_library_behind(standins, ready_made_ort, tmp_path):
    headers = tmp_path / "include"
    headers.mkdir()
    for header in ready_made_ort.rglob("*.h"):
        shutil.copy(header, headers)
    source = clone(standins, "triton-inference-server/onnxruntime_backend", "r23.12", tmp_path)
    configure(
        standins, source, *TAGS, "-DTRITON_ENABLE_GPU:BOOL=OFF",
        f"-DTRITON_ONNXRUNTIME_INCLUDE_PATHS={headers}",
        f"-DTRITON_ONNXRUNTIME_LIB_PATHS={ready_made_ort / 'lib'}",
    )  # fmt: skip
    build(standins, source)
    folder = source / "install" / "backends" / "onnxruntime"
    assert [path.name for path in folder.iterdir()] == ["libtriton_onnxruntime.so"]
    dynamic = read_dynamic(folder / "libtriton_onnxruntime.so")
    assert "[libonnxruntime.so.1.16.3]" in dynamic
    assert "ORIGIN" in dynamic
    record = (source / "build" / "standin_cmake_variables.txt").read_text(encoding="utf-8")
    lines = record.splitlines()
    assert "TRITON_ENABLE_GPU:BOOL=OFF" in lines
    assert f"TRITON_ONNXRUNTIME_INCLUDE_PATHS:UNINITIALIZED={headers}" in lines
    assert not any(line.startswith("TRITON_ENABLE_STATS:") for line in lines), "a default"


def test_onnxruntime_is_built_in_a_container_without_its_paths(standins, tmp_path):
    source = clone(standins, "triton-inference-server/onnxruntime_backend", "r23.12", tmp_path)
    said = configure(standins, source, *TAGS, "-DTRITON_ENABLE_GPU:BOOL=OFF",
                     "-DTRITON_ONNXRUNTIME_DOCKER_BUILD=OFF",
                     "-DTRITON_BUILD_CONTAINER_VERSION=23.12")  # fmt: skip
    assert "Using Onnxruntime docker: ON" in said
    rules = (source / "build" / "build.ninja").read_text(encoding="utf-8")
    assert "docker build" in rules
    assert "nvcr.io/nvidia/tritonserver:23.12-py3-min" in rules


def test_python_backend_has_the_dead_address_and_a_right_checksum(standins, module, tmp_path):
    old = clone(standins, "triton-inference-server/python_backend", "r23.12", tmp_path)
    lines = (old / "CMakeLists.txt").read_text(encoding="utf-8").splitlines()
    assert f"  URL {module.DEAD_BOOST_URL}" in lines
    assert f"  URL_HASH SHA256={standins.sha256[module.BOOST_URL]}" in lines
    new = standins.repository("triton-inference-server/python_backend")
    said = run("git", "show", "r24.01:CMakeLists.txt", cwd=new, env={})
    assert f"  URL {module.BOOST_URL}\n" in said, "24.01 has the new one"


# --- what newer machines do not compile -------------------------------------------------------


def test_boost_warns_of_what_newer_compilers_call_deprecated(tmp_path, require_or_skip):
    gxx = shutil.which("g++")
    require_or_skip(gxx, "g++ compiles a header")
    version = run(gxx, "-dumpversion", cwd=tmp_path, env={}).partition(".")[0]
    require_or_skip(int(version) >= 12, "GCC 12 is the first that calls it deprecated")
    source = tmp_path / "hash.cc"
    source.write_text("#include <boost/container_hash/hash.hpp>\n", encoding="utf-8")
    argv = (gxx, "-std=c++17", "-Wall", "-Werror", "-fsyntax-only", "-I", UPSTREAM / "boost")
    assert "unary_function" in run(*argv, source, cwd=tmp_path, env={}, code=None)
    run(*argv, "-Wno-error=deprecated-declarations", source, cwd=tmp_path, env={})
    run(*argv, "-DBOOST_NO_CXX98_FUNCTION_BASE", source, cwd=tmp_path, env={})


@pytest.mark.parametrize("tag", ["release-2.1.8-stable", "release-2.1.10-stable"])
def test_libevent_does_not_link_where_the_c_library_has_arc4random(
    standins, tmp_path, tag, require_or_skip
):
    libc, version = platform.libc_ver()
    numbers = tuple(map(int, version.split("."))) if libc == "glibc" else (0, 0)
    require_or_skip(numbers >= (2, 36), "glibc has arc4random since 2.36")
    source = clone(standins, "libevent/libevent", tag, tmp_path)
    configure(standins, source, "-DEVENT__DISABLE_OPENSSL:BOOL=ON")
    assert "arc4random_addrandom" in build(standins, source, code=None)
    # What the shipped patch has `sed` do.
    broken = source / "evutil_rand.c"
    lines = broken.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if "addrandom" not in line and "INT_MAX" not in line]
    assert len(kept) == len(lines) - 2
    broken.write_text("\n".join(kept) + "\n", encoding="utf-8")
    build(standins, source)


def test_later_libevent_links(standins, tmp_path):
    source = clone(standins, "libevent/libevent", "release-2.1.12-stable", tmp_path)
    configure(standins, source, "-DEVENT__DISABLE_OPENSSL:BOOL=ON")
    build(standins, source)


@pytest.mark.parametrize(
    ("options", "built"),
    [
        pytest.param((), True, id="as-third-party-has-it"),
        pytest.param(("-DJSON_BuildTests:BOOL=OFF",), False, id="switched-off"),
    ],
)
def test_json_compiles_its_tests_in_spite_of_build_testing(standins, tmp_path, options, built):
    source = clone(standins, "nlohmann/json", "v3.9.0", tmp_path)
    configure(standins, source, "-DBUILD_TESTING:BOOL=OFF", *options)
    build(standins, source)
    assert (source / "build" / "test" / "test-ubjson").exists() == built


# --- 20.09 and its TNN backend ------------------------------------------------------------------


def test_super_build_of_2009_refuses_metrics_of_a_gpu_that_is_off(standins, tmp_path):
    server = clone(standins, "triton-inference-server/server", "r20.09", tmp_path)
    assert not (server / "CMakeLists.txt").exists()
    said = run("cmake", "-S", server / "build", "-B", server / "out", "-DTRITON_ENABLE_GPU=OFF",
               cwd=server, env=standins.git_environment(), code=None)  # fmt: skip
    assert "METRICS_GPU=ON requires TRITON_ENABLE_GPU=ON" in said


def test_tnn_installs_nothing(standins, tmp_path):
    tnn = clone(standins, "Tencent/TNN", "v0.3.0", tmp_path)
    configure(standins, tnn)
    build(standins, tnn, "all")
    assert "libTNN.so.0" in read_dynamic(tnn / "build" / "libTNN.so")
    assert "unknown target 'install'" in build(standins, tnn, code=None)


def test_tnn_backend_is_made_for_its_authors_machine(standins, tmp_path):
    tnn = clone(standins, "t90tank/triton-tnn-serving", "main", tmp_path)
    assert b"ELF" not in (tnn / "src/tnn/tnnlib/libtnn.so").read_bytes()[:4]
    text = (tnn / "CMakeLists.txt").read_text()
    assert 'INSTALL_RPATH "/models/test"' in text
    assert '"main" CACHE STRING "Tag for triton-inference-server/backend repo"' in text
