"""What only a model in Python can do: call other models, and answer as often as it likes."""

from __future__ import annotations

import json

from tritonbuild.smoke.checks.asked import ADD_SUB_IN, check_add_sub
from tritonbuild.smoke.client import JSON_TYPE, Tensor
from tritonbuild.smoke.trial import (
    Check,
    CheckSkippedError,
    Trial,
    check_equal,
    check_refused,
    fail,
    shorten,
)

# --- business logic scripting ----------------------------------------------------------------


def _run_bls(trial: Trial) -> str:
    trial.await_model("bls")
    got = check_add_sub(trial.client.infer("bls", {"MODEL": _name("add_sub"), **ADD_SUB_IN}))
    trial.client.count("add_sub")
    wrong = {"MODEL": _name("no_such_model"), **ADD_SUB_IN}
    refusal = check_refused("no_such_model", lambda: trial.client.infer("bls", wrong))
    return f"bls asked add_sub: {got}; asked for no_such_model: {refusal}"


def _name(model: str) -> Tensor:
    return Tensor("BYTES", (1,), (model,))


# --- decoupled models ------------------------------------------------------------------------

_COUNT = 3
_NUMBERS = [3, 2, 1]


def _run_decoupled(trial: Trial) -> str:
    grpc = trial.get_grpc()
    trial.await_model("countdown")
    answers = grpc.stream("countdown", {"COUNT": Tensor("INT32", (1,), (_COUNT,))})
    numbers = [number for outputs in answers for number in outputs["NUMBER"].data]
    check_equal("NUMBER in the answers", _NUMBERS, numbers)
    return f"one request over gRPC, {len(answers)} answers: {numbers}"


def _run_decoupled_http(trial: Trial) -> str:
    trial.await_model("countdown")
    body = trial.client.encode({"COUNT": Tensor("INT32", (1,), (_COUNT,))})
    refused = trial.client.post("/v2/models/countdown/infer", body, JSON_TYPE)
    # From 2.42 on a refusal of this kind is a 501.
    if not (400 <= refused.status_code < 500 or refused.status_code == 501):
        fail("/infer to be refused", f"{refused.status_code} {shorten(refused.text)}")
    check_equal("the error's type", str, type(refused.json()["error"]))
    streamed = trial.client.post(
        "/v2/models/countdown/generate_stream", json.dumps({"COUNT": _COUNT}).encode(), JSON_TYPE
    )
    if streamed.status_code == 404:
        msg = "/infer refuses it, and this release has no /generate_stream"
        raise CheckSkippedError(msg)
    check_equal("/generate_stream to answer", 200, streamed.status_code)
    events = [line[5:] for line in streamed.text.splitlines() if line.startswith("data:")]
    numbers = [json.loads(event)["NUMBER"] for event in events]
    check_equal("NUMBER in the events", _NUMBERS, numbers)
    return f"/generate_stream: {len(events)} events: {numbers}; /infer: {refused.status_code}"


BLS = Check("bls", "a python model asks another model", _run_bls, ("bls", "add_sub"))
DECOUPLED = Check(
    "decoupled", "a model answers one request several times", _run_decoupled, ("countdown",)
)
DECOUPLED_HTTP = Check(
    "decoupled-http",
    "the same over HTTP: a stream of events, and no single answer",
    _run_decoupled_http,
    ("countdown",),
)
