"""serve: the server of a build in the foreground, with models that nobody here knows."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import find_port

from tritonbuild.smoke.client import Client, Tensor
from tritonbuild.smoke.models import write_models

pytestmark = [pytest.mark.emulation, pytest.mark.usefixtures("emulation")]

ASKED = {
    "INPUT0": Tensor("FP32", (4,), (1.0, 2.0, 3.0, 4.0)),
    "INPUT1": Tensor("FP32", (4,), (4.0, 3.0, 2.0, 1.0)),
}


@pytest.fixture
def start(wheel_build, tmp_path):
    """Return a function that starts `serve` on free ports: (process, its output's file, port)."""
    started = []

    def run(models: Path):
        ports = [find_port() for _ in range(3)]
        said = tmp_path / "serve.txt"
        argv = [sys.executable, "-m", "tritonbuild", "serve", models, "--work-dir",
                wheel_build.root, "--http-port", ports[0], "--grpc-port", ports[1],
                "--metrics-port", ports[2]]  # fmt: skip
        with said.open("wb") as sink:
            started.append(
                subprocess.Popen(
                    list(map(str, argv)),
                    cwd=tmp_path,
                    stdout=sink,
                    stderr=sink,
                    stdin=subprocess.DEVNULL,
                )
            )
        return started[-1], said, ports[0]

    yield run
    for child in started:
        child.kill()
        child.wait()


def write_add_sub(folder: Path) -> Path:
    """Write a model repository with one model."""
    write_models(folder / "all", ["python"])
    (folder / "models").mkdir()
    (folder / "all" / "add_sub").rename(folder / "models" / "mine")
    return folder / "models"


def find_servers(port: int) -> list[str]:
    """Return the processes that were given a port."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int(process.name) != os.getpid() and f"={port}\0" in (process / "cmdline").read_text(
                errors="replace"
            ):
                found.append(process.name)
        except OSError:
            continue
    return found


def test_models_are_served_until_sigterm(start, tmp_path):
    child, said, port = start(write_add_sub(tmp_path))
    deadline = time.monotonic() + 100
    while "ready after" not in said.read_text():
        assert child.poll() is None, said.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert Client(f"http://127.0.0.1:{port}").infer("mine", ASKED)["OUTPUT0"].data == (5.0,) * 4
    assert find_servers(port)
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 143
    deadline = time.monotonic() + 10
    while find_servers(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert find_servers(port) == []


def test_model_that_cannot_be_loaded_ends_it_with_the_reason(start, tmp_path):
    models = write_add_sub(tmp_path)
    (models / "mine" / "1" / "model.py").write_text("raise ValueError('mine is broken')\n")
    child, said, _ = start(models)
    assert child.wait(100) == 10
    assert "mine is broken" in said.read_text()
    assert "serve.log" in said.read_text()


def test_taken_port_is_told_before_anything_starts(run_cli, wheel_build, tmp_path):
    taken = find_port()
    for option in ("--http-port", "--grpc-port", "--metrics-port"):
        ports = {name: find_port() for name in ("--http-port", "--grpc-port", "--metrics-port")}
        ports[option] = taken
        others = [str(part) for pair in ports.items() for part in pair]
        with socket.create_server(("127.0.0.1", taken)):
            done = run_cli("serve", tmp_path, "--work-dir", wheel_build.root, *others)
        assert done.code == 4
        assert f"port {taken} of 127.0.0.1 cannot be used" in done.stderr
        assert f"choose another {option}" in done.stderr


def test_what_is_missing_is_told(run_cli, wheel_build, tmp_path):
    done = run_cli("serve", tmp_path / "none", "--work-dir", wheel_build.root)
    assert done.code == 2
    assert "fetch-models" in done.stderr
    done = run_cli("serve", tmp_path, "--work-dir", tmp_path)
    assert done.code == 2
    assert "tritonbuild build" in done.stderr
