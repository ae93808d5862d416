# SPDX-License-Identifier: Apache-2.0
"""Triton backend ``rknn``: runs RKNN models on a Rockchip NPU with RKNNLite.

A Python-based backend: the python backend loads this file for every model whose
configuration says ``backend: "rknn"``, in a process of its own for each instance.
"""

# zip(strict=) is of Python 3.10; boards have 3.8.
# ruff: noqa: B905

from __future__ import annotations

import tritonbuild_paths  # isort: skip  # noqa: F401  # first: decides which numpy is found

import json
from typing import Any, Dict, List, Sequence

import numpy as np
import triton_python_backend_utils as pb_utils
from tritonbuild_common import (
    Config,
    ModelLoadError,
    completion_errors,
    error_response,
    load_errors,
    model_file,
    model_sentence,
    request_failure,
)
from tritonbuild_rknn_config import Output, Settings, read_settings
from tritonbuild_rknn_device import Npu, core_mask, find_npu

_DEFAULT_FILE = "model.rknn"


class TritonPythonModel:
    """One instance of an RKNN model, on one NPU core."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Leave the configuration as it is: RKNNLite does not tell inputs and outputs."""
        with completion_errors(auto_complete_model_config.as_dict()):
            return auto_complete_model_config

    def initialize(self, args: Dict[str, str]) -> None:
        """Load the model onto the NPU."""
        config = json.loads(args["model_config"])
        with load_errors(config):
            self._model = args["model_name"]
            self._settings = read_settings(config)
            npu = find_npu()
            on_gpu = args["model_instance_kind"] == "GPU"
            device_id = int(args["model_instance_device_id"]) if on_gpu else None
            mask = core_mask(self._settings.core_mask, npu, args["model_instance_name"], device_id)
            self._lite = open_model(config, npu, mask)
            text = f"instance '{args['model_instance_name']}' on the {npu.soc}, core mask {mask}"
            pb_utils.Logger.log_info(model_sentence(self._model, text))

    def execute(self, requests: List[Any]) -> List[Any]:
        """Return one response for each request; the NPU runs them one by one."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Free the NPU."""
        self._lite.release()

    def _answer(self, request: Any) -> Any:
        try:
            return self._answer_checked(request)
        except Exception as error:  # noqa: BLE001  # RKNNLite's have no common base
            return request_failure(self._model, error)

    def _answer_checked(self, request: Any) -> Any:
        tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        arrays = [tensors[name] for name in self._settings.inputs]
        results = run(self._lite, self._settings, arrays)
        if results is None:
            text = "RKNNLite could not run the request; the server's log says why"
            return error_response(model_sentence(self._model, text))
        if len(results) != len(self._settings.outputs):
            text = (
                f"the RKNN model has {len(results)} outputs, config.pbtxt lists "
                f"{len(self._settings.outputs)}"
            )
            return error_response(model_sentence(self._model, text))
        return self._response(request.requested_output_names(), results)

    def _response(self, wanted: Sequence[str], results: Sequence[Any]) -> Any:
        tensors = []
        for output, array in zip(self._settings.outputs, results):
            if output.name not in wanted:
                continue
            shape = expected_shape(output, self._settings.batching)
            if not same_size(array, shape):
                text = (
                    f"output '{output.name}' has the shape {list(array.shape)} in the RKNN model, "
                    f"config.pbtxt says {list(shape)}"
                )
                return error_response(model_sentence(self._model, text))
            tensors.append(pb_utils.Tensor(output.name, array.reshape(shape)))
        return pb_utils.InferenceResponse(output_tensors=tensors)


def open_model(config: Config, npu: Npu, mask: int) -> Any:
    """Return an ``RKNNLite`` with the model loaded, on the cores of ``mask``."""
    # Late, as its import fails where its own dependencies are missing.
    from rknnlite.api import RKNNLite

    path = model_file(config, _DEFAULT_FILE)
    lite = RKNNLite()
    if lite.load_rknn(str(path)) != 0:
        msg = f"RKNNLite cannot read '{path}'; the server's log says why"
        raise ModelLoadError(msg)
    if lite.init_runtime(core_mask=mask) != 0:
        msg = (
            f"the NPU runtime refuses '{path}' (not an RKNN model for the {npu.soc}, or made by a "
            "newer toolkit than librknnrt.so?); the server's log says why"
        )
        raise ModelLoadError(msg)
    return lite


def run(lite: Any, settings: Settings, arrays: List[Any]) -> Any:
    """Return the model's outputs as a list of arrays, None after a failure."""
    pass_through = [1] * len(arrays) if settings.pass_through else None
    return lite.inference(
        inputs=arrays,
        data_format=settings.data_format or None,
        inputs_pass_through=pass_through,
    )


def expected_shape(output: Output, batching: bool) -> Sequence[int]:
    """Return the output's shape as the client gets it."""
    return (1, *output.dims) if batching else output.dims


def same_size(array: Any, shape: Sequence[int]) -> bool:
    """Tell whether ``array`` can be given ``shape`` (which may have one -1)."""
    size = int(np.prod([dim for dim in shape if dim != -1]))
    return bool(array.size % max(size, 1) == 0 if -1 in shape else array.size == size)
