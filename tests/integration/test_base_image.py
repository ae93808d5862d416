"""The board's system from a container image: a real one, of this machine's architecture."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from engines import run
from servers import find_port, serve

from tritonbuild.arch import Arch
from tritonbuild.errors import SourceError, UnreachableError, UsageError
from tritonbuild.executors.rootfs import RootSpec, make_root
from tritonbuild.executors.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.network, pytest.mark.timeout(300)]

IMAGE = "debian-of-the-tests:bookworm"


@pytest.fixture(scope="module")
def image(docker, docker_config, tmp_path_factory, require_or_skip) -> str:
    """Debian 12 with dpkg and apt, in an engine."""
    require_or_skip(shutil.which("mmdebstrap"), "mmdebstrap makes the image's files")
    context = tmp_path_factory.mktemp("image")
    run("mmdebstrap", "--variant=apt", "bookworm", context / "root.tar", timeout=200)
    (context / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
    docker("build", "--tag", IMAGE, context)
    return IMAGE


@pytest.fixture(autouse=True)
def _use_engine(docker, docker_config, monkeypatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker.host)
    monkeypatch.setenv("DOCKER_CONFIG", str(docker_config))


def make_spec(image: str, arch: Arch, *packages: str) -> RootSpec:
    return RootSpec("debian", "bookworm", str(arch), packages, {}, None, image=image)


def test_root_has_what_the_image_has_and_what_was_missing(image, tmp_path):
    native = Arch.native()
    assert native
    spec = make_spec(image, native, "bash", "zlib1g-dev")
    root = make_root(spec, tmp_path / "cache", tmp_path / "root.log")
    versions = root.read_versions()
    assert {"apt", "bash", "dpkg", "zlib1g", "zlib1g-dev"} <= set(versions)
    header = root.tree / "usr/include/zlib.h"
    assert header.is_file()
    said = subprocess.run(
        ["dpkg-query", "--admindir", root.tree / "var/lib/dpkg", "-W", "-f", "${Version}", "bash"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert versions["bash"] == said.stdout
    done = subprocess.run(
        Sandbox(root.tree).argv(["bash", "-c", "cat /etc/debian_version"]),
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.startswith("12.")
    assert not list(tmp_path.glob("cache/roots/.new-*"))


def test_image_that_is_no_debian_is_named(docker, image, tmp_path):
    context = tmp_path / "other"
    context.mkdir()
    remove = "rm /usr/bin/dpkg-query"
    (context / "Dockerfile").write_text(f"FROM {image}\nRUN {remove}\n")
    docker("build", "--network", "none", "--tag", "other:1", context)
    native = Arch.native()
    assert native
    with pytest.raises(UsageError, match="no dpkg"):
        make_root(make_spec("other:1", native), tmp_path / "cache", tmp_path / "root.log")


def test_image_of_another_release_is_refused(image, tmp_path):
    native = Arch.native()
    assert native
    spec = RootSpec("debian", "trixie", str(native), ("bash",), {}, None, image=image)
    with pytest.raises(UsageError, match="the image is of debian bookworm, not of debian trixie"):
        make_root(spec, tmp_path / "cache", tmp_path / "root.log")


def test_registry_that_does_not_answer(tmp_path):
    native = Arch.native()
    assert native
    spec = make_spec("127.0.0.1:1/debian:bookworm", native)
    with pytest.raises(UnreachableError, match="cannot be used"):
        make_root(spec, tmp_path / "cache", tmp_path / "root.log")
    assert not list((tmp_path / "cache" / "roots").glob("[!.]*"))


def test_package_that_there_is_not(image, tmp_path):
    native = Arch.native()
    assert native
    spec = make_spec(image, native, "no-such-package")
    with pytest.raises(SourceError, match="Unable to locate package no-such-package"):
        make_root(spec, tmp_path / "cache", tmp_path / "root.log")


def test_image_of_another_platform(image, arm64_world, tmp_path):
    """Docker 20.10 runs an image that a tag of its own calls another platform's."""
    other = Arch.ARM64 if Arch.native() is Arch.AMD64 else Arch.AMD64
    with pytest.raises((UsageError, UnreachableError)):
        make_root(make_spec(image, other, "bash"), tmp_path / "cache", tmp_path / "root.log")


# --- the Dockerfile that needs no tritonbuild ----------------------------------------------------

BOARD = """\
schema: 1
name: mine
summary: a board like this machine
soc: any
arch: {arch}
cpu: {{cores: 2, model: any}}
memory: 4GiB
os: [debian-12]
release: r23.12
components: [core, ensemble]
"""
MIRROR = """\
schema: 1
name: near
summary: the stand-ins, by network
git:
  - {{from: https://github.com/, to: "git://127.0.0.1:{git}/github.com/"}}
"""


@pytest.fixture
def context(world, image, tmp_path, session_cli) -> Iterator[Path]:
    """What `render` writes for a board like this machine; the stand-ins are served meanwhile."""
    port = find_port()
    recipes = tmp_path / "recipes"
    (recipes / "boards").mkdir(parents=True)
    (recipes / "mirrors").mkdir()
    (recipes / "boards" / "mine.yaml").write_text(BOARD.format(arch=Arch.native()))
    (recipes / "mirrors" / "near.yaml").write_text(MIRROR.format(git=port))
    outcome = session_cli(
        "render", "--board", "mine", "--recipes", recipes, "--mirror", "near", "--executor",
        "buildx", "--base-image", image, "--set", "core.TRITON_ENABLE_GRPC=OFF", "--jobs", "2",
        "--tag", "rendered:1", "--output", tmp_path / "context", cwd=tmp_path,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    daemon = shutil.which("git-daemon", path="/usr/lib/git-core") or "git-daemon"
    argv = [
        daemon, f"--base-path={world.folder / 'git'}", "--export-all", "--reuseaddr",
        "--listen=127.0.0.1", f"--port={port}",
    ]  # fmt: skip
    with serve(argv, port, tmp_path / "git.log"):
        yield tmp_path / "context"


@pytest.mark.timeout(600)
def test_rendered_dockerfile_builds_an_image_that_serves(context, docker):
    """All of it, from an image, packages and repositories to an answer; this machine's programs."""
    build = ("docker", "buildx", "build", "--network=host", "--progress=plain")
    done = run(
        *build, "--target=runtime", "--tag=rendered:1", "--load", context, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "the board's own compilers are used" in done.stdout
    said = docker("run", "--rm", "--network=none", "rendered:1", "--help")
    assert "--model-repository" in said.stdout
    packages = docker(
        "run", "--rm", "--network=none", "--entrypoint=dpkg-query", "rendered:1", "-W"
    ).stdout
    assert "libnuma1" in packages, "a library of the tree"
    assert "g++" not in packages, "nothing of the build"
    # The same once more: nothing runs again.
    again = run(*build, "--target=trees", "--output=type=cacheonly", context, timeout=300)
    assert again.stdout.count("CACHED") > 10
