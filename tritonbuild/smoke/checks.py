"""What the smoke test asks a server, and what it must answer: one `Check` a question."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tritonbuild.smoke.client import (
    HEADER_LENGTH,
    JSON_TYPE,
    AnswerError,
    Client,
    Tensor,
    encode_binary,
)
from tritonbuild.smoke.metrics import Sample, parse_metrics
from tritonbuild.smoke.models import compute_affine
from tritonbuild.smoke.trial import (
    Check,
    CheckSkippedError,
    Trial,
    check_equal,
    check_tensor,
    fail,
    shorten,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import requests

# --- what is sent, and what must come back ---------------------------------------------------

# ONNX Runtime may add in another order, or fuse multiplication and addition.
_TOLERANCE = 1e-5

# The server's counters may move after its answers have left; on a busy machine by a while.
_SETTLE_SECONDS = 5

_ADD_SUB_IN = {
    "INPUT0": Tensor("FP32", (4,), (1.5, -2.0, 3.25, 1e6)),
    "INPUT1": Tensor("FP32", (4,), (0.25, 8.0, -3.25, 1.0)),
}
_ADD_SUB_OUT = {
    "OUTPUT0": Tensor("FP32", (4,), (1.75, 6.0, 0.0, 1000001.0)),
    "OUTPUT1": Tensor("FP32", (4,), (1.25, -10.0, 6.5, 999999.0)),
}
_ROWS = ((1.0, 2.0, 3.0, 4.0), (0.5, -1.0, 2.0, 0.0))
_AFFINE_IN = {"X": Tensor("FP32", (2, 4), _ROWS[0] + _ROWS[1])}
_AFFINE_OUT = Tensor("FP32", (2, 3), compute_affine(_ROWS))
_PIXELS = ((0, 64, 128, 255), (200, 100, 50, 25))
_PIPELINE_IN = {"RAW": Tensor("UINT8", (2, 4), _PIXELS[0] + _PIXELS[1])}
_PIPELINE_OUT = Tensor(
    "FP32", (2, 3), compute_affine([[(value - 128) / 64 for value in row] for row in _PIXELS])
)


def _check_add_sub(outputs: Mapping[str, Tensor]) -> str:
    for name, expected in _ADD_SUB_OUT.items():
        check_tensor(outputs, name, expected)
    return f"OUTPUT0 = {list(outputs['OUTPUT0'].data)}"


def _check_affine(outputs: Mapping[str, Tensor], expected: Tensor = _AFFINE_OUT) -> str:
    check_tensor(outputs, "Y", expected, tolerance=_TOLERANCE)
    return f"Y = {list(outputs['Y'].data)}"


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
    check_equal("inputs", _named(_ADD_SUB_IN), _signature(found, "inputs"))
    check_equal("outputs", _named(_ADD_SUB_OUT), _signature(found, "outputs"))
    config = trial.client.get_json("/v2/models/add_sub/config")
    check_equal("backend", "python", config.get("backend"))
    count = sum(group["count"] for group in config.get("instance_group", ()))
    check_equal("instances", 1, count)
    return "inputs, outputs, backend and instances are those of config.pbtxt"


def _named(tensors: Mapping[str, Tensor]) -> list[tuple[str, str, list[int]]]:
    return [(name, tensor.datatype, list(tensor.shape)) for name, tensor in tensors.items()]


def _signature(metadata: dict[str, list[dict[str, object]]], key: str) -> list[tuple[object, ...]]:
    return [(one["name"], one["datatype"], one["shape"]) for one in metadata.get(key, ())]


def _run_load(trial: Trial, model: str) -> str:
    started = time.monotonic()
    trial.loads[model].result()
    if not trial.client.is_ready(model):
        fail(f"{model} to be ready after loading", "not ready")
    waited = time.monotonic() - started
    return f"loaded while the server ran; waited {waited:.1f} s for it"


# --- inference -------------------------------------------------------------------------------


def _run_http_json(trial: Trial) -> str:
    got = _check_add_sub(trial.client.infer("add_sub", _ADD_SUB_IN))
    trial.note_answer()
    return got


def _run_http_binary(trial: Trial) -> str:
    return _check_add_sub(trial.client.infer_binary("add_sub", _ADD_SUB_IN))


def _run_onnx(trial: Trial) -> str:
    got = _check_affine(trial.client.infer("affine", _AFFINE_IN))
    trial.note_answer()
    _check_affine(trial.client.infer_binary("affine", _AFFINE_IN))
    return got


def _run_onnx_auto(trial: Trial) -> str:
    config = trial.client.get_json("/v2/models/affine_auto/config")
    for key, name, data_type in (("input", "X", "TYPE_FP32"), ("output", "Y", "TYPE_FP32")):
        found = [(one["name"], one["data_type"]) for one in config.get(key, ())]
        check_equal(f"completed {key}", [(name, data_type)], found)
    _check_affine(trial.client.infer("affine_auto", _AFFINE_IN))
    return f"X and Y read from the ONNX file; max_batch_size {config['max_batch_size']}"


def _run_grpc(trial: Trial) -> str:
    grpc = trial.get_grpc()
    if trial.version is not None:
        check_equal("version", trial.version, grpc.get_version())
    outputs = grpc.infer("add_sub", _ADD_SUB_IN)
    trial.client.count("add_sub")
    return _check_add_sub(outputs)


def _run_grpc_onnx(trial: Trial) -> str:
    outputs = trial.get_grpc().infer("affine", _AFFINE_IN)
    trial.client.count("affine")
    return _check_affine(outputs)


def _run_ensemble(trial: Trial) -> str:
    return _check_affine(trial.client.infer("pipeline", _PIPELINE_IN), _PIPELINE_OUT)


def _run_batched(trial: Trial) -> str:
    before = _count_inferences(trial.client)
    values = range(10, 18)
    inputs = [{"X": Tensor("INT32", (1, 1), (value,))} for value in values]
    with ThreadPoolExecutor(len(inputs)) as pool:
        answers = list(pool.map(lambda one: trial.client.infer("batched", one), inputs))
    for value, outputs in zip(values, answers, strict=True):
        check_tensor(outputs, "Y", Tensor("INT32", (1, 1), (2 * value + 1,)))
    inferences, executions = _wait_for_counts(trial.client, before, len(inputs))
    check_equal("inferences", len(inputs), inferences)
    if not 0 < executions < inferences:
        fail(f"fewer than {inferences} executions", str(executions))
    return f"{inferences} requests at once in {executions} executions"


def _wait_for_counts(client: Client, before: tuple[int, int], sent: int) -> tuple[int, int]:
    """Return the inferences and executions since `before`; both may move after the answers."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        now = _count_inferences(client)
        inferences, executions = now[0] - before[0], now[1] - before[1]
        if (inferences >= sent and executions > 0) or time.monotonic() > deadline:
            return inferences, executions
        time.sleep(0.1)


