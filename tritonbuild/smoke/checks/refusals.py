"""Wrong requests, each of which must be refused cleanly."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tritonbuild.smoke.checks.asked import ADD_SUB_IN, PYTHON
from tritonbuild.smoke.client import HEADER_LENGTH, JSON_TYPE, Tensor, encode_binary
from tritonbuild.smoke.trial import Check, Trial, fail

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

_INFER = "/v2/models/add_sub/infer"


def check_refusal(trial: Trial, response: requests.Response) -> str:
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


def post_json(trial: Trial, inputs: Mapping[str, Tensor], path: str = _INFER) -> str:
    """Ask a model and check that it refuses cleanly."""
    body = {"inputs": [tensor.to_json(name) for name, tensor in inputs.items()]}
    response = trial.client.post(path, json.dumps(body).encode(), JSON_TYPE)
    return check_refusal(trial, response)


def _refuse_model(trial: Trial) -> str:
    return post_json(trial, ADD_SUB_IN, "/v2/models/no_such_model/infer")


def _refuse_version(trial: Trial) -> str:
    return post_json(trial, ADD_SUB_IN, "/v2/models/add_sub/versions/7/infer")


def _refuse_name(trial: Trial) -> str:
    return post_json(trial, {"INPUT0": ADD_SUB_IN["INPUT0"], "NO_SUCH_INPUT": ADD_SUB_IN["INPUT1"]})


def _refuse_missing_input(trial: Trial) -> str:
    return post_json(trial, {"INPUT0": ADD_SUB_IN["INPUT0"]})


def _refuse_shape(trial: Trial) -> str:
    return post_json(trial, {**ADD_SUB_IN, "INPUT0": Tensor("FP32", (2,), (1.0, 2.0))})


def _refuse_dtype(trial: Trial) -> str:
    return post_json(trial, {**ADD_SUB_IN, "INPUT0": Tensor("INT32", (4,), (1, 2, 3, 4))})


def _refuse_count(trial: Trial) -> str:
    return post_json(trial, {**ADD_SUB_IN, "INPUT0": Tensor("FP32", (4,), (1.0, 2.0))})


def _refuse_json(trial: Trial) -> str:
    return check_refusal(trial, trial.client.post(_INFER, b'{"inputs": [', JSON_TYPE))


def _refuse_short_binary(trial: Trial) -> str:
    header, body = encode_binary(ADD_SUB_IN)
    length = {HEADER_LENGTH: str(len(header))}
    return check_refusal(trial, trial.client.post(_INFER, header + body[:-4], length))


def _refuse_header_length(trial: Trial) -> str:
    header, body = encode_binary(ADD_SUB_IN)
    length = {HEADER_LENGTH: str(len(header) + len(body) + 100)}
    return check_refusal(trial, trial.client.post(_INFER, header + body, length))


REFUSALS = (
    Check("refuse-model", "a clean error for a model that does not exist", _refuse_model),
    Check(
        "refuse-version", "a clean error for a version that does not exist", _refuse_version, PYTHON
    ),
    Check(
        "refuse-name",
        "a clean error for an input that the model does not have",
        _refuse_name,
        PYTHON,
    ),
    Check(
        "refuse-missing-input", "a clean error for too few inputs", _refuse_missing_input, PYTHON
    ),
    Check("refuse-shape", "a clean error for a wrong shape", _refuse_shape, PYTHON),
    Check("refuse-dtype", "a clean error for a wrong type", _refuse_dtype, PYTHON),
    Check(
        "refuse-count", "a clean error for fewer numbers than the shape says", _refuse_count, PYTHON
    ),
    Check("refuse-json", "a clean error for JSON that ends in the middle", _refuse_json, PYTHON),
    Check(
        "refuse-short-binary",
        "a clean error for too little binary data",
        _refuse_short_binary,
        PYTHON,
    ),
    Check(
        "refuse-header-length",
        "a clean error for a header length past the end",
        _refuse_header_length,
        PYTHON,
    ),
)
