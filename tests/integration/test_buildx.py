"""Builds in BuildKit's containers, with real engines."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from engines import run

from tritonbuild.paths import Workspace

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.emulation, pytest.mark.network, pytest.mark.timeout(900)]

CROSS = ("--executor", "cross", "--os", "debian-12")
# The quickest of all: its core is the same as that of everything.
RKNN = ("--component", "ensemble", "--component", "rknn")
TAG = "tritonserver:2.41.0-orangepi5b-debian-12-source"


def read_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def build(buildx_world, tmp_path_factory) -> Workspace:
    """A finished build of everything; tests must not change it."""
    work = tmp_path_factory.mktemp("buildx") / "work"
    outcome = buildx_world.build(work, timeout=900)
    assert outcome.code == 0, outcome.stderr
    assert "QEMU runs arm64 programs there" in outcome.stderr, "emulation is said aloud"
    return Workspace(work)


def test_tree_is_that_of_a_cross_build_byte_for_byte(build, buildx_world, tmp_path):
    world = replace(buildx_world, executor=CROSS)
    outcome = world.build(tmp_path / "work", timeout=900)
    assert outcome.code == 0, outcome.stderr
    assert world.sums(build.root) == world.sums(tmp_path / "work")
    installs = [read_json(Workspace(root).verify_path)["to_install"]
                for root in (build.root, tmp_path / "work")]  # fmt: skip
    assert installs[0] == installs[1]


def test_server_of_the_tree_answers(build, buildx_world):
    done = buildx_world.run(
        "smoke", "--work-dir", build.root, "--json", cwd=build.root, timeout=300
    )
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["passed"]


def test_nothing_is_done_twice(build, buildx_world):
    outcome = buildx_world.build(build.root, "--json")
    assert outcome.code == 0, outcome.stderr
    assert set(buildx_world.statuses(outcome).values()) == {"kept"}


def test_each_component_has_a_log_of_what_its_scripts_printed(build):
    text = (build.logs_dir / "06-containers-rknn.log").read_text(encoding="utf-8")
    assert "+ git clone --recursive" in text
    assert "Linking CXX shared library libtriton_rknn.so" in text
    assert "libtriton_onnxruntime.so" not in text
    assert "#" not in {line[:1] for line in text.splitlines()}, "BuildKit's numbers are taken off"


def test_image_serves_as_nobody_and_says_when_it_is_ready(build, docker, tmp_path):
    (found,) = json.loads(docker("image", "inspect", TAG).stdout)
    assert (found["Architecture"], found["Os"]) == ("arm64", "linux")
    assert found["Config"]["User"] == "1000:1000"
    assert found["Config"]["Labels"]["tritonbuild.release"] == "r23.12"
    models = tmp_path / "models"
    models.mkdir()
    models.chmod(0o755)
    name = docker(
        "run", "--detach", "--network", "none", "--health-interval", "1s",
        "--health-start-period", "0s", "--health-retries", "300",
        "--volume", f"{models}:/models:ro", TAG,
    ).stdout.strip()  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        state = ""
        while state != "healthy" and time.monotonic() < deadline:
            time.sleep(0.5)
            state = docker("inspect", "--format", "{{.State.Health.Status}}", name).stdout.strip()
        assert state == "healthy", docker("logs", name, check=False).stdout
        assert docker("exec", name, "bash", "-c", "echo $UID").stdout.strip() == "1000"
        # Nothing that only a build needs: no compiler, no headers.
        left = docker("exec", name, "bash", "-c", "type -p gcc g++ cmake git; ls /opt/native",
                      check=False)  # fmt: skip
        assert "/usr" not in left.stdout
        assert "No such file" in left.stdout
    finally:
        docker("rm", "--force", "--volumes", name)


def test_bake_file_builds_the_same_by_hand(build, buildx_world, docker):
    env = {**os.environ, **buildx_world.env}
    folder = build.root / "context"
    done = run("docker", "buildx", "bake", "--progress=plain", cwd=folder, env=env, timeout=300)
    assert "CACHED" in done.stdout
    made = folder / "trees" / "rknn" / "backends" / "rknn" / "libtriton_rknn.so"
    assert made.read_bytes() == next((build.trees_dir / "rknn").rglob(made.name)).read_bytes()
    shutil.rmtree(folder / "trees")


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.fixture
def broken_rknn(buildx_world, tmp_path) -> tuple[str, str]:
    """Options that take rknn from a checkout which no compiler takes."""
    folder = tmp_path / "rknn"
    run("git", "clone", "-q", buildx_world.repository("zjd1988/rknn_backend"), folder)
    source = folder / "src" / "rknn.cc"
    source.write_text("#error broken on purpose\n" + source.read_text())
    return ("--source", f"rknn={folder}", "--allow-dirty")


def test_failure_names_the_component_and_shows_its_error(buildx_world, broken_rknn, tmp_path):
    outcome = buildx_world.build(tmp_path / "work", *RKNN, *broken_rknn, "--no-image", timeout=600)
    assert outcome.code == 7, outcome.stderr
    assert "06-containers-rknn.log" in outcome.stderr
    assert "#error broken on purpose" in outcome.stderr
    assert not (tmp_path / "work" / "trees").exists(), "no half of a result is left"
    assert not list((tmp_path / "work").glob(".trees-*"))
    # What was done before is still in BuildKit: mended, it goes on from there.
    mended = buildx_world.build(tmp_path / "work", *RKNN, "--no-image", timeout=600)
    assert mended.code == 0, mended.stderr


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"PATH": "/nonexistent"}, "docker not found"),
        ({"DOCKER_CONFIG": "/nonexistent"}, "no buildx"),
        ({"DOCKER_HOST": "unix:///nonexistent.sock"}, "no Docker engine answers"),
        ({"BUILDX_BUILDER": "nonexistent"}, "nonexistent"),
    ],
)
def test_build_without_a_builder_is_refused_before_anything_is_made(
    buildx_world, tmp_path, env, said
):
    outcome = buildx_world.build(tmp_path / "work", *RKNN, env=env)
    assert outcome.code == 4, outcome.stderr
    assert said in outcome.stderr
    assert "hint: " in outcome.stderr
    assert not (tmp_path / "work").exists()


def test_unknown_builder_is_named(buildx_world, tmp_path):
    outcome = buildx_world.build(tmp_path / "work", *RKNN, "--builder", "nobody")
    assert outcome.code == 4
    assert "there is no builder nobody" in outcome.stderr
    assert "docker buildx ls" in outcome.stderr
