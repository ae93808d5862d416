"""The smoke test against a real arm64 server.

`wheel_build` is the Workspace of a finished `tritonbuild build --from wheel`. It is read only
through links here: each test has a work directory of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import tritonbuild
from tritonbuild.errors import HostError, SmokeTestError, UsageError
from tritonbuild.executors.sandbox import Sandbox, check_sandbox
from tritonbuild.paths import Workspace, data_dir
from tritonbuild.smoke import here as here_module
from tritonbuild.smoke.checks import CHECKS
from tritonbuild.smoke.client import Client
from tritonbuild.smoke.here import InSandbox
from tritonbuild.smoke.models import write_models
from tritonbuild.smoke.run import run_smoke
from tritonbuild.smoke.server import Ports, pick_ports, run_server

pytestmark = [pytest.mark.emulation, pytest.mark.usefixtures("emulation")]

TIMEOUT = 100.0


@pytest.fixture(scope="module")
def sandbox(wheel_build_root):
    return Sandbox(wheel_build_root, qemu_cpu="cortex-a76")


def link_build(wheel_build, folder):
    """Return a work directory whose tree is made of hard links, so that files can be taken out."""
    ws = Workspace(folder)
    ws.make()
    shutil.copytree(
        wheel_build.tritonserver_dir, ws.tritonserver_dir, copy_function=os.link, symlinks=True
    )
    shutil.copyfile(wheel_build.plan_path, ws.plan_path)
    return ws


def make_plan(*components):
    return {
        "selection": {"components": list(components)},
        "flags": {},
        "steps": [{"details": {"triton_version": "2.41.0"}}],
    }


def find_processes(folder):
    """Return the processes that have something below a folder mounted or on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            said = (process / "mountinfo").read_text() + (process / "cmdline").read_text()
        except OSError:
            continue
        if str(folder) in said and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def wait_for_none(folder, seconds=10):
    deadline = time.monotonic() + seconds
    while find_processes(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    return find_processes(folder)


def list_tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- everything at once ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_run(wheel_build, sandbox, tmp_path_factory):
    """One run of everything against the build as it is: (workspace, report, tree before)."""
    ws = link_build(wheel_build, tmp_path_factory.mktemp("smoke-all"))
    before = list_tree(ws.tritonserver_dir)
    plan = json.loads(ws.plan_path.read_text())
    with pytest.MonkeyPatch.context() as patch:
        # A dead proxy: what goes to loopback must not ask it.
        for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY"):
            patch.setenv(name, "http://127.0.0.1:9")
        patch.delenv("no_proxy", raising=False)
        report = run_smoke(ws, plan, place=InSandbox(sandbox), timeout=TIMEOUT)
    return ws, report, before


def test_every_check_passes_on_a_good_build(whole_run):
    _, report, _ = whole_run
    wrong = [result for result in report.results if result.status == "fail"]
    assert not wrong
    report.raise_if_failed()
    statuses = {result.name: result.status for result in report.results}
    assert [name for name in statuses if statuses[name] != "pass"] == ["repository-agent", "rknn"]
    assert {check.name for check in CHECKS} <= set(statuses)
    assert report.passed
    assert report.server_version == "2.41.0"
    assert 0 < report.ready_seconds < report.first_answer_seconds < report.seconds


@pytest.mark.parametrize("name", ["perf-http", "perf-grpc", "perf-c-api"])
def test_server_is_measured_where_the_build_has_perf_analyzer(whole_run, name):
    _, report, _ = whole_run
    (detail,) = (result.detail for result in report.results if result.name == name)
    assert re.fullmatch(r"[0-9.]+ inferences a second, [0-9]+ us each", detail)


def test_parts_that_cannot_be_shown_are_named_as_skipped(whole_run):
    _, report, _ = whole_run
    skipped = {r.name: r.detail for r in report.results if r.status == "skip"}
    assert skipped == {
        "repository-agent": "needs checksum, which this build does not have",
        "rknn": "needs the NPU: smoke --rknn",
    }


def test_features_are_as_documented(whole_run, feature_table):
    _, report, _ = whole_run
    found = {result.name: result.status for result in report.results}
    said = {check: results["r23.12"].split(":")[0] for check, results in feature_table.items()}
    assert said == {check: found.get(check) for check in said}


def test_report_is_written_as_json(whole_run):
    ws, report, _ = whole_run
    written = json.loads((ws.root / "smoke.json").read_text())
    assert written == json.loads(report.to_json())
    assert written["passed"] is True
    assert {"name", "status", "seconds", "detail", "proves"} == set(written["results"][0])


def test_nothing_is_left_after_a_run(whole_run):
    ws, report, before = whole_run
    assert wait_for_none(ws.root, 2) == []
    assert list_tree(ws.tritonserver_dir) == before
    assert report.log.stat().st_size > 0


# --- what is broken must be found -------------------------------------------------------------


def test_missing_library_is_told_with_the_log(wheel_build, sandbox, tmp_path):
    ws = link_build(wheel_build, tmp_path / "work")
    (library,) = ws.tritonserver_dir.glob("lib/libtritonserver-*.so")
    library.unlink()
    started = time.monotonic()
    report = run_smoke(ws, make_plan("core", "python"), place=InSandbox(sandbox), timeout=TIMEOUT)
    assert time.monotonic() - started < 20  # noticed at once, not after the timeout
    assert not report.passed
    assert report.results[0].name == "start"
    with pytest.raises(SmokeTestError) as caught:
        report.raise_if_failed()
    assert "died while starting: exit code 127" in caught.value.message
    assert library.name in caught.value.message
    assert str(report.log) in caught.value.message
    assert json.loads((ws.root / "smoke.json").read_text())["passed"] is False
    assert wait_for_none(ws.root) == []


def test_wrong_numbers_and_a_broken_backend_fail_their_checks_only(wheel_build, sandbox, tmp_path):
    ws = link_build(wheel_build, tmp_path / "work")
    (ws.tritonserver_dir / "backends" / "onnxruntime" / "model.py").unlink()
    templates = tmp_path / "templates"
    shutil.copytree(data_dir("templates") / "smoke", templates)
    model = templates / "models" / "add_sub" / "1" / "model.py"
    model.write_text(model.read_text().replace("first + second", "first + second + 1e-3"))
    edit_models(
        templates / "models",
        {
            "bls/1/model.py": ("model_name=model", 'model_name=model + "s"'),
            "running_sum/1/model.py": ("if start else", "if True else"),
            "cached/config.pbtxt": ("response_cache { enable: true }", ""),
            "countdown/1/model.py": ("range(count, 0, -1)", "range(count, 1, -1)"),
        },
    )
    for folder in ("batched", "instances"):
        (templates / "models" / folder / "config.pbtxt").write_text('backend: "python" nonsense {')
    report = run_smoke(
        ws, make_plan("core", "python", "onnxruntime"), place=InSandbox(sandbox), timeout=TIMEOUT,
        templates=templates,
    )  # fmt: skip
    results = {result.name: result for result in report.results}
    assert results["http-json"].status == "fail"
    assert "expected OUTPUT0 = [1.75, 6.0" in results["http-json"].detail
    assert "1.75" in results["http-json"].detail.split("got")[1]
    assert results["onnx"].status == "fail"
    assert "affine could not be loaded" in results["onnx"].detail
    assert results["load-batched"].status == "fail"
    assert results["batched"].status == "fail"
    for name, said in {
        "bls": "add_subs",
        "sequence": "expected SUM = [3], got [2]",
        "response-cache": "expected EXECUTIONS = [1], got [2]",
        "decoupled": "expected NUMBER in the answers [3, 2, 1], got [3, 2]",
        "decoupled-http": "expected NUMBER in the events [3, 2, 1], got [3, 2]",
    }.items():
        assert results[name].status == "fail", results[name]
        assert said in results[name].detail, results[name]
    assert results["ensemble"].status == "skip"
    assert "ensemble" in results["ensemble"].detail
    for name in ("ready", "server-metadata", "refuse-json", "broken-model", "still-ready", "stop"):
        expected = "fail" if name == "broken-model" else "pass"  # it asks add_sub, too
        assert results[name].status == expected, results[name]
    assert report.first_answer_seconds is None
    with pytest.raises(SmokeTestError, match="http-json"):
        report.raise_if_failed()
    assert wait_for_none(ws.root) == []


def edit_models(folder, edits):
    for relative, (old, new) in edits.items():
        text = (folder / relative).read_text()
        assert text.count(old) == 1, relative
        (folder / relative).write_text(text.replace(old, new))


def test_missing_stub_is_told_by_the_model(wheel_build, sandbox, tmp_path):
    ws = link_build(wheel_build, tmp_path / "work")
    (ws.tritonserver_dir / "backends" / "python" / "triton_python_backend_stub").unlink()
    models = ws.root / "smoke" / "models"
    write_models(models, ["python"])
    with run_server(
        InSandbox(sandbox), ws.tritonserver_dir, models, load=["add_sub"], log=ws.logs_dir / "s.log",
        timeout=TIMEOUT,
    ) as server:  # fmt: skip
        (found,) = (m for m in Client(server.http_url).list_models() if m["name"] == "add_sub")
    assert found["state"] == "UNAVAILABLE"
    assert "triton_python_backend_stub" in found["reason"]


def test_server_that_dies_between_checks_fails_the_rest(wheel_build, sandbox, tmp_path):
    ws = link_build(wheel_build, tmp_path / "work")
    templates = tmp_path / "templates"
    shutil.copytree(data_dir("templates") / "smoke", templates)
    model = templates / "models" / "add_sub" / "1" / "model.py"
    # The stub's parent is the server, as in a crash of its own.
    model.write_text(
        model.read_text().replace(
            "        responses = []",
            "        import os, signal; os.kill(os.getppid(), signal.SIGKILL)\n"
            "        responses = []",
        )
    )
    report = run_smoke(
        ws,
        make_plan("core", "python"),
        place=InSandbox(sandbox),
        timeout=TIMEOUT,
        templates=templates,
    )
    results = {result.name: result for result in report.results}
    assert results["ready"].status == "pass"
    assert results["http-json"].status == "fail"
    assert results["refuse-json"].detail == "the server died during http-json: signal SIGKILL"
    assert wait_for_none(ws.root) == []


def test_unfinished_build_is_a_usage_error(tmp_path, sandbox):
    with pytest.raises(UsageError, match="no assembled server"):
        run_smoke(Workspace(tmp_path), make_plan("core"), place=InSandbox(sandbox))


def test_root_that_cannot_be_entered_is_a_host_error(tmp_path):
    with pytest.raises(HostError, match="cannot run a program"):
        check_sandbox(Sandbox(tmp_path))


# --- ports ------------------------------------------------------------------------------------


def test_taken_http_port_is_named(wheel_build, sandbox, tmp_path):
    ws = link_build(wheel_build, tmp_path / "work")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HostError, match=f"port {port} ") as caught:
            run_smoke(ws, make_plan("core", "python"), place=InSandbox(sandbox), http_port=port)
    assert "--http-port" in caught.value.hint


