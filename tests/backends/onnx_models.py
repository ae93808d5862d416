# SPDX-License-Identifier: Apache-2.0
"""Builds the tiny ONNX models of the backend tests and their model repository."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

OPSET = 13
IR_VERSION = 8  # ONNX Runtime 1.16 reads up to 9

# Triton's datatype -> ONNX element type: all that the python backend and ONNX share.
NUMERIC = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
}

Dims = Sequence[int | str | None]


def tensor(name: str, elem_type: int, dims: Dims | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem_type, dims)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    initializers: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "test", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def constant(name: str, values: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(values, name)


def place(repository: Path, name: str, proto: onnx.ModelProto, config: str = "") -> Path:
    """Write ``<repository>/<name>/1/model.onnx``, and config.pbtxt where there is one."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    onnx.save(proto, str(version / "model.onnx"))
    if config:
        (repository / name / "config.pbtxt").write_text(config)
    return version


def identities(types: dict[str, int]) -> onnx.ModelProto:
    """Model with an input ``in_<T>`` and an equal output ``out_<T>`` of dims [N, K] per type."""
    nodes = [helper.make_node("Identity", [f"in_{t}"], [f"out_{t}"]) for t in types]
    inputs = [tensor(f"in_{t}", elem, ["N", "K"]) for t, elem in types.items()]
    outputs = [tensor(f"out_{t}", elem, ["N", "K"]) for t, elem in types.items()]
    return model(nodes, inputs, outputs)


def double(dims: Dims | None = ("N", 3)) -> onnx.ModelProto:
    """Y = X + X; dims None are an unknown rank."""
    return model(
        [helper.make_node("Add", ["X", "X"], ["Y"])],
        [tensor("X", TensorProto.FLOAT, dims)],
        [tensor("Y", TensorProto.FLOAT, dims)],
    )


def add_and_subtract() -> onnx.ModelProto:
    """SUM = A + B and DIFF = A - B, of any two dims; A and B have to agree."""
    dims = ["N", "H", "W"]
    return model(
        [
            helper.make_node("Add", ["A", "B"], ["SUM"], name="adder"),
            helper.make_node("Sub", ["A", "B"], ["DIFF"], name="subtractor"),
        ],
        [tensor("A", TensorProto.FLOAT, dims), tensor("B", TensorProto.FLOAT, ["N", "P", "Q"])],
        [tensor("SUM", TensorProto.FLOAT, dims), tensor("DIFF", TensorProto.FLOAT, dims)],
    )


def lookup() -> onnx.ModelProto:
    """VALUE = TABLE[INDEX], of a table of 10; fails for any other index."""
    table = constant("TABLE", np.arange(10, dtype=np.float32) * 10)
    return model(
        [helper.make_node("Gather", ["TABLE", "INDEX"], ["VALUE"], name="picker")],
        [tensor("INDEX", TensorProto.INT64, ["N", 1])],
        [tensor("VALUE", TensorProto.FLOAT, ["N", 1])],
        [table],
    )


def positive_rows() -> onnx.ModelProto:
    """P = the rows of X whose first element is > 0: dynamic, but no batch dimension."""
    column = constant("COLUMN", np.array(0, dtype=np.int64))
    zero = constant("ZERO", np.array(0, dtype=np.float32))
    return model(
        [
            helper.make_node("Gather", ["X", "COLUMN"], ["FIRST"], axis=1),
            helper.make_node("Greater", ["FIRST", "ZERO"], ["KEEP"]),
            helper.make_node("Compress", ["X", "KEEP"], ["P"], axis=0),
        ],
        [tensor("X", TensorProto.FLOAT, ["N", 3])],
        [tensor("P", TensorProto.FLOAT, ["M", 3])],
        [column, zero],
    )


def scaled() -> onnx.ModelProto:
    """Y = X * SCALE of dims [2]; SCALE is an input with the default 10."""
    scale = constant("SCALE", np.array([10.0, 10.0], dtype=np.float32))
    return model(
        [helper.make_node("Mul", ["X", "SCALE"], ["Y"])],
        [tensor("X", TensorProto.FLOAT, [2]), tensor("SCALE", TensorProto.FLOAT, [2])],
        [tensor("Y", TensorProto.FLOAT, [2])],
        [scale],
    )


def bfloat16() -> onnx.ModelProto:
    """A type which the two sides do not share."""
    return model(
        [helper.make_node("Identity", ["X"], ["Y"])],
        [tensor("X", TensorProto.BFLOAT16, [2])],
        [tensor("Y", TensorProto.BFLOAT16, [2])],
    )


def sized(elements: int) -> onnx.ModelProto:
    """Y = X + X of dims [N, elements], to measure copies with."""
    return double(("N", elements))


def place_external(repository: Path, name: str) -> None:
    """A model of version 3 in ``net.onnx`` with its weights in a file of their own."""
    version = repository / name / "3"
    version.mkdir(parents=True)
    weights = constant("W", np.arange(2048, dtype=np.float32))
    proto = model(
        [helper.make_node("Add", ["X", "W"], ["Y"])],
        [tensor("X", TensorProto.FLOAT, [2048])],
        [tensor("Y", TensorProto.FLOAT, [2048])],
        [weights],
    )
    onnx.save(
        proto,
        str(version / "net.onnx"),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=16,
    )
    (repository / name / "config.pbtxt").write_text(
        'backend: "onnxruntime"\ndefault_model_filename: "net.onnx"\n' + ONE_INSTANCE
    )


ONE_INSTANCE = "instance_group [ { count: 1 kind: KIND_CPU } ]\n"
BACKEND = 'backend: "onnxruntime"\n' + ONE_INSTANCE


