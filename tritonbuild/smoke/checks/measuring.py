"""perf_analyzer, Triton's own measuring program, against the server and inside it."""

from __future__ import annotations

import re

from tritonbuild.smoke.trial import Check, CheckSkippedError, Trial, fail, shorten

# The component whose checks these are.
COMPONENT = "perf_analyzer"

# As few requests as it takes for a figure, and no figure is too unsteady: the machine may be busy.
_SETTINGS = (
    "-m", "add_sub", "--concurrency-range", "1:1", "--measurement-mode", "count_windows",
    "--measurement-request-count", "20", "--stability-percentage", "999", "--max-trials", "3",
)  # fmt: skip
_PROGRAM = "{tree}/bin/perf_analyzer"

# `Throughput: 701.395 infer/sec`, `Avg latency: 1416 usec (standard deviation 809 usec)`
_THROUGHPUT = re.compile(r"Throughput: ([0-9.]+) infer/sec")
_LATENCY = re.compile(r"Avg latency: ([0-9]+) usec")

# perf_analyzer loads the library by this name from the folder that it is given.
_HAS_LIBRARY = ("test", "-e", "{tree}/lib/libtritonserver.so")


def _run_http(trial: Trial) -> str:
    return _measure(trial, "http", "-i", "http", "-u", trial.server.addresses_there[0])


def _run_grpc(trial: Trial) -> str:
    if "grpc" in trial.without:
        msg = "the server was built without gRPC"
        raise CheckSkippedError(msg)
    return _measure(trial, "grpc", "-i", "grpc", "-u", trial.server.addresses_there[1])


def _run_c_api(trial: Trial) -> str:
    if trial.server.run_beside(_HAS_LIBRARY, "smoke-perf-library.log").returncode != 0:
        msg = "the tree has no lib/libtritonserver.so: a wheel's server has it under another name"
        raise CheckSkippedError(msg)
    return _measure(
        trial, "c-api", "--service-kind=triton_c_api", "--triton-server-directory={tree}",
        "--model-repository={models}",
    )  # fmt: skip


def _measure(trial: Trial, name: str, *more: str) -> str:
    """Run it, and return what it measured."""
    done = trial.server.run_beside([_PROGRAM, *_SETTINGS, *more], f"smoke-perf-{name}.log")
    throughput, latency = _THROUGHPUT.search(done.output), _LATENCY.search(done.output)
    if done.returncode != 0 or throughput is None or latency is None or float(throughput[1]) <= 0:
        fail(
            "perf_analyzer to measure",
            f"exit code {done.returncode}: {shorten(done.output[-300:])}",
        )
    return f"{float(throughput[1]):.1f} inferences a second, {int(latency[1])} us each"


_PYTHON = ("add_sub",)
MEASURING = (
    Check("perf-http", "perf_analyzer measures over HTTP", _run_http, _PYTHON),
    Check("perf-grpc", "perf_analyzer measures over gRPC", _run_grpc, _PYTHON),
    Check("perf-c-api", "perf_analyzer measures a server inside itself", _run_c_api, _PYTHON),
)
