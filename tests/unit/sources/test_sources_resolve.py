"""Everything that a plan takes from outside: nested sources, submodules, archives, views."""

from __future__ import annotations

import shutil

import pytest

from tritonbuild.errors import SourceError
from tritonbuild.sources.lock import format_lock, parse_lock
from tritonbuild.sources.resolve import ArchiveWanted, is_intact

UPSTREAM = "https://upstream.invalid"

SERVER = """
cmake_minimum_required(VERSION 3.18)
project(server)
set(CORE_TAG "main" CACHE STRING "Tag of core")
option(ENABLE_S3 "S3" OFF)
include(FetchContent)
FetchContent_Declare(
  repo-core
  GIT_REPOSITORY https://upstream.invalid/core.git  # a comment
  GIT_TAG ${CORE_TAG}
  GIT_SHALLOW ON
)
FetchContent_Declare(repo-third GIT_REPOSITORY https://upstream.invalid/third GIT_TAG ${CORE_TAG})
FetchContent_MakeAvailable(repo-core repo-third)
include(ExternalProject)
ExternalProject_Add(inner
  SOURCE_DIR "${CMAKE_CURRENT_SOURCE_DIR}/src"
  BINARY_DIR "${CMAKE_CURRENT_BINARY_DIR}/inner"
  CMAKE_CACHE_ARGS -DCORE_TAG:STRING=${CORE_TAG} -DX:BOOL=ON
)
"""
INNER = """
FetchContent_Declare(repo-common GIT_REPOSITORY https://upstream.invalid/common.git
  GIT_TAG ${CORE_TAG})
FetchContent_MakeAvailable(repo-common)
"""
THIRD = """
ExternalProject_Add(libevent
  PREFIX libevent
  GIT_REPOSITORY "https://upstream.invalid/libevent.git"
  GIT_TAG "release-2.1")
ExternalProject_Add(aws GIT_REPOSITORY https://upstream.invalid/aws.git GIT_TAG 1.0)
ExternalProject_Add(boostorg
  PREFIX "${CMAKE_CURRENT_BINARY_DIR}/boost-src"
  URL https://files.invalid/release/pack-1.0.tar.gz
  URL_HASH SHA256=@sha@
  CONFIGURE_COMMAND "")
"""


@pytest.fixture
def nested(world, tarball, sha256_of, mirror_of):
    """A server whose sources are in six repositories and an archive."""
    up = world.upstream
    up.commit("common", {"CMakeLists.txt": "project(common)\n"}, tag="r1")
    up.commit("core", {"CMakeLists.txt": "project(core)\n", "core.cc": "int x;\n"}, tag="r1")
    up.commit("libevent", {"README": "x"}, tag="release-2.1")
    up.commit("third", {"CMakeLists.txt": THIRD.replace("@sha@", sha256_of(tarball))}, tag="r1")
    up.commit("server", {"CMakeLists.txt": SERVER, "src/CMakeLists.txt": INNER}, tag="r1")
    rule = {"from": "https://files.invalid/release/", "to": f"file://{tarball.parent}/"}
    world.mirrors.append(mirror_of(archives=[rule]))
    variables = {"server": {"CORE_TAG": "r1"}}
    externals = {"server": {"aws": "ENABLE_S3"}}
    return world.want(("server", "r1"), variables=variables, externals=externals)


def test_nested_sources_are_found_fetched_and_clonable(world, nested):
    lock = world.bring(nested)
    found = {one.repository.rpartition("/")[2]: one for one in lock.repositories}
    assert set(found) == {"server.git", "core.git", "third", "common.git", "libevent.git"}
    assert found["libevent.git"].via == "libevent"
    assert found["libevent.git"].declared == "third/CMakeLists.txt"
    assert {one.ref for one in found.values()} == {"r1", "release-2.1"}
    assert lock.notes == ()
    assert is_intact(lock, world.store)
    for url in (f"{UPSTREAM}/core.git", f"{UPSTREAM}/core", f"{UPSTREAM}/core/",
                "http://upstream.invalid/core.git"):  # fmt: skip
        clone = world.clone(url, "r1", "--depth=1")
        assert (clone / "core.cc").is_file()
    world.clone(f"{UPSTREAM}/third", "r1")


