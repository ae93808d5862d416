# SPDX-License-Identifier: Apache-2.0
"""Write affine.onnx, the smoke test's ONNX model: Y = X W + B for a batch of any size.

    python make_affine.py [FILE]

Needs the `onnx` package, which tritonbuild itself does not: the file is kept beside this script.
Opset 17 and IR version 8 are the highest that ONNX Runtime 1.16 and its tools of that time share.
"""

import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper

# Small multiples of a quarter: the answers are exact in FP32, whatever the order of additions.
WEIGHTS = [[1.0, -0.5, 0.25], [2.0, 0.75, -1.0], [-1.5, 1.0, 0.5], [0.5, -2.0, 1.25]]
BIAS = [0.5, -1.0, 2.0]


def make_model() -> onnx.ModelProto:
    """Return the model."""
    flat = [value for row in WEIGHTS for value in row]
    graph = helper.make_graph(
        nodes=[
            helper.make_node("MatMul", ["X", "W"], ["XW"], name="multiply"),
            helper.make_node("Add", ["XW", "B"], ["Y"], name="add"),
        ],
        name="affine",
        inputs=[helper.make_tensor_value_info("X", TensorProto.FLOAT, ["batch", 4])],
        outputs=[helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["batch", 3])],
        initializer=[
            helper.make_tensor("W", TensorProto.FLOAT, [4, 3], flat),
            helper.make_tensor("B", TensorProto.FLOAT, [3], BIAS),
        ],
    )
    model = helper.make_model(
        graph,
        producer_name="tritonbuild",
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("affine.onnx")
    output.write_bytes(make_model().SerializeToString(deterministic=True))
