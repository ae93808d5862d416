"""What BuildKit is given: made anew where what it is made of has changed."""

from __future__ import annotations

import tarfile

import pytest

from tritonbuild.engine.containers import ContainerBuild
from tritonbuild.errors import UsageError
from tritonbuild.executors.buildx import BuildxOptions, check_cache_spec
from tritonbuild.executors.rootfs import Root
from tritonbuild.paths import Workspace
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Executor, Request
from tritonbuild.recipe.load import RecipeBook


def make_root(folder, version: str) -> Root:
    (folder / "root" / "usr").mkdir(parents=True, exist_ok=True)
    (folder / "root" / "usr" / "version").write_text(version)
    (folder / "packages.json").write_text(f'{{"packages": {{"a": {{"version": "{version}"}}}}}}')
    return Root(folder)


def read_version(archive) -> str:
    with tarfile.open(archive) as tar:
        member = tar.extractfile("usr/version")
        assert member
        return member.read().decode()


def test_root_that_was_made_anew_with_newer_packages_is_packed_anew(tmp_path):
    book = RecipeBook.open(None)
    request = Request(board="orangepi5b", os="debian-12", executor=Executor.BUILDX)
    ws = Workspace(tmp_path / "work")
    ws.context_dir.mkdir(parents=True)
    build = ContainerBuild(make_plan(book, request), ws, book, tmp_path / "cache", BuildxOptions())
    archive = ws.context_dir / "build-root.tar"
    build._write_root("build-root", make_root(tmp_path / "r", "1"))
    first = archive.stat().st_ino
    build._write_root("build-root", make_root(tmp_path / "r", "1"))
    assert archive.stat().st_ino == first, "the same is not packed again"
    build._write_root("build-root", make_root(tmp_path / "r", "2"))
    assert read_version(archive) == "2"


@pytest.mark.parametrize(
    "spec",
    [
        "type=s3,region=r,bucket=b,secret_access_key=x",
        "type=s3,access_key_id=x",
        "type=azblob,name=n,secret_access_key=x",
        "type=gha,token=x",
        'type=s3,"session_token=x"',
    ],
)
def test_secret_in_a_cache_is_refused_because_scripts_and_logs_would_show_it(spec):
    with pytest.raises(UsageError) as caught:
        check_cache_spec(spec)
    assert "=x" not in caught.value.message


@pytest.mark.parametrize(
    "spec",
    ["type=registry,ref=127.0.0.1:5000/cache,mode=max", "type=gha,scope=a", "user/app:cache"],
)
def test_cache_without_a_secret_is_taken(spec):
    check_cache_spec(spec)
