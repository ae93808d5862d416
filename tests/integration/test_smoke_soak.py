"""Models of the user's against a server of the stand-ins, and a soak that finds the one that leaks."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def built(source_build, copy_build):
    return copy_build(source_build)


MODEL = """\
import numpy as np
import triton_python_backend_utils as pb

KEPT = []


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            pixels = pb.get_input_tensor_by_name(request, "data").as_numpy()
            KEPT.append(bytearray(LEAK))
            scores = np.full(10, pixels.mean(), np.float32)
            answers.append(pb.InferenceResponse([pb.Tensor("scores", scores)]))
        return answers
"""
CONFIG = """\
name: "NAME"
backend: "python"
max_batch_size: 0
input [{ name: "data" data_type: TYPE_UINT8 dims: [ 8, 8, 3 ] }]
output [{ name: "scores" data_type: TYPE_FP32 dims: [ OUTPUTS ] }]
"""


def write_model(folder, name, *, leak, outputs=10):
    """Write a model that keeps so many bytes of every request."""
    (folder / name / "1").mkdir(parents=True)
    config = CONFIG.replace("NAME", name).replace("OUTPUTS", str(outputs))
    (folder / name / "config.pbtxt").write_text(config)
    (folder / name / "1" / "model.py").write_text(MODEL.replace("LEAK", str(leak)))
    return folder / name


def smoke(session_cli, ws, *options):
    done = session_cli("smoke", "--work-dir", ws.root, "--json", *options, cwd=ws.root, timeout=300)
    report = json.loads(done.stdout) if done.stdout else {"results": []}
    return done, {one["name"]: one for one in report["results"]}


def test_model_that_keeps_what_it_was_asked_is_found(built, session_cli, tmp_path):
    model = write_model(tmp_path, "leaky", leak=200_000)
    done, results = smoke(session_cli, built, "--model", model, "--soak", "8")
    assert done.code == 10
    assert results["model-leaky"]["status"] == "pass"
    assert results["soak"]["status"] == "fail"
    assert "expected memory that levels off, got" in results["soak"]["detail"]
    assert "bytes a request" in done.stderr
    # The server itself was not harmed.
    assert results["stop"]["status"] == "pass"


def test_good_models_pass_a_soak_and_wrong_ones_are_named(built, session_cli, tmp_path):
    good = write_model(tmp_path, "good", leak=0)
    wrong = write_model(tmp_path, "wrong", leak=0, outputs=7)
    done, results = smoke(session_cli, built, "--model", good, "--soak-requests", "2000")
    assert done.code == 0, done.stderr
    assert results["soak"]["detail"].startswith("2000 requests in")
    assert "scores FP32[10]" in results["model-good"]["detail"]
    done, results = smoke(session_cli, built, "--model", wrong)
    assert done.code == 10
    assert results["model-wrong"]["status"] == "fail"


def test_folder_that_is_no_model_is_refused(built, session_cli, tmp_path):
    done, _ = smoke(session_cli, built, "--model", tmp_path)
    assert done.code == 2
    assert "there is no config.pbtxt in it" in done.stderr
    taken = write_model(tmp_path, "add_sub", leak=0)
    done, _ = smoke(session_cli, built, "--model", taken)
    assert done.code == 2
    assert "add_sub is a model of the smoke test already" in done.stderr
