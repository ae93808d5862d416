# SPDX-License-Identifier: Apache-2.0
"""Answers with the name of the instance that handled the request, after WAIT_MS milliseconds."""

import time
from typing import Any, Dict, List

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: Dict[str, str]) -> None:
        self._name = args["model_instance_name"]

    def execute(self, requests: List[Any]) -> List[Any]:
        responses = []
        for request in requests:
            wait = pb_utils.get_input_tensor_by_name(request, "WAIT_MS").as_numpy()
            time.sleep(int(wait[0]) / 1000)
            name = np.array([self._name.encode()], dtype=np.object_)
            outputs = [pb_utils.Tensor("INSTANCE", name)]
            responses.append(pb_utils.InferenceResponse(output_tensors=outputs))
        return responses
