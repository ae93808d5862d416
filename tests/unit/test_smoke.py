"""The smoke test's parts that a real, healthy server cannot show."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import signal
import threading
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from tritonbuild.errors import HostError, SmokeTestError, UsageError
from tritonbuild.paths import data_dir
from tritonbuild.smoke.checks import CHECKS
from tritonbuild.smoke.client import AnswerError, Client, Tensor, encode_binary
from tritonbuild.smoke.metrics import parse_metrics
from tritonbuild.smoke.models import BIAS, MODELS, WEIGHTS, compute_affine, write_models
from tritonbuild.smoke.run import SmokeReport, read_subject
from tritonbuild.smoke.server import describe_exit, pick_ports, tail_log
from tritonbuild.smoke.trial import (
    CheckFailedError,
    CheckResult,
    Trial,
    check_tensor,
    run_check,
)

# --- the models -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def make_affine():
    path = data_dir("templates") / "smoke" / "make_affine.py"
    spec = importlib.util.spec_from_file_location("make_affine", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_shipped_onnx_model_is_what_its_script_makes(make_affine):
    import onnx

    made = make_affine.make_model()
    shipped = onnx.load(data_dir("templates") / "smoke" / "affine.onnx")
    assert shipped == made
    assert shipped.ir_version == 8
    assert [(entry.domain, entry.version) for entry in shipped.opset_import] == [("", 17)]


def test_expected_numbers_are_the_onnx_models(make_affine):
    assert [list(row) for row in WEIGHTS] == make_affine.WEIGHTS
    assert list(BIAS) == make_affine.BIAS
    assert compute_affine([(0, 0, 0, 0), (1, 0, 0, 0)]) == (*BIAS, 1.5, -1.5, 2.25)


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        pytest.param(("core",), set(), id="core"),
        pytest.param(
            ("core", "python"),
            {
                "add_sub", "normalize", "batched", "instances", "broken", "bls", "running_sum",
                "cached", "countdown",
            },
            id="python",
        ),
        pytest.param(("core", "onnxruntime"), {"affine", "affine_auto"}, id="onnxruntime"),
        pytest.param(
            ("core", "ensemble", "python", "onnxruntime", "checksum"), set(MODELS), id="all"
        ),
    ],
)  # fmt: skip
def test_repository_holds_what_the_components_can_serve(tmp_path, components, expected):
    folder = tmp_path / "models"
    (folder / "stale").mkdir(parents=True)
    assert set(write_models(folder, components)) == expected
    assert {path.name for path in folder.iterdir()} == expected
    for model in folder.iterdir():
        assert (model / "config.pbtxt").is_file()
        assert (model / "1").is_dir()
        assert (model / "1" / "model.onnx").exists() == MODELS[model.name].onnx


def test_checksum_in_a_config_is_that_of_one_model_and_not_of_the_other():
    models = data_dir("templates") / "smoke" / "models"
    for name, fits in (("sealed", True), ("tampered", False)):
        digest = hashlib.md5((models / name / "1" / "model.py").read_bytes()).hexdigest()
        assert (digest in (models / name / "config.pbtxt").read_text()) is fits, name


def test_unwritable_repository_is_a_host_error(tmp_path):
    (tmp_path / "smoke").write_text("a file in the way")
    with pytest.raises(HostError):
        write_models(tmp_path / "smoke" / "models", ["python"])


def test_every_check_has_its_own_name_and_known_models():
    names = [check.name for check in CHECKS]
    assert len(names) == len(set(names))
    assert {model for check in CHECKS for model in check.models} <= set(MODELS)


# --- comparing ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("got", "message"),
    [
        pytest.param({}, "an output Y", id="missing"),
        pytest.param({"Y": Tensor("FP64", (2,), (1.0, 2.0))}, "Y of type FP32", id="type"),
        pytest.param({"Y": Tensor("FP32", (1, 2), (1.0, 2.0))}, "Y of shape", id="shape"),
        pytest.param({"Y": Tensor("FP32", (2,), (1.0,))}, r"Y = \[1.0, 2.0\]", id="too-few"),
        pytest.param({"Y": Tensor("FP32", (2,), (1.0, 2.001))}, r"got \[1.0, 2.001\]", id="number"),
        pytest.param({"Y": Tensor("FP32", (2,), (1.0, float("nan")))}, "nan", id="nan"),
    ],
)
def test_wrong_tensor_is_told(got, message):
    with pytest.raises(CheckFailedError, match=message):
        check_tensor(got, "Y", Tensor("FP32", (2,), (1.0, 2.0)), tolerance=1e-5)


def test_tensor_within_tolerance_passes():
    got = {"Y": Tensor("FP32", (1,), (2.00001,))}
    check_tensor(got, "Y", Tensor("FP32", (1,), (2.0,)), tolerance=1e-5)


def test_binary_tensors_are_little_endian():
    header, body = encode_binary({"X": Tensor("INT32", (2,), (1, 258))})
    assert body == b"\x01\0\0\0\x02\x01\0\0"
    (entry,) = json.loads(header)["inputs"]
    assert entry["parameters"] == {"binary_data_size": 8}
    assert "data" not in entry


# --- answers that are not the protocol --------------------------------------------------------


class OddServer(BaseHTTPRequestHandler):
    """Answers everything with one status and body; /v2/health/... too."""

    answer = (500, b"")

    def do_GET(self):
        status, body = type(self).answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def ask_odd_server():
    """Return a function that runs one check against a server that answers oddly."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), OddServer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def ask(name, status, body):
        OddServer.answer = (status, body)
        client = Client(f"http://127.0.0.1:{server.server_address[1]}")
        running = SimpleNamespace(metrics_url=client.url + "/metrics", ready_seconds=1.0, started=0)
        check = next(check for check in CHECKS if check.name == name)
        return run_check(check, Trial(running, client, "2.41.0"))

    yield ask
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("check", "status", "body", "detail"),
    [
        pytest.param("http-json", 200, b"<html>", "without JSON", id="html"),
        pytest.param("http-json", 200, b"{}", "an output OUTPUT0", id="no-outputs"),
        pytest.param("http-json", 200, b"[1]", "not the protocol", id="a-list"),
        pytest.param("http-json", 500, b"", "HTTP 500, no reason", id="500"),
        pytest.param("http-json", 400, b'{"error": "why\\n not"}', "why not", id="error"),
        pytest.param("http-binary", 200, b"{}", "no binary tensors", id="json-for-binary"),
        pytest.param("ready", 503, b"", "/v2/health/live", id="not-live"),
        pytest.param("refuse-json", 200, b"{}", "HTTP 4xx", id="accepted"),
        pytest.param("refuse-json", 500, b'{"error": "x"}', "HTTP 4xx", id="refused-with-500"),
        pytest.param("refuse-json", 400, b"<html>", "`error`", id="refused-with-html"),
        pytest.param("refuse-json", 400, b'{"error": ""}', "`error`", id="refused-without-reason"),
        pytest.param("refuse-json", 400, b'{"error": "x"}', "ready", id="not-ready-afterwards"),
        pytest.param("metrics", 200, b"a b c d", "text format", id="metrics"),
        pytest.param(
            "server-metadata",
            200,
            b'{"name": "triton", "version": "2.40.0"}',
            "version 2.41.0, got 2.40.0",
            id="version",
        ),
    ],
)
def test_odd_answer_fails_the_check(ask_odd_server, check, status, body, detail):
    result = ask_odd_server(check, status, body)
    assert result.status == "fail"
    assert detail in result.detail