def test_archive_of_cmake_lies_where_cmake_looks_for_it(world, nested, tarball, sha256_of):
    (archive,) = world.bring(nested).archives
    assert archive.seed == "_deps/repo-third-build/boost-src/src/pack-1.0.tar.gz"
    assert archive.file == "archives/boostorg/pack-1.0.tar.gz"
    assert archive.sha256 == sha256_of(world.store / archive.file) == sha256_of(tarball)
    assert archive.size == tarball.stat().st_size


def test_external_is_fetched_once_its_switch_is_on(world, nested):
    world.upstream.commit("aws", {"x": "y"}, tag="1.0")
    nested.variables["server"]["ENABLE_S3"] = "ON"
    assert f"{UPSTREAM}/aws.git" in {one.repository for one in world.bring(nested).repositories}


def test_lock_is_read_back_and_holds_the_build_to_it(world, nested):
    lock = world.bring(nested)
    assert parse_lock(format_lock(lock), "x") == lock
    assert world.bring(nested, lock=lock) == lock
    world.upstream.commit("core", {"core.cc": "int y;\n"}, tag="r1")
    with pytest.raises(SourceError, match="r1 is not the commit that the lock holds") as err:
        world.bring(nested, lock=lock)
    locked = next(one.commit for one in lock.repositories if "core" in one.repository)
    assert locked in err.value.message
    assert "lock --update" in err.value.hint


def test_everything_works_from_the_cache_without_upstream(world, nested):
    lock = world.bring(nested)
    shutil.move(world.upstream.root, world.tmp / "away")
    shutil.rmtree(world.store)
    assert world.bring(nested, offline=True) == lock
    assert world.bring(nested, lock=lock) == lock
    assert is_intact(lock, world.store)
    world.clone(f"{UPSTREAM}/core.git", "r1")
    shutil.rmtree(world.cache / "git")
    assert not is_intact(lock, world.store)


def test_submodules_are_reached_through_the_mirror(world):
    up = world.upstream
    up.commit("deep", {"deep.txt": "deep"})
    up.commit("sub", {"sub.txt": "1"})
    deep = up.add_submodule("sub", "inside/deep", "../deep.git", "deep")
    sub = up.add_submodule_target = run_head(up, "sub")
    up.commit("sub", {"sub.txt": "newer"})
    up.commit("top", {"x": "y"})
    folder = up.path("top")
    (folder / ".gitmodules").write_text(
        f'[submodule "sub"]\n\tpath = sub\n\turl = {UPSTREAM}/sub\n'
        '[submodule "unused"]\n\tpath = gone\n\turl = https://nowhere.invalid/gone.git\n'
    )
    git_add(folder, sub)
    up.tag("top", "v1")
    (top,) = world.bring(world.want(("top", "v1"))).repositories
    assert [(one.path, one.commit) for one in top.submodules] == [
        ("sub", sub), ("sub/inside/deep", deep),
    ]  # fmt: skip
    clone = world.clone(
        f"{UPSTREAM}/top.git", "v1", "--recursive", "--depth=1", "--shallow-submodules"
    )
    assert (clone / "sub/sub.txt").read_text() == "1"
    assert (clone / "sub/inside/deep/deep.txt").read_text() == "deep"


def run_head(up, name):
    from subprocess import check_output

    return check_output(["git", "-C", up.path(name), "rev-parse", "HEAD"], text=True).strip()


def git_add(folder, commit):
    from subprocess import check_call

    check_call(["git", "-C", folder, "add", ".gitmodules"])
    check_call(
        ["git", "-C", folder, "update-index", "--add", "--cacheinfo", f"160000,{commit},sub"]
    )
    check_call(
        ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "s"]
    )


def test_archive_without_a_checksum_is_noted_and_then_enforced(world, tarball, sha256_of, capsys):
    wanted = ArchiveWanted("onnxruntime", tarball.as_uri(), None, "onnxruntime")
    lock = world.bring(world.want(archives=(wanted,)))
    assert lock.archives[0].file == "archives/onnxruntime/pack-1.0.tar.gz"
    assert lock.archives[0].sha256 in capsys.readouterr().err
    shutil.rmtree(world.cache)
    tarball.write_bytes(b"\x1f\x8b something else")
    with pytest.raises(SourceError, match="sha256 is not what it should be"):
        world.bring(world.want(archives=(wanted,)), lock=lock)