def test_port_that_was_taken_meanwhile_is_replaced(wheel_build, sandbox, tmp_path, monkeypatch):
    ws = link_build(wheel_build, tmp_path / "work")
    (ws.root / "models").mkdir()
    tried = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]

        def pick(http_port=None):
            ports = pick_ports(http_port)
            # Each of the three services in turn finds its port taken.
            choices = [Ports(busy, ports.grpc, ports.metrics), Ports(ports.http, busy, 0), ports]
            tried.append(choices[len(tried)])
            return tried[-1]

        monkeypatch.setattr(here_module, "pick_ports", pick)
        with run_server(
            InSandbox(sandbox), ws.tritonserver_dir, ws.root / "models", load=[], log=ws.logs_dir / "s.log",
            timeout=TIMEOUT,
        ) as server:  # fmt: skip
            assert server.ports == tried[2]
    assert wait_for_none(ws.root) == []


# --- however tritonbuild ends -------------------------------------------------------------------

RUN_UNTIL_KILLED = """
    import signal, sys, time
    # What starts the tests may ignore signals, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    from pathlib import Path
    from tritonbuild.executors.sandbox import Sandbox
    from tritonbuild.smoke.here import InSandbox
    from tritonbuild.smoke.server import run_server
    root, tree, models, log = map(Path, sys.argv[1:])
    with run_server(InSandbox(Sandbox(root)), tree, models, load=["add_sub"], log=log, timeout=100):
        time.sleep(1000)
"""


