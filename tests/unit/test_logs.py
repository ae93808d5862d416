"""logs: what is listed, what is printed, and how a step is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from tritonbuild.engine.state import Done, write_done
from tritonbuild.paths import Workspace
from tritonbuild.plan.model import Executor, Plan, Selection, Step, StepKind
from tritonbuild.recipe.fields import ProviderKind

CHOSEN = Selection(
    board="b", arch="arm64", os="o", release="r", provider=ProviderKind.SOURCE,
    executor=Executor.NATIVE, components=("core",), added={}, mirror="upstream", settings=(),
)  # fmt: skip
STEPS = (
    Step("fetch-core", StepKind.FETCH, "fetch core", "w", "core"),
    Step("build-core", StepKind.BUILD, "build core", "w", "core"),
    Step("build-python", StepKind.BUILD, "build python", "w", "python"),
    Step("assemble", StepKind.ASSEMBLE, "assemble", "w"),
)


@pytest.fixture
def ws(tmp_path) -> Workspace:
    """One step done, one failed, two to come."""
    ws = Workspace(tmp_path / "work dir")
    ws.make()
    ws.plan_path.write_text(Plan("0", CHOSEN, STEPS, {}, (), (), ()).to_json())
    (ws.logs_dir / "01-fetch-core.log").write_text("Cloning into 'core'...\n")
    write_done(ws.state_dir / "01-fetch-core.json", Done("key", {}, 12.34))
    log = ws.logs_dir / "02-build-core.log"
    log.write_text("+ ninja -j4\n[1/9] c++ a.cc\nFAILED: a.o\na.cc:1:1: error: nope\n")
    log.with_suffix(".json").write_text(json.dumps({"argv": ["bash"], "seconds": 5.0}))
    failed = {"step": "02-build-core", "returncode": 3, "script": "x", "log": str(log)}
    ws.failed_path.write_text(json.dumps(failed))
    return ws


@pytest.fixture
def logs(ws, run_cli):
    def run(*arguments, **options):
        return run_cli("logs", *arguments, "--work-dir", ws.root, **options)

    return run


def test_steps_are_listed_with_state_time_and_size(logs, ws):
    done = logs()
    assert done.code == 0, done.stderr
    lines = [line.split(maxsplit=4) for line in done.stdout.splitlines()]
    assert lines[0] == ["STEP", "STATE", "SECONDS", "SIZE", "LOG"]
    assert lines[1][:3] == ["01-fetch-core", "done", "12.3"]
    assert lines[2][:3] == ["02-build-core", "failed", "5.0"]
    assert lines[3] == ["03-build-python", "-"]
    assert str(ws.logs_dir / "02-build-core.log") in done.stdout


def test_list_as_json(logs, ws):
    steps = json.loads(logs("--json").stdout)
    assert [step["state"] for step in steps] == ["done", "failed", "-", "-"]
    assert steps[1] == {
        "name": "02-build-core",
        "state": "failed",
        "seconds": 5.0,
        "size": (ws.logs_dir / "02-build-core.log").stat().st_size,
        "log": str(ws.logs_dir / "02-build-core.log"),
        "script": str(ws.scripts_dir / "02-build-core.sh"),
    }
    assert json.loads(logs("build-core", "--json").stdout) == steps[1]


@pytest.mark.parametrize("name", ["1", "01", "fetch-core", "01-fetch-core", "fetch", "f", "01-f"])
def test_log_is_printed_by_number_id_name_or_start(logs, name):
    assert logs(name) == (0, "Cloning into 'core'...\n", "")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("fetch-cor3", 'no step "fetch-cor3"; did you mean "fetch-core"?', id="typo"),
        pytest.param("build", "is the start of 02-build-core, 03-build-python", id="two"),
        pytest.param("9", 'no step "9"', id="number"),
        pytest.param("", 'no step ""', id="nothing"),
    ],
)
def test_name_that_means_no_step_or_several_is_a_usage_error(logs, name, said):
    done = logs(name)
    assert done.code == 2
    assert said in done.stderr


def test_step_without_log_is_nothing_to_do(logs):
    done = logs("build-python")
    assert done.code == 3
    assert "03-build-python has no log: it has not run" in done.stderr


def test_failed_says_why(logs, ws):
    done = logs("--failed")
    assert done.code == 0
    assert done.stdout.splitlines()[:5] == [
        "step 02-build-core failed: build core",
        "  command: ninja -j4",
        "  exit code 3",
        "  | FAILED: a.o",
        "  | a.cc:1:1: error: nope",
    ]
    content = json.loads(logs("--failed", "--json").stdout)
    assert content["returncode"] == 3
    assert content["lines"] == ["FAILED: a.o", "a.cc:1:1: error: nope"]
    assert content["causes"] == []


def test_failed_uses_the_users_rules(logs, tmp_path):
    rules = tmp_path / "mine" / "failures" / "house.yaml"
    rules.parent.mkdir(parents=True)
    rules.write_text(
        "name: house\nsummary: ours\nrules:\n  - {name: nope, pattern: 'error: nope', "
        "cause: It says no., action: Ask again., examples: ['error: nope']}\n"
    )
    done = logs("--failed", "--recipes", rules.parents[1])
    assert "  cause: It says no.\n  do: Ask again.\n" in done.stdout
    assert (
        json.loads(logs("--failed", "--json", "--recipes", rules.parents[1]).stdout)["causes"][0][
            "rule"
        ]
        == "nope"
    )


def test_nothing_failed_is_nothing_to_do(logs, ws):
    ws.failed_path.unlink()
    assert logs("--failed").code == 3


@pytest.mark.parametrize("content", ["", "[]", '{"step": "99-gone", "returncode": 1}', "{}"])
def test_broken_note_of_a_failure_is_as_good_as_none(logs, ws, content):
    ws.failed_path.write_text(content)
    assert logs("--failed").code == 3
    assert json.loads(logs("--json").stdout)[1]["state"] == "stopped"


def test_options_that_do_not_go_together(logs):
    assert logs("--failed", "build-core").code == 2
    assert logs("--failed", "--follow").code == 2


def test_bytes_that_are_no_text_do_not_stop_it(logs, ws):
    (ws.logs_dir / "01-fetch-core.log").write_bytes(b"\xff\xfe caf\xc3\xa9\n")
    assert logs("1").stdout == "\ufffd\ufffd café\n"


def test_reader_that_has_seen_enough_is_no_error(ws):
    log = ws.logs_dir / "01-fetch-core.log"
    log.write_text("a line\n" * 1_000_000)
    command = f"{sys.executable} -m tritonbuild logs 1 --work-dir '{ws.root}' | head -2"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.stdout == "a line\na line\n"
    assert done.stderr == ""


def start_following(ws, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "tritonbuild", "logs", "-f", *arguments, "--work-dir", ws.root],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [(), ("build-python",)])
def test_follow_goes_on_until_the_step_ends(ws, arguments):
    (ws.root / ".lock.holder").write_text(json.dumps({"pid": os.getpid()}))
    log = ws.logs_dir / "03-build-python.log"
    with log.open("w") as file:
        file.write("one\n")
        file.flush()
        with start_following(ws, *arguments) as follower:
            assert follower.stdout.readline() == "one\n"
            file.write("tw")
            file.flush()
            time.sleep(0.5)
            file.write("o\nthree")
            file.flush()
            assert follower.stdout.readline() == "two\n"
            write_done(ws.state_dir / "03-build-python.json", Done("key", {}, 1.0))
            assert follower.stdout.read() == "three\n"
    assert follower.returncode == 0


def test_follow_ends_when_the_build_was_killed(ws):
    child = subprocess.Popen(["sleep", "60"])
    (ws.root / ".lock.holder").write_text(json.dumps({"pid": child.pid}))
    (ws.logs_dir / "03-build-python.log").write_text("one\n")
    with start_following(ws) as follower:
        assert follower.stdout.readline() == "one\n"
        child.kill()
        child.wait()
        assert follower.wait(10) == 0


def test_follow_without_a_running_step_is_nothing_to_do(logs):
    assert logs("--follow").code == 3
    assert logs("--follow", "fetch-core") == (0, "Cloning into 'core'...\n", "")
