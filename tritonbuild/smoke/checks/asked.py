"""What the checks send, and what must come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonbuild.smoke.client import Tensor
from tritonbuild.smoke.models import compute_affine
from tritonbuild.smoke.trial import check_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

# ONNX Runtime may add in another order, or fuse multiplication and addition.
_TOLERANCE = 1e-5

# The server's counters may move after its answers have left; on a busy machine by a while.
SETTLE_SECONDS = 5

# Models that a check needs which asks `add_sub`.
PYTHON = ("add_sub",)

ADD_SUB_IN = {
    "INPUT0": Tensor("FP32", (4,), (1.5, -2.0, 3.25, 1e6)),
    "INPUT1": Tensor("FP32", (4,), (0.25, 8.0, -3.25, 1.0)),
}
ADD_SUB_OUT = {
    "OUTPUT0": Tensor("FP32", (4,), (1.75, 6.0, 0.0, 1000001.0)),
    "OUTPUT1": Tensor("FP32", (4,), (1.25, -10.0, 6.5, 999999.0)),
}
_ROWS = ((1.0, 2.0, 3.0, 4.0), (0.5, -1.0, 2.0, 0.0))
AFFINE_IN = {"X": Tensor("FP32", (2, 4), _ROWS[0] + _ROWS[1])}
AFFINE_OUT = Tensor("FP32", (2, 3), compute_affine(_ROWS))
_PIXELS = ((0, 64, 128, 255), (200, 100, 50, 25))
PIPELINE_IN = {"RAW": Tensor("UINT8", (2, 4), _PIXELS[0] + _PIXELS[1])}
PIPELINE_OUT = Tensor(
    "FP32", (2, 3), compute_affine([[(value - 128) / 64 for value in row] for row in _PIXELS])
)


def check_add_sub(outputs: Mapping[str, Tensor]) -> str:
    """Check both outputs of `add_sub` for ADD_SUB_IN and return one of them as text."""
    for name, expected in ADD_SUB_OUT.items():
        check_tensor(outputs, name, expected)
    return f"OUTPUT0 = {list(outputs['OUTPUT0'].data)}"


def check_affine(outputs: Mapping[str, Tensor], expected: Tensor = AFFINE_OUT) -> str:
    """Check the output of an ONNX model and return it as text."""
    check_tensor(outputs, "Y", expected, tolerance=_TOLERANCE)
    return f"Y = {list(outputs['Y'].data)}"
