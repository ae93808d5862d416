# SPDX-License-Identifier: Apache-2.0
"""Runs requests on an ONNX Runtime session, with as few copies as are worth avoiding.

An input is a view of the server's shared memory, which ONNX Runtime reads in place; only
the joining of several requests copies.  ``InferenceSession.run`` copies each output into a
numpy array.  OrtValues avoid that copy, but their Python objects cost more than copying a
small output does; so they are used from ``ZERO_COPY_BYTES`` of output on.  The python
backend's own copy of each output into the shared memory cannot be avoided.
"""

# zip(strict=) is of Python 3.10; boards have 3.8.
# ruff: noqa: B905

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils
import tritonbuild_ort_types as types
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from tritonbuild_common import Config, backend_dims, error_response, model_sentence, one_line
from tritonbuild_ort_types import Array

if TYPE_CHECKING:
    from tritonbuild_ort_signature import Signature, TensorSpec

Feed = Dict[str, Array]

# Measured break-even of OrtValues and run(): docs/backends.md.
ZERO_COPY_BYTES = 4 << 20


class RequestError(Exception):
    """This request cannot be answered; the others in the batch are not concerned."""

    def __init__(self, message: str, code: Any) -> None:
        super().__init__(message)
        self.code = code


class Pending(NamedTuple):
    """A request which waits for its run."""

    position: int  # in the list given to execute()
    feed: Feed
    outputs: Tuple[str, ...]  # the requested outputs


class Runner:
    """Answers the requests of one ``execute()`` call."""

    def __init__(
        self, session: Any, signature: Signature, config: Config, run_options: Any = None
    ) -> None:
        self._session = session
        self._run_options = run_options
        self._model = str(config["name"])
        self._batching = config["max_batch_size"] > 0
        self._joins = self._batching
        self._inputs = {**signature.inputs, **signature.optional_inputs}
        self._outputs = signature.outputs
        # Dims [1] for one scalar per batch element; with a reshape to [] the core adds the 1.
        self._scalars = frozenset(
            str(entry["name"])
            for entry in config["output"]
            if self._batching
            and backend_dims(entry) == (1,)
            and len(self._outputs[entry["name"]].dims) == 1
        )
        tensors = [*self._inputs.values(), *self._outputs.values()]
        # An OrtValue cannot be made from strings, so a model with strings takes the plain way.
        self._has_strings = any(spec.onnx_type == "tensor(string)" for spec in tensors)
        self._output_bytes = 0  # of the last run, as a forecast of the next

    def execute(self, requests: Sequence[Any]) -> List[Any]:
        """Return one response for each request, in the requests' order."""
        responses: List[Any] = [None] * len(requests)
        ready: List[Pending] = []
        for position, request in enumerate(requests):
            try:
                ready.append(self._pending(position, request))
            except RequestError as error:
                responses[position] = error_response(str(error), error.code)
        for group in self._groups(ready):
            for pending, response in zip(group, self._answer(group)):
                responses[pending.position] = response
        return responses

    def _pending(self, position: int, request: Any) -> Pending:
        feed: Feed = {}
        for tensor in request.inputs():
            spec = self._inputs[tensor.name()]
            feed[spec.name] = self._model_input(spec, tensor.as_numpy())
        return Pending(position, feed, tuple(request.requested_output_names()))

    def _model_input(self, spec: TensorSpec, array: Array) -> Array:
        """Return ``array`` as the model wants it: the right rank, strings decoded."""
        model_rank = len(spec.dims)
        if array.ndim == model_rank + 1 and array.shape[model_rank:] == (1,):
            # The dims [1] which stand for a scalar (or for one scalar per batch element).
            array = array.reshape(array.shape[:model_rank])
        if array.dtype == np.object_:
            try:
                array = types.strings_for_onnxruntime(array)
            except ValueError as error:
                message = model_sentence(self._model, f"input '{spec.name}': {error}")
                raise RequestError(message, pb_utils.TritonError.INVALID_ARG) from error
        return array

    # --- joining -------------------------------------------------------------------------

    def _groups(self, ready: Sequence[Pending]) -> List[List[Pending]]:
        """Return the requests in groups which can be joined into one run.

        Same inputs, and the same types and shapes but for the batch dimension.
        """
        if not self._joins:
            return [[pending] for pending in ready]
        groups: Dict[Any, List[Pending]] = {}
        for pending in ready:
            key = tuple((name, a.dtype, a.shape[1:]) for name, a in sorted(pending.feed.items()))
            # Without inputs there is no batch dimension to join on.
            groups.setdefault(key or pending.position, []).append(pending)
        return list(groups.values())

    def _answer(self, group: Sequence[Pending]) -> List[Any]:
        if len(group) > 1:
            joined = self._answer_joined(group)
            if joined is not None:
                return joined
        return [self._answer_single(pending) for pending in group]

    def _answer_single(self, pending: Pending) -> Any:
        try:
            outputs = self._run(pending.outputs, pending.feed)
            return self._response(outputs, pending.outputs)
        except RequestError as error:
            return error_response(str(error), error.code)

    def _answer_joined(self, group: Sequence[Pending]) -> Optional[List[Any]]:
        """Run the group as one batch; None where each request has to be run by itself.

        After a failure, because only a run of its own tells which request is wrong.
        """
        feed = {
            name: np.concatenate([pending.feed[name] for pending in group])
            for name in group[0].feed
        }
        sizes = [next(iter(pending.feed.values())).shape[0] for pending in group]
        names = tuple(dict.fromkeys(name for pending in group for name in pending.outputs))
        try:
            outputs = self._run(names, feed)
        except RequestError:
            return None
        if any(array.ndim == 0 or array.shape[0] != sum(sizes) for array in outputs.values()):
            self._stop_joining()
            return None
        ends = np.cumsum(sizes)
        return [
            self._response({name: a[end - size : end] for name, a in outputs.items()}, p.outputs)
            for p, size, end in zip(group, sizes, ends)
        ]

    def _stop_joining(self) -> None:
        """Give up joining: the outputs' first dimension turned out not to be the batch."""
        self._joins = False
        text = (
            "an output's first dimension is not the batch dimension, so requests are run one by "
            "one; set max_batch_size: 0 and full dims in config.pbtxt"
        )
        pb_utils.Logger.log_warn(model_sentence(self._model, text))

    # --- one run -------------------------------------------------------------------------

    def _run(self, names: Tuple[str, ...], feed: Feed) -> Dict[str, Array]:
        """Return the outputs ``names`` of one run; raises RequestError."""
        in_place = self._output_bytes >= ZERO_COPY_BYTES and not self._has_strings
        try:
            arrays = (self._run_in_place if in_place else self._run_plainly)(names, feed)
        except InvalidArgument as error:
            code = pb_utils.TritonError.INVALID_ARG
            raise RequestError(self._run_failure(error), code) from error
        except Exception as error:  # the other classes of ONNX Runtime have no common base
            code = pb_utils.TritonError.INTERNAL
            raise RequestError(self._run_failure(error), code) from error
        self._output_bytes = sum(array.nbytes for array in arrays)
        return dict(zip(names, arrays))

    def _run_plainly(self, names: Tuple[str, ...], feed: Feed) -> List[Array]:
        arrays: List[Array] = self._session.run(list(names), feed, self._run_options)
        return arrays

    def _run_in_place(self, names: Tuple[str, ...], feed: Feed) -> List[Array]:
        values = {name: _ort_value(array) for name, array in feed.items()}
        results = self._session.run_with_ort_values(list(names), values, self._run_options)
        return [self._view(name, value) for name, value in zip(names, results)]

    def _run_failure(self, error: Exception) -> str:
        pb_utils.Logger.log_verbose(model_sentence(self._model, one_line(str(error))))
        return model_sentence(self._model, f"the run failed: {clean_message(str(error))}")

    def _view(self, name: str, value: Any) -> Array:
        data_type = self._outputs[name].data_type
        shape = tuple(value.shape())
        return _output_view(value, shape, np.dtype(types.numpy_type(data_type)))

    def _response(self, outputs: Mapping[str, Array], names: Sequence[str]) -> Any:
        tensors = [
            pb_utils.Tensor(name, self._client_output(name, outputs[name])) for name in names
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)

    def _client_output(self, name: str, array: Array) -> Array:
        """Return ``array`` with the dims [1] which stand for a scalar where it is one."""
        scalar = array.ndim == 0 or (array.ndim == 1 and name in self._scalars)
        return array.reshape((*array.shape, 1)) if scalar else array


