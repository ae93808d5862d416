# SPDX-License-Identifier: Apache-2.0
"""The rknn backend through a real server: real RKNNLite, and where it needs one a stand-in NPU.

The stand-in is a device tree file, a render node and ``standin_rknnrt.c`` as librknnrt.so.
"""

from __future__ import annotations

import concurrent.futures
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from http_client import HttpClient, HttpError

from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import RecipeBook
from tritonbuild.smoke.rknn.compare import check_objects
from tritonbuild.smoke.rknn.judge import Verdict, judge
from tritonbuild.smoke.rknn.serve import make_config
from tritonbuild.smoke.rknn.yolo import Thresholds, find_objects

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPILER = "aarch64-linux-gnu-gcc"
SOURCE = Path(__file__).with_name("standin_rknnrt.c")
PROC = ("self", "thread-self", "cpuinfo", "meminfo", "stat", "sys", "loadavg", "filesystems")

IMAGES = 'input [ { name: "images" data_type: TYPE_UINT8 dims: [ 2, 2, 3 ] } ]\n'
OUTPUT = 'output [ { name: "output" data_type: TYPE_FP32 dims: [ 13 ] } ]\n'
IO = "max_batch_size: 1\n" + IMAGES + OUTPUT


def instances(count: int) -> str:
    return f"instance_group [ {{ count: {count} kind: KIND_CPU }} ]\n"


def parameter(name: str, value: str) -> str:
    return f'parameters {{ key: "{name}" value: {{ string_value: "{value}" }} }}\n'


GOOD = {
    "spread": IO + instances(3),
    "automatic": IO + instances(1) + parameter("core_mask", "auto"),
    "third": IO + instances(1) + parameter("core_mask", "2") + parameter("data_format", "nhwc"),
    "whole": instances(1)
    + IMAGES.replace("[ 2, 2", "[ 1, 2, 2")
    + OUTPUT.replace("[ 13", "[ 1, 13")
    + parameter("core_mask", "0,1"),
    "mistaken": instances(1) + IO.replace("[ 13 ]", "[ 14 ]").replace('"output"', '"wrong"'),
    "unclear": instances(1) + IO.replace("[ 13 ]", "[ -1, -1 ]"),
}

# Name -> (config.pbtxt, what the load error has to say).
BAD = {
    "bad_io": ("", ["list all inputs and outputs", 'input [ { name: "images"']),
    "bad_type": (IO.replace("UINT8", "INT64"), ["'images'", "TYPE_INT64", "TYPE_UINT8"]),
    "bad_batch": (IO.replace("size: 1", "size: 4"), ["max_batch_size is 4", "fixed batch"]),
    "bad_float": (IO + parameter("want_float", "0"), ["want_float", "float32"]),
    "bad_flag": (IO + parameter("flag", "8"), ["'flag' is 8", "rknn_init"]),
    "bad_core": (IO + parameter("core_mask", "3"), ["'3'", "rk3588", "0, 1, 2"]),
    "bad_slip": (IO + parameter("core_mas", "1"), ["did you mean 'core_mask'"]),
    "bad_decoupled": (
        IO + "model_transaction_policy { decoupled: true }\n",
        ["model_transaction_policy", "decoupled", "does not support"],
    ),
    "bad_model": (IO, ["refuses", "model.rknn", "rk3588"]),
}


def place(repository: Path, name: str, config: str) -> None:
    version = repository / name / "1"
    version.mkdir(parents=True)
    content = b"nothing" if name == "bad_model" else b"STANDIN" + bytes(64)
    (version / "model.rknn").write_bytes(content)
    (repository / name / "config.pbtxt").write_text('backend: "rknn"\n' + config)


RECORDING = Path(__file__).parents[1] / "recordings" / "rknn_yolov5_demo" / "sdk-1.5.2.txt"
LABELS = ["person", "bicycle", "car", "motorcycle", "airplane", "bus", *map(str, range(6, 80))]


def judge_recording() -> Verdict:
    return judge(RecipeBook.open().npu("rknpu").demo, RECORDING.read_text(), "rk3588")


def place_demo(repository: Path) -> None:
    """Write the model of `smoke --rknn`: the stand-in finds the objects of a recorded run."""
    version = repository / "yolov5" / "1"
    version.mkdir(parents=True)
    (version / "model.rknn").write_bytes(b"STANDIN\n" + RECORDING.read_bytes())
    config = make_config(judge_recording(), ProviderKind.WHEEL, 1)
    (repository / "yolov5" / "config.pbtxt").write_text(config)


def copy_root(root: Path, directory: Path) -> Path:
    """Return a root, made of links to another, that has a place for the NPU's library."""
    copy = directory / "root"
    # Links are instant, but the cache may lie on another file system than temporary folders.
    linked = subprocess.run(["cp", "-al", root, copy], check=False, stderr=subprocess.DEVNULL)
    if linked.returncode != 0:
        shutil.rmtree(copy, ignore_errors=True)
        subprocess.run(["cp", "-a", root, copy], check=True)
    (copy / "usr/lib/librknnrt.so").touch()
    return copy


