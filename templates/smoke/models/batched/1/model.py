# SPDX-License-Identifier: Apache-2.0
"""Y = 2 X + 1, for one or many requests at once."""

from typing import Any, List

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: List[Any]) -> List[Any]:
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            outputs = [pb_utils.Tensor("Y", 2 * x + 1)]
            responses.append(pb_utils.InferenceResponse(output_tensors=outputs))
        return responses
