"""lock and fetch as users call them, and the machine's own limits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tritonbuild.errors import HostError, SourceError, UnreachableError
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Request
from tritonbuild.recipe.load import RecipeBook
from tritonbuild.sources.bundle import check_wheels
from tritonbuild.sources.image import find_digest
from tritonbuild.sources.lock import (
    Lock,
    LockedImage,
    LockedWheel,
    format_lock,
    parse_lock,
    read_lock,
)
from tritonbuild.sources.resolve import Wanted, wanted_of
from tritonbuild.sources.wheel import Wheel

WHEELS = ("--board", "orangepi5b", "--os", "debian-12", "--from", "wheel")


def test_lock_of_wheels_is_written_then_compared(run_cli, tmp_path):
    first = run_cli("lock", *WHEELS, "--json")
    assert first.code == 0, first.stderr
    assert json.loads(first.stdout)["status"] == "written"
    lock = read_lock(tmp_path / "tritonbuild.lock")
    assert any(one.distribution == "nvidia-pytriton" for one in lock.wheels)
    again = run_cli("lock", *WHEELS)
    assert again.code == 0
    assert "unchanged" in again.stderr
    text = (tmp_path / "tritonbuild.lock").read_text()
    (tmp_path / "tritonbuild.lock").write_text(text.replace(lock.wheels[0].sha256, "a" * 64))
    stopped = run_cli("lock", *WHEELS)
    assert stopped.code == 5
    assert lock.wheels[0].filename in stopped.stderr
    assert "lock --update" in stopped.stderr
    updated = run_cli("lock", *WHEELS, "--update")
    assert updated.code == 0
    assert f"~ wheel {lock.wheels[0].filename}" in updated.stdout
    assert (tmp_path / "tritonbuild.lock").read_text() == text


def test_fetch_and_build_hold_wheels_to_the_lock(run_cli, tmp_path):
    path = tmp_path / "tritonbuild.lock"
    assert run_cli("lock", *WHEELS).code == 0
    text = path.read_text()
    wheel = read_lock(path).wheels[0]
    other = "{}-0.0.1-{}".format(wheel.filename.split("-")[0], wheel.filename.split("-", 2)[2])
    for changed in (text.replace(wheel.sha256, "a" * 64), text.replace(wheel.filename, other)):
        path.write_text(changed)
        for verb in (("fetch", "--output", "bundle"), ("build", "--work-dir", "work")):
            outcome = run_cli(verb[0], *WHEELS, *verb[1:])
            assert outcome.code == 5, outcome.stderr
            assert f"{wheel.filename} is not the wheel that the lock holds" in outcome.stderr
            assert "lock --update" in outcome.stderr
            assert not (tmp_path / "bundle").exists()
            assert not list((tmp_path / "work").rglob("*.whl"))
    missing = run_cli("build", *WHEELS, "--work-dir", "work", "--lock", "nowhere.lock")
    assert missing.code == 5, missing.stderr


def test_lock_for_another_python_is_told_and_holds_nothing_up(tmp_path, capsys):
    ours = Wheel("numpy", "numpy-1.26.4-cp311-cp311-any.whl", "a" * 64, "3.11")
    other = LockedWheel("numpy", "numpy-1.26.4-cp310-cp310-any.whl", "b" * 64)
    check_wheels(Lock(wheels=(other,)), [ours])
    assert f"does not hold, so the recipe's pins count: {ours.filename}" in capsys.readouterr().err
    check_wheels(None, [ours])
    assert capsys.readouterr().err == ""


SOURCE = ("--board", "orangepi5b", "--from", "source", "--executor", "native")


def test_folder_in_which_nothing_could_be_built_is_one_for_locks(run_cli, tmp_path):
    """A native plan needs a plain work directory, but lock and fetch make none."""
    folder = tmp_path / "with blanks"
    folder.mkdir()
    for verb in (("lock",), ("fetch", "--output", "bundle.tar")):
        outcome = run_cli(*verb, *SOURCE, "--source", "core=nowhere", cwd=folder)
        assert outcome.code == 5, outcome.stderr
        assert "nowhere is not a checkout" in outcome.stderr
    assert [path.name for path in folder.iterdir()] == []


def test_archive_of_the_users_with_an_odd_name_is_refused_at_once(run_cli, tmp_path):
    (tmp_path / "onnxruntime (1).tgz").write_bytes(b"x")
    outcome = run_cli("lock", *SOURCE, "--archive", "onnxruntime=onnxruntime (1).tgz")
    assert outcome.code == 2, outcome.stderr
    assert "rename it" in outcome.stderr


def test_broken_lock_stops_and_can_be_replaced(run_cli, tmp_path):
    (tmp_path / "tritonbuild.lock").write_text("not: [a lock")
    assert run_cli("lock", *WHEELS).code == 5
    assert run_cli("lock", *WHEELS, "--update").code == 0
    assert read_lock(tmp_path / "tritonbuild.lock").wheels


def test_fetch_does_not_replace_what_is_not_its_own(run_cli, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("precious")
    outcome = run_cli("fetch", *WHEELS, "--output", "mine")
    assert outcome.code == 2
    assert "is no bundle of ours" in outcome.stderr


# --- the machine ------------------------------------------------------------------------------


def test_missing_git_is_said(world, monkeypatch):
    world.upstream.commit("one", {"a": "1"}, tag="v1")
    monkeypatch.setattr("tritonbuild.proc.find_tool", lambda _name: None)
    with pytest.raises(HostError, match="git not found"):
        world.bring(world.want(("one", "v1")))


_FULL = """
set -e
mount -t tmpfs -o size=300k none "$1"
exec "$2" -c "$3" "$1"
"""
_CHILD = """
import sys
from pathlib import Path
from tritonbuild.errors import TritonBuildError
from tritonbuild.recipe.model import Mirror
from tritonbuild.sources.resolve import ArchiveWanted, GitWanted, Wanted, bring_sources
tmp = Path(sys.argv[1])
wanted = Wanted(tuple(GitWanted(*one) for one in {git}), tuple(ArchiveWanted(*one) for one in {files}))
try:
    bring_sources(wanted, store=tmp / "store", cache=tmp / "cache", mirrors=(), lock=None,
        offline=False, allow_dirty=False, log=tmp / "log", report=lambda text: None)
