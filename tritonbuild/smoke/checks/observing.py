"""What the server says about its work: metrics and traces."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from tritonbuild.smoke.checks.asked import ADD_SUB_IN, PYTHON, SETTLE_SECONDS, check_add_sub
from tritonbuild.smoke.metrics import Sample, parse_metrics
from tritonbuild.smoke.trial import (
    Check,
    CheckSkippedError,
    Trial,
    check_equal,
    fail,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# --- metrics ---------------------------------------------------------------------------------


def _run_metrics(trial: Trial) -> str:
    if "metrics" in trial.without:
        msg = "the server was built without metrics"
        raise CheckSkippedError(msg)
    expected = dict(trial.client.answered)
    # An ensemble's requests count for each model in it, too.
    for part in ("affine", "normalize"):
        if "pipeline" in expected:
            expected[part] = expected.get(part, 0) + expected["pipeline"]
    deadline = time.monotonic() + SETTLE_SECONDS
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


# --- traces ----------------------------------------------------------------------------------

_SETTING = "/v2/models/add_sub/trace/setting"
# In the order in which a request passes them.
_MOMENTS = ("REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_END", "REQUEST_END")


def _run_trace(trial: Trial) -> str:
    trial.require_extension("trace")
    trace = trial.server.find_trace()
    if trace is None:
        msg = "the server has no --trace-config, or its files cannot be reached from here"
        raise CheckSkippedError(msg)
    wanted = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "log_frequency": "1"}
    setting = trial.client.post_json(_SETTING, wanted)
    check_equal("trace_level", ["TIMESTAMPS"], setting["trace_level"])
    check_add_sub(trial.client.infer("add_sub", ADD_SUB_IN))
    trial.client.post_json(_SETTING, {"trace_level": ["OFF"]})
    moments = _wait_for_moments(trace)
    missing = [name for name in _MOMENTS if name not in moments]
    check_equal("missing moments", [], missing)
    times = [moments[name] for name in _MOMENTS]
    check_equal("moments in order", sorted(times), times)
    return f"{len(moments)} moments of a request, {(times[-1] - times[0]) / 1e6:.1f} ms"


def _wait_for_moments(trace: Path) -> dict[str, int]:
    """Return the nanoseconds of each moment in the trace of a request."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while not (entries := _read_trace(trace)) and time.monotonic() < deadline:
        time.sleep(0.1)
    if not entries:
        fail("a trace", f"no file {trace.name}*")
    return {
        moment["name"]: int(moment["ns"])
        for entry in entries
        for moment in entry.get("timestamps", ())
    }


def _read_trace(trace: Path) -> list[dict[str, Any]]:
    """Return the entries of the first trace, none while it is being written."""
    # One file for each `log_frequency` traces, with a number at its end.
    for path in sorted(trace.parent.glob(f"{trace.name}*")):
        with contextlib.suppress(ValueError):
            entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
            return entries
    return []


METRICS = Check("metrics", "what was answered was counted", _run_metrics)
TRACE = Check("trace", "a request's way through the server is recorded", _run_trace, PYTHON)
