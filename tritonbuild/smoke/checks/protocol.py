"""Extensions of the protocol: classification, and tensors in shared memory."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from tritonbuild.smoke.checks.asked import ADD_SUB_IN, ADD_SUB_OUT, PYTHON
from tritonbuild.smoke.client import Tensor, decode_tensor
from tritonbuild.smoke.trial import (
    Check,
    CheckSkippedError,
    Trial,
    check_equal,
    check_refused,
    check_tensor,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# --- classification --------------------------------------------------------------------------


def _run_classification(trial: Trial) -> str:
    trial.require_extension("classification")
    body = {
        "inputs": [tensor.to_json(name) for name, tensor in ADD_SUB_IN.items()],
        "outputs": [{"name": "OUTPUT1", "parameters": {"classification": 2}}],
    }
    (output,) = trial.client.ask("add_sub", body)["outputs"]
    check_equal("OUTPUT1 as classes", ["999999.000000:3", "6.500000:2"], output["data"])
    return f"the two highest of OUTPUT1: {', '.join(output['data'])}"


# --- shared memory ---------------------------------------------------------------------------

_REGION = "/v2/systemsharedmemory/region/smoke"


def _run_shared_memory(trial: Trial) -> str:
    trial.require_extension("system_shared_memory")
    folder = trial.server.find_shared_memory()
    if folder is None:
        msg = "the server's /dev/shm cannot be reached from here (/proc/PID/root)"
        raise CheckSkippedError(msg)
    inputs = b"".join(tensor.to_bytes() for tensor in ADD_SUB_IN.values())
    size = len(inputs)
    with _share(folder, inputs, size) as path:
        trial.client.post_json(
            f"{_REGION}/register", {"key": f"/{path.name}", "offset": 0, "byte_size": 2 * size}
        )
        _infer_in_place(trial, size)
        _check_outputs(path.read_bytes()[size:])
        (found,) = trial.client.get_json("/v2/systemsharedmemory/status")
        check_equal("region", ("smoke", 2 * size), (found["name"], found["byte_size"]))
        trial.client.post_json(f"{_REGION}/unregister", {})
        check_equal("regions", [], trial.client.get_json("/v2/systemsharedmemory/status"))
        refusal = check_refused("what is not registered", lambda: _infer_in_place(trial, size))
    return f"{2 * size} bytes read and written in place; unregistered: {refusal}"


@contextlib.contextmanager
def _share(folder: Path, inputs: bytes, room: int) -> Iterator[Path]:
    """Make a file in the server's /dev/shm: what is sent, and room for the answer."""
    path = folder / f"tritonbuild_smoke_{os.getpid()}"
    path.write_bytes(inputs + bytes(room))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _infer_in_place(trial: Trial, outputs_at: int) -> None:
    """Ask `add_sub` with inputs and outputs in the region."""
    inputs, outputs = [], []
    at = 0
    for name, tensor in ADD_SUB_IN.items():
        size = len(tensor.to_bytes())
        place = {"shared_memory_region": "smoke", "shared_memory_byte_size": size}
        entry = tensor.to_json(name)
        del entry["data"]
        inputs.append({**entry, "parameters": {**place, "shared_memory_offset": at}})
        answer = {**place, "shared_memory_offset": outputs_at + at}
        outputs.append({"name": name.replace("IN", "OUT"), "parameters": answer})
        at += size
    trial.client.ask("add_sub", {"inputs": inputs, "outputs": outputs})


def _check_outputs(data: bytes) -> None:
    at = 0
    for name, expected in ADD_SUB_OUT.items():
        size = len(expected.to_bytes())
        values = decode_tensor(expected.datatype, data[at : at + size])
        check_tensor({name: Tensor(expected.datatype, expected.shape, values)}, name, expected)
        at += size


CLASSIFICATION = Check(
    "classification", "the server ranks an output's classes", _run_classification, PYTHON
)
SHARED_MEMORY = Check(
    "shared-memory", "tensors are read and written in shared memory", _run_shared_memory, PYTHON
)
