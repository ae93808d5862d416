"""Run paths of a tree of real arm64 libraries, taken from the board's own system."""

from __future__ import annotations

import shutil

import pytest

from tritonbuild import proc
from tritonbuild.stage.elffile import read_elf
from tritonbuild.stage.patchelf import get_patchelf
from tritonbuild.stage.runpath import list_elf_files, set_run_paths

pytestmark = pytest.mark.network


@pytest.fixture
def tree(tmp_path, made_root):
    """`lib/libz.so.1` and a program below it that needs it (python needs libz, libexpat)."""
    (libz,) = made_root.tree.glob("lib/aarch64-linux-gnu/libz.so.1")
    tree = tmp_path / "tree"
    for folder in ("lib", "bin", "backends/python"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(libz, tree / "lib/libz.so.1")
    shutil.copy(made_root.tree / "usr/bin/python3.11", tree / "bin/python")
    shutil.copy(tree / "bin/python", tree / "backends/python/stub")
    (tree / "bin/script").write_text("#!/bin/sh\n")
    (tree / "lib/link.so").symlink_to("libz.so.1")
    return tree


def run_path_of(path):
    elf = read_elf(path)
    return elf.rpath if elf.runpath is None else elf.runpath


def test_way_to_lib_is_relative_and_added_only_where_it_is_needed(tree):
    assert set_run_paths(tree, get_patchelf()) == 2
    assert run_path_of(tree / "bin/python") == ("$ORIGIN/../lib",)
    assert run_path_of(tree / "backends/python/stub") == ("$ORIGIN/../../lib",)
    assert run_path_of(tree / "lib/libz.so.1") == ()


def test_second_pass_changes_nothing(tree):
    set_run_paths(tree, get_patchelf())
    before = {path: path.read_bytes() for path in list_elf_files(tree)}
    assert set_run_paths(tree, get_patchelf()) == 0
    assert {path: path.read_bytes() for path in list_elf_files(tree)} == before


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param("/opt/tritonserver/lib", ("$ORIGIN/../lib",), id="absolute"),
        pytest.param("$ORIGIN/../..", ("$ORIGIN/../lib",), id="outside"),
        pytest.param("$ORIGIN/../nowhere", ("$ORIGIN/../lib",), id="no-folder"),
        pytest.param("$ORIGIN/../lib:/usr/lib", ("$ORIGIN/../lib",), id="one-of-two"),
        pytest.param("${ORIGIN}/../lib", ("${ORIGIN}/../lib",), id="braces"),
        pytest.param("$ORIGIN", ("$ORIGIN", "$ORIGIN/../lib"), id="own-folder"),
        pytest.param("lib", ("$ORIGIN/../lib",), id="relative-to-who-knows-what"),
    ],
)
def test_entries_that_lead_outside_are_dropped(tree, given, kept):
    program = tree / "bin/python"
    proc.run([str(get_patchelf()), "--set-rpath", given, str(program)])
    set_run_paths(tree, get_patchelf())
    assert run_path_of(program) == kept


def test_tree_without_lib_folder_is_no_error(tree):
    shutil.rmtree(tree / "lib")
    set_run_paths(tree, get_patchelf())


def test_damaged_elf_file_is_left_to_the_check_of_the_tree(tree):
    for name in ("lib/broken.so", "lib/short.so"):
        (tree / name).write_bytes(b"\x7fELFxxxx"[: 8 if "broken" in name else 4])
    assert set_run_paths(tree, get_patchelf()) == 2
    assert (tree / "lib/broken.so").read_bytes() == b"\x7fELFxxxx"


def test_elf_files_are_regular_files_with_the_magic(tree):
    names = [str(path.relative_to(tree)) for path in list_elf_files(tree)]
    assert names == ["backends/python/stub", "bin/python", "lib/libz.so.1"]
