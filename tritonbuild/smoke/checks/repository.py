"""Models are loaded and unloaded, agents look at them, and the server ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tritonbuild.smoke.checks.asked import ADD_SUB_IN, PYTHON, check_add_sub
from tritonbuild.smoke.checks.refusals import post_json
from tritonbuild.smoke.client import Tensor
from tritonbuild.smoke.trial import Check, Trial, check_equal, check_refused, check_tensor, fail

if TYPE_CHECKING:
    from collections.abc import Mapping


def _run_load(trial: Trial, model: str) -> str:
    started = time.monotonic()
    trial.loads[model].result()
    if not trial.client.is_ready(model):
        fail(f"{model} to be ready after loading", "not ready")
    waited = time.monotonic() - started
    return f"loaded while the server ran; waited {waited:.1f} s for it"


def _run_broken_model(trial: Trial) -> str:
    refusal = check_refused("broken", trial.loads["broken"].result)
    if refusal.status is None or not 400 <= refusal.status < 500 or _BROKEN not in str(refusal):
        fail(f"HTTP 4xx with {_BROKEN!r}", f"{refusal.status} {refusal}")
    check_add_sub(trial.client.infer("add_sub", ADD_SUB_IN))
    return f"{refusal.status}: {refusal}; the other models answer"


# What its initialize() raises.
_BROKEN = "broken on purpose by the smoke test"


def _run_agent(trial: Trial) -> str:
    trial.client.load("sealed")
    _check_double(trial.client.infer("sealed", {"X": Tensor("INT32", (1,), (21,))}))
    refusal = check_refused("tampered", lambda: trial.client.load("tampered"))
    return f"sealed is served, tampered is refused: {refusal}"


def _check_double(outputs: Mapping[str, Tensor]) -> None:
    check_tensor(outputs, "Y", Tensor("INT32", (1,), (42,)))


# --- unload, load, end -----------------------------------------------------------------------


def _run_unload(trial: Trial) -> str:
    trial.client.unload("add_sub")
    deadline = time.monotonic() + 10  # the server says yes first and unloads then
    while trial.client.is_ready("add_sub") and time.monotonic() < deadline:
        time.sleep(0.1)
    if trial.client.is_ready("add_sub"):
        fail("add_sub not to be ready", "ready")
    return post_json(trial, ADD_SUB_IN)


def _run_reload(trial: Trial) -> str:
    trial.client.load("add_sub")
    return check_add_sub(trial.client.infer("add_sub", ADD_SUB_IN))


def _run_stop(trial: Trial) -> str:
    started = time.monotonic()
    code = trial.server.ask_to_stop(_STOP_TIMEOUT)
    if code is None:
        fail(f"an end within {_STOP_TIMEOUT} s", "it still runs")
    check_equal("exit code", 0, code)
    return f"exit code 0 after {time.monotonic() - started:.1f} s"


# More than the server's own limit for work that is under way (server.py).
_STOP_TIMEOUT = 40


def _make_load_check(model: str, proves: str) -> Check:
    def run(trial: Trial) -> str:
        return _run_load(trial, model)

    return Check(f"load-{model.replace('_', '-')}", proves, run, (model,))


LOADS = {
    model: _make_load_check(model, proves)
    for model, proves in (
        ("affine_auto", "a model is loaded while the server runs"),
        ("pipeline", "an ensemble is loaded with the models in it"),
        ("batched", "a model with dynamic batching is loaded"),
        ("instances", "a model with three instances is loaded"),
    )
}
BROKEN_MODEL = Check(
    "broken-model", "a model that raises harms no other", _run_broken_model, ("broken",)
)
UNLOAD = Check("unload", "an unloaded model answers no more", _run_unload, PYTHON)
RELOAD = Check("reload", "it answers again once it is loaded", _run_reload, PYTHON)
AGENT = Check(
    "repository-agent",
    "a model that was tampered with is not loaded",
    _run_agent,
    ("sealed", "tampered"),
)
STOP = Check("stop", "SIGTERM ends the server in order", _run_stop)
