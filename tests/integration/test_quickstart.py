"""The quickstart as its page tells it: a model repository, a server, a picture classified.

The commands are those of docs/quickstart.md, in its order, at the release that it names.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.emulation, pytest.mark.network]

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"
BLOCK = re.compile(
    r"^<!-- test: quickstart -->\n+```(?:sh|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def read_commands() -> list[tuple[str, list[str]]]:
    """Return each command of the page that is marked for this test, and what must be printed."""
    found = []
    for text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        shown: list[str] = []
        for line in text.splitlines():
            if line.startswith("$ ") or not text.startswith("$ "):
                shown = []
                found.append((line.removeprefix("$ "), shown))
            else:
                shown.append(line)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory, emulation):
    """Where the reader is: nothing in it but what the commands make."""
    return tmp_path_factory.mktemp("quickstart")


def make_env(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "TRITONBUILD_STATE_DIR": str(folder / "state")}


def run(command: str, folder: Path) -> str:
    done = subprocess.run(
        shlex.split(command), cwd=folder, env=make_env(folder), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def answers(folder):
    """What each command printed, by the page: all are run once, the server beside the client."""
    printed = {}
    server = None
    log = folder / "serve.txt"
    try:
        for command, _ in read_commands():
            if command.startswith("tritonbuild serve"):
                with log.open("wb") as sink:
                    server = subprocess.Popen(
                        shlex.split(command), cwd=folder, env=make_env(folder), stdout=sink,
                        stderr=sink, stdin=subprocess.DEVNULL,
                    )  # fmt: skip
                deadline = time.monotonic() + 120
                while "ready after" not in log.read_text():
                    assert server.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.1)
                printed[command] = log.read_text()
            else:
                printed[command] = run(command, folder)
        assert server is not None
        server.send_signal(signal.SIGINT)
        printed["Ctrl-C"] = f"exit code {server.wait(30)}\n{log.read_text()}"
        yield printed
    finally:
        if server is not None and server.poll() is None:
            server.kill()
            server.wait()


def test_picture_is_classified_as_the_page_shows(answers):
    (command, shown), *_ = [one for one in read_commands() if "image_client" in one[0]]
    lines = answers[command].splitlines()
    assert lines[0] == shown[0]
    found, expected = (
        {name: float(score) for score, name in (line.split(maxsplit=1) for line in block[1:])}
        for block in (lines, shown)
    )
    assert found == pytest.approx(expected, abs=1e-3), lines
    assert lines[1].split(maxsplit=1)[1] == shown[1].split(maxsplit=1)[1] == "(1) = 90"


def test_ctrl_c_ends_the_server_and_leaves_nothing(answers, folder):
    assert answers["Ctrl-C"].startswith("exit code 0"), answers["Ctrl-C"]
    assert "stopped" in answers["Ctrl-C"]
    tree = str(folder / "build")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            assert tree not in (process / "cmdline").read_text()
        except OSError:
            continue


def test_repository_is_made_again_without_a_change(answers, folder):
    (command,) = [one for one, _ in read_commands() if "fetch-models" in one]
    before = sorted(path.stat().st_mtime_ns for path in (folder / "quickstart/models").rglob("*"))
    assert "is there already" in run(command, folder)
    after = sorted(path.stat().st_mtime_ns for path in (folder / "quickstart/models").rglob("*"))
    assert before == after


@pytest.mark.timeout(600)  # a whole smoke test, after the build of another release
def test_features_of_this_release_are_as_documented(answers, folder, feature_table):
    """The column of r24.01; that of r23.12 is compared in test_smoke.py."""
    done = subprocess.run(
        ["tritonbuild", "smoke", "--json"], cwd=folder, env=make_env(folder), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False, timeout=500,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["server_version"] == "2.42.0"
    found = {result["name"]: result["status"] for result in report["results"]}
    said = {check: results["r24.01"].split(":")[0] for check, results in feature_table.items()}
    assert said == {check: found.get(check) for check in said}, report
    assert done.returncode == 0
