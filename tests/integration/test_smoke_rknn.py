"""`smoke --rknn` from the sources of its demo to Triton with the demo's model, under QEMU.

The demo, its model and librknnrt.so are stand-ins: they print, and find, what a recorded run did.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from tritonbuild.paths import Workspace

pytestmark = [pytest.mark.emulation, pytest.mark.network, pytest.mark.timeout(900)]

CROSS = ("--executor", "cross", "--os", "debian-12")
RKNN = ("--component", "ensemble", "--component", "rknn")


@pytest.fixture(scope="module")
def rknn_world(arm64_world):
    return replace(arm64_world, executor=CROSS)


@pytest.fixture(scope="module")
def build(rknn_world, tmp_path_factory) -> Workspace:
    """A finished build of the core and the rknn backend; its demo is not built yet."""
    work = tmp_path_factory.mktemp("rknn") / "work"
    outcome = rknn_world.build(work, *RKNN, timeout=600)
    assert outcome.code == 0, outcome.stderr
    return Workspace(work)


@pytest.fixture(scope="module")
def smoke(rknn_world):
    """Return a function that runs `smoke --rknn` on a build."""

    def run(ws: Workspace, *options: object):
        return rknn_world.run(
            "smoke", "--rknn", "--work-dir", ws.root, "--recipes", rknn_world.folder / "recipes",
            *options, cwd=ws.root.parent, timeout=300, env=rknn_world.env,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def proved(build, smoke):
    """The answer of a whole run, without an NPU."""
    return smoke(build, "--no-preflight", "--json")


def results_of(outcome) -> dict[str, dict]:
    return {result["name"]: result for result in json.loads(outcome.stdout)["results"]}


def test_demo_is_built_and_finds_the_objects(build, proved):
    assert proved.code == 0, proved.stderr
    found = json.loads(proved.stdout)
    assert [one["label"] for one in found["demo"]["objects"]].count("person") == 4
    assert found == json.loads((build.root / "rknn.json").read_text())
    program = build.root / "smoke/rknn_yolov5_demo/stage/opt/tritonserver/programs/rknn_yolov5_demo"
    assert (program / "rknn_yolov5_demo").read_bytes()[18:20] == b"\xb7\0", "it is arm64"
    assert sorted(path.name for path in program.iterdir()) == ["lib", "model", "rknn_yolov5_demo"]
    assert "loop count = 10" in (build.logs_dir / "smoke-rknn-demo.log").read_text()


def test_what_is_known_of_the_npu_is_told(proved):
    results = results_of(proved)
    assert results["npu-soc"]["status"] == "warn"
    assert "no rk3588 here" in results["npu-soc"]["detail"]
    assert results["npu-library-demo"]["detail"].startswith("librknnrt.so 2.5.0 of the demo (")
    assert results["npu-model"]["detail"] == "file format 6, made by toolkit 1.5.2"


def test_triton_finds_the_same_with_one_and_with_three_instances(proved):
    results = results_of(proved)
    assert results["rknn-triton-1"]["status"] == "pass"
    assert "all objects in each of 2 answers" in results["rknn-triton-1"]["detail"]
    assert "3 instances: all objects in each of 6 answers" in results["rknn-triton-3"]["detail"]


def test_nothing_runs_where_there_is_no_npu(build, smoke, proved):
    assert proved.code == 0
    log = build.logs_dir / "smoke-rknn-demo.log"
    before = log.stat().st_mtime_ns
    outcome = smoke(build)
    assert outcome.code == 10
    assert "npu-soc: no rk3588 here" in outcome.stderr
    assert "--host user@board" in outcome.stderr
    assert log.stat().st_mtime_ns == before


def test_demo_is_built_once(build, smoke, proved):
    assert proved.code == 0
    program = next((build.root / "smoke/rknn_yolov5_demo/stage").rglob("rknn_yolov5_demo/model"))
    before = program.stat().st_mtime_ns
    outcome = smoke(build, "--no-preflight")
    assert outcome.code == 0, outcome.stderr
    assert program.stat().st_mtime_ns == before


def test_damaged_demos_are_told(build, smoke, proved, tmp_path):
    assert proved.code == 0
    made = build.root / "smoke/rknn_yolov5_demo/stage/opt/tritonserver/programs/rknn_yolov5_demo"
    for path, content, code, sentence in (
        ("model/RK3588/yolov5s-640-640.rknn", b"version https://git-lfs", 10, "is no RKNN model"),
        ("model/RK3588/yolov5s-640-640.rknn", b"RKNN\0\0\0\0\6", 10, "is no RKNN model"),
        ("model/bus.jpg", None, 2, "it has no model/bus.jpg"),
    ):
        copy = tmp_path / "demo"
        shutil.copytree(made, copy)
        (copy / path).unlink()
        if content is not None:
            (copy / path).write_bytes(content)
        outcome = smoke(build, "--no-preflight", "--demo", copy)
        shutil.rmtree(copy)
        assert outcome.code == code, outcome.stderr
        assert sentence in outcome.stderr


def test_demo_is_that_of_the_boards_soc(rknn_world, tmp_path):
    """Folders of libraries and of models have other names for an RK3566."""
    work = tmp_path / "work"
    built = rknn_world.run(
        "build", "--board", "orangepi3b", *CROSS, "--component", "rknn_yolov5_demo",
        "--recipes", rknn_world.folder / "recipes", "--mirror", "standins", "--work-dir", work,
        cwd=tmp_path, timeout=300, env=rknn_world.env,
    )  # fmt: skip
    assert built.code == 0, built.stderr
    folder = Workspace(work).tritonserver_dir / "programs/rknn_yolov5_demo"
    model = folder / "model/RK3566_RK3568/yolov5s-640-640.rknn"
    assert b'"target_platform": ["rk3566"]' in model.read_bytes()


def test_build_without_the_backend_is_refused(rknn_world, smoke, tmp_path):
    outcome = rknn_world.build(tmp_path / "work", "--component", "ensemble", timeout=600)
    assert outcome.code == 0, outcome.stderr
    outcome = smoke(Workspace(tmp_path / "work"))
    assert outcome.code == 2
    assert "this build has no rknn backend" in outcome.stderr
