"""perf_analyzer, Triton's own measuring program, against the server and inside it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tritonbuild.smoke.models import copy_model
from tritonbuild.smoke.trial import Check, CheckSkippedError, Trial, fail, shorten

if TYPE_CHECKING:
    from pathlib import Path

    from tritonbuild import proc

# The component whose checks these are.
COMPONENT = "perf_analyzer"

_MODEL = "add_sub"

# As few requests as it takes for a figure, and no figure is too unsteady: the machine may be busy.
_PROGRAM = (
    "{tree}/bin/perf_analyzer", "-m", _MODEL, "--concurrency-range", "1:1",
    "--measurement-mode", "count_windows", "--measurement-request-count", "20",
    "--stability-percentage", "999", "--max-trials", "3",
)  # fmt: skip

# `Throughput: 701.395 infer/sec`, `Avg latency: 1416 usec (standard deviation 809 usec)`
_THROUGHPUT = re.compile(r"Throughput: ([0-9.]+) infer/sec")
_LATENCY = re.compile(r"Avg latency: ([0-9]+) usec")

# Name of the model repository for its C API, below that of the server under test.
_REPOSITORY = "for_perf_analyzer"


def write_repository(models_dir: Path) -> None:
    """Write the model repository for perf_analyzer's C API mode below the smoke test's.

    In that mode it starts a server in itself, which loads every model that it finds and gives up
    where one of them cannot be loaded (triton_loader.cc sets no model control mode). One of the
    smoke test's cannot be on purpose.

    Raises:
        HostError: The repository cannot be written.
    """
    if (models_dir / _MODEL).is_dir():
        copy_model(models_dir / _MODEL, models_dir / _REPOSITORY / _MODEL)


def _run_http(trial: Trial) -> str:
    argv = [*_PROGRAM, "-i", "http", "-u", trial.server.addresses_there[0]]
    return _read_measured(trial.server.run_beside(argv, "smoke-perf-http.log"))


def _run_grpc(trial: Trial) -> str:
    if "grpc" in trial.without:
        msg = "the server was built without gRPC"
        raise CheckSkippedError(msg)
    argv = [*_PROGRAM, "-i", "grpc", "-u", trial.server.addresses_there[1]]
    return _read_measured(trial.server.run_beside(argv, "smoke-perf-grpc.log"))


def _run_c_api(trial: Trial) -> str:
    argv = [
        *_PROGRAM, "--service-kind=triton_c_api", "--triton-server-directory={tree}",
        f"--model-repository={{models}}/{_REPOSITORY}",
    ]  # fmt: skip
    done = trial.server.run_apart(argv, "smoke-perf-c-api.log")
    if done is None:
        msg = "the server under test has the same shared memory: only root can part them"
        raise CheckSkippedError(msg)
    return _read_measured(done)


def _read_measured(done: proc.Result) -> str:
    """Return what it measured."""
    throughput, latency = _THROUGHPUT.search(done.output), _LATENCY.search(done.output)
    if done.returncode != 0 or throughput is None or latency is None or float(throughput[1]) <= 0:
        fail(
            "perf_analyzer to measure",
            f"exit code {done.returncode}: {shorten(done.output[-300:])}",
        )
    return f"{float(throughput[1]):.1f} inferences a second, {int(latency[1])} us each"


_PYTHON = (_MODEL,)
MEASURING = (
    Check("perf-http", "perf_analyzer measures over HTTP", _run_http, _PYTHON),
    Check("perf-grpc", "perf_analyzer measures over gRPC", _run_grpc, _PYTHON),
    Check("perf-c-api", "perf_analyzer measures a server inside itself", _run_c_api, _PYTHON),
)
