# SPDX-License-Identifier: Apache-2.0
"""Triton backend ``onnxruntime``: runs ONNX models with ONNX Runtime's Python API.

A Python-based backend: the python backend loads this file for every model whose
configuration says ``backend: "onnxruntime"``, in a process of its own for each instance.
"""

from __future__ import annotations

import tritonbuild_paths  # isort: skip  # noqa: F401  # first: decides which numpy is found

import json
from typing import Any, Dict, List

import onnxruntime as ort
import tritonbuild_ort_options as options
import tritonbuild_ort_signature as signatures
from tritonbuild_common import (
    Config,
    ModelLoadError,
    backend_option,
    completion_errors,
    load_errors,
    model_file,
    one_line,
    parse_int,
)
from tritonbuild_ort_run import Runner, clean_message

_BACKEND = "onnxruntime"
_DEFAULT_FILE = "model.onnx"
_DEFAULT_BATCH_OPTION = "default-max-batch-size"
_DEFAULT_BATCH_SIZE = 4  # as in the C++ backend


class TritonPythonModel:
    """One instance of an ONNX model."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Fill in what config.pbtxt leaves open, from the ONNX file."""
        config = auto_complete_model_config.as_dict()
        with completion_errors(config):
            if not signatures.is_complete(config):
                session = open_session(config, options.metadata_plan(config))
                signature = signatures.read_signature(session)
                signatures.complete_config(
                    auto_complete_model_config, signature, default_batch_size()
                )
        return auto_complete_model_config

    def initialize(self, args: Dict[str, str]) -> None:
        """Open the session; auto-complete may be off, so everything is checked here."""
        config = json.loads(args["model_config"])
        with load_errors(config):
            if args["model_instance_kind"] == "GPU":
                msg = "instance_group asks for KIND_GPU, but this ONNX Runtime is CPU only"
                raise ModelLoadError(msg)
            plan = options.session_plan(config)
            session = open_session(config, plan)
            signature = signatures.read_signature(session)
            signatures.check_config(config, signature)
            self._runner = Runner(session, signature, config, plan.run_options)

    def execute(self, requests: List[Any]) -> List[Any]:
        """Return one response for each request."""
        return self._runner.execute(requests)

    def finalize(self) -> None:
        """Free the session."""
        del self._runner


def open_session(config: Config, plan: options.SessionPlan) -> Any:
    """Return the ``onnxruntime.InferenceSession`` of the model's file."""
    path = model_file(config, _DEFAULT_FILE)
    names = [name for name, _ in plan.providers]
    provider_options = [values for _, values in plan.providers]
    try:
        return ort.InferenceSession(str(path), plan.options, names, provider_options)
    except Exception as error:  # ONNX Runtime's classes have no common base
        msg = f"ONNX Runtime cannot load '{path}': {clean_message(one_line(str(error)))}"
        raise ModelLoadError(msg) from error


def default_batch_size() -> int:
    """Return the server's ``--backend-config=onnxruntime,default-max-batch-size``, else 4."""
    text = backend_option(_BACKEND, _DEFAULT_BATCH_OPTION)
    return _DEFAULT_BATCH_SIZE if text is None else parse_int(_DEFAULT_BATCH_OPTION, text)
