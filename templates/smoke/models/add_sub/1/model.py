# SPDX-License-Identifier: Apache-2.0
"""OUTPUT0 = INPUT0 + INPUT1 and OUTPUT1 = INPUT0 - INPUT1."""

from typing import Any, List

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: List[Any]) -> List[Any]:
        responses = []
        for request in requests:
            first = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            second = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
            outputs = [
                pb_utils.Tensor("OUTPUT0", first + second),
                pb_utils.Tensor("OUTPUT1", first - second),
            ]
            responses.append(pb_utils.InferenceResponse(output_tensors=outputs))
        return responses
