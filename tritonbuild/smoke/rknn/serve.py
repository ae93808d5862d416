"""The demo's model served by Triton's rknn backend: the same objects, on one core and on several."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild.errors import SmokeTestError
from tritonbuild.paths import make_dir, write_text
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.smoke.client import Client, Tensor
from tritonbuild.smoke.rknn.compare import check_objects
from tritonbuild.smoke.rknn.yolo import Thresholds, find_objects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tritonbuild.plan.npu import BoardNpu
    from tritonbuild.recipe.npu import Tolerances
    from tritonbuild.smoke.rknn.demo import BuiltDemo
    from tritonbuild.smoke.rknn.judge import Verdict
    from tritonbuild.smoke.rknn.output import Detection, TensorInfo
    from tritonbuild.smoke.server import Server

MODEL = "yolov5"
# Requests that are sent at once, for each instance.
_REQUESTS_EACH = 2


@dataclass(frozen=True)
class Served:
    """What a served model answered.

    Attributes:
        instances: Instances of the model, one on each core.
        requests: How many requests were answered, all with the right objects.
        seconds: How long that took.
    """

    instances: int
    requests: int
    seconds: float

    def describe(self) -> str:
        """Return it in a line."""
        plural = "s" if self.instances > 1 else ""
        return (
            f"{self.instances} instance{plural}: all objects in each of {self.requests} answers, "
            f"{self.requests / self.seconds:.1f} requests a second, with the client's own work"
        )


def write_repository(
    folder: Path, npu: BoardNpu, demo: BuiltDemo, verdict: Verdict, provider: ProviderKind
) -> dict[int, str]:
    """Write a model repository and return the model's name for each number of instances.

    Args:
        folder: Where; what is there is removed.
        npu: The board's NPU.
        demo: Where the model is.
        verdict: What the demo told of its tensors.
        provider: Where the rknn backend came from.
    """
    shutil.rmtree(folder, ignore_errors=True)
    names = {count: f"{MODEL}_{count}" for count in sorted({1, npu.soc.cores})}
    for count, name in names.items():
        version = make_dir(folder / name / "1")
        shutil.copyfile(demo.model, version / "model.rknn")
        write_text(folder / name / "config.pbtxt", make_config(verdict, provider, count))
    return names


def make_config(verdict: Verdict, provider: ProviderKind, instances: int) -> str:
    """Return config.pbtxt of the demo's model.

    The C++ backend takes a core as the device of a KIND_GPU instance; ours spreads KIND_CPU ones.
    """
    lines = ['backend: "rknn"', "max_batch_size: 1"]
    height, width, channels = verdict.output.model_size
    image = verdict.output.inputs[0].name
    lines.append(
        f'input [ {{ name: "{image}" data_type: TYPE_UINT8 dims: [ {height}, {width}, {channels} ]'
        " } ]"
    )
    for tensor in verdict.output.outputs:
        dims = ", ".join(map(str, _dims_of(tensor)))
        lines.append(
            f'output [ {{ name: "{tensor.name}" data_type: TYPE_FP32 dims: [ {dims} ] }} ]'
        )
    if provider is ProviderKind.WHEEL:
        lines.append(f"instance_group [ {{ count: {instances} kind: KIND_CPU }} ]")
    else:
        lines += [
            f"instance_group [ {{ count: 1 kind: KIND_GPU gpus: [ {core} ] }} ]"
            for core in range(instances)
        ]
    return "\n".join(lines) + "\n"


def _dims_of(tensor: TensorInfo) -> tuple[int, ...]:
    """Return an output's dimensions without the batch; up to SDK 1.4.0 the demo prints four of five."""
    if tensor.n_dims == len(tensor.dims):
        return tensor.dims[1:]
    first = tensor.dims[1:]
    known = 1
    for dim in first:
        known *= dim
    return (*first, tensor.elements // known)


def ask_served(
    server: Server,
    model: str,
    instances: int,
    verdict: Verdict,
    *,
    pixels: bytes,
    labels: Sequence[str],
    tolerances: Tolerances,
) -> Served:
    """Load a model, ask it several times at once, check each answer's objects, and unload it.

    Args:
        server: A server that knows the model.
        model: Its name.
        instances: How many instances it has.
        verdict: What the demo found.
        pixels: The picture.
        labels: The classes' names.
        tolerances: How far the objects may be from the baseline.

    Raises:
        SmokeTestError: It found other objects.
        AnswerError: It cannot be loaded, or did not answer.
    """
    client = Client(server.http_url)
    client.load(model)
    height, width, channels = verdict.output.model_size
    image = Tensor("UINT8", (1, height, width, channels), tuple(pixels))
    inputs = {verdict.output.inputs[0].name: image}
    count = instances * _REQUESTS_EACH
    started = time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(lambda _: client.infer_binary(model, inputs), range(count)))
    seconds = time.monotonic() - started
    client.unload(model)
    for outputs in answers:
        found = _find_objects(model, outputs, verdict, labels)
        check_objects(verdict.baseline, tolerances, found)
    return Served(instances, count, seconds)


def _find_objects(
    model: str, outputs: Mapping[str, Tensor], verdict: Verdict, labels: Sequence[str]
) -> list[Detection]:
    """Return the objects in an answer.

    Raises:
        SmokeTestError: Its tensors are not those of the demo's model.
    """
    names = [tensor.name for tensor in verdict.output.outputs]
    missing = [name for name in names if name not in outputs]
    if missing:
        msg = f"{model} answered without {', '.join(missing)}"
        raise SmokeTestError(msg, hint="the server's log says more")
    thresholds = Thresholds(verdict.output.box_threshold, verdict.output.nms_threshold)
    try:
        return find_objects([outputs[name].data for name in names], labels, thresholds)
    except ValueError as err:
        msg = f"{model} answered with other tensors than the demo's: {err}"
        raise SmokeTestError(msg, hint="the backend reads another model") from None