def standin_npu(directory: Path) -> list[str]:
    """Return bwrap's arguments for a root with the stand-in NPU of an RK3588."""
    library = directory / "librknnrt.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
    compatible = directory / "compatible"
    compatible.write_bytes(b"vendor,board\0rockchip,rk3588\0")
    # Nothing can be added to a real /proc, so this one is made of links into it.
    proc = ["--proc", "/tmp/proc", "--tmpfs", "/proc"]
    for name in PROC:
        proc += ["--symlink", f"/tmp/proc/{name}", f"/proc/{name}"]
    return [
        *proc,
        *("--ro-bind", str(compatible), "/proc/device-tree/compatible"),
        *("--dir", "/dev/dri", "--ro-bind", "/dev/null", "/dev/dri/renderD129"),
        *("--ro-bind", str(library), "/usr/lib/librknnrt.so"),
    ]


@pytest.fixture(scope="module")
def http(
    serve: Any,
    wheel_build_root: Path,
    require_or_skip: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[HttpClient]:
    require_or_skip(shutil.which(COMPILER), f"{COMPILER} compiles the stand-in for librknnrt.so")
    directory = tmp_path_factory.mktemp("rknn")
    repository = directory / "models"
    for name, config in GOOD.items():
        place(repository, name, config)
    for name, (config, _) in BAD.items():
        place(repository, name, config + instances(1))
    place_demo(repository)
    binds = standin_npu(directory)
    options = ("--exit-on-error=false", "--disable-auto-complete-config")  # half the processes
    root = copy_root(wheel_build_root, directory)
    with serve(repository, *options, binds=binds, root=root) as running:
        yield HttpClient(running.http)


def run(http: HttpClient, model: str, seed: int = 0, leading: tuple[int, ...] = (1,)) -> int:
    """Check one request's answer; return the core mask it ran with."""
    image = np.random.default_rng(seed).integers(0, 256, (*leading, 2, 2, 3), np.uint8)
    got = http.infer(model, {"images": image})["output"]
    assert got.shape == (*leading, 13)
    np.testing.assert_array_equal(got.reshape(-1)[:12], image.reshape(-1) * np.float32(2))
    return int(got.reshape(-1)[12])


def test_instances_are_spread_over_the_cores(http: HttpClient) -> None:
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        masks = set(pool.map(lambda seed: run(http, "spread", seed), range(60)))
    assert masks == {1, 2, 4}


@pytest.mark.parametrize(("model", "mask"), [("automatic", 0), ("third", 4)])
def test_core_mask_parameter(http: HttpClient, model: str, mask: int) -> None:
    assert run(http, model) == mask


def test_model_of_the_demo_is_served_as_smoke_writes_it(http: HttpClient) -> None:
    verdict = judge_recording()
    answer = http.infer("yolov5", {"images": np.zeros((1, 640, 640, 3), np.uint8)})
    outputs = [answer[tensor.name].reshape(-1).tolist() for tensor in verdict.output.outputs]
    found = find_objects(outputs, LABELS, Thresholds(0.25, 0.45))
    demo = RecipeBook.open().npu("rknpu").demo
    matches = check_objects(verdict.baseline, demo.tolerances, found)
    assert min(match.iou for match in matches) > 0.95


def test_dims_with_the_batch_dimension(http: HttpClient) -> None:
    assert run(http, "whole") == 1


def test_output_which_differs_from_the_config_is_a_clean_error(http: HttpClient) -> None:
    with pytest.raises(HttpError, match="output 'wrong' has the shape") as caught:
        http.infer("mistaken", {"images": np.zeros((1, 2, 2, 3), np.uint8)})
    assert ".py" not in str(caught.value)


def test_exception_in_a_request_is_that_requests_clean_error(http: HttpClient) -> None:
    with pytest.raises(HttpError, match="model 'unclear': ") as caught:
        http.infer("unclear", {"images": np.zeros((1, 2, 2, 3), np.uint8)})
    assert "ValueError" in str(caught.value)
    assert ".py" not in str(caught.value)
    assert "At:" not in str(caught.value)


@pytest.mark.parametrize("name", list(BAD))
def test_bad_model_says_why(name: str, http: HttpClient) -> None:
    index = {entry["name"]: entry for entry in http.post("v2/repository/index")}
    for part in BAD[name][1]:
        assert part in index[name]["reason"]
    assert ".py" not in index[name]["reason"]


def test_without_an_npu_the_load_says_so(serve: Any, tmp_path: Path) -> None:
    place(tmp_path, "lonely", IO + instances(1))
    with serve(tmp_path, "--exit-on-error=false") as running:
        reason = HttpClient(running.http).post("v2/repository/index")[0]["reason"]
    assert "there is no Rockchip NPU here" in reason
    assert "/proc/device-tree/compatible" in reason
