"""The commands of a workflow, taken from it and run here in their order.

What a service does itself (checkout, caches, uploads) is not here, nor what changes the runner.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.emulation, pytest.mark.network, pytest.mark.timeout(600)]

CHECKOUT = Path(__file__).parents[2]
BOARD = "orangepi5b"
# Few components: what is under test are the steps.
OPTIONS = ("--board", BOARD, "--os", "debian-12", "--from", "wheel", "-c", "python")
# Those of a job on GitHub that belong to tritonbuild, in their order.
STEPS = ["Install tritonbuild", "Prepare", "Build", "Smoke test", "Package", "Report"]


@dataclass
class Runner:
    """A folder with a repository, and what a service gives its jobs."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        return (self.folder / "summary").read_text(encoding="utf-8")

    @property
    def out_dir(self) -> Path:
        return self.folder / "build/tritonserver/out"

    def read_workflow(self, name: str):
        return yaml.safe_load((self.folder / name).read_text(encoding="utf-8"))

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script as GitHub does with `shell: bash`, and take what it puts on the PATH."""
        argv = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        done = subprocess.run(
            argv, cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False, timeout=400,
        )  # fmt: skip
        added = (self.folder / "path").read_text(encoding="utf-8").split()
        (self.folder / "path").write_text("")
        self.env["PATH"] = ":".join([*reversed(added), self.env["PATH"]])
        return done

    def check_packages(self) -> None:
        """Check that there is a package, that it is the one of its checksum, and in the report."""
        (package,) = self.out_dir.glob(f"tritonserver-*-{BOARD}-*.tar.zst")
        argv = ["sha256sum", "--check", "--quiet", f"{package.name}.sha256"]
        subprocess.run(argv, cwd=self.out_dir, check=True)
        report = (self.folder / "build/report.md").read_text(encoding="utf-8")
        assert f"## Triton for {BOARD}\n" in report
        assert "ELF files checked" in report
        assert str(package) in report
        checks = (self.folder / "build/smoke.txt").read_text(encoding="utf-8")
        assert " pass " in checks
        assert " fail " not in checks
        assert checks in report


@pytest.fixture(scope="module")
def runner(tmp_path_factory, session_cli, require_or_skip) -> Runner:
    """A repository with both workflows, where tritonbuild is not installed yet."""
    for program in ("mmdebstrap", "bwrap"):
        require_or_skip(shutil.which(program), f"needs {program}")
    binfmt = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists()
    require_or_skip(binfmt or os.uname().machine == "aarch64", "needs QEMU with binfmt")
    folder = tmp_path_factory.mktemp("runner")
    argv = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", CHECKOUT]
    subprocess.run(argv, cwd=folder, check=True)
    (wheel,) = folder.glob("tritonbuild-*.whl")
    for service in ("github", "gitlab"):
        outcome = session_cli("ci", service, *OPTIONS, "--install", wheel, cwd=folder)
        assert outcome.code == 0, outcome.stderr
    for name in ("path", "summary", "runner-temp"):
        (folder / name).mkdir() if name == "runner-temp" else (folder / name).touch()
    # Dependencies are lent by this environment; pip is not to fetch them.
    env = os.environ | {
        "BOARD": BOARD, "GITHUB_PATH": str(folder / "path"), "PIP_NO_DEPS": "1",
        "GITHUB_STEP_SUMMARY": str(folder / "summary"), "GITHUB_REF_TYPE": "branch",
        "RUNNER_TEMP": str(folder / "runner-temp"),
    }  # fmt: skip
    return Runner(folder, env)


def test_steps_of_github(runner):
    job = runner.read_workflow(".github/workflows/tritonserver.yml")["jobs"]["build"]
    scripts = {step["name"]: step["run"] for step in job["steps"] if "run" in step}
    assert [name for name in scripts if name in STEPS] == STEPS
    for name in STEPS:
        done = runner.run(scripts[name])
        assert done.returncode == 0, f"{name}\n{done.stdout}{done.stderr}"
        if name == "Install tritonbuild":
            base = runner.folder / "runner-temp/tritonbuild"
            site = Path(sysconfig.get_path("purelib", vars={"base": str(base)}))
            (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
            assert shutil.which("tritonbuild", path=runner.env["PATH"]) == f"{base}/bin/tritonbuild"
    runner.check_packages()
    assert runner.summary == (runner.folder / "build/report.md").read_text(encoding="utf-8")


def test_script_of_gitlab(runner):
    """After GitHub's, in the same folder: what is built is kept.

    The server is not run again under emulation: that command is GitHub's, word for word.
    """
    steps = runner.read_workflow(".github/workflows/tritonserver.yml")["jobs"]["build"]["steps"]
    (smoke,) = [step["run"] for step in steps if step.get("name") == "Smoke test"]
    shutil.rmtree(runner.out_dir, ignore_errors=True)
    job = runner.read_workflow(".gitlab-ci.yml")["build"]
    script = list(job["script"])
    script.remove(smoke)
    done = runner.run("\n".join(script))
    assert done.returncode == 0, done.stdout + done.stderr
    # The folder of the job's image is not there; the program is on the PATH.
    done = runner.run("\n".join(job["after_script"]))
    assert done.returncode == 0, done.stdout + done.stderr
    runner.check_packages()


def test_failure_passes_through_and_is_reported(runner):
    """`| tee` swallows no exit code, and the report says what there is to say."""
    job = runner.read_workflow(".github/workflows/tritonserver.yml")["jobs"]["build"]
    scripts = {step["name"]: step["run"] for step in job["steps"] if "run" in step}
    shutil.rmtree(runner.folder / "build")
    failing = Runner(runner.folder, runner.env | {"BOARD": "no-such-board"})
    assert failing.run(scripts["Build"]).returncode == 2
    assert failing.run(scripts["Smoke test"]).returncode == 2
    done = failing.run(scripts["Report"])
    assert done.returncode == 0, done.stderr
    assert failing.summary.endswith("## Triton for no-such-board\n")
