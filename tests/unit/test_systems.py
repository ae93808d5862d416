"""When compilers in the cache count, and when they are looked for again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import PurePosixPath

import pytest

from tritonbuild.arch import Arch
from tritonbuild.engine.systems import are_step_compilers_there
from tritonbuild.executors.compilers import compilers_spec_of
from tritonbuild.executors.rootfs import Root, root_spec_of
from tritonbuild.plan.layout import SourceLayout
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Executor, Request
from tritonbuild.recipe.load import RecipeBook


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Arch, "native", classmethod(lambda _cls: Arch.AMD64))
    request = Request("orangepi5b", os="debian-12", executor=Executor.EMULATED)
    layout = SourceLayout.of_work_dir(PurePosixPath("/w"))
    return make_plan(RecipeBook.open(), request, layout=layout)


@pytest.fixture
def root(plan, tmp_path) -> Root:
    made = Root(tmp_path / "roots" / root_spec_of(plan.find_step("build-root")).key)
    made.tree.mkdir(parents=True)
    write_version(made, "12.2.0-14+deb12u1")
    return made


def write_version(root: Root, version: str) -> None:
    content = {"packages": {"g++-12": {"version": version, "files": []}}}
    root.packages_path.write_text(json.dumps(content))


def make_compilers(plan, root: Root, cache, difference: str | None):
    """Make what looks like compilers for a root; return their folder."""
    spec = compilers_spec_of(plan.find_step("compilers"), root, Arch.ARM64)
    folder = cache / "compilers" / spec.key
    (folder / "tree").mkdir(parents=True)
    (folder / "check.json").write_text(json.dumps({"version": "g++", "difference": difference}))
    return folder


def is_there(plan, cache, folder) -> bool:
    return are_step_compilers_there(plan, plan.find_step("compilers"), folder, cache)


def test_compilers_that_could_not_be_had_are_looked_for_in_the_next_build(plan, root, tmp_path):
    assert not is_there(plan, tmp_path, None)
    folder = make_compilers(plan, root, tmp_path, None)
    assert not is_there(plan, tmp_path, None), "scripts would use them, and the step does not know"
    assert is_there(plan, tmp_path, str(folder))


def test_compilers_that_are_different_are_not_looked_for_again(plan, root, tmp_path):
    folder = make_compilers(plan, root, tmp_path, "one file came out differently")
    assert is_there(plan, tmp_path, None)
    assert not is_there(plan, tmp_path, str(folder))


def test_without_acceleration_there_is_nothing_to_look_for(plan, root, tmp_path):
    chosen = dataclasses.replace(plan.selection, accelerate=False)
    assert is_there(dataclasses.replace(plan, selection=chosen), tmp_path, None)


def test_compilers_are_checked_anew_for_a_root_with_other_packages(plan, root, tmp_path):
    folder = make_compilers(plan, root, tmp_path, None)
    write_version(root, "12.2.0-14+deb12u2")
    assert not is_there(plan, tmp_path, str(folder))