def _count_inferences(client: Client) -> tuple[int, int]:
    stats = client.get_json("/v2/models/batched/stats")["model_stats"][0]
    return int(stats["inference_count"]), int(stats["execution_count"])


def _run_instances(trial: Trial) -> str:
    inputs = {"WAIT_MS": Tensor("INT32", (1,), (150,))}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: trial.client.infer("instances", inputs), range(6)))
    names: set[str] = set()
    for outputs in answers:
        check_equal("outputs", ["INSTANCE"], sorted(outputs))
        check_equal("INSTANCE of type", "BYTES", outputs["INSTANCE"].datatype)
        names.update(outputs["INSTANCE"].data)
    if len(names) < 2:
        fail("answers from at least 2 instances", shorten(sorted(names)))
    return f"6 requests at once were answered by {', '.join(sorted(names))}"


def _run_metrics(trial: Trial) -> str:
    if "metrics" in trial.without:
        msg = "the server was built without metrics"
        raise CheckSkippedError(msg)
    expected = dict(trial.client.answered)
    # An ensemble's requests count for each model in it, too.
    for part in ("affine", "normalize"):
        if "pipeline" in expected:
            expected[part] = expected.get(part, 0) + expected["pipeline"]
    deadline = time.monotonic() + _SETTLE_SECONDS
    samples = _read_metrics(trial)
    while _count_successes(samples, expected) != expected and time.monotonic() < deadline:
        time.sleep(0.2)
        samples = _read_metrics(trial)
    got = _count_successes(samples, expected)
    check_equal("nv_inference_request_success", expected, got)
    return f"{len(samples)} values; {sum(got.values())} successful requests counted, as sent"


def _read_metrics(trial: Trial) -> list[Sample]:
    response = trial.client.get(trial.server.metrics_url)
    check_equal("/metrics to answer", 200, response.status_code)
    try:
        return parse_metrics(response.text)
    except ValueError as err:
        fail("Prometheus' text format", str(err))


