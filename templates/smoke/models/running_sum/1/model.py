# SPDX-License-Identifier: Apache-2.0
"""SUM is the sum of X over the requests of a sequence so far."""

from typing import Any, Dict, List

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, _args: Dict[str, str]) -> None:
        self._sums: Dict[int, int] = {}

    def execute(self, requests: List[Any]) -> List[Any]:
        return [self._add(request) for request in requests]

    def _add(self, request: Any) -> Any:
        added, start, end, sequence = (
            int(pb_utils.get_input_tensor_by_name(request, name).as_numpy().item())
            for name in ("X", "START", "END", "CORRID")
        )
        # A KeyError is an error to the client: a sequence that was never started.
        total = added + (0 if start else self._sums[sequence])
        self._sums[sequence] = total
        if end:
            del self._sums[sequence]
        output = pb_utils.Tensor("SUM", np.array([[total]], dtype=np.int32))
        return pb_utils.InferenceResponse(output_tensors=[output])
