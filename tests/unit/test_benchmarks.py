"""The benchmarks run and say what docs/benchmarks.md promises; their figures are not judged."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tritonbuild.arch import Arch
from tritonbuild.executors.sandbox import find_binfmt, needs_root
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Request, Step
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import RecipeBook

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "benchmarks" / "run.py"
DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"


def run_benchmarks(*arguments, check=True, timeout=240):
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """What `--quick --only cli plan` prints, and what it writes."""
    path = tmp_path_factory.mktemp("figures") / "figures.json"
    done = run_benchmarks("--quick", "--only", "cli", "plan", "--json", path)
    return done.stdout, json.loads(path.read_text(encoding="utf-8"))


def check_documented(table):
    """Every figure's name is explained in the documentation."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert f"`{table['name']}`" in text
    missing = {column for row in table["rows"] for column in row if f"`{column}`" not in text}
    assert not missing, f"docs/benchmarks.md lacks columns of {table['name']}"


def test_quick_run_has_machine_figures_and_aims(figures):
    printed, content = figures
    assert content["version"] == 1
    assert content["quick"] is True
    assert set(content["measurements"]) == {"cli", "plan"}
    for fact in ("processor", "cores", "memory", "system", "Python", "emulation", "load"):
        assert content["machine"][fact]
        assert re.search(rf"^{fact} ", printed, re.MULTILINE)
    assert {aim["what"]: aim["limit"] for aim in content["aims"]} == {
        "tritonbuild --version": 100,
        "tritonbuild plan --board orangepi5b": 300,
    }
    assert all(aim["met"] == (aim["measured"] < aim["limit"]) for aim in content["aims"])


def test_command_figures_are_ratios_to_bare_python(figures):
    _, content = figures
    rows = {row["command"]: row for row in content["measurements"]["cli"]["rows"]}
    bare = rows["python -c pass"]
    assert bare["x_bare_python"] == 1
    plan = rows["tritonbuild plan --board orangepi5b"]
    assert plan["median_ms"] > bare["median_ms"] > 0
    assert plan["x_bare_python"] == pytest.approx(plan["median_ms"] / bare["median_ms"], rel=0.05)
    check_documented(content["measurements"]["cli"])


def test_plan_figures_are_of_every_component(figures):
    _, content = figures
    rows = content["measurements"]["plan"]["rows"]
    assert {(row["shape"], row["components"]) for row in rows} == {
        (shape, count) for shape in ("independent", "chain") for count in (3, 10)
    }
    for row in rows:
        # Fetch, configure, build and install of each and of the core; the core's three patches;
        # sources, their check, assembly and verification.
        assert row["steps"] == 4 * (row["components"] + 1) + 3 + 4
        assert row["command_ms"] > row["plan_ms"] > 0
    check_documented(content["measurements"]["plan"])


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--only", "nothing"), id="unknown-name"),
        pytest.param(("--repeat", "0"), id="no-rounds"),
    ],
)
def test_wrong_options_are_refused(arguments):
    done = run_benchmarks(*arguments, check=False)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert done.stdout == ""


def test_what_cannot_be_measured_is_said_and_fails(tmp_path):
    env = os.environ | {"TRITONBUILD_CACHE_DIR": str(tmp_path / "file" / "cache")}
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--only", "inference"],
        env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "cannot make the folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_steps_are_found_without_comparing_them_all(monkeypatch):
    """A plan of N steps is printed in time that grows as N, not as its square."""
    book = RecipeBook.open()
    plan = make_plan(book, Request("orangepi5b", provider=ProviderKind.SOURCE))
    names = [f"{number:02d}-{step.id}" for number, step in enumerate(plan.steps, start=1)]

    def compare(self, other):
        pytest.fail("steps are compared")

    monkeypatch.setattr(Step, "__eq__", compare)
    assert [plan.name_of(step) for step in plan.steps] == names
    assert [plan.find_step(step.id).id for step in plan.steps] == [step.id for step in plan.steps]


@pytest.fixture
def emulation(require_or_skip):
    require_or_skip(shutil.which("mmdebstrap"), "mmdebstrap makes the board's root")
    require_or_skip(shutil.which("bwrap"), "bubblewrap runs the server in a sandbox")
    binfmt = find_binfmt(Arch.ARM64) or not needs_root(Arch.ARM64)
    require_or_skip(binfmt, "binfmt_misc hands arm64 programs to QEMU")


@pytest.mark.emulation
@pytest.mark.network
def test_server_is_measured_against_direct_calls(emulation, tmp_path):
    path = tmp_path / "figures.json"
    run_benchmarks("--quick", "--only", "inference", "--json", path)
    table = json.loads(path.read_text(encoding="utf-8"))["measurements"]["inference"]
    ways = {(row["way"], row["processes"], row["clients"]): row for row in table["rows"]}
    loads = ((1, 1), (2, 2), (2, 4))
    expected = {("direct", 1, None), ("direct", 2, None)}
    assert set(ways) == expected | {(way, *load) for way in ("http", "grpc") for load in loads}
    for row in ways.values():
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["per_s"] > 0
    assert ways["direct", 1, None]["per_s_x_direct"] == 1
    check_documented(table)


@pytest.mark.emulation
@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "sign"),
    [
        pytest.param("start", "*/cache/roots/.new-*", id="while-a-root-is-made"),
        pytest.param("inference", "*/server.log", id="while-a-server-starts"),
    ],
)
def test_nothing_is_left_when_it_is_stopped(name, sign, emulation, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    child = subprocess.Popen(
        [sys.executable, SCRIPT, "--quick", "--only", name],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(sign)) and time.monotonic() < deadline:
            assert child.poll() is None, "it ended too early"
            time.sleep(0.1)
        assert find_users(tmp_path)
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 128 + signal.SIGTERM
    finally:
        child.kill()
        child.wait()
    assert list(tmp_path.iterdir()) == []
    # The kernel ends what is in a namespace right after the first process of it.
    deadline = time.monotonic() + 5
    while find_users(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert find_users(tmp_path) == []


def find_users(folder):
    """Return the command lines of all processes that were started for `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found
