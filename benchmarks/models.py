"""The models of the inference benchmark, and the numbers that they are asked with."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild.paths import data_dir

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from onnx import TensorProto

_CONFIG = """\
backend: "onnxruntime"
max_batch_size: 0
input [ {{ name: "X" data_type: TYPE_FP32 dims: {dims} }} ]
output [ {{ name: "Y" data_type: TYPE_FP32 dims: {out_dims} }} ]
instance_group [ {{ count: {instances} kind: KIND_CPU }} ]
parameters {{ key: "intra_op_thread_count" value {{ string_value: "1" }} }}
parameters {{ key: "inter_op_thread_count" value {{ string_value: "1" }} }}
"""

INSTANCES = (1, 2)


@dataclass(frozen=True)
class Model:
    """A model that is asked.

    Attributes:
        title: What it is, for the table.
        shape: Shape of its one input X.
        dims: The same in the model's configuration; -1 is any size.
        out_dims: Of its one output Y.
    """

    name: str
    title: str
    shape: tuple[int, ...]
    dims: list[int]
    out_dims: list[int]

    def values(self) -> tuple[float, ...]:
        """Return the flat input: exact in FP32; `direct.py` makes the same."""
        count = 1
        for size in self.shape:
            count *= size
        return tuple(number % 8 / 8 for number in range(count))


MODELS = (
    Model("affine", "affine, [1,4] to [1,3]", (1, 4), [-1, 4], [-1, 3]),
    Model("conv", "conv net, [1,3,64,64] to [1,10]", (1, 3, 64, 64), [1, 3, 64, 64], [1, 10]),
)


def write_repository(folder: Path, models: Iterable[Model]) -> list[str]:
    """Write each model once for each number of instances; return the names, `conv-2` and such."""
    names = []
    for model in models:
        for instances in INSTANCES:
            name = f"{model.name}-{instances}"
            version = folder / name / "1"
            version.mkdir(parents=True)
            write_model(model.name, version / "model.onnx")
            text = _CONFIG.format(dims=model.dims, out_dims=model.out_dims, instances=instances)
            (folder / name / "config.pbtxt").write_text(text, encoding="utf-8")
            names.append(name)
    return names


def write_model(name: str, path: Path) -> None:
    """Write one model's ONNX file: smoke's affine, or a net of three convolutions."""
    if name == "affine":
        shutil.copyfile(data_dir("templates") / "smoke" / "affine.onnx", path)
        return
    from onnx import TensorProto, helper

    weights = _Weights()
    nodes, tensor = [], "X"
    for number, (inputs, outputs) in enumerate(((3, 16), (16, 32), (32, 32))):
        weights.add(f"W{number}", (outputs, inputs, 3, 3))
        nodes += [
            helper.make_node("Conv", [tensor, f"W{number}"], [f"C{number}"],
                             kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
            helper.make_node("Relu", [f"C{number}"], [f"R{number}"]),
        ]  # fmt: skip
        tensor = f"R{number}"
    weights.add("WY", (32, 10))
    nodes += [
        helper.make_node("GlobalAveragePool", [tensor], ["P"]),
        helper.make_node("Flatten", ["P"], ["F"]),
        helper.make_node("MatMul", ["F", "WY"], ["Y"]),
    ]
    graph = helper.make_graph(
        nodes, "conv",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [1, 10])],
        weights.tensors,
    )  # fmt: skip
    # The highest that ONNX Runtime 1.16 and its tools of that time share.
    opset = helper.make_opsetid("", 17)
    proto = helper.make_model(graph, ir_version=8, opset_imports=[opset])
    path.write_bytes(proto.SerializeToString(deterministic=True))


class _Weights:
    """Random weights that are the same each time."""

    def __init__(self) -> None:
        import numpy as np

        self.tensors: list[TensorProto] = []
        self._random = np.random.default_rng(0)

    def add(self, name: str, shape: tuple[int, ...]) -> None:
        from onnx import numpy_helper

        array = self._random.normal(0, 0.1, shape).astype("float32")
        self.tensors.append(numpy_helper.from_array(array, name))
