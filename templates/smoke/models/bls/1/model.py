# SPDX-License-Identifier: Apache-2.0
"""Asks the model that MODEL names (business logic scripting) and hands its answer on."""

from typing import Any, Dict, List

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, _args: Dict[str, str]) -> None:
        if not hasattr(pb_utils.InferenceRequest, "exec"):
            msg = "this python backend cannot ask other models"
            raise pb_utils.TritonModelException(msg)

    def execute(self, requests: List[Any]) -> List[Any]:
        return [self._ask(request) for request in requests]

    def _ask(self, request: Any) -> Any:
        model = pb_utils.get_input_tensor_by_name(request, "MODEL").as_numpy()[0].decode()
        inputs = [pb_utils.get_input_tensor_by_name(request, name) for name in ("INPUT0", "INPUT1")]
        answer = pb_utils.InferenceRequest(
            model_name=model, inputs=inputs, requested_output_names=["OUTPUT0", "OUTPUT1"]
        ).exec()
        if answer.has_error():
            error = pb_utils.TritonError(answer.error().message())
            return pb_utils.InferenceResponse(error=error)
        return pb_utils.InferenceResponse(output_tensors=answer.output_tensors())
