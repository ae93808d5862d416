"""`smoke --rknn --host`: the demo goes to a board over a real sshd, runs there, and leaves nothing.

The demo is a script that stands in for Rockchip's program, on a board without an NPU.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from boards import SSHD, make_build, run_board

RECORDING = Path(__file__).parents[1] / "recordings" / "rknn_yolov5_demo" / "sdk-1.5.2.txt"

# As the real one, it reads the classes' names from its current folder and wants its libraries named.
_DEMO = """\
#!/bin/sh
test -r model/coco_80_labels_list.txt || { echo "Open ./model/coco_80_labels_list.txt fail!"; exit 255; }
test -r "$LD_LIBRARY_PATH/librknnrt.so" || { echo "librknnrt.so: cannot open shared object file" >&2; exit 127; }
test "$#" = 2 && test -r "$1" && test -r "$2" || { echo "Usage: $0 <rknn model> <jpg> "; exit 255; }
echo "E RKNN: this line is of the library" >&2
pwd >>/opt/ran
cat "$1.txt"
"""


@pytest.fixture(scope="module", autouse=True)
def _tools(require_or_skip):
    require_or_skip(os.geteuid() == 0, "root, to make a board of namespaces")
    for program in (SSHD, "ssh", "rsync", "unshare"):
        require_or_skip(shutil.which(program), f"{program} is needed for a board here")


@pytest.fixture
def demo(tmp_path) -> Path:
    folder = tmp_path / "demo"
    (folder / "lib").mkdir(parents=True)
    (folder / "model" / "RK3588").mkdir(parents=True)
    (folder / "rknn_yolov5_demo").write_text(_DEMO)
    (folder / "rknn_yolov5_demo").chmod(0o755)
    (folder / "lib" / "librknnrt.so").write_bytes(b"librknnrt version: 1.5.2 (stand-in)")
    model = folder / "model" / "RK3588" / "yolov5s-640-640.rknn"
    model.write_bytes(b"RKNN" + bytes(4) + bytes([6]) + bytes(55))
    Path(f"{model}.txt").write_text(RECORDING.read_text())
    (folder / "model" / "coco_80_labels_list.txt").write_text("person\nbus\n")
    (folder / "model" / "bus.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture
def board(tmp_path):
    with run_board(tmp_path / "board") as board:
        yield board


def test_demo_runs_on_the_board_and_leaves_nothing(board, demo, run_cli, tmp_path):
    ws = make_build(tmp_path / "work", board="orangepi5b")
    work = ("--work-dir", ws.root)
    sent = run_cli("deploy", "board", *work, "--no-smoke", env=board.env)
    assert sent.code == 0, sent.stderr
    smoke = ("smoke", "--rknn", *work, "--host", "board", "--demo", demo)
    refused = run_cli(*smoke, env=board.env)
    assert refused.code == 10
    assert "no rk3588 here" in refused.stderr
    assert not (board.opt / "ran").exists(), "nothing runs where nothing can work"

    outcome = run_cli(*smoke, "--no-preflight", "--json", env=board.env)
    found = json.loads(outcome.stdout)
    results = {result["name"]: result["status"] for result in found["results"]}
    assert results["rknn-demo"] == "pass", outcome.stderr
    assert results["rknn-triton"] == "warn", "no picture, no request"
    assert results["rknn-errors"] == "warn"
    assert "Triton was not asked" in outcome.stderr
    assert outcome.code == 0, outcome.stderr
    (folder,) = (board.opt / "ran").read_text().split()
    assert folder.startswith("/tmp/tritonbuild-smoke.")
    assert not Path(folder).exists()


# As the real one where the NPU does not run the model: it goes on with outputs that are not there.
_CRASH = """
#include <signal.h>
#include <stdio.h>
int main(void) {
  puts("Loading mode...");
  puts("E RKNN: [08:24:12.287] failed to submit!, op id: 1");
  raise(SIGSEGV);
}
"""


def test_crash_of_the_demo_is_told_with_what_it_said_before(
    board, demo, run_cli, tmp_path, require_or_skip
):
    compiler = shutil.which("gcc")
    require_or_skip(compiler, "gcc")
    ws = make_build(tmp_path / "work", board="orangepi5b")
    work = ("--work-dir", ws.root)
    assert run_cli("deploy", "board", *work, "--no-smoke", env=board.env).code == 0
    program = demo / "rknn_yolov5_demo"
    compile_it = [compiler, "-x", "c", "-", "-o", str(program)]
    subprocess.run(compile_it, input=_CRASH, text=True, check=True)
    smoke = ("smoke", "--rknn", *work, "--host", "board", "--demo", demo, "--no-preflight")
    outcome = run_cli(*smoke, env=board.env)
    assert outcome.code == 10
    assert "SIGSEGV, as it does where the NPU does not run the model" in outcome.stderr
    assert "librknnrt.so says: failed to submit!" in outcome.stderr


def test_board_that_another_build_is_on_is_refused(board, demo, run_cli, tmp_path):
    ws = make_build(tmp_path / "work", board="orangepi5b")
    outcome = run_cli(
        "smoke", "--rknn", "--work-dir", ws.root, "--host", "board", "--demo", demo, env=board.env
    )
    assert outcome.code == 2
    assert "has no build of tritonbuild's" in outcome.stderr
