"""Builds in BuildKit's containers, with real engines."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from engines import run, start_docker

from tritonbuild.paths import Workspace

pytestmark = [pytest.mark.emulation, pytest.mark.network, pytest.mark.timeout(900)]

CROSS = ("--executor", "cross", "--os", "debian-12")
# The quickest of all: its core is the same as that of everything.
RKNN = ("--component", "ensemble", "--component", "rknn")
# One more beside it.
BOTH = (*RKNN, "--component", "onnxruntime")
TAG = "tritonserver:2.41.0-orangepi5b-debian-12-source"


def read_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def build(buildx_world, tmp_path_factory) -> Workspace:
    """A finished build; tests must not change it."""
    work = tmp_path_factory.mktemp("buildx") / "work"
    outcome = buildx_world.build(work, *BOTH, timeout=900)
    assert outcome.code == 0, outcome.stderr
    assert "QEMU runs arm64 programs there" in outcome.stderr, "emulation is said aloud"
    assert "compilers of the board's system run under QEMU" not in outcome.stderr
    return Workspace(work)


def test_tree_is_that_of_a_cross_build_byte_for_byte(build, buildx_world, tmp_path):
    world = replace(buildx_world, executor=CROSS)
    outcome = world.build(tmp_path / "work", *BOTH, timeout=900)
    assert outcome.code == 0, outcome.stderr
    assert world.sums(build.root) == world.sums(tmp_path / "work")
    installs = [read_json(Workspace(root).verify_path)["to_install"]
                for root in (build.root, tmp_path / "work")]  # fmt: skip
    assert installs[0] == installs[1]


def test_nothing_is_done_twice(build, buildx_world):
    outcome = buildx_world.build(build.root, *BOTH, "--json")
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
        "run", "--detach", "--platform", "linux/arm64", "--network", "none",
        "--health-interval", "1s",
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
        left = docker("exec", name, "bash", "-c", "type -p gcc g++ cmake git; ls -A /opt/native",
                      check=False)  # fmt: skip
        assert left.stdout == ""
    finally:
        docker("rm", "--force", "--volumes", name)


def test_bake_file_builds_the_same_by_hand(build, buildx_world, tmp_path):
    env = {**os.environ, **buildx_world.env}
    folder = build.root / "context"
    target = json.loads((folder / "docker-bake.json").read_text())["target"]["trees"]
    assert target["network"] == "none"
    # buildx 0.13 takes that from Compose's files only, and this engine has no other network.
    compose = tmp_path / "compose.yaml"
    compose.write_text("services: {trees: {build: {context: ., network: none}}}\n")
    done = run(
        "docker", "buildx", "bake", "--progress=plain", "--file", "docker-bake.json", "--file",
        compose, cwd=folder, env=env, timeout=300,
    )  # fmt: skip
    assert "CACHED" in done.stdout
    made = folder / "trees" / "rknn" / "backends" / "rknn" / "libtriton_rknn.so"
    assert made.read_bytes() == next((build.trees_dir / "rknn").rglob(made.name)).read_bytes()
    shutil.rmtree(folder / "trees")


# --- another engine, and a registry ---------------------------------------------------------------


@pytest.fixture(scope="module")
def rknn_build(build, buildx_world, tmp_path_factory) -> Workspace:
    """A build of one backend; what the other build left in the engine makes it quick."""
    work = tmp_path_factory.mktemp("rknn") / "work"
    outcome = buildx_world.build(work, *RKNN, "--no-image", timeout=600)
    assert outcome.code == 0, outcome.stderr
    return Workspace(work)


def count_cached(log: Path) -> tuple[int, int]:
    """Return how many scripts BuildKit had, and how many there are."""
    text = log.read_text(encoding="utf-8")
    scripts = set(re.findall(r"^#(\d+) \[build-\w+ \d+/\d+\] RUN --mount", text, re.MULTILINE))
    cached = set(re.findall(r"^#(\d+) CACHED$", text, re.MULTILINE))
    return len(scripts & cached), len(scripts)


@pytest.fixture(scope="module")
def second_build(rknn_build, buildx_world, second_docker, registry, tmp_path_factory) -> Workspace:
    """The same by the second engine, whose layers and image go to the registry."""
    work = tmp_path_factory.mktemp("second") / "work"
    outcome = buildx_world.build(
        work, *RKNN, "--builder", "second", "--tag", f"{registry}/tritonserver:test", "--push",
        "--cache-to", f"type=registry,ref={registry}/cache,mode=max,compression=zstd", timeout=600,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    return Workspace(work)


def test_what_one_selection_built_is_good_for_another(rknn_build):
    cached, scripts = count_cached(rknn_build.logs_dir / "06-containers.log")
    assert cached == scripts > 10


def test_another_engine_gives_the_same_tree(second_build, rknn_build, buildx_world):
    assert count_cached(second_build.logs_dir / "06-containers.log")[0] == 0
    assert buildx_world.sums(second_build.root) == buildx_world.sums(rknn_build.root)


def ask_registry(registry: str, path: str):
    kinds = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    request = urllib.request.Request(f"http://{registry}/v2/{path}", headers={"Accept": kinds})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_pushed_image_is_the_boards_and_runs_elsewhere(second_build, registry, docker):
    manifest = ask_registry(registry, "tritonserver/manifests/test")
    config = ask_registry(registry, f"tritonserver/blobs/{manifest['config']['digest']}")
    assert (config["architecture"], config["os"]) == ("arm64", "linux")
    image = f"{registry}/tritonserver:test"
    said = docker(
        "run", "--rm", "--platform", "linux/arm64", "--network", "none", image, "tritonserver",
        "--help", check=False,
    )  # fmt: skip
    assert "--model-repository" in said.stdout
    docker("image", "rm", image)


def test_scripts_come_out_of_the_registry(
    second_build, buildx_world, second_docker, registry, tmp_path
):
    second_docker("builder", "prune", "--all", "--force")
    work = tmp_path / "work"
    cache = ("--cache-from", f"type=registry,ref={registry}/cache")
    outcome = buildx_world.build(work, *RKNN, "--builder", "second", *cache, timeout=600)
    assert outcome.code == 0, outcome.stderr
    cached, scripts = count_cached(work / "logs" / "06-containers.log")
    assert cached == scripts > 10
    assert buildx_world.sums(work) == buildx_world.sums(second_build.root)
    # The image is in the engine that made it, and is looked for there.
    assert second_docker("image", "inspect", TAG).returncode == 0
    again = buildx_world.build(work, *RKNN, "--builder", "second", *cache, "--json")
    assert set(buildx_world.statuses(again).values()) == {"kept"}
    second_docker("image", "rm", TAG)
    again = buildx_world.build(work, *RKNN, "--builder", "second", *cache, "--json")
    assert again.code == 0, again.stderr
    assert buildx_world.statuses(again)["image"] == "done"


def test_engine_that_cannot_export_its_cache_says_how_it_could(buildx_world, registry, tmp_path):
    outcome = buildx_world.build(
        tmp_path / "work", *RKNN, "--no-image", "--cache-to", f"type=registry,ref={registry}/other"
    )
    assert outcome.code == 4, outcome.stderr
    assert "cannot export what it caches (--cache-to)" in outcome.stderr
    assert "containerd-snapshotter" in outcome.stderr


# --- what goes wrong ------------------------------------------------------------------------------


def list_below(pid: int) -> dict[int, str]:
    """Return the command lines of all processes below one, by their ids."""
    parents, lines = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(path.name)] = int(
                (path / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
            )
            lines[int(path.name)] = (path / "cmdline").read_text(errors="replace")
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return {child: lines[child].replace("\0", " ") for child in found}


def wait_for(check, seconds: float, what: str):
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


@pytest.fixture
def changed_rknn(buildx_world, tmp_path) -> tuple[str, str]:
    """Options that take rknn from a checkout whose scripts no engine has run yet."""
    folder = tmp_path / "rknn"
    run("git", "clone", "-q", buildx_world.repository("zjd1988/rknn_backend"), folder)
    (folder / "NEWS").write_text("One more file.\n")
    run("git", "-C", folder, "add", "NEWS")
    run("git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit",
        "-q", "-m", "news")  # fmt: skip
    return ("--source", f"rknn={folder}")


def test_whoever_is_stopped_leaves_nothing_running_and_goes_on(
    rknn_build, buildx_world, docker, changed_rknn, tmp_path
):
    work = tmp_path / "work"
    options = (*RKNN, *changed_rknn, "--no-image", "--work-dir", work)
    argv = [sys.executable, "-m", "tritonbuild", "build", *buildx_world.options, *options]
    log = work / "logs" / "06-containers-rknn.log"

    def stop_in_the_middle(number: int) -> int:
        with subprocess.Popen(
            [str(word) for word in argv], cwd=tmp_path, env={**os.environ, **buildx_world.env},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as child:  # fmt: skip
            log.unlink(missing_ok=True)
            wait_for(lambda: log.is_file() and "\n+ cmake " in log.read_text(), 200, "no configure")
            assert [line for line in list_below(docker.pid).values() if "run_step.py" in line]
            child.send_signal(number)
            child.wait(30)
        wait_for(
            lambda: (
                not [line for line in list_below(docker.pid).values() if "tritonserver" in line]
            ),
            15,
            "something of the build runs in the engine",
        )
        assert not (work / "trees").exists()
        return child.returncode

    assert stop_in_the_middle(signal.SIGINT) == 130
    assert not list(work.glob(".trees-*"))
    assert stop_in_the_middle(signal.SIGKILL) == -signal.SIGKILL
    outcome = buildx_world.build(work, *RKNN, *changed_rknn, "--no-image", timeout=600)
    assert outcome.code == 0, outcome.stderr
    assert not list(work.glob(".trees-*"))
    text = (work / "logs" / "06-containers.log").read_text()
    number = re.search(r"^#(\d+) \[build-rknn .*/fetch-rknn.sh", text, re.MULTILINE)[1]
    assert f"\n#{number} CACHED\n" in text, "what had ended is not done again"
    assert buildx_world.sums(work) == buildx_world.sums(rknn_build.root)


def test_engine_whose_disk_is_full(require_or_skip, rknn_build, buildx_world, tmp_path):
    work = tmp_path / "work"
    with start_docker(require_or_skip, megabytes=1200) as small:
        env = {"DOCKER_HOST": small.host}
        outcome = buildx_world.build(work, *RKNN, "--no-image", env=env, timeout=600)
        assert outcome.code == 4, outcome.stderr
        assert "The disk of Docker's engine is full" in outcome.stderr
        said = " ".join(outcome.stderr.split())
        for way in ("docker buildx prune", "docker system prune", "data-root"):
            assert way in said
    assert not (work / "trees").exists()
    assert not list(work.glob(".trees-*"))
    outcome = buildx_world.build(work, *RKNN, "--no-image", "--json", timeout=600)
    assert outcome.code == 0, outcome.stderr
    assert buildx_world.statuses(outcome)["sources"] == "kept"
    assert buildx_world.sums(work) == buildx_world.sums(rknn_build.root)


def test_damaged_context_is_made_anew(rknn_build, buildx_world):
    ws = rknn_build
    sums = buildx_world.sums(ws.root)
    context = ws.root / "context"
    root, compilers, sources = (
        context / name for name in ("build-root.tar", "native/usr/lib", "sources/rknn/git")
    )
    whole = root.stat().st_size

    def build_again():
        shutil.rmtree(ws.trees_dir)
        outcome = buildx_world.build(ws.root, *RKNN, "--no-image", "--json", timeout=600)
        assert outcome.code == 0, outcome.stderr
        assert buildx_world.statuses(outcome)["containers"] == "done"
        assert root.stat().st_size == whole
        assert compilers.is_dir()
        assert any(sources.iterdir())
        cached, scripts = count_cached(ws.logs_dir / "06-containers.log")
        assert cached == scripts > 10, "what is made anew is the same"
        assert buildx_world.sums(ws.root) == sums

    root.unlink()
    shutil.rmtree(compilers)
    build_again()
    os.truncate(root, whole // 2)
    shutil.rmtree(sources)
    build_again()


@pytest.fixture
def broken_rknn(buildx_world, tmp_path) -> tuple[str, str]:
    """Options that take rknn from a checkout which no compiler takes, and says so at length."""
    folder = tmp_path / "rknn"
    run("git", "clone", "-q", buildx_world.repository("zjd1988/rknn_backend"), folder)
    source = folder / "src" / "rknn.cc"
    noise = '#pragma message("printed again and again")\n' * 15_000
    source.write_text(f"{noise}#error broken on purpose\n{source.read_text()}")
    return ("--source", f"rknn={folder}", "--allow-dirty")


def test_failure_names_the_component_and_shows_its_error(buildx_world, broken_rknn, tmp_path):
    outcome = buildx_world.build(tmp_path / "work", *RKNN, *broken_rknn, "--no-image", timeout=600)
    assert outcome.code == 8, outcome.stderr
    assert "06-containers-rknn.log" in outcome.stderr
    assert "#error broken on purpose" in outcome.stderr
    log = tmp_path / "work" / "logs" / "06-containers.log"
    assert "bytes are left out here" in log.read_text()
    assert "output clipped" not in log.read_text(), "BuildKit had nothing to leave out"
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
