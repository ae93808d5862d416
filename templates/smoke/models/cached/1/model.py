# SPDX-License-Identifier: Apache-2.0
"""EXECUTIONS is how many requests were executed so far; the same X is answered from the cache."""

from typing import Any, Dict, List

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, _args: Dict[str, str]) -> None:
        self._executions = 0

    def execute(self, requests: List[Any]) -> List[Any]:
        responses = []
        for _ in requests:
            self._executions += 1
            output = pb_utils.Tensor("EXECUTIONS", np.array([self._executions], dtype=np.int32))
            responses.append(pb_utils.InferenceResponse(output_tensors=[output]))
        return responses
