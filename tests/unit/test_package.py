"""Packages: the same bytes each time, and what is in them comes out again."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import zstandard

from tritonbuild.errors import AssembleError, HostError, UsageError
from tritonbuild.paths import Workspace
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Request
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import RecipeBook
from tritonbuild.stage.manifest import check_manifest, make_manifest, read_manifest, write_manifest
from tritonbuild.stage.members import read_mtime
from tritonbuild.stage.package import make_package

DATE = "2023-12-22"
MIDNIGHT = 1703203200

# Enough for several of zstd's jobs, and names beyond what a plain tar header holds.
CONTENT = {
    "bin/tritonserver": random.Random(1).randbytes(3_000_000) + b"text " * 3_000_000,
    "lib/libx.so.1": b"library" * 10_000,
    "lib/" + "long-name/" * 15 + "file.py": b"x = 1\n",
    "backends/naïve/größe.txt": "größe".encode(),
    "empty": b"",
    # Each is padded to a block; the announced size must count that.
    **{f"small/{number}": b"x" for number in range(40)},
}


@pytest.fixture(autouse=True)
def no_epoch(monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)


def fill(ws: Workspace, order: list[str], *, umask: int, mtime: int) -> Workspace:
    """Make a finished stage."""
    before = os.umask(umask)
    try:
        for name in order:
            path = ws.tritonserver_dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(CONTENT[name])
            if name.startswith("bin/"):
                path.chmod(path.stat().st_mode | stat.S_IXUSR)
            os.utime(path, (mtime, mtime))
        (ws.tritonserver_dir / "lib/libx.so").symlink_to("libx.so.1")
    finally:
        os.umask(before)
    request = Request("generic-arm64", os="debian-12", provider=ProviderKind.WHEEL)
    plan = make_plan(RecipeBook.open(), request)
    manifest = make_manifest(ws.tritonserver_dir, plan=plan, origins={}, tools={}, system={})
    write_manifest(ws.manifest_path, manifest)
    return ws


@pytest.fixture
def ws(tmp_path):
    return fill(Workspace(tmp_path / "work"), list(CONTENT), umask=0o022, mtime=10)


def read_members(path: Path) -> list[tarfile.TarInfo]:
    with path.open("rb") as source, zstandard.ZstdDecompressor().stream_reader(source) as stream:
        return tarfile.open(fileobj=io.BytesIO(stream.read())).getmembers()


def unpack(path: Path, target: Path) -> Path:
    with (
        path.open("rb") as source,
        zstandard.ZstdDecompressor().stream_reader(source) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        # Debian 12's Python 3.11.2 has no filters yet; newer ones warn without one.
        options = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}
        archive.extractall(target, **options)
    return target / "opt/tritonserver"


def test_trees_made_differently_give_identical_bytes(tmp_path, ws):
    other = Workspace(tmp_path / "some other" / "folder")
    fill(other, list(reversed(CONTENT)), umask=0o077, mtime=2_000_000_000)
    (other.tritonserver_dir / "lib/__pycache__").mkdir()
    (other.tritonserver_dir / "lib/__pycache__/x.pyc").touch()
    first = make_package(ws, name="x", date=DATE)
    second = make_package(other, name="x", date=DATE)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.checksum_path.read_bytes() == second.checksum_path.read_bytes()
    assert first.manifest_path.read_bytes() == second.manifest_path.read_bytes()


def test_number_of_cores_does_not_change_the_bytes(ws, monkeypatch):
    digests = set()
    for cores in (None, 1, 2, 3, 8, 64):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        digests.add(make_package(ws, name="x", date=DATE).sha256)
    assert len(digests) == 1


def test_members_are_sorted_owned_by_root_and_dated_by_the_release(ws):
    members = read_members(make_package(ws, name="x", date=DATE).path)
    names = [member.name for member in members]
    assert names[0] == "opt/tritonserver"
    assert names == sorted(names, key=lambda name: name.split("/"))
    assert "opt/tritonserver/manifest.json" in names
    assert {member.mtime for member in members} == {MIDNIGHT}
    assert {(m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, "root", "root")}
    modes = {member.name.removeprefix("opt/tritonserver/"): member.mode for member in members}
    assert modes["bin/tritonserver"] == 0o755
    assert modes["lib"] == 0o755
    assert modes["empty"] == 0o644
    assert modes["manifest.json"] == 0o644


def test_unpacked_tree_is_the_stage(ws, tmp_path):
    package = make_package(ws, name="x", date=DATE)
    tree = unpack(package.path, tmp_path / "board")
    manifest = read_manifest(tree / "manifest.json")
    assert check_manifest(tree, manifest) == []
    assert (tree / "manifest.json").read_bytes() == ws.manifest_path.read_bytes()
    assert package.manifest_path.read_bytes() == ws.manifest_path.read_bytes()
    assert package.files == len(CONTENT) + 1
    assert package.unpacked_size == sum(map(len, CONTENT.values()))


def test_real_tar_and_sha256sum_accept_it(ws, tmp_path, require_or_skip):
    require_or_skip(shutil.which("zstd") and shutil.which("tar"), "tar and zstd")
    package = make_package(ws, name="x-1.0", date=DATE)
    assert package.path.name == "x-1.0.tar.zst"
    checked = subprocess.run(
        ["sha256sum", "-c", package.checksum_path.name],
        cwd=package.path.parent, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert checked.stdout == "x-1.0.tar.zst: OK\n"
    target = tmp_path / "board"
    target.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", package.path, "-C", target], check=True)
    tree = target / "opt/tritonserver"
    assert check_manifest(tree, read_manifest(tree / "manifest.json")) == []


def test_archive_says_its_unpacked_size_and_has_a_checksum(ws):
    package = make_package(ws, name="x", date=DATE)
    content = package.path.read_bytes()
    frame = zstandard.get_frame_parameters(content)
    assert frame.has_checksum
    assert frame.content_size == len(zstandard.ZstdDecompressor().decompress(content))
    assert package.size == len(content)
    assert package.sha256 == hashlib.sha256(content).hexdigest()


def test_nothing_but_the_package_is_left(ws):
    make_package(ws, name="x", date=DATE)
    make_package(ws, name="x", date=DATE)
    names = sorted(path.name for path in ws.out_dir.iterdir())
    assert names == ["x.manifest.json", "x.tar.zst", "x.tar.zst.sha256"]


def test_source_date_epoch_wins(ws, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "12345")
    members = read_members(make_package(ws, name="x", date=DATE).path)
    assert {member.mtime for member in members} == {12345}


@pytest.mark.parametrize("value", ["-1", "now", "1.5", "8589934592", "²"])
def test_wrong_source_date_epoch_is_a_usage_error(monkeypatch, value):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        read_mtime(DATE)


@pytest.mark.parametrize("date", ["", "yesterday", "2023-13-01"])
def test_wrong_date_is_a_usage_error(date):
    with pytest.raises(UsageError, match="not a date"):
        read_mtime(date)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/Los_Angeles"])
def test_midnight_does_not_depend_on_the_time_zone(zone):
    code = f"from tritonbuild.stage.members import read_mtime; print(read_mtime({DATE!r}))"
    found = subprocess.run(
        [sys.executable, "-c", code], env={"TZ": zone}, check=True, capture_output=True, text=True
    )
    assert int(found.stdout) == MIDNIGHT


@pytest.mark.parametrize("name", ["", "../x", "a/b", "/x"])
def test_name_with_a_folder_is_refused(ws, name):
    with pytest.raises(UsageError, match="not a file name"):
        make_package(ws, name=name, date=DATE)


def test_changed_stage_is_refused_and_the_old_package_stays(ws):
    before = make_package(ws, name="x", date=DATE).path.read_bytes()
    (ws.tritonserver_dir / "lib/libx.so.1").write_text("mine")
    (ws.tritonserver_dir / "notes.txt").touch()
    with pytest.raises(AssembleError) as caught:
        make_package(ws, name="x", date=DATE)
    assert caught.value.message.splitlines() == [
        "the stage is not what its manifest says:",
        "  changed: lib/libx.so.1 (sha256, size)",
        "  added: notes.txt",
    ]
    assert caught.value.hint
    assert (ws.out_dir / "x.tar.zst").read_bytes() == before


def test_long_list_of_changes_fits_one_screen(ws):
    for number in range(50):
        (ws.tritonserver_dir / f"new{number:02}").touch()
    with pytest.raises(AssembleError) as caught:
        make_package(ws, name="x", date=DATE)
    lines = caught.value.message.splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  and 30 more"


def test_link_out_of_the_stage_is_refused(ws):
    (ws.tritonserver_dir / "lib/bad").symlink_to("/etc/passwd")
    with pytest.raises(AssembleError, match="leads out of the tree"):
        make_package(ws, name="x", date=DATE)
    assert not ws.out_dir.exists()


@pytest.mark.parametrize("missing", ["stage", "manifest.json"])
def test_no_stage_is_an_error_with_a_way_out(ws, missing):
    path = ws.root / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(AssembleError, match="no finished stage") as caught:
        make_package(ws, name="x", date=DATE)
    assert "tritonbuild build" in (caught.value.hint or "")


def test_full_disk_is_a_host_error_and_leaves_nothing(ws, require_or_skip):
    require_or_skip(Path("/dev/full").exists(), "/dev/full")
    ws.out_dir.mkdir()
    # What is written to /dev/full meets a real ENOSPC.
    (ws.out_dir / ".x.tar.zst.part").symlink_to("/dev/full")
    with pytest.raises(HostError, match="no room on disk"):
        make_package(ws, name="x", date=DATE)
    assert list(ws.out_dir.iterdir()) == []


def test_interruption_leaves_nothing_and_is_not_hidden(ws, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tarfile.TarFile, "addfile", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_package(ws, name="x", date=DATE)
    assert list(ws.out_dir.iterdir()) == []
