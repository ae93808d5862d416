# SPDX-License-Identifier: Apache-2.0
"""Y = 2 X. The config of the model holds this file's checksum."""

from typing import Any, List

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: List[Any]) -> List[Any]:
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            outputs = [pb_utils.Tensor("Y", 3 * x)]
            responses.append(pb_utils.InferenceResponse(output_tensors=outputs))
        return responses