@pytest.fixture
def start_run(wheel_build, wheel_build_root, tmp_path):
    """Return a function that starts a server from a Python of its own: (workspace, process)."""
    started = []

    def start(name):
        ws = link_build(wheel_build, tmp_path / name)
        write_models(ws.root / "models", ["python"])
        argv = [sys.executable, "-c", textwrap.dedent(RUN_UNTIL_KILLED), wheel_build_root,
                ws.tritonserver_dir, ws.root / "models", ws.logs_dir / "s.log"]  # fmt: skip
        started.append(subprocess.Popen(argv, stderr=subprocess.DEVNULL))
        return ws, started[-1]

    yield start
    for child in started:
        child.kill()
        child.wait()


def test_nothing_is_left_when_tritonbuild_is_stopped_or_killed(start_run):
    numbers = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    runs = {number: start_run(number.name) for number in numbers}
    codes = {}
    for number, (ws, child) in runs.items():
        log = ws.logs_dir / "s.log"
        deadline = time.monotonic() + 60
        while "loading: add_sub" not in (log.read_text() if log.exists() else ""):
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(find_processes(ws.root)) > 1
        child.send_signal(number)
        codes[number] = child.wait(30)
    for ws, _ in runs.values():
        assert wait_for_none(ws.root) == []
    # Each ended as its signal wants it; Python turns Ctrl-C into the same.
    assert codes == {number: -number for number in numbers}


