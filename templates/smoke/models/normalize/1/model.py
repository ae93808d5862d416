# SPDX-License-Identifier: Apache-2.0
"""NORMALIZED = (RAW - 128) / 64: bytes, as from a camera, to numbers from -2 to just under 2."""

from typing import Any, List

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: List[Any]) -> List[Any]:
        responses = []
        for request in requests:
            raw = pb_utils.get_input_tensor_by_name(request, "RAW").as_numpy()
            normalized = (raw.astype(np.float32) - 128) / 64
            outputs = [pb_utils.Tensor("NORMALIZED", normalized.astype(np.float32))]
            responses.append(pb_utils.InferenceResponse(output_tensors=outputs))
        return responses