def test_no_server_fails_the_check():
    ports = pick_ports()
    trial = Trial(SimpleNamespace(), Client(f"http://127.0.0.1:{ports.http}"), None)
    result = run_check(CHECKS[0], trial)
    assert result.status == "fail"
    assert "no answer" in result.detail


def test_grpc_is_skipped_with_a_hint_where_the_extra_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tritonclient.grpc", None)
    check = next(check for check in CHECKS if check.name == "grpc")
    trial = Trial(SimpleNamespace(grpc_address="127.0.0.1:1"), Client(""), None)
    result = run_check(check, trial)
    assert result.status == "skip"
    assert "pip install 'tritonclient[grpc]'" in result.detail


# --- what a server lacks ----------------------------------------------------------------------


class Lacking:
    """A server that lists one extension, and answers nothing else."""

    url = "http://127.0.0.1:1"

    def get_json(self, _path):
        return {"extensions": ["statistics"]}


def make_failed_load(message):
    load = Future()
    load.set_exception(AnswerError(message, 400))
    return load


@pytest.mark.parametrize("name", ["sequence", "shared-memory", "trace", "classification"])
def test_extension_that_is_not_listed_is_a_reason_to_skip(name):
    check = next(check for check in CHECKS if check.name == name)
    result = run_check(check, Trial(SimpleNamespace(), Lacking(), None))
    assert result.status == "skip"
    assert "does not list the extension" in result.detail


@pytest.mark.parametrize(
    ("message", "status"),
    [
        pytest.param('"ModelConfig" has no field named "response_cache"', "skip", id="field"),
        pytest.param("this python backend cannot ask other models", "skip", id="function"),
        pytest.param("ValueError: a mistake of the model's", "fail", id="mistake"),
    ],
)
def test_model_that_the_server_does_not_know_is_a_reason_to_skip(message, status):
    check = next(check for check in CHECKS if check.name == "response-cache")
    trial = Trial(SimpleNamespace(has_cache=True), Lacking(), None)
    trial.loads["cached"] = make_failed_load(message)
    result = run_check(check, trial)
    assert (result.status, message in result.detail) == (status, True)


