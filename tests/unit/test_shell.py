"""shell: exactly the environment of a step's script, in the step's folder."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time

import pytest

from tritonbuild.paths import Workspace
from tritonbuild.plan.model import Command, Executor, Plan, Selection, Step, StepKind
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.render.script import render_script

CHOSEN = Selection(
    board="b", arch="arm64", os="o", release="r", provider=ProviderKind.SOURCE,
    executor=Executor.NATIVE, components=("core",), added={}, mirror="upstream", settings=(),
)  # fmt: skip
NAME = "02-build-core"
ENVIRONMENT = {
    "TB_PLAIN": "value",
    "TB_HOSTILE": "$(touch /tmp/tritonbuild-was-here) `id` \"quoted\" 'single' \\ !x;\nline two",
    "TB_BYTES": "größe",
    "CXXFLAGS": "-O2 -ffile-prefix-map=/a b=/c",
    "PATH": f"/opt/first:{os.environ['PATH']}",
}


@pytest.fixture
def ws(tmp_path) -> Workspace:
    """A work directory in which the second step failed; it works in a folder with a blank."""
    ws = Workspace(tmp_path / "work dir")
    ws.make()
    folder = ws.root / "build" / "core"
    folder.mkdir(parents=True)
    commands = (
        Command(("cd", str(folder))),
        Command(("bash", "-c", "env -0 > 'the environment'; pwd; umask; exit 3")),
        Command(("cd", str(folder / "not there yet"))),
    )
    steps = (
        Step("fetch-core", StepKind.FETCH, "fetch core", "w", "core"),
        Step("build-core", StepKind.BUILD, "build core", "w", "core", commands=commands),
        Step("build-python", StepKind.BUILD, "build python", "w", "python"),
    )
    ws.plan_path.write_text(Plan("0", CHOSEN, steps, {}, (), (), ()).to_json())
    script = ws.scripts_dir / f"{NAME}.sh"
    script.write_text(render_script(steps[1], NAME, ENVIRONMENT))
    failed = {"step": NAME, "returncode": 3, "script": str(script), "log": "x"}
    ws.failed_path.write_text(json.dumps(failed))
    return ws


@pytest.fixture
def shell(ws, run_cli):
    def run(*arguments, **options):
        return run_cli("shell", "--work-dir", ws.root, *arguments, **options)

    return run


def parse_environment(data: str) -> dict[str, str]:
    found = dict(entry.split("=", 1) for entry in data.split("\0") if "=" in entry)
    # bash's own, and what says in which process we are.
    for name in ("_", "SHLVL", "OLDPWD", "PWD", "BASH_ENV"):
        found.pop(name, None)
    return found


@pytest.mark.parametrize("step", ["--failed", "build-core", "2"])
def test_command_sees_what_the_script_sees(shell, ws, step):
    done = shell(step, "--", "env", "-0", env={"LEAKED": "from outside", "TB_PLAIN": "other"})
    assert done.code == 0, done.stderr
    seen = parse_environment(done.stdout)
    for name, value in ENVIRONMENT.items():
        assert seen[name] == value
    assert "LEAKED" not in seen
    subprocess.run(
        ["env", "-i", *(f"{n}={v}" for n, v in seen.items() if n not in ENVIRONMENT),
         "bash", ws.scripts_dir / f"{NAME}.sh"], capture_output=True, check=False,
    )  # fmt: skip
    written = (ws.root / "build" / "core" / "the environment").read_text()
    assert parse_environment(written) == seen
    assert not os.path.exists("/tmp/tritonbuild-was-here")  # noqa: PTH110


def test_command_runs_in_the_steps_folder_with_its_umask(shell, ws):
    done = shell("--failed", "--", "bash", "-c", "pwd; umask")
    assert done.stdout == f"{ws.root / 'build' / 'core'}\n0022\n"


def test_folder_that_is_gone_is_no_obstacle(shell, ws):
    (ws.root / "build" / "core").rmdir()
    assert shell("--failed", "--", "pwd").stdout == f"{ws.root}\n"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param(("bash", "-c", "exit 42"), 42, id="code"),
        pytest.param(("true",), 0, id="ok"),
        pytest.param(("no-such-program",), 127, id="missing"),
        pytest.param(("bash", "-c", "kill -TERM $$"), 143, id="signal"),
        pytest.param(("printf", "%s", "a b", "-x"), 0, id="arguments"),
    ],
)
def test_exit_code_is_the_commands(shell, command, code):
    assert shell("--failed", "--", *command).code == code


def test_ctrl_c_is_the_commands(shell):
    """A debugger lives on; the terminal sends the signal to both of us."""
    done = shell("--failed", "--", "bash", "-c", "kill -INT $PPID; sleep 0.5; echo still here")
    assert (done.code, done.stdout) == (0, "still here\n")


def test_arguments_stay_arguments(shell):
    done = shell("--failed", "--", "printf", "<%s>", "a b", "--failed", "$HOME", ";")
    assert done.stdout == "<a b><--failed><$HOME><;>"


def test_nothing_is_left_behind(shell, tmp_path):
    shell("--failed", "--", "true", env={"TMPDIR": str(tmp_path)})
    assert not list(tmp_path.glob("tritonbuild-shell-*"))


def test_without_a_terminal_a_command_is_needed(shell):
    done = shell("--failed")
    assert done.code == 2
    assert "tritonbuild shell 02-build-core -- env" in done.stderr


def test_step_must_be_named_and_have_a_script(shell, ws):
    assert shell().code == 2
    assert shell("nonsense").code == 2
    done = shell("build-python", "--", "true")
    assert done.code == 3
    assert "03-build-python has no script" in done.stderr
    ws.failed_path.unlink()
    assert shell("--failed", "--", "true").code == 3


def test_interactive_shell_says_where_it_is(ws):
    argv = [sys.executable, "-m", "tritonbuild", "shell", "--failed", "--work-dir", str(ws.root)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "dumb"
        os.execv(sys.executable, argv)
    try:
        said = read_until(terminal, "(02-build-core) ")
        os.write(terminal, b"echo [$TB_PLAIN] [$PWD]; exit\n")
        said += read_until(terminal, None)
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert "The environment of 02-build-core." in said
    assert str(ws.scripts_dir / f"{NAME}.sh") in said
    assert str(ws.logs_dir / f"{NAME}.log") in said
    assert f"[value] [{ws.root / 'build' / 'core'}]" in said
    assert os.waitstatus_to_exitcode(status) == 0


def read_until(terminal: int, wanted: str | None) -> str:
    """Read what a terminal shows until it shows `wanted`, or until its program has ended."""
    text = ""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            block = os.read(terminal, 4096)
        except OSError:  # nobody has the other end any more
            return text
        text += block.decode(errors="replace")
        if not block or (wanted is not None and wanted in text):
            return text
    pytest.fail(f"waited for {wanted!r}, saw {text!r}")
