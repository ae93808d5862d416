"""What a manifest holds, and that it notices every change of a tree."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from pathlib import Path

import pytest

from tritonbuild.errors import AssembleError
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Request
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import RecipeBook
from tritonbuild.stage.manifest import (
    check_manifest,
    format_manifest,
    make_manifest,
    read_manifest,
    write_manifest,
)

ORIGINS = {"bin/tritonserver": "some.whl", "model.py": "tritonbuild backends/x"}


@pytest.fixture(scope="module")
def plan():
    request = Request("orangepi5b", os="debian-12", provider=ProviderKind.WHEEL)
    return make_plan(RecipeBook.open(), request)


@pytest.fixture
def tree(tmp_path):
    return fill(tmp_path / "tree")


def fill(tree: Path) -> Path:
    (tree / "bin").mkdir(parents=True)
    (tree / "lib").mkdir()
    (tree / "bin/tritonserver").write_bytes(b"\x7fELF")
    (tree / "bin/tritonserver").chmod(0o755)
    (tree / "lib/libx.so.1").write_bytes(b"x" * 3_000_000)
    (tree / "lib/libx.so").symlink_to("libx.so.1")
    (tree / "model.py").write_text("pass\n")
    (tree / "empty").touch()
    return tree


def make(tree: Path, plan):
    tools, system = {"patchelf": "0.18"}, {"libc6": "2.36-9"}
    return make_manifest(tree, plan=plan, origins=ORIGINS, tools=tools, system=system)


def test_manifest_says_what_is_there_and_where_it_came_from(tree, plan):
    manifest = make(tree, plan)
    assert manifest["files"] == [
        {
            "path": "bin/tritonserver", "size": 4, "mode": "0755", "origin": "some.whl",
            "sha256": hashlib.sha256(b"\x7fELF").hexdigest(),
        },
        {
            "path": "empty", "size": 0, "mode": "0644", "origin": None,
            "sha256": hashlib.sha256(b"").hexdigest(),
        },
        {"path": "lib/libx.so", "link": "libx.so.1", "origin": None},
        {
            "path": "lib/libx.so.1", "size": 3_000_000, "mode": "0644", "origin": None,
            "sha256": hashlib.sha256(b"x" * 3_000_000).hexdigest(),
        },
        {
            "path": "model.py", "size": 5, "mode": "0644", "origin": "tritonbuild backends/x",
            "sha256": hashlib.sha256(b"pass\n").hexdigest(),
        },
    ]  # fmt: skip
    assert manifest["selection"]["board"] == "orangepi5b"
    assert manifest["release"] == {
        "name": "r23.12", "triton_version": "2.41.0", "date": "2023-12-22", "python": "3.11",
    }  # fmt: skip
    wheels = {wheel["distribution"]: wheel for wheel in manifest["wheels"]}
    assert wheels["nvidia-pytriton"]["filename"].startswith("nvidia_pytriton-0.5.0-")
    assert all(len(wheel["sha256"]) == 64 for wheel in wheels.values())
    assert manifest["tools"] == {"patchelf": "0.18"}
    assert manifest["system"] == {"libc6": "2.36-9"}


def test_two_trees_made_differently_have_one_manifest(tmp_path, plan):
    first = fill(tmp_path / "here")
    before = os.umask(0o077)
    try:
        second = fill(tmp_path / "some/other place")
        (second / "lib/__pycache__").mkdir()
        (second / "lib/__pycache__/x.cpython-311.pyc").touch()
        (second / "nothing in here").mkdir()
    finally:
        os.umask(before)
    os.utime(second / "model.py", (1, 1))
    assert format_manifest(make(first, plan)) == format_manifest(make(second, plan))


def test_manifest_names_neither_folder_nor_time(tree, plan, tmp_path):
    text = format_manifest(make(tree, plan))
    assert str(tmp_path) not in text
    assert str(Path.home()) not in text
    assert "mtime" not in text


def test_written_manifest_is_read_back_and_matches(tree, plan, tmp_path):
    manifest = make(tree, plan)
    write_manifest(tmp_path / "manifest.json", manifest)
    again = read_manifest(tmp_path / "manifest.json")
    assert again == json.loads(json.dumps(manifest))
    assert check_manifest(tree, again) == []


def test_manifest_inside_its_tree_does_not_list_itself(tree, plan):
    manifest = make(tree, plan)
    write_manifest(tree / "manifest.json", manifest)
    assert check_manifest(tree, manifest) == []
    assert make(tree, plan) == manifest
    # Further down it is a file like any other.
    (tree / "lib/manifest.json").touch()
    assert check_manifest(tree, manifest) == ["added: lib/manifest.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda t: (t / "empty").unlink(), "missing: empty", id="missing"),
        pytest.param(lambda t: (t / "new").touch(), "added: new", id="added"),
        pytest.param(
            lambda t: (t / "model.py").write_text("Pass\n"),
            "changed: model.py (sha256)",
            id="content",
        ),
        pytest.param(
            lambda t: (t / "model.py").write_text("passed\n"),
            "changed: model.py (sha256, size)",
            id="size",
        ),
        pytest.param(
            lambda t: (t / "bin/tritonserver").chmod(0o644),
            "changed: bin/tritonserver (mode)",
            id="mode",
        ),
        pytest.param(
            lambda t: ((t / "lib/libx.so").unlink(), (t / "lib/libx.so").symlink_to("../empty")),
            "changed: lib/libx.so (link)",
            id="link",
        ),
        pytest.param(
            lambda t: ((t / "empty").unlink(), (t / "empty").symlink_to("model.py")),
            "changed: empty (link, mode, sha256, size)",
            id="file-to-link",
        ),
    ],
)
def test_every_change_is_noticed(tree, plan, change, said):
    manifest = make(tree, plan)
    change(tree)
    assert check_manifest(tree, manifest) == [said]


def test_several_differences_come_sorted_by_file(tree, plan):
    manifest = make(tree, plan)
    (tree / "aaa").touch()
    (tree / "model.py").unlink()
    (tree / "bin/tritonserver").write_text("")
    said = [line.split()[1] for line in check_manifest(tree, manifest)]
    assert said == ["aaa", "bin/tritonserver", "model.py"]


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("/etc/passwd", id="absolute"),
        pytest.param("../../../etc/passwd", id="up"),
        pytest.param("../../tree/model.py", id="out-and-in-again"),
        pytest.param("up/../secret", id="through-another-link"),
    ],
)
def test_link_out_of_the_tree_is_refused(tree, plan, target):
    (tree / "lib/up").symlink_to("..")
    (tree / "lib/bad").symlink_to(target)
    with pytest.raises(AssembleError, match="the link lib/bad leads out of the tree"):
        make(tree, plan)


def test_link_to_a_folder_is_a_link_not_a_folder(tree, plan):
    (tree / "libs").symlink_to("lib")
    (tree / "dangling").symlink_to("not/there")
    files = {entry["path"]: entry for entry in make(tree, plan)["files"]}
    assert files["libs"] == {"path": "libs", "link": "lib", "origin": None}
    assert files["dangling"]["link"] == "not/there"
    assert not any(path.startswith("libs/") for path in files)


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_what_is_no_file_is_refused(tree, plan, kind, monkeypatch):
    if kind == "fifo":
        os.mkfifo(tree / "lib/odd")
    else:
        monkeypatch.chdir(tree / "lib")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("odd")
    with pytest.raises(AssembleError, match="lib/odd is neither a file, a folder nor a link"):
        make(tree, plan)


def test_missing_tree_is_an_error(tmp_path, plan):
    with pytest.raises(AssembleError, match="cannot read the folder"):
        make(tmp_path / "nowhere", plan)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param("{", "not a manifest", id="not-json"),
        pytest.param("[]", "not a manifest of version", id="not-an-object"),
        pytest.param('{"version": 99, "files": []}', "not a manifest of version", id="version"),
        pytest.param('{"version": 1}', "not a manifest of version", id="no-files"),
        pytest.param(b"\xff\xfe", "not a manifest", id="not-text"),
    ],
)
def test_broken_manifest_is_an_error_with_a_way_out(tmp_path, text, words):
    path = tmp_path / "manifest.json"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AssembleError, match=words) as caught:
        read_manifest(path)
    assert caught.value.hint
