"""The steps of a source build: order, needs, patches at their moment, and where things go."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from tritonbuild.errors import UsageError
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Request, Setting, StepKind
from tritonbuild.recipe.load import RecipeBook
from tritonbuild.recipe.model import ProviderKind

SHIPPED = RecipeBook.open()
BUILD_DIR = PurePosixPath("/b/server/build")


def make(book: RecipeBook = SHIPPED, **request):
    request.setdefault("board", "orangepi5b")
    return make_plan(book, Request(provider=ProviderKind.SOURCE, **request), build_dir=BUILD_DIR)


@pytest.mark.parametrize("release", SHIPPED.names("releases"))
@pytest.mark.parametrize("board", SHIPPED.names("boards"))
def test_every_step_needs_only_steps_before_it(board, release):
    steps = make(board=board, release=release).steps
    names = [step.id for step in steps]
    assert len(set(names)) == len(names)
    for index, step in enumerate(steps):
        assert set(step.needs) <= set(names[:index]), step.id
        assert bool(step.needs) == (step.kind is not StepKind.FETCH), step.id


def test_each_component_goes_through_its_stages_in_order():
    steps = [step.id for step in make(components=("python",)).steps]
    assert steps == [
        "fetch-core", "configure-core", "build-core", "install-core",
        "fetch-python", "patch-python-boost-1-79-mirror", "configure-python", "build-python",
        "install-python",
    ]  # fmt: skip


def test_backend_is_configured_after_the_core_is_there_and_the_patches_are_in():
    steps = {step.id: step for step in make(components=("python",)).steps}
    assert set(steps["configure-python"].needs) == {
        "patch-python-boost-1-79-mirror", "install-core",
    }  # fmt: skip


@pytest.fixture
def patched(tmp_path, monkeypatch):
    """Recipes whose core and python have a patch for each moment."""
    patches = tmp_path / "patches"
    patches.mkdir()
    for moment in ("fetch", "configure"):
        (patches / f"{moment}.yaml").write_text(
            f"schema: 1\nsummary: s\nwhy: w\nafter: {moment}\n"
            "edits:\n  - {file: a/b.txt, old: x, new: y, count: 2}\n"
        )
    shipped = SHIPPED.folders[-1]
    recipes = tmp_path / "recipes"
    (recipes / "components").mkdir(parents=True)
    for name in ("core", "rknn"):
        text = (shipped / "components" / f"{name}.yaml").read_text()
        assert text.count("\nsource:\n") == 1
        text = text.replace("\nsource:\n", "\nsource:\n  patches: [configure.yaml, fetch.yaml]\n")
        (recipes / "components" / f"{name}.yaml").write_text(text)
    monkeypatch.setattr("tritonbuild.recipe.load.data_dir", lambda _kind: patches)
    return RecipeBook((recipes, shipped))


@pytest.mark.parametrize(
    ("component", "folder"), [("core", "/b/server"), ("rknn", "/b/server/build/rknn")]
)
def test_patches_stand_at_their_moment(patched, component, folder):
    steps = [s for s in make(patched, components=(component,)).steps if s.component == component]
    assert [step.kind for step in steps] == [
        StepKind.FETCH, StepKind.PATCH, StepKind.CONFIGURE, StepKind.PATCH, StepKind.BUILD,
        StepKind.INSTALL,
    ]  # fmt: skip
    assert [step.needs[0] for step in steps[1:]] == [step.id for step in steps[:-1]]
    command = steps[1].commands[0]
    assert command.argv == ("tritonbuild_edit", f"{folder}/a/b.txt", "2", "x", "y")


def test_step_ids_differ_where_components_share_a_patch(patched):
    names = [step.id for step in make(patched, components=("core", "rknn")).steps]
    assert len(set(names)) == len(names)


def test_setting_overrides_in_place_and_new_names_go_to_the_end():
    settings = (Setting("python", "TRITON_ENABLE_STATS", "OFF"), Setting("python", "MINE", "a b"))
    plan = make(components=("python",), settings=settings)
    arguments = [flag.to_argument() for flag in plan.flags["python"]]
    assert arguments[-3:] == [
        "-DTRITON_ENABLE_STATS:BOOL=OFF", "-DTRITON_ENABLE_METRICS:BOOL=ON", "-DMINE=a b",
    ]  # fmt: skip
    configure = next(step for step in plan.steps if step.id == "configure-python")
    assert configure.commands[-1].argv == ("cmake", *arguments, "..")


@pytest.mark.parametrize("component", ["core", "rknn"])
def test_npu_board_with_rknn_keeps_its_switch(component):
    settings = (Setting(component, "TRITON_ENABLE_MALI_GPU", "OFF"),)
    with pytest.raises(UsageError, match=r"orangepi5b with rknn needs .*TRITON_ENABLE_MALI_GPU=ON"):
        make(settings=settings)
    if component == "core":
        assert make(settings=settings, components=("python",)).steps
