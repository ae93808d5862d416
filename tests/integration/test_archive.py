"""A real arm64 tree as an archive: unpacked, checked, asked and packed like any other build."""

from __future__ import annotations

import json
import tarfile

import pytest

from tritonbuild.paths import Workspace

pytestmark = pytest.mark.emulation

TARGET = (
    "--board", "orangepi5b", "--os", "debian-12", "--from", "archive", "-c", "core", "-c", "python"
)  # fmt: skip


@pytest.fixture(scope="module")
def archive_build(wheel_build, session_cli, tmp_path_factory):
    """A finished build of the tree from wheels, packed as NVIDIA packs its own."""
    folder = tmp_path_factory.mktemp("archive-build")
    file = folder / "triton-arm64.tar.gz"
    with tarfile.open(file, "w:gz", compresslevel=1) as archive:
        archive.add(wheel_build.tritonserver_dir, "tritonserver")
    work = folder / "work"
    done = session_cli(
        "build", *TARGET, "--archive", f"tritonserver={file}", "--work-dir", work, cwd=folder,
        timeout=600,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    return Workspace(work)


def read_sums(ws):
    """Return what every file of a tree holds."""
    files = json.loads(ws.manifest_path.read_text(encoding="utf-8"))["files"]
    return {entry["path"]: entry.get("sha256") or entry["link"] for entry in files}


def test_tree_is_the_one_that_was_packed(archive_build, wheel_build):
    assert read_sums(archive_build) == read_sums(wheel_build)
    verified = json.loads(archive_build.verify_path.read_text(encoding="utf-8"))
    assert verified["source"] == "root"
    assert not verified["problems"]
    # The archive brings numpy along.
    assert not verified["to_install"]


def test_server_in_it_answers(archive_build, session_cli):
    done = session_cli(
        "smoke", "--work-dir", archive_build.root, "--json", cwd=archive_build.root, timeout=300
    )
    assert done.code == 0, done.stderr
    report = json.loads(done.stdout)
    status = {one["name"]: one["status"] for one in report["results"]}
    assert report["server_version"] == "2.41.0"
    assert status["http-json"] == status["stop"] == status["broken-model"] == "pass"
    assert status["onnx"] == "skip"


def test_it_is_packed_like_any_other(archive_build, session_cli):
    done = session_cli(
        "package", "--work-dir", archive_build.root, cwd=archive_build.root, timeout=300
    )
    assert done.code == 0, done.stderr
    names = [path.name for path in archive_build.out_dir.iterdir()]
    assert "tritonserver-2.41.0-orangepi5b-debian-12-archive.tar.zst" in names
