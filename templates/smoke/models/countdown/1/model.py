# SPDX-License-Identifier: Apache-2.0
"""Answers one request COUNT times: NUMBER is COUNT, COUNT - 1, ... 1."""

from typing import Any, List

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: List[Any]) -> None:
        for request in requests:
            sender = request.get_response_sender()
            count = int(pb_utils.get_input_tensor_by_name(request, "COUNT").as_numpy()[0])
            for number in range(count, 0, -1):
                output = pb_utils.Tensor("NUMBER", np.array([number], dtype=np.int32))
                sender.send(pb_utils.InferenceResponse(output_tensors=[output]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
