"""The TNN backend for 20.09: a core, a library and a backend, each built in a way of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tritonbuild.paths import Workspace
from tritonbuild.stage.elffile import read_elf

CONFIG = """\
name: "NAME"
backend: "tnn"
max_batch_size: 0
input [ { name: "data" data_type: TYPE_UINT8 dims: [ 224, 224, 3 ] } ]
output [ { name: "prob" data_type: TYPE_FP32 dims: [ 1000 ] } ]
"""


def build(world, work, *more, recipes=None, timeout=300):
    """Build core and backend of the stand-ins; natively, where no other way is said."""
    work.parent.mkdir(parents=True, exist_ok=True)
    return world.run(
        "build", "--board", "orangepi5b", "--executor", "native", "--release", "r20.09",
        "-c", "core", "-c", "tnn", "--set", "core.TRITON_ENABLE_GRPC=OFF",
        "--recipes", recipes or world.folder / "recipes", "--mirror", "standins",
        "--work-dir", work, *more, cwd=work.parent, timeout=timeout, env=world.env,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tnn_build(world, tmp_path_factory):
    work = tmp_path_factory.mktemp("tnn") / "work"
    outcome = build(world, work)
    assert outcome.code == 0, outcome.stderr
    return Workspace(work)


def write_model(folder, name, weights="model.tnnproto"):
    """Write a model as the stand-in's TNN reads it: how many outputs, and a weight."""
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "config.pbtxt").write_text(CONFIG.replace("NAME", name))
    (folder / name / "1" / "proto.tnnproto").write_text("1000")
    (folder / name / "1" / weights).write_text("0.5")
    return folder / name


def smoke(world, ws, *options):
    outcome = world.run(
        "smoke", "--work-dir", ws.root, "--json", *options, cwd=ws.root, timeout=120, env=world.env
    )
    report = json.loads(outcome.stdout) if outcome.stdout else {"results": []}
    return outcome, {one["name"]: one for one in report["results"]}


def variables(ws, *path):
    file = ws.root.joinpath("build", *path, "standin_cmake_variables.txt")
    return set(file.read_text(encoding="utf-8").splitlines())


def test_release_is_built_in_its_own_way(tnn_build):
    said = {
        "TRITON_COMMON_REPO_TAG:STRING=r20.09", "TRITON_CORE_REPO_TAG:STRING=r20.09",
        "TRITON_ENABLE_GPU:BOOL=OFF", "TRITON_ENABLE_METRICS_GPU:BOOL=OFF",
    }  # fmt: skip
    work = ("tritonserver", "build")
    assert said <= variables(tnn_build, *work)
    assert said <= variables(tnn_build, *work, "server")
    script = next(tnn_build.scripts_dir.glob("*-build-core.sh")).read_text()
    assert " server" in script.splitlines()[-1]
    lock = tnn_build.source_lock_path.read_text()
    assert "https://github.com/jupp0r/prometheus-cpp/archive/v0.7.0.tar.gz" in lock
    # Nobody asked for what GCS alone takes.
    assert "v1.29.1" not in lock


def test_library_and_backend_get_what_they_need(tnn_build):
    assert {
        "TNN_CPU_ENABLE:BOOL=ON", "TNN_ARM_ENABLE:BOOL=ON", "TNN_BUILD_SHARED:BOOL=ON",
        "TNN_TEST_ENABLE:BOOL=OFF",
    } <= variables(tnn_build, "tnn-library", "build")  # fmt: skip
    assert {
        "TRITON_BACKEND_REPO_TAG:STRING=r20.09", "TRITON_CORE_REPO_TAG:STRING=r20.09",
        "TRITON_COMMON_REPO_TAG:STRING=r20.09", "TRITON_ENABLE_GPU:BOOL=OFF",
    } <= variables(tnn_build, "tnn", "build")  # fmt: skip


def test_library_lies_beside_the_backend_and_is_found_there(tnn_build):
    folder = tnn_build.tritonserver_dir / "backends" / "tnn"
    assert {path.name for path in folder.iterdir()} == {
        "libtriton_tnn.so", "libTNN.so", "libTNN.so.0", "libTNN.so.0.1.0.0",
    }  # fmt: skip
    elf = read_elf(folder / "libtriton_tnn.so")
    assert "libTNN.so.0" in elf.needed
    assert elf.runpath[0] == "$ORIGIN"