def _count_successes(samples: list[Sample], models: Iterable[str]) -> dict[str, int]:
    counted = {
        sample.labels.get("model"): int(sample.value)
        for sample in samples
        if sample.name == "nv_inference_request_success"
    }
    return {model: counted.get(model, 0) for model in models}


# --- wrong requests --------------------------------------------------------------------------

_INFER = "/v2/models/add_sub/infer"


def _check_refusal(trial: Trial, response: requests.Response) -> str:
    """Check a clean refusal, and that the server works on."""
    if not (400 <= response.status_code < 500 or _may_be_500(trial, response)):
        fail("HTTP 4xx", f"{response.status_code} {response.text[:200]!r}")
    try:
        error = response.json().get("error")
    except (ValueError, AttributeError):
        error = None
    if not isinstance(error, str) or not error:
        fail("JSON with an `error` text", repr(response.text[:200]))
    if not trial.client.is_ready():
        fail("the server to be ready afterwards", "not ready")
    return f"{response.status_code}: {' '.join(error.split())}"


def _may_be_500(trial: Trial, response: requests.Response) -> bool:
    """Return whether this release answers 500 to what it cannot parse.

    Up to 2.41 every error is a 400. From 2.42 on (seen there) the status follows the error's kind,
    and a body that cannot be parsed counts as INTERNAL.
    """
    found = re.match(r"(\d+)\.(\d+)", trial.version or "")
    is_newer = found is not None and tuple(map(int, found.groups())) >= (2, 42)
    return is_newer and response.status_code == 500


def _post_json(trial: Trial, inputs: Mapping[str, Tensor], path: str = _INFER) -> str:
    body = {"inputs": [tensor.to_json(name) for name, tensor in inputs.items()]}
    response = trial.client.post(path, json.dumps(body).encode(), JSON_TYPE)
    return _check_refusal(trial, response)


def _refuse_model(trial: Trial) -> str:
    return _post_json(trial, _ADD_SUB_IN, "/v2/models/no_such_model/infer")


def _refuse_version(trial: Trial) -> str:
    return _post_json(trial, _ADD_SUB_IN, "/v2/models/add_sub/versions/7/infer")


def _refuse_name(trial: Trial) -> str:
    return _post_json(
        trial, {"INPUT0": _ADD_SUB_IN["INPUT0"], "NO_SUCH_INPUT": _ADD_SUB_IN["INPUT1"]}
    )


def _refuse_missing_input(trial: Trial) -> str:
    return _post_json(trial, {"INPUT0": _ADD_SUB_IN["INPUT0"]})


def _refuse_shape(trial: Trial) -> str:
    return _post_json(trial, {**_ADD_SUB_IN, "INPUT0": Tensor("FP32", (2,), (1.0, 2.0))})


def _refuse_dtype(trial: Trial) -> str:
    return _post_json(trial, {**_ADD_SUB_IN, "INPUT0": Tensor("INT32", (4,), (1, 2, 3, 4))})


def _refuse_count(trial: Trial) -> str:
    return _post_json(trial, {**_ADD_SUB_IN, "INPUT0": Tensor("FP32", (4,), (1.0, 2.0))})


def _refuse_json(trial: Trial) -> str:
    return _check_refusal(trial, trial.client.post(_INFER, b'{"inputs": [', JSON_TYPE))


def _refuse_short_binary(trial: Trial) -> str:
    header, body = encode_binary(_ADD_SUB_IN)
    length = {HEADER_LENGTH: str(len(header))}
    return _check_refusal(trial, trial.client.post(_INFER, header + body[:-4], length))


def _refuse_header_length(trial: Trial) -> str:
    header, body = encode_binary(_ADD_SUB_IN)
    length = {HEADER_LENGTH: str(len(header) + len(body) + 100)}
    return _check_refusal(trial, trial.client.post(_INFER, header + body, length))


def _run_broken_model(trial: Trial) -> str:
    refusal: AnswerError | None = None
    try:
        trial.loads["broken"].result()
    except AnswerError as err:
        refusal = err
    if refusal is None:
        fail("an error", "the model was loaded")
    if refusal.status is None or not 400 <= refusal.status < 500 or _BROKEN not in str(refusal):
        fail(f"HTTP 4xx with {_BROKEN!r}", f"{refusal.status} {refusal}")
    _check_add_sub(trial.client.infer("add_sub", _ADD_SUB_IN))
    return f"{refusal.status}: {refusal}; the other models answer"


