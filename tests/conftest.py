"""What all tests share: a clean environment, the command as users start it, and honest skips."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tritonbuild.executors.rootfs import find_root, root_spec_of
from tritonbuild.paths import Workspace, cache_dir
from tritonbuild.plan.model import read_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

REPOSITORY = Path(__file__).parents[1]

# Downloads and roots are found by their checksums, so tests may share them with the user.
_KEPT = ("TRITONBUILD_CACHE_DIR",)
# The user's own settings must not decide how a test ends.
_SCRUBBED_PREFIXES = ("TRITONBUILD_", "GIT_", "COVERAGE_PROCESS_START")


def pytest_configure() -> None:
    # A shell starts what it puts in the background deaf to Ctrl-C, which tests send to programs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in list(os.environ):
        if (
            name.startswith(_SCRUBBED_PREFIXES)
            and name not in _KEPT
            and not name.startswith("TRITONBUILD_TEST_")
        ):
            del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def _session_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep builds of session fixtures away from what tritonbuild remembers of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITONBUILD_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def state_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A memory of past builds for each test alone."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("TRITONBUILD_STATE_DIR", str(folder))
    return folder


def is_ci() -> bool:
    """Whether a missing part is a mistake of ours: the CI machine installs everything."""
    return os.environ.get("CI", "").lower() in {"true", "1"}


@pytest.fixture(scope="session")
def require_or_skip() -> Callable[[object, str], None]:
    """Return `check(condition, reason)`: skips a test on a user's machine, fails it in CI."""

    def check(condition: object, reason: str) -> None:
        if condition:
            return
        if is_ci():
            pytest.fail(f"CI must have this: {reason}")
        pytest.skip(reason)

    return check


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


def run_tritonbuild(
    *arguments: str | os.PathLike[str],
    cwd: Path,
    env: Mapping[str, str | None] | None = None,
    timeout: float = 120,
    prefix: Sequence[str] = (),
) -> Outcome:
    """Run the real command line in a process of its own.

    Args:
        arguments: What stands after `tritonbuild`.
        cwd: Working folder: `./recipes` and the remembered build are found from there.
        env: Added to the environment; None takes a variable away.
        timeout: Seconds.
        prefix: What stands in front, such as `setpriv ...`.
    """
    child_env = dict(os.environ)
    for name, value in (env or {}).items():
        if value is None:
            child_env.pop(name, None)
        else:
            child_env[name] = value
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "tritonbuild", *map(os.fspath, arguments)],
        cwd=cwd, env=child_env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def run_cli(tmp_path: Path) -> Callable[..., Outcome]:
    """Return a function that runs `tritonbuild ARGUMENTS` and returns (code, stdout, stderr).

    The working folder is the test's own unless `cwd` is given; see `run_tritonbuild`.
    """

    def run(*arguments: str | os.PathLike[str], **options: object) -> Outcome:
        return run_tritonbuild(*arguments, **{"cwd": tmp_path, **options})

    return run


@pytest.fixture(scope="session")
def session_cli() -> Callable[..., Outcome]:
    """Return `run_tritonbuild` for fixtures that live as long as the session; `cwd` is needed."""
    return run_tritonbuild


@pytest.fixture(scope="session")
def feature_table() -> dict[str, dict[str, str]]:
    """What docs/features.md says of each check: its result by release, `pass` or `skip: why`."""
    text = (REPOSITORY / "docs" / "features.md").read_text(encoding="utf-8")
    first, *_ = re.findall(r"^(?:\|.*\n)+", text, re.MULTILINE)
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in first.splitlines()
    ]
    releases = [title.removesuffix(" wheel") for title in head[3:]]
    return {
        check: dict(zip(releases, row[3:], strict=True))
        for row in rows
        for check in re.findall(r"`([a-z-]+)`", row[2])
    }


@pytest.fixture(scope="session")
def wheel_build(
    session_cli: Callable[..., Outcome],
    require_or_skip: Callable[[object, str], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Workspace:
    """A real build for Debian 12 from wheels, with every component; tests must not change it."""
    require_or_skip(shutil.which("mmdebstrap"), "mmdebstrap makes the board's root")
    folder = tmp_path_factory.mktemp("wheel-build")
    components = ("ensemble", "python", "onnxruntime", "rknn", "perf_analyzer")
    arguments = (
        "build", "--board", "orangepi5b", "--os", "debian-12", "--from", "wheel",
        *(word for name in components for word in ("--component", name)),
    )  # fmt: skip
    outcome = session_cli(*arguments, "--work-dir", folder / "work", cwd=folder, timeout=600)
    assert outcome.code == 0, outcome.stderr
    return Workspace(folder / "work")


@pytest.fixture(scope="session")
def wheel_build_root(wheel_build: Workspace) -> Path:
    """The arm64 root that the build was checked against."""
    plan = read_plan(wheel_build.plan_path.read_text(encoding="utf-8"), "plan.json")
    root = find_root(root_spec_of(plan.find_step("root")), cache_dir())
    assert root is not None
    return root.tree