@pytest.mark.parametrize(
    ("name", "weights"), [("any_name-2.x", "model.tnnproto"), ("test", "model.tnnmodel")]
)
def test_model_of_any_name_answers(world, tnn_build, tmp_path, name, weights):
    model = write_model(tmp_path / "any folder", name, weights)
    outcome, results = smoke(world, tnn_build, "--model", model)
    assert outcome.code == 0, outcome.stderr
    assert results[f"model-{name}"]["status"] == "pass"
    # The mean of the pixels 0 to 6, halved, plus the output's number.
    assert "prob FP32[1000] = [1.5, 2.5, 3.5, 4.5]" in results[f"model-{name}"]["detail"]
    assert results["server-metadata"]["detail"].startswith("triton 2.3.0")
    assert "--model DIR" in results["tnn"]["detail"]


def test_model_without_weights_says_why(world, tnn_build, tmp_path):
    model = write_model(tmp_path, "empty", "something.else")
    outcome, results = smoke(world, tnn_build, "--model", model)
    assert outcome.code == 10
    assert "empty could not be loaded" in results["model-empty"]["detail"]
    assert "Can not create TNNProcessor" in results["model-empty"]["detail"]


def test_server_of_2020_knows_its_own_options_alone(tnn_build, tmp_path):
    program = tnn_build.tritonserver_dir / "bin" / "tritonserver"
    done = subprocess.run(
        [program, f"--model-repository={tmp_path}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "unrecognized option" in done.stderr


def test_second_build_keeps_everything(world, tnn_build):
    outcome = build(world, tnn_build.root, "--json")
    assert set(world.statuses(outcome).values()) == {"kept"}


def test_without_the_patch_nothing_compiles_without_cuda(world, tmp_path):
    recipes = tmp_path / "recipes"
    shutil.copytree(world.folder / "recipes", recipes)
    component = world.run("show", "components/tnn", "--json", cwd=tmp_path).stdout
    file = Path(json.loads(component)["file"])
    (recipes / "components").mkdir()
    text = file.read_text(encoding="utf-8").replace(
        "    - tnn/backend-common-without-cuda.yaml\n", ""
    )
    (recipes / "components" / "tnn.yaml").write_text(text)
    outcome = build(world, tmp_path / "build" / "work", recipes=recipes)
    assert outcome.code == 8
    assert "memcpy" in outcome.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-c", "tnn"), ("tnn goes with Triton ==2.3; r23.12 is 2.41.0", "--release r20.09")),
        (
            ("--release", "r20.09", "-c", "rknn"),
            ("rknn goes with Triton >=2.6; r20.09 is 2.3.0", "with r20.09: core, ensemble, tnn"),
        ),
        (("--release", "r20.09"), ("python goes with Triton >=2.6, onnxruntime goes with",)),
        (
            ("--release", "r20.09", "--from", "wheel", "-c", "core"),
            ("r20.09 does not come from wheel", "use --from source"),
        ),
    ],
)
def test_what_does_not_go_together_is_refused(session_cli, tmp_path, options, said):
    done = session_cli("plan", "--board", "orangepi5b", *options, cwd=tmp_path)
    assert done.code == 2
    for text in said:
        assert text in done.stderr


def test_there_is_no_script_of_build_py_for_it(session_cli, tmp_path):
    done = session_cli(
        "render", "--board", "orangepi5b", "--release", "r20.09", "-c", "core", "-c", "tnn",
        "--build-dir", "/build", "--output", tmp_path / "out", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 2
    assert "r20.09 builds core in a way of its own" in done.stderr


def test_container_takes_the_library_from_its_own(session_cli, tmp_path):
    done = session_cli(
        "render", "--board", "orangepi5b", "--os", "debian-12", "--release", "r20.09", "-c", "core",
        "-c", "tnn", "--executor", "buildx", "--output", tmp_path / "out", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    lines = (tmp_path / "out" / "Dockerfile").read_text().splitlines()
    tree = "/usr/src/tritonserver/trees/tnn-library"
    assert lines.index(f"COPY --from=build-tnn-library {tree} {tree}") > lines.index(
        "FROM build-root AS build-tnn"
    )


@pytest.mark.emulation
def test_it_is_built_for_the_board_and_answers(arm64_world, tmp_path):
    work = tmp_path / "build" / "work"
    outcome = build(arm64_world, work, "--os", "debian-12", "--executor", "emulated", timeout=900)
    assert outcome.code == 0, outcome.stderr
    ws = Workspace(work)
    assert json.loads(ws.verify_path.read_text())["arch"] == "arm64"
    outcome, results = smoke(arm64_world, ws, "--model", write_model(tmp_path, "cats"))
    assert outcome.code == 0, outcome.stderr
    assert results["model-cats"]["status"] == "pass"