# What its initialize() raises.
_BROKEN = "broken on purpose by the smoke test"


# --- unload, load, end -----------------------------------------------------------------------


def _run_unload(trial: Trial) -> str:
    trial.client.unload("add_sub")
    deadline = time.monotonic() + 10  # the server says yes first and unloads then
    while trial.client.is_ready("add_sub") and time.monotonic() < deadline:
        time.sleep(0.1)
    if trial.client.is_ready("add_sub"):
        fail("add_sub not to be ready", "ready")
    return _post_json(trial, _ADD_SUB_IN)


def _run_reload(trial: Trial) -> str:
    trial.client.load("add_sub")
    return _check_add_sub(trial.client.infer("add_sub", _ADD_SUB_IN))


def _run_stop(trial: Trial) -> str:
    started = time.monotonic()
    code = trial.server.ask_to_stop(_STOP_TIMEOUT)
    if code is None:
        fail(f"an end within {_STOP_TIMEOUT} s", "it still runs")
    check_equal("exit code", 0, code)
    return f"exit code 0 after {time.monotonic() - started:.1f} s"


# More than the server's own limit for work that is under way (server.py).
_STOP_TIMEOUT = 20


def _load_check(model: str, proves: str) -> Check:
    def run(trial: Trial) -> str:
        return _run_load(trial, model)

    return Check(f"load-{model.replace('_', '-')}", proves, run, (model,))


_PYTHON = ("add_sub",)
_REFUSALS = (
    Check("refuse-model", "a model that does not exist", _refuse_model),
    Check("refuse-version", "a version that does not exist", _refuse_version, _PYTHON),
    Check("refuse-name", "an input that the model does not have", _refuse_name, _PYTHON),
    Check("refuse-missing-input", "too few inputs", _refuse_missing_input, _PYTHON),
    Check("refuse-shape", "a wrong shape", _refuse_shape, _PYTHON),
    Check("refuse-dtype", "a wrong type", _refuse_dtype, _PYTHON),
    Check("refuse-count", "fewer numbers than the shape says", _refuse_count, _PYTHON),
    Check("refuse-json", "JSON that ends in the middle", _refuse_json, _PYTHON),
    Check("refuse-short-binary", "too little binary data", _refuse_short_binary, _PYTHON),
    Check("refuse-header-length", "a header length past the end", _refuse_header_length, _PYTHON),
)

CHECKS = (
    Check("ready", "the server is live and ready", _run_ready),
    Check("http-json", "a python model adds and subtracts, over JSON", _run_http_json, _PYTHON),
    Check("onnx", "an ONNX model multiplies matrices", _run_onnx, ("affine",)),
    Check("server-metadata", "the server is the release's", _run_metadata),
    Check("model-metadata", "a model is served as its config says", _run_model_metadata, _PYTHON),
    Check("http-binary", "binary tensors both ways", _run_http_binary, _PYTHON),
    Check("grpc", "a python model over gRPC", _run_grpc, _PYTHON),
    Check("grpc-onnx", "an ONNX model over gRPC", _run_grpc_onnx, ("affine",)),
    _load_check("affine_auto", "a model is loaded while the server runs"),
    _load_check("pipeline", "an ensemble is loaded with the models in it"),
    _load_check("batched", "a model with dynamic batching is loaded"),
    _load_check("instances", "a model with three instances is loaded"),
    Check(
        "onnx-auto", "a config is completed from the ONNX file", _run_onnx_auto, ("affine_auto",)
    ),
    Check("ensemble", "python, then ONNX, in one request", _run_ensemble, ("pipeline",)),
    Check("batched", "requests sent at once are joined", _run_batched, ("batched",)),
    Check("instances", "several instances answer", _run_instances, ("instances",)),
    Check("metrics", "what was answered was counted", _run_metrics),
    *(
        Check(check.name, f"a clean error for {check.proves}", check.run, check.models)
        for check in _REFUSALS
    ),
    Check("broken-model", "a model that raises harms no other", _run_broken_model, ("broken",)),
    Check("unload", "an unloaded model answers no more", _run_unload, _PYTHON),
    Check("reload", "it answers again once it is loaded", _run_reload, _PYTHON),
    Check("still-ready", "all of this left the server ready", _run_ready),
    Check("stop", "SIGTERM ends the server in order", _run_stop),
)
