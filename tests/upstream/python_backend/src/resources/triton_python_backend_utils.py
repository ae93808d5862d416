# SPDX-License-Identifier: Apache-2.0
"""What a Python model imports, and the stub's own half of the protocol (names with one `_`)."""

import importlib.util
import json
import os
import struct
import sys
import traceback
from pathlib import Path

import numpy as np

_TYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
_NAMES = {np.dtype(value): key for key, value in _TYPES.items()}


class TritonModelException(Exception):
    """Something that a model asks of the server and does not get."""


class TritonError:
    """An answer that is an error."""

    def __init__(self, message):
        self._message = str(message)

    def message(self):
        """Return the text."""
        return self._message


class Tensor:
    """A named array."""

    def __init__(self, name, array):
        if array.dtype.kind in "SU":
            array = array.astype(np.object_)
        if array.dtype not in _NAMES:
            msg = f"no Triton type for numpy's {array.dtype}"
            raise TritonModelException(msg)
        self._name = name
        self._array = np.ascontiguousarray(array)

    def name(self):
        """Return the name."""
        return self._name

    def as_numpy(self):
        """Return the array."""
        return self._array

    def triton_dtype(self):
        """Return the type in the protocol's words."""
        return _NAMES[self._array.dtype]


class InferenceRequest:
    """What a client asks."""

    def __init__(self, inputs):
        self._inputs = inputs

    def inputs(self):
        """Return all tensors."""
        return self._inputs


class InferenceResponse:
    """What a model answers."""

    def __init__(self, output_tensors=(), error=None):
        self._outputs = list(output_tensors)
        self._error = (
            error if error is None or isinstance(error, TritonError) else TritonError(error)
        )

    def output_tensors(self):
        """Return all tensors."""
        return self._outputs

    def has_error(self):
        """Return whether this is an error."""
        return self._error is not None

    def error(self):
        """Return the error, or None."""
        return self._error


class Logger:
    """Writes to the server's log."""

    @staticmethod
    def log_info(message):
        """Write a line."""
        sys.stderr.write(f"{message}\n")

    log = log_warn = log_error = log_verbose = log_info


def _find(tensors, name):
    return next((tensor for tensor in tensors if tensor.name() == name), None)


def get_input_tensor_by_name(request, name):
    """Return a request's tensor, or None."""
    return _find(request.inputs(), name)


def get_output_tensor_by_name(response, name):
    """Return a response's tensor, or None."""
    return _find(response.output_tensors(), name)


def _get_config(config, key, name):
    return next((entry for entry in config.get(key, ()) if entry.get("name") == name), None)


def get_input_config_by_name(model_config, name):
    """Return an input's part of the model's config, or None."""
    return _get_config(model_config, "input", name)


def get_output_config_by_name(model_config, name):
    """Return an output's part of the model's config, or None."""
    return _get_config(model_config, "output", name)


def triton_string_to_numpy(text):
    """Return numpy's type for one such as TYPE_FP32."""
    return _TYPES["BYTES" if text == "TYPE_STRING" else text.replace("TYPE_", "", 1)]


# --- the stub's half ------------------------------------------------------------------------


def _decode(data, datatype, shape):
    if datatype != "BYTES":
        return np.frombuffer(data, _TYPES[datatype]).reshape(shape)
    elements, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        elements.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return np.array(elements, dtype=np.object_).reshape(shape)


def _encode(array):
    if array.dtype != np.object_:
        return array.tobytes()
    parts = []
    for element in array.reshape(-1):
        data = element if isinstance(element, bytes) else str(element).encode()
        parts.append(struct.pack("<I", len(data)) + data)
    return b"".join(parts)


def _unpack(message):
    (length,) = struct.unpack_from("<I", message)
    at = 4 + length
    requests = []
    for entries in json.loads(message[4:at]):
        tensors = []
        for entry in entries:
            data = message[at : at + entry["size"]]
            at += entry["size"]
            tensors.append(Tensor(entry["name"], _decode(data, entry["datatype"], entry["shape"])))
        requests.append(InferenceRequest(tensors))
    return requests


def _pack(responses):
    header, blob = [], []
    for response in responses:
        if response.has_error():
            header.append({"error": response.error().message() or "error without a text"})
            continue
        outputs = []
        for tensor in response.output_tensors():
            data = _encode(tensor.as_numpy())
            shape = list(tensor.as_numpy().shape)
            outputs.append(
                {"name": tensor.name(), "datatype": tensor.triton_dtype(), "shape": shape,
                 "size": len(data)}
            )  # fmt: skip
            blob.append(data)
        header.append({"outputs": outputs})
    text = json.dumps(header).encode()
    return struct.pack("<I", len(text)) + text + b"".join(blob)


class _Stub:
    model = None


def _initialize(path, arguments):
    """Load the model at `path` and call its initialize()."""
    path = Path(os.fsdecode(path))
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    if hasattr(model, "initialize"):
        model.initialize(json.loads(arguments))
    _Stub.model = model
    return b""


def _execute(message):
    """Return the packed answers to packed requests; what the model raises is an answer too."""
    requests = _unpack(message)
    try:
        responses = _Stub.model.execute(requests)
        if len(responses) != len(requests):
            msg = f"expected {len(requests)} responses, got {len(responses)}: one for each request"
            raise TritonModelException(msg)
        return _pack(responses)
    except Exception as err:  # noqa: BLE001 - a model may raise anything
        traceback.print_exc()
        failed = InferenceResponse(error=f"Failed to process the request(s), message: {err}")
        return _pack([failed] * len(requests))


def _finalize():
    """Call the model's finalize(), where it has one."""
    if hasattr(_Stub.model, "finalize"):
        _Stub.model.finalize()
    return b""
