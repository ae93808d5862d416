"""Bundles and locks: everything in one place, nothing from elsewhere, nothing half."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from dataclasses import replace

import pytest
import yaml

from tritonbuild.errors import SourceError, UsageError
from tritonbuild.paths import hash_file
from tritonbuild.sources.bundle import check_output, import_wheels, write_bundle
from tritonbuild.sources.lock import (
    LOCK_NAME,
    Lock,
    LockedArchive,
    differences,
    format_lock,
    parse_lock,
    read_lock,
)
from tritonbuild.sources.resolve import ArchiveWanted, is_intact
from tritonbuild.sources.wheel import Wheel

UPSTREAM = "https://upstream.invalid"


@pytest.fixture
def wanted(world, tarball):
    up = world.upstream
    up.commit("sub", {"sub.txt": "sub"})
    up.commit("lib", {"CMakeLists.txt": "project(lib)\n"}, tag="r1")
    text = f"FetchContent_Declare(lib GIT_REPOSITORY {UPSTREAM}/lib.git GIT_TAG r1)\n"
    up.commit("top", {"CMakeLists.txt": text + "FetchContent_MakeAvailable(lib)\n"})
    up.add_submodule("top", "sub", "../sub.git", "sub")
    up.tag("top", "r1")
    return world.want(
        ("top", "r1"), archives=(ArchiveWanted("pack", tarball.as_uri(), None, "top"),)
    )


def make_bundle(world, wanted, output, wheels=()):
    return write_bundle(
        output, lambda store: world.bring(wanted, store=store), wheels, cache=world.cache,
        log_dir=world.tmp,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["bundle", "bundle.tar"])
def test_bundle_is_all_that_a_build_needs(world, wanted, tarball, name):
    output = world.tmp / "elsewhere" / name
    lock = make_bundle(world, wanted, output)
    assert [path.name for path in output.parent.iterdir()] == [name]
    shutil.rmtree(world.cache)
    shutil.rmtree(world.upstream.root)
    tarball.unlink()
    found = world.bring(wanted, offline=output, mirrors=())
    assert found == lock
    assert is_intact(found, world.store)
    clone = world.clone(f"{UPSTREAM}/top.git", "r1", "--recursive")
    assert (clone / "sub" / "sub.txt").read_text() == "sub"
    assert not list(world.cache.glob(".bundle-*"))


def test_archive_under_two_names_is_in_a_tar_twice(world, wanted, tarball):
    archives = tuple(
        ArchiveWanted(name, tarball.as_uri(), None, "top") for name in ("pack", "again")
    )
    lock = make_bundle(world, replace(wanted, archives=archives), world.tmp / "b.tar")
    assert len({one.file for one in lock.archives}) == 2
    shutil.rmtree(world.cache)
    assert world.bring(replace(wanted, archives=archives), offline=world.tmp / "b.tar") == lock


def test_bundle_in_a_folder_with_any_name(world, wanted):
    output = world.tmp / "50%41 #1? $x" / "bundle"
    lock = make_bundle(world, wanted, output)
    shutil.rmtree(world.cache)
    store = world.tmp / "a%41 b" / "sources"
    assert world.bring(wanted, offline=output, store=store) == lock
    clone = world.clone(f"{UPSTREAM}/top.git", "r1", "--recursive", store=store)
    assert (clone / "sub" / "sub.txt").read_text() == "sub"


def test_packed_bundle_that_is_cut_short_is_none(world, wanted, tmp_path):
    make_bundle(world, wanted, tmp_path / "b.tar")
    packed = gzip.compress((tmp_path / "b.tar").read_bytes())
    (tmp_path / "b.tar").write_bytes(packed)
    world.bring(wanted, offline=tmp_path / "b.tar")
    (tmp_path / "b.tar").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(SourceError, match=r"b\.tar is no bundle"):
        world.bring(wanted, offline=tmp_path / "b.tar")


def test_folder_of_a_bundle_borrows_nothing(world, wanted):
    make_bundle(world, wanted, world.tmp / "bundle")
    assert not list((world.tmp / "bundle").rglob("alternates"))
    moved = (world.tmp / "bundle").rename(world.tmp / "moved")
    shutil.rmtree(world.cache)
    world.bring(wanted, offline=moved)


def test_tar_is_the_same_each_time(world, wanted):
    make_bundle(world, wanted, world.tmp / "a.tar")
    make_bundle(world, wanted, world.tmp / "b.tar")
    with tarfile.open(world.tmp / "a.tar") as one, tarfile.open(world.tmp / "b.tar") as two:
        assert one.getnames() == two.getnames()
        assert {(m.uid, m.mtime, m.uname) for m in one} == {(0, 0, "")}


def test_what_a_bundle_lacks_is_named(world, wanted):
    make_bundle(world, world.want(("lib", "r1")), world.tmp / "bundle")
    shutil.rmtree(world.cache)
    with pytest.raises(SourceError, match=r"top\.git: r1 is not there, and nobody may be asked"):
        world.bring(wanted, offline=world.tmp / "bundle")
    assert "ls-remote -- https" not in world.log.read_text()


def test_older_bundle_is_replaced_and_nothing_else(world, wanted, tmp_path):
    make_bundle(world, wanted, tmp_path / "bundle")
    make_bundle(world, wanted, tmp_path / "bundle")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("precious")
    (tmp_path / "file").write_text("precious")
    work = tmp_path / "built"
    shutil.copytree(tmp_path / "bundle", work)
    (work / "plan.json").write_text("{}")
    for output in (mine, work, tmp_path / "file"):
        with pytest.raises(UsageError, match="is no bundle of ours"):
            check_output(output)


def test_bundle_that_fails_leaves_what_was_there(world, wanted, tmp_path):
    make_bundle(world, wanted, tmp_path / "bundle")
    before = sorted(tmp_path.rglob("bundle/**/*"))
    with pytest.raises(SourceError):
        make_bundle(world, world.want(("top", "nothing")), tmp_path / "bundle")
    assert sorted(tmp_path.rglob("bundle/**/*")) == before
    assert not list(tmp_path.glob(".bundle*"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("../out", tarfile.REGTYPE), ("/tmp/out", tarfile.REGTYPE), ("link", tarfile.SYMTYPE),
     ("hard", tarfile.LNKTYPE), ("pipe", tarfile.FIFOTYPE), ("a/../../out", tarfile.REGTYPE)],
)  # fmt: skip
def test_hostile_tar_writes_nothing_outside(world, wanted, tmp_path, name, kind):
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        member.size = 1 if kind == tarfile.REGTYPE else 0
        archive.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(SourceError, match="could leave its folder"):
        world.bring(wanted, offline=path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"no tar", b""])
def test_offline_with_something_else(world, wanted, tmp_path, content):
    path = tmp_path / "x.tar"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=r"x\.tar"):
        world.bring(wanted, offline=path)
    with pytest.raises(SourceError, match="is nothing that `tritonbuild fetch` wrote"):
        world.bring(wanted, offline=world.upstream.root)


def test_wheels_come_from_a_bundle(world, tmp_path):
    file = tmp_path / "tiny-1.0-py3-none-any.whl"
    file.write_bytes(b"wheel")
    wheel = Wheel("tiny", file.name, hash_file(file), "3.11")
    kept = world.cache / "wheels" / wheel.sha256 / file.name
    kept.parent.mkdir(parents=True)
    shutil.copyfile(file, kept)
    lock = write_bundle(
        tmp_path / "b.tar", lambda _store: Lock(), [wheel], cache=world.cache, log_dir=tmp_path
    )
    assert lock.wheels[0].sha256 == wheel.sha256
    shutil.rmtree(world.cache)
    import_wheels(tmp_path / "b.tar", [wheel], cache=world.cache)
    assert kept.read_bytes() == b"wheel"
    other = Wheel("other", "other-1.0-py3-none-any.whl", "0" * 64, "3.11")
    with pytest.raises(SourceError, match=r"does not hold other-1\.0"):
        import_wheels(tmp_path / "b.tar", [other], cache=world.cache)


# --- the lock's file --------------------------------------------------------------------------


def test_lock_is_sorted_and_stable(world, wanted):
    lock = world.bring(wanted)
    text = format_lock(lock)
    assert text.startswith("# ")
    assert format_lock(parse_lock(text, "x")) == text
    data = yaml.safe_load(text)
    assert [one["repository"] for one in data["repositories"]] == [
        f"{UPSTREAM}/lib.git", f"{UPSTREAM}/top.git",
    ]  # fmt: skip
    assert data["repositories"][1]["submodules"][0]["path"] == "sub"


def test_differences_say_what_moved(world, wanted):
    old = world.bring(wanted)
    world.upstream.commit("lib", {"x": "y"}, tag="r1")
    new = world.bring(wanted)
    (moved,) = differences(old, new)
    assert moved.format().startswith(f"~ top: {UPSTREAM}/lib.git r1: ")
    assert [one.format()[0] for one in differences(Lock(), new)] == ["+"] * 4
    assert [one.format()[0] for one in differences(new, Lock())] == ["-"] * 4


ARCHIVE = LockedArchive("c", "n", "https://h/x.tgz", "0" * 64, 1, "archives/n/x.tgz", "a/x.tgz")


@pytest.mark.parametrize(
    ("key", "value"),
    [("file", "../x"), ("file", "/etc/x"), ("seed", "a/../../x"), ("seed", "-t"), ("file", "."),
     ("sha256", "xyz"), ("seed", "a\nb")],
)  # fmt: skip
def test_hostile_lock_is_refused(key, value):
    data = yaml.safe_load(format_lock(Lock(archives=(ARCHIVE,))))
    data["archives"][0][key] = value
    with pytest.raises(SourceError, match=r"^lock: n: "):
        parse_lock(yaml.safe_dump(data), "lock")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "version: 2", "x: [", "repositories: 3", "!!python/object/apply:os.system [id]",
     "repositories: [{component: c, repository: ext::x, ref: r, commit: c}]",
     "repositories: [{component: c, repository: /x, ref: r, commit: HEAD}]"],
)  # fmt: skip
def test_broken_lock_is_refused(text, tmp_path):
    path = tmp_path / LOCK_NAME
    path.write_text(text)
    with pytest.raises(SourceError):
        read_lock(path)
