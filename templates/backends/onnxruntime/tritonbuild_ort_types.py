# SPDX-License-Identifier: Apache-2.0
"""Element types which ONNX Runtime and Triton's python backend share, and the strings.

Sources: ``triton_python_backend_utils.TRITON_STRING_TO_NUMPY`` (the python backend's
types) and ONNX Runtime's ``NodeArg.type`` names.  BF16, the 8-bit floats, complex numbers,
sequences, maps and optionals have no counterpart on the other side.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# ONNX Runtime's name of the type -> the name in config.pbtxt.
TRITON_TYPES: Dict[str, str] = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}

_NUMPY_TYPES: Dict[str, type] = {
    "TYPE_BOOL": np.bool_,
    "TYPE_UINT8": np.uint8,
    "TYPE_UINT16": np.uint16,
    "TYPE_UINT32": np.uint32,
    "TYPE_UINT64": np.uint64,
    "TYPE_INT8": np.int8,
    "TYPE_INT16": np.int16,
    "TYPE_INT32": np.int32,
    "TYPE_INT64": np.int64,
    "TYPE_FP16": np.float16,
    "TYPE_FP32": np.float32,
    "TYPE_FP64": np.float64,
}


def triton_type(onnx_type: str) -> Optional[str]:
    """Return the config.pbtxt name of an ONNX Runtime type, None where there is none."""
    return TRITON_TYPES.get(onnx_type)


def numpy_type(data_type: str) -> npt.DTypeLike:
    """Return the numpy type of a config.pbtxt type (any but TYPE_STRING)."""
    return _NUMPY_TYPES[data_type]


def strings_for_onnxruntime(values: Array) -> Array:
    """Return ``values`` (object array of bytes, any shape) in a form ONNX Runtime takes.

    ONNX Runtime calls ``str()`` on the elements of an object array, so bytes have to be
    decoded first.  Bytes which are not UTF-8 go as a fixed-width ``S`` array: ONNX Runtime
    reads its elements as C strings, so each needs a spare NUL and may not contain one.
    Raises ValueError for the rest.
    """
    flat = values.reshape(-1)
    decoded = np.empty(flat.shape, dtype=np.object_)
    try:
        for index, item in enumerate(flat):
            decoded[index] = item.decode("utf-8") if isinstance(item, bytes) else str(item)
    except UnicodeDecodeError:
        return _fixed_width(flat).reshape(values.shape)
    return decoded.reshape(values.shape)


def _fixed_width(flat: Array) -> Array:
    if any(b"\0" in item for item in flat):
        msg = "a BYTES element which is not UTF-8 must not contain a zero byte"
        raise ValueError(msg)
    width = max(len(item) for item in flat) + 1
    return np.array(list(flat), dtype=f"S{width}")