def _ort_value(array: Array) -> Any:
    """Return an OrtValue on the memory of ``array``, which it keeps alive."""
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


class _BufferOwner:
    """Lends the memory of an OrtValue to numpy and keeps it alive as long as numpy does."""

    def __init__(self, value: Any, shape: Tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._value = value
        self.__array_interface__ = {
            "version": 3,
            "data": (value.data_ptr(), False),
            "shape": shape,
            "typestr": dtype.str,
        }


def _output_view(value: Any, shape: Tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return a numpy array on the memory of an OrtValue (``OrtValue.numpy()`` copies)."""
    if 0 in shape:
        return np.empty(shape, dtype)  # there may be no memory to point to
    return np.asarray(_BufferOwner(value, shape, dtype))


_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_STATUS = re.compile(r"Non-zero status code returned while running (\w+) node\. Name:'([^']*)'")
# A source position and the function's signature: "/x/core/a.h:560 void a::B::C(int) const ".
_SOURCE = re.compile(r"\S*/\S+\.(?:cc|h|cpp):\d+ \S[^()]*\([^()]*\)(?: const)?(?: \[[^\]]*\])? ?")


def clean_message(text: str) -> str:
    """Return ONNX Runtime's message without its own source files and C++ signatures."""
    line = _SOURCE.sub("", _PREFIX.sub("", one_line(text)))
    line = _STATUS.sub(r"\1 node '\2' failed", line)
    return line.replace(" Status Message: ", ": ").replace("':  ", "': ").strip()