def test_server_whose_memory_cannot_be_reached_is_a_reason_to_skip():
    check = next(check for check in CHECKS if check.name == "shared-memory")
    server = SimpleNamespace(find_shared_memory=lambda: None)
    trial = Trial(server, Lacking(), None)
    trial.client.get_json = lambda _path: {"extensions": ["system_shared_memory"]}
    result = run_check(check, trial)
    assert result.status == "skip"
    assert "/dev/shm" in result.detail


# --- metrics ----------------------------------------------------------------------------------


def test_metrics_are_parsed():
    text = (
        "# HELP nv_x what it is\n# TYPE nv_x counter\n\n"
        'nv_x{model="a",version="1"} 2\n'
        'nv_x{model="odd\\"}{,\\\\ \\n name", gpu_uuid="",} 1.5e+03 1395066363000\n'
        "nv_plain NaN\n"
    )
    first, odd, plain = parse_metrics(text)
    assert (first.name, first.value, first.labels) == ("nv_x", 2.0, {"model": "a", "version": "1"})
    assert odd.labels == {"model": 'odd"}{,\\ \n name', "gpu_uuid": ""}
    assert odd.value == 1500.0
    assert plain.labels == {}
    assert plain.value != plain.value


@pytest.mark.parametrize("line", ["nv_x", 'nv_x{a="1" 2', "nv_x{a=1} 2", "nv_x two", "1x 2"])
def test_what_is_not_a_metric_is_refused(line):
    with pytest.raises(ValueError, match=r"."):
        parse_metrics(line)


# --- plans and reports --------------------------------------------------------------------------


def test_subject_is_read_from_plans():
    wheel = {
        "selection": {"components": ["core", "python"]},
        "flags": {},
        "steps": [{"details": {}}, {"details": {"triton_version": "2.41.0"}}],
    }
    subject = read_subject(wheel)
    assert subject.components == ("core", "python")
    assert subject.triton_version == "2.41.0"
    assert subject.without == frozenset()


def make_source_plan(**switches):
    flags = [{"name": name, "value": value} for name, value in switches.items()]
    return {"selection": {"components": ["core"]}, "flags": {"core": flags}, "steps": []}


def test_subject_of_a_source_build_knows_what_is_switched_off():
    plan = make_source_plan(
        TRITON_VERSION="2.42.0", TRITON_ENABLE_GRPC="OFF", TRITON_ENABLE_METRICS="OFF"
    )
    subject = read_subject(plan)
    assert subject.triton_version == "2.42.0"
    assert subject.without == {"grpc", "metrics"}


def test_server_without_http_cannot_be_smoked():
    with pytest.raises(UsageError, match="without HTTP"):
        read_subject(make_source_plan(TRITON_ENABLE_HTTP="OFF"))


def make_report(log, *results, first=1.0):
    return SmokeReport(results, "2.41.0", 0.5, first, 2.0, log)


def test_failed_report_raises_with_the_log(tmp_path):
    log = tmp_path / "s.log"
    log.write_text("E1121 00:00:00 early and bad\n" + "fine\n" * 30)
    bad = CheckResult("http-json", "fail", 0.1, "expected 1, got 2")
    report = make_report(log, CheckResult("ready", "pass", 0.1, ""), bad)
    with pytest.raises(SmokeTestError) as caught:
        report.raise_if_failed()
    assert caught.value.exit_code == 10
    for part in ("1 of 2 checks failed", "http-json: expected 1, got 2", "early and bad", str(log)):
        assert part in caught.value.message
    assert len(caught.value.message.splitlines()) < 24


def test_report_without_any_inference_does_not_pass(tmp_path):
    report = make_report(tmp_path / "s.log", CheckResult("ready", "pass", 0.1, ""), first=None)
    assert not report.passed
    with pytest.raises(SmokeTestError, match="nothing is proved"):
        report.raise_if_failed()


def test_log_tail_keeps_early_errors(tmp_path):
    log = tmp_path / "s.log"
    log.write_text("error: first\n" + "".join(f"line {n}\n\n" for n in range(100)))
    lines = tail_log(log, count=3)
    assert lines == ["error: first", "line 97", "line 98", "line 99"]
    assert tail_log(tmp_path / "none.log") == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        pytest.param(-signal.SIGKILL, "signal SIGKILL", id="direct"),
        pytest.param(128 + signal.SIGSEGV, "signal SIGSEGV", id="through-a-sandbox"),
        pytest.param(1, "exit code 1", id="code"),
        pytest.param(127, "exit code 127", id="no-library"),
    ],
)
def test_exit_is_told_in_words(code, words):
    assert describe_exit(code) == words


def test_picked_ports_differ():
    ports = pick_ports()
    assert len({ports.http, ports.grpc, ports.metrics}) == 3


@pytest.mark.parametrize("port", [65536, -1])
def test_port_that_cannot_be_is_a_host_error(port):
    with pytest.raises(HostError, match=f"port {port} .*65535") as caught:
        pick_ports(port)
    assert "--http-port" in caught.value.hint
