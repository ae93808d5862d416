"""The server itself, and inference over HTTP and gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonbuild.smoke.checks.asked import (
    ADD_SUB_IN,
    ADD_SUB_OUT,
    AFFINE_IN,
    PYTHON,
    check_add_sub,
    check_affine,
)
from tritonbuild.smoke.trial import Check, Trial, check_equal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonbuild.smoke.client import Tensor

# --- the server and its models ---------------------------------------------------------------


def _run_ready(trial: Trial) -> str:
    for path in ("/v2/health/live", "/v2/health/ready"):
        check_equal(f"{path} to answer", 200, trial.client.get(path).status_code)
    return f"live and ready after {trial.server.ready_seconds:.1f} s"


def _run_metadata(trial: Trial) -> str:
    found = trial.client.get_json("/v2")
    trial.reported_version = found.get("version")
    check_equal("name", "triton", found.get("name"))
    if trial.version is not None:
        check_equal("version", trial.version, found.get("version"))
    missing = _EXTENSIONS - set(found.get("extensions", ()))
    check_equal("missing extensions", set(), missing)
    return f"{found['name']} {found['version']}, {len(found['extensions'])} extensions"


# Those that the checks themselves count on.
_EXTENSIONS = {"model_repository", "model_configuration", "binary_tensor_data", "statistics"}


def _run_model_metadata(trial: Trial) -> str:
    found = trial.client.get_json("/v2/models/add_sub")
    check_equal("inputs", _named(ADD_SUB_IN), _signature(found, "inputs"))
    check_equal("outputs", _named(ADD_SUB_OUT), _signature(found, "outputs"))
    config = trial.client.get_json("/v2/models/add_sub/config")
    check_equal("backend", "python", config.get("backend"))
    count = sum(group["count"] for group in config.get("instance_group", ()))
    check_equal("instances", 1, count)
    return "inputs, outputs, backend and instances are those of config.pbtxt"


def _named(tensors: Mapping[str, Tensor]) -> list[tuple[str, str, list[int]]]:
    return [(name, tensor.datatype, list(tensor.shape)) for name, tensor in tensors.items()]


def _signature(metadata: dict[str, list[dict[str, object]]], key: str) -> list[tuple[object, ...]]:
    return [(one["name"], one["datatype"], one["shape"]) for one in metadata.get(key, ())]


# --- inference -------------------------------------------------------------------------------


def _run_http_json(trial: Trial) -> str:
    got = check_add_sub(trial.client.infer("add_sub", ADD_SUB_IN))
    trial.note_answer()
    return got


def _run_http_binary(trial: Trial) -> str:
    return check_add_sub(trial.client.infer_binary("add_sub", ADD_SUB_IN))


def _run_onnx(trial: Trial) -> str:
    got = check_affine(trial.client.infer("affine", AFFINE_IN))
    trial.note_answer()
    check_affine(trial.client.infer_binary("affine", AFFINE_IN))
    return got


def _run_onnx_auto(trial: Trial) -> str:
    config = trial.client.get_json("/v2/models/affine_auto/config")
    for key, name, data_type in (("input", "X", "TYPE_FP32"), ("output", "Y", "TYPE_FP32")):
        found = [(one["name"], one["data_type"]) for one in config.get(key, ())]
        check_equal(f"completed {key}", [(name, data_type)], found)
    check_affine(trial.client.infer("affine_auto", AFFINE_IN))
    return f"X and Y read from the ONNX file; max_batch_size {config['max_batch_size']}"


def _run_grpc(trial: Trial) -> str:
    grpc = trial.get_grpc()
    if trial.version is not None:
        check_equal("version", trial.version, grpc.get_version())
    outputs = grpc.infer("add_sub", ADD_SUB_IN)
    trial.client.count("add_sub")
    return check_add_sub(outputs)


def _run_grpc_onnx(trial: Trial) -> str:
    outputs = trial.get_grpc().infer("affine", AFFINE_IN)
    trial.client.count("affine")
    return check_affine(outputs)


READY = Check("ready", "the server is live and ready", _run_ready)
STILL_READY = Check("still-ready", "all of this left the server ready", _run_ready)
HTTP_JSON = Check(
    "http-json", "a python model adds and subtracts, over JSON", _run_http_json, PYTHON
)
ONNX = Check("onnx", "an ONNX model multiplies matrices", _run_onnx, ("affine",))
METADATA = Check("server-metadata", "the server is the release's", _run_metadata)
MODEL_METADATA = Check(
    "model-metadata", "a model is served as its config says", _run_model_metadata, PYTHON
)
HTTP_BINARY = Check("http-binary", "binary tensors both ways", _run_http_binary, PYTHON)
GRPC = Check("grpc", "a python model over gRPC", _run_grpc, PYTHON)
GRPC_ONNX = Check("grpc-onnx", "an ONNX model over gRPC", _run_grpc_onnx, ("affine",))
ONNX_AUTO = Check(
    "onnx-auto", "a config is completed from the ONNX file", _run_onnx_auto, ("affine_auto",)
)