except TritonBuildError as err:
    print(err.exit_code, err.message, err.hint)
"""


@pytest.mark.parametrize("kind", ["git", "archive"])
def test_full_disk_is_the_machines_fault(world, tmp_path, require_or_skip, kind):
    require_or_skip(os.geteuid() == 0 and shutil.which("unshare"), "root can mount a small disk")
    noise = os.urandom(900_000)
    world.upstream.commit("big", {"noise": noise.hex()}, tag="v1")
    (tmp_path / "big.bin").write_bytes(noise)
    git = [("c", str(world.upstream.path("big")), "v1")] if kind == "git" else []
    files = [("big", (tmp_path / "big.bin").as_uri(), None, "c")] if kind == "archive" else []
    folder = tmp_path / "disk"
    folder.mkdir()
    code = _CHILD.format(git=git, files=files)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", _FULL, "sh", folder, sys.executable, code],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("4 "), done.stdout + done.stderr
    assert "room" in done.stdout


def test_cache_that_may_not_be_written_is_the_machines_fault(world, tmp_path, require_or_skip):
    require_or_skip(os.geteuid() == 0 and shutil.which("unshare"), "root can mount read-only")
    world.upstream.commit("one", {"a": "1"}, tag="v1")
    folder = tmp_path / "disk"
    folder.mkdir()
    code = _CHILD.format(git=[("c", str(world.upstream.path("one")), "v1")], files=[])
    script = _FULL.replace("exec", 'mount -o remount,ro "$1"\nexec')
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", folder, sys.executable, code],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("4 "), done.stdout + done.stderr


# --- images -----------------------------------------------------------------------------------


@pytest.fixture
def docker_host(httpserver, monkeypatch):
    """A Docker that knows one image."""
    monkeypatch.setenv("DOCKER_HOST", httpserver.url_for("").replace("http://", "tcp://"))
    httpserver.expect_request("/version").respond_with_json({"ApiVersion": "1.44"})
    digest = "sha256:" + "a" * 64
    for prefix in ("", "/v1.41", "/v1.43", "/v1.44", "/v1.45", "/v1.46"):
        httpserver.expect_request(f"{prefix}/distribution/near.invalid/x:1/json").respond_with_json(
            {"Descriptor": {"digest": digest}, "Platforms": []}
        )
    return digest


def test_digest_of_an_image_is_asked_of_its_registry(docker_host):
    assert find_digest("x:1", ["gone.invalid/x:1", "near.invalid/x:1"]) == docker_host
    with pytest.raises(UnreachableError, match=r"gone\.invalid/x:1"):
        find_digest("x:1", ["gone.invalid/x:1"])


def test_image_in_a_lock_is_held_to(world, docker_host, mirror_of):
    """What a container build starts from is named by a tag, which its owner may move."""
    plan = make_plan(RecipeBook.open(), Request(
        board="orangepi5b", os="ubuntu-22.04", components=("onnxruntime",),
        variants={"onnxruntime": "docker"},
    ))  # fmt: skip
    (name,) = wanted_of(plan.find_step("sources")).images
    assert name == "ubuntu:22.04"
    wanted = Wanted((), images=("x:1",))
    world.mirrors = [mirror_of(images=[{"from": "docker.io/library/", "to": "near.invalid/"}])]
    lock = parse_lock(format_lock(world.bring(wanted)), "written")
    assert [(one.name, one.digest) for one in lock.images] == [("x:1", docker_host)]
    assert world.bring(wanted, lock=lock, offline=True).images == lock.images
    moved = Lock(images=(LockedImage("x:1", "sha256:" + "b" * 64),))
    with pytest.raises(SourceError, match="is not what the lock holds") as err:
        world.bring(wanted, lock=moved)
    assert docker_host in err.value.message
    with pytest.raises(SourceError, match="nobody may be asked"):
        world.bring(wanted, offline=True)


def test_image_without_docker(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(HostError, match="Docker does not answer"):
        find_digest("x:1", ["x:1"])