# --- without a sandbox --------------------------------------------------------------------------

NATIVE = """
    import os
    from pathlib import Path
    from tritonbuild.errors import HostError
    from tritonbuild.executors.sandbox import Sandbox
    from tritonbuild.smoke.client import Client, Tensor
    from tritonbuild.smoke.here import InSandbox
    from tritonbuild.smoke.server import run_server

    tree, models, log = Path("/opt/tritonserver"), Path("/models"), Path("/tmp/s.log")
    def start():
        return run_server(
            InSandbox(Sandbox(None)), tree, models, load=["add_sub", "affine"], log=log, timeout=100
        )
    with start() as server:
        asked = {"X": Tensor("FP32", (1, 4), (1.0, 2.0, 3.0, 4.0))}
        print(Client(server.http_url).infer("affine", asked)["Y"].data)
        try:
            start().__enter__()
        except HostError as err:
            print("refused:", "another Triton server" in err.message)
        print("exit code:", server.ask_to_stop(30))
    print("left:", os.listdir("/dev/shm"), list(tree.rglob("__pycache__")))
"""


def test_server_runs_without_a_sandbox_and_leaves_nothing(
    wheel_build, wheel_build_root, tmp_path, require_or_skip
):
    """The board's case: tritonbuild itself runs as an arm64 program, in the board's root."""
    import requests

    tree = link_build(wheel_build, tmp_path / "work").tritonserver_dir
    # Bytecode that a build may bring along is not what is looked for.
    for folder in list(tree.rglob("__pycache__")):
        shutil.rmtree(folder)
    write_models(tmp_path / "models", ["python", "onnxruntime"])
    packages = Path(requests.__file__).parents[1]
    libraries = tmp_path / "libraries"
    for name in ("requests", "urllib3", "idna", "certifi", "charset_normalizer"):
        no_binaries = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(packages / name, libraries / name, ignore=no_binaries)
    shutil.copytree(Path(tritonbuild.__file__).parent, libraries / "tritonbuild")
    (libraries / "native.py").write_text(textwrap.dedent(NATIVE))
    argv = ["bwrap", "--ro-bind", wheel_build_root, "/", "--dev", "/dev", "--proc", "/proc",
            "--ro-bind", "/sys", "/sys", "--tmpfs", "/tmp", "--tmpfs", "/dev/shm",
            "--bind", tree, "/opt/tritonserver", "--ro-bind", tmp_path / "models", "/models",
            "--ro-bind", libraries, "/tmp/libraries", "--unshare-pid", "--die-with-parent",
            "--clearenv", "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "QEMU_CPU", "cortex-a76",
            "--setenv", "PYTHONPATH", "/tmp/libraries", "--setenv", "PYTHONDONTWRITEBYTECODE", "1",
            "/usr/bin/python3.11", "/tmp/libraries/native.py"]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, timeout=150, check=False)
    assert done.stdout.splitlines() == [
        "(3.0, -5.0, 6.75)", "refused: True", "exit code: 0", "left: [] []"
    ], done.stdout + done.stderr  # fmt: skip
