"""The stand-ins of upstream's repositories, and a native build of them that tests share."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tritonbuild.arch import Arch
from tritonbuild.errors import HostError
from tritonbuild.executors.rootfs import Root, RootSpec, make_root
from tritonbuild.executors.sandbox import check_emulation, find_binfmt
from tritonbuild.paths import Workspace, cache_dir

# The modules beside the tests; pytest's importlib mode does not look there.
sys.path.insert(0, str(Path(__file__).parent))

from engines import Docker, run, start_docker, start_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UPSTREAM = Path(__file__).parents[1] / "upstream"

# gRPC is the one thing that the stand-in server does not serve.
TARGET = ("--board", "orangepi5b", "--set", "core.TRITON_ENABLE_GRPC=OFF")
NATIVE = ("--executor", "native")
BUILDX = ("--executor", "buildx", "--os", "debian-12")
EMULATED = ("--executor", "emulated", "--os", "debian-12")


@dataclass(frozen=True)
class World:
    """The stand-ins, and builds of them.

    Attributes:
        folder: Where the repositories, archives and the mirror recipe are.
        archive: A ready-made ONNX Runtime: the release pins the real one's checksum, so no mirror
            can serve another file for it.
        cache: A cache for these tests alone.
        run: Runs tritonbuild.
        env: Environment of each run.
    """

    folder: Path
    archive: Path
    cache: Path
    run: Callable[..., object]
    env: dict[str, str] = field(default_factory=dict)
    executor: tuple[str, ...] = NATIVE

    @property
    def options(self) -> tuple[str, ...]:
        return (
            *TARGET, *self.executor, "--recipes", str(self.folder / "recipes"), "--mirror", "standins",
            "--archive", f"onnxruntime={self.archive}",
        )  # fmt: skip

    def repository(self, name: str) -> Path:
        """Return the bare repository `ORG/NAME`."""
        return self.folder / "git" / "github.com" / f"{name}.git"

    def build(self, work: Path, *more: object, timeout: float = 300, **options: object):
        """Run `tritonbuild build` in a work directory."""
        work.parent.mkdir(parents=True, exist_ok=True)
        return self.run(
            "build", *self.options, "--work-dir", work, *more, cwd=work.parent, timeout=timeout,
            env={**self.env, **options.pop("env", {})}, **options,
        )  # fmt: skip

    @staticmethod
    def statuses(outcome) -> dict[str, str]:
        """Return how each step of `build --json` went, by its id."""
        return {step["name"][3:]: step["status"] for step in json.loads(outcome.stdout)["steps"]}

    @staticmethod
    def sums(work: Path) -> dict[str, str]:
        """Return the content of a tree: what two builds of one plan must agree in."""
        files = json.loads((work / "manifest.json").read_text(encoding="utf-8"))["files"]
        return {entry["path"]: entry.get("sha256") or entry["link"] for entry in files}


def load_materialise() -> Callable[[Path], None]:
    """Return the function that makes the stand-ins' repositories."""
    spec = importlib.util.spec_from_file_location("materialise", UPSTREAM / "materialise.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.materialise


@pytest.fixture(scope="session")
def pristine(tmp_path_factory) -> Path:
    """The stand-ins, which nobody may change."""
    folder = tmp_path_factory.mktemp("upstream") / "standins"
    load_materialise()(folder)
    return folder


def make_world(
    folder: Path, cache: Path, run: Callable[..., object], arch: Arch | None = None
) -> World:
    cache.mkdir(exist_ok=True)
    machine = "x64" if (arch or Arch.native()) is Arch.AMD64 else "aarch64"
    name = f"onnxruntime-linux-{machine}-1.16.3.tgz"
    archive = cache / name
    shutil.copyfile(next((folder / "archives").rglob(name)), archive)
    return World(folder, archive, cache, run, {"TRITONBUILD_CACHE_DIR": str(cache)})


@pytest.fixture(scope="session")
def world(pristine, tmp_path_factory, session_cli, require_or_skip) -> World:
    """The stand-ins for tests that only read them."""
    for program in ("git", "g++", "cmake"):
        require_or_skip(shutil.which(program), f"{program} builds the stand-ins")
    return make_world(pristine, tmp_path_factory.mktemp("cache"), session_cli)


@pytest.fixture(scope="session")
def arm64_world(session_cli, require_or_skip, tmp_path_factory):
    """The stand-ins with Rockchip's and Microsoft's libraries for arm64; roots are the user's."""
    for program in ("git", "bwrap", "mmdebstrap", "aarch64-linux-gnu-g++"):
        require_or_skip(shutil.which(program), f"{program} is needed to build for arm64 here")
    rule = find_binfmt(Arch.ARM64)
    runs = Arch.native() is Arch.ARM64 or (rule and rule.works_in_root)
    require_or_skip(runs, "binfmt_misc hands arm64 programs to QEMU")
    folder = tmp_path_factory.mktemp("upstream-arm64") / "standins"
    load_materialise()(folder, machine="aarch64")
    world = make_world(folder, tmp_path_factory.mktemp("archive"), session_cli, Arch.ARM64)
    return replace(world, cache=cache_dir(), env={}, executor=EMULATED)


@pytest.fixture
def own_world(world, tmp_path) -> World:
    """A copy of the stand-ins, to break."""
    folder = tmp_path / "upstream"
    shutil.copytree(world.folder, folder, symlinks=True)
    for recipe in (folder / "recipes").rglob("*.yaml"):
        recipe.write_text(recipe.read_text().replace(str(world.folder), str(folder)))
    return make_world(folder, tmp_path / "cache", world.run)


@pytest.fixture(scope="session")
def source_build(world, tmp_path_factory) -> Workspace:
    """A finished native build of everything; tests must not change it."""
    work = tmp_path_factory.mktemp("source-build") / "work"
    outcome = world.build(work)
    assert outcome.code == 0, outcome.stderr
    return Workspace(work)


@pytest.fixture
def copy_build(tmp_path) -> Callable[[Workspace], Workspace]:
    """Return a function that copies a finished build; its scripts still name the first place."""

    def copy(ws: Workspace) -> Workspace:
        target = tmp_path / "copy"
        subprocess.run(["cp", "-a", "--reflink=auto", str(ws.root), str(target)], check=True)
        return Workspace(target)

    return copy


@pytest.fixture
def run_redis(tmp_path, require_or_skip) -> Iterator[Callable[..., int]]:
    """Return a function that runs a Redis server of the test's own and returns its port."""
    from servers import find_port, serve

    require_or_skip(shutil.which("redis-server"), "redis-server")
    require_or_skip(shutil.which("ccache"), "ccache")
    with contextlib.ExitStack() as stack:

        def run(*options: str) -> int:
            port = find_port()
            argv = [
                "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
                "--dir", str(tmp_path), *options,
            ]  # fmt: skip
            stack.enter_context(serve(argv, port, tmp_path / f"redis-{port}.log"))
            return port

        yield run


# --- Docker ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def newer_docker(require_or_skip, tmp_path_factory) -> Root:
    """Debian 13's Docker, unpacked: its CLI plugin and its engine run on Debian 12, too."""
    require_or_skip(shutil.which("mmdebstrap"), "mmdebstrap unpacks Debian 13's Docker")
    packages = ("containerd", "docker-buildx", "docker.io", "runc")
    arch = str(Arch.native())
    spec = RootSpec("debian", "trixie", arch, packages, {}, None, essential=False)
    return make_root(spec, cache_dir(), tmp_path_factory.mktemp("docker") / "root.log")


@pytest.fixture(scope="session")
def emulation(require_or_skip) -> None:
    """This machine runs arm64 programs."""
    try:
        check_emulation(Arch.ARM64)
    except HostError as err:
        require_or_skip(False, err.message)


@pytest.fixture(scope="session")
def docker(require_or_skip) -> Iterator[Docker]:
    """This machine's Docker, on a socket of its own."""
    require_or_skip(os.geteuid() == 0, "root, to start dockerd")
    require_or_skip(shutil.which("dockerd") and shutil.which("docker"), "docker.io")
    with start_docker(require_or_skip) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def second_docker(require_or_skip, newer_docker, docker_config) -> Iterator[Docker]:
    """A newer engine, which keeps images in containerd; the Docker context `second` is its."""
    require_or_skip(os.geteuid() == 0, "root, to start dockerd")
    require_or_skip(shutil.which("runc"), "runc, which docker.io brings along")
    with start_docker(require_or_skip, newer=newer_docker.tree) as daemon:
        run("docker", "--config", docker_config, "context", "create", "second",
            "--docker", f"host={daemon.host}")  # fmt: skip
        yield daemon


@pytest.fixture(scope="session")
def registry(require_or_skip, tmp_path_factory) -> Iterator[str]:
    """HOST:PORT of an empty registry."""
    require_or_skip(shutil.which("docker-registry"), "docker-registry")
    with start_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="session")
def docker_config(newer_docker, tmp_path_factory) -> Path:
    """A folder of Docker's settings in which the client has buildx."""
    folder = tmp_path_factory.mktemp("docker-config")
    plugins = folder / "cli-plugins"
    plugins.mkdir()
    program = newer_docker.tree / "usr/libexec/docker/cli-plugins/docker-buildx"
    (plugins / "docker-buildx").symlink_to(program)
    return folder


@pytest.fixture(scope="session")
def buildx_world(arm64_world, docker, docker_config) -> World:
    """The stand-ins for arm64, and an engine to build them in."""
    env = {"DOCKER_HOST": docker.host, "DOCKER_CONFIG": str(docker_config)}
    return replace(arm64_world, env=env, executor=BUILDX)
