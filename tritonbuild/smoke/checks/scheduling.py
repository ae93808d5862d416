"""How requests are scheduled: ensembles, batches, instances, sequences, cached answers."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tritonbuild.smoke.checks.asked import (
    PIPELINE_IN,
    PIPELINE_OUT,
    SETTLE_SECONDS,
    check_affine,
)
from tritonbuild.smoke.checks.refusals import check_refusal
from tritonbuild.smoke.client import JSON_TYPE, Tensor
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
    from tritonbuild.smoke.client import Client


def _run_ensemble(trial: Trial) -> str:
    return check_affine(trial.client.infer("pipeline", PIPELINE_IN), PIPELINE_OUT)


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
    deadline = time.monotonic() + SETTLE_SECONDS
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


# --- sequences -------------------------------------------------------------------------------

# Two sequences, by their number and what they add, and what each request must be answered with.
_SEQUENCES = {11: ((1, 1), (2, 3), (3, 6)), 12: ((10, 10), (20, 30), (30, 60))}


def _run_sequence(trial: Trial) -> str:
    trial.require_extension("sequence")
    trial.await_model("running_sum")
    try:
        for step in range(3):
            for sequence, steps in _SEQUENCES.items():
                added, total = steps[step]
                parameters = _make_parameters(sequence, start=step == 0, end=step == 2)
                outputs = trial.client.infer("running_sum", _one_number(added), parameters)
                check_tensor(outputs, "SUM", Tensor("INT32", (1, 1), (total,)))
    except Exception:
        _end_sequences(trial)
        raise
    return f"two sequences by turns: 6 and 60; a third without a start: {_refuse_start(trial)}"


def _end_sequences(trial: Trial) -> None:
    """End what a failed check began: a server waits for open sequences before it stops."""
    for sequence in _SEQUENCES:
        with contextlib.suppress(Exception):
            parameters = _make_parameters(sequence, start=False, end=True)
            trial.client.infer("running_sum", _one_number(0), parameters)


def _refuse_start(trial: Trial) -> str:
    """Check that a sequence that was not started is refused."""
    body = trial.client.encode(_one_number(1), _make_parameters(13, start=False, end=False))
    return check_refusal(trial, trial.client.post(_INFER_SUM, body, JSON_TYPE))


_INFER_SUM = "/v2/models/running_sum/infer"


def _one_number(number: int) -> dict[str, Tensor]:
    return {"X": Tensor("INT32", (1, 1), (number,))}


def _make_parameters(sequence: int, *, start: bool, end: bool) -> dict[str, object]:
    return {"sequence_id": sequence, "sequence_start": start, "sequence_end": end}


# --- the response cache ----------------------------------------------------------------------


def _run_cache(trial: Trial) -> str:
    if not trial.server.has_cache:
        msg = "the tree has no response cache (caches/local), or the server no --cache-config"
        raise CheckSkippedError(msg)
    trial.await_model("cached")
    # The model answers with the number of its executions.
    for number, executions in ((5, 1), (5, 1), (6, 2)):
        outputs = trial.client.infer("cached", {"X": Tensor("INT32", (1,), (number,))})
        check_tensor(outputs, "EXECUTIONS", Tensor("INT32", (1,), (executions,)))
    deadline = time.monotonic() + SETTLE_SECONDS
    while (hits := _count_hits(trial.client)) != 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    check_equal("cache hits", 1, hits)
    return "3 requests, two of them alike: 2 executions, 1 cache hit"


def _count_hits(client: Client) -> int:
    stats = client.get_json("/v2/models/cached/stats")["model_stats"][0]
    return int(stats["inference_stats"]["cache_hit"]["count"])


ENSEMBLE = Check("ensemble", "python, then ONNX, in one request", _run_ensemble, ("pipeline",))
BATCHED = Check("batched", "requests sent at once are joined", _run_batched, ("batched",))
INSTANCES = Check("instances", "several instances answer", _run_instances, ("instances",))
SEQUENCE = Check(
    "sequence", "requests of one sequence reach the model in order", _run_sequence, ("running_sum",)
)
CACHE = Check(
    "response-cache", "the same request is answered from a cache", _run_cache, ("cached",)
)