def parameter(name: str, value: str) -> str:
    return f'parameters {{ key: "{name}" value: {{ string_value: "{value}" }} }}\n'


def good_repository(repository: Path) -> list[str]:
    """Fill ``repository`` with the models which load; return their names."""
    tuned = (
        parameter("intra_op_thread_count", "1")
        + parameter("execution_mode", "1")
        + parameter("inter_op_thread_count", "1")
        + parameter("enable_mem_arena", "1")
        + parameter("enable_mem_pattern", "false")
        + parameter("memory.enable_memory_arena_shrinkage", "cpu:0")
        + parameter("session.intra_op.allow_spinning", "0")
        + parameter("execution_providers", "CPUExecutionProvider")
        + parameter("owner", "a note for some other tool")
        + "optimization { graph { level: 1 } }\n"
    )
    wait = "dynamic_batching { max_queue_delay_microseconds: 300000 preferred_batch_size: [ 8 ] }\n"
    batches = BACKEND + "max_batch_size: 8\n" + wait
    place(repository, "bare", double())
    place(repository, "types", identities(NUMERIC), BACKEND)
    place(repository, "strings", identities({"BYTES": TensorProto.STRING, **NUMERIC}), BACKEND)
    place(repository, "joined", double(), batches)
    place(repository, "lookup", lookup(), batches)
    place(repository, "positive", positive_rows(), batches)
    place(repository, "dynamic", add_and_subtract(), BACKEND)
    place(repository, "tuned", double(), BACKEND + tuned)
    place(repository, "scalar", double(()), BACKEND)
    place(repository, "scalars", double(("N",)), BACKEND)
    place(repository, "listed_scalars", double(("N",)), batches + _tensors("1", "1"))
    optional_inputs = 'input [ { name: "SCALE" optional: true } ]\n'
    place(repository, "optional", scaled(), BACKEND + optional_inputs)
    place_external(repository, "external")
    return sorted(path.name for path in repository.iterdir())


def _tensors(x_dims: str, y_dims: str) -> str:
    return (
        f'input [ {{ name: "X" data_type: TYPE_FP32 dims: [ {x_dims} ] }} ]\n'
        f'output [ {{ name: "Y" data_type: TYPE_FP32 dims: [ {y_dims} ] }} ]\n'
    )


def _io(x_type: str = "TYPE_FP32", x_dims: str = "3", x_name: str = "X") -> str:
    return (
        f'max_batch_size: 8\ninput [ {{ name: "{x_name}" data_type: {x_type} dims: [ {x_dims} ] }} ]\n'
        'output [ { name: "Y" data_type: TYPE_FP32 dims: [ 3 ] } ]\n'
    )


# Name -> (model, rest of config.pbtxt, what the load error has to say).
BAD: dict[str, tuple[onnx.ModelProto | None, str, list[str]]] = {
    "bad_file": (None, "", ["ONNX Runtime cannot load", "model.onnx", "Protobuf parsing failed"]),
    "bad_name": (double(), _io(x_name="XX"), ["'XX'", "the ONNX model has X"]),
    "bad_partial": (
        double(),
        'input [ { name: "XX" } ]\n',
        ["config.pbtxt lists input 'XX'", "the ONNX model has X"],
    ),
    "bad_type": (double(), _io(x_type="TYPE_INT32"), ["'X'", "TYPE_INT32", "TYPE_FP32"]),
    "bad_dims": (double(), _io(x_dims="4"), ["'X'", "[4]", "[3]"]),
    "bad_batch": (double((2, 3)), "max_batch_size: 4\n", ["max_batch_size 4", "[2, 3]"]),
    "bad_number": (
        double(),
        parameter("intra_op_thread_count", "two"),
        ["intra_op_thread_count", "whole number", "'two'"],
    ),
    "bad_parameter": (
        double(),
        parameter("intra_op_thread_cuont", "2"),
        ["'intra_op_thread_cuont'", "did you mean 'intra_op_thread_count'"],
    ),
    "bad_provider": (
        double(),
        parameter("execution_providers", "XnnpackExecutionProvider"),
        ["'XnnpackExecutionProvider' is not in this ONNX Runtime", "CPUExecutionProvider"],
    ),
    "bad_shrinkage": (
        double(),
        parameter("memory.enable_memory_arena_shrinkage", "cpu:0")
        + parameter("enable_mem_arena", "0"),
        ["memory.enable_memory_arena_shrinkage", "enable_mem_arena"],
    ),
    "bad_scalar": (
        double(("N",)),
        "max_batch_size: 8\n" + _tensors("1", "3"),
        ["output 'Y' the dims [3]", "has [] after the batch dimension"],
    ),
    "bad_rank": (double(None), _tensors("3", "3"), ["input 'X' the dims [3]", "unknown rank"]),
    "bad_rank_batch": (double(None), "max_batch_size: 4\n", ["'X'", "unknown rank"]),
    "bad_decoupled": (
        double(),
        _io() + "model_transaction_policy { decoupled: true }\n",
        ["model_transaction_policy", "decoupled", "does not support"],
    ),
    "bad_element": (bfloat16(), "", ["'X'", "tensor(bfloat16)", "do not share"]),
}


def bad_repository(repository: Path) -> None:
    """Add the models of ``BAD`` to ``repository``."""
    for name, (proto, config, _) in BAD.items():
        place(repository, name, proto or double(), BACKEND + config)
        if proto is None:
            (repository / name / "1" / "model.onnx").write_bytes(b"this is not an ONNX model")
