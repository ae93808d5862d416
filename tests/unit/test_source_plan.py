"""The steps of a source build: order, needs, patches at their moment, and where things go."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from tritonbuild.errors import UsageError
from tritonbuild.plan.layout import SourceLayout
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Request, Setting, StepKind
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import RecipeBook

SHIPPED = RecipeBook.open()
BUILD_DIR = PurePosixPath("/b/server/build")


WORK_DIR = PurePosixPath("/w")
LAYOUTS = {
    "script": SourceLayout.of_script(BUILD_DIR),
    "work directory": SourceLayout.of_work_dir(WORK_DIR),
}


def make(book: RecipeBook = SHIPPED, *, layout="script", **request):
    request.setdefault("board", "orangepi5b")
    made = Request(provider=ProviderKind.SOURCE, **request)
    return make_plan(book, made, layout=LAYOUTS[layout])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("release", ["r23.12", "r24.01"])
@pytest.mark.parametrize("board", SHIPPED.names("boards"))
def test_every_step_needs_only_steps_before_it(board, release, layout):
    steps = make(board=board, release=release, layout=layout).steps
    names = [step.id for step in steps]
    assert len(set(names)) == len(names)
    for index, step in enumerate(steps):
        assert {*step.needs, *step.after} <= set(names[:index]), step.id


def test_each_component_goes_through_its_stages_in_order():
    steps = [step.id for step in make(components=("python",)).steps]
    stages = [
        "fetch-core", "configure-core", "build-core", "install-core",
        "fetch-python", "patch-python-boost-1-79-mirror", "configure-python", "build-python",
        "install-python",
    ]  # fmt: skip
    assert [name for name in steps if "core" in name or "python" in name] == steps
    assert [name for name in steps if name in stages] == stages
    around = [step.id for step in make(components=("python",), layout="work directory").steps]
    assert around == ["sources", "check-patches", *steps, "assemble", "verify"]


def test_components_are_chains_that_can_run_at_the_same_time():
    for layout in LAYOUTS:
        for step in make(layout=layout).steps:
            if step.component is not None:
                assert len(step.needs) == (0 if step.kind is StepKind.FETCH else 1), step.id
                assert all(step.component in name for name in step.needs), step.id


def test_in_a_work_directory_nothing_is_fetched_by_a_component():
    plan = make(layout="work directory")
    for step in plan.steps:
        for command in step.commands:
            assert command.argv[0] not in ("tritonbuild_download", "tritonbuild_fetch"), step.id
            assert "--depth=1" not in command.argv, step.id
    assert plan.find_step("fetch-rknn").after == ("sources", "check-patches")
    # Ubuntu 22.04, the board's usual system, has older headers of Boost than the core wants.
    boost, *others = plan.find_step("sources").details["archives"]
    assert (boost["component"], boost["name"]) == ("core", "boost")
    assert others == [
        {
            "component": "onnxruntime",
            "name": "onnxruntime",
            "url": "https://github.com/microsoft/onnxruntime/releases/download/v1.16.3/"
            "onnxruntime-linux-aarch64-1.16.3.tgz",
            "sha256": SHIPPED.release("r23.12").archives["onnxruntime"].files["arm64"].sha256,
        }
    ]


@pytest.fixture
def patched(tmp_path, monkeypatch):
    """Recipes whose core and rknn have a patch for each moment."""
    patches = tmp_path / "patches"
    patches.mkdir()
    for moment in ("fetch", "configure"):
        (patches / f"{moment}.yaml").write_text(
            f"schema: 1\nsummary: s\nwhy: w\nafter: {moment}\n"
            "edits:\n  - {file: a/b.txt, old: x, new: y, count: 2}\n"
        )
    changed = []
    for name in ("core", "rknn"):
        component = SHIPPED.component(name)
        update = {"patches": ("configure.yaml", "fetch.yaml"), "adjustments": ()}
        source = component.source.model_copy(update=update)
        changed.append(component.model_copy(update={"source": source}))
    monkeypatch.setattr("tritonbuild.recipe.load.data_dir", lambda _kind: patches)
    return SHIPPED.with_recipes("components", changed)


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


@pytest.mark.parametrize("moment", ["fetch", "configure"])
def test_another_patch_begins_with_files_that_the_old_one_has_not_touched(
    patched, tmp_path, moment
):
    choice = {"components": ("identity", "rknn"), "layout": "work directory"}
    before = make(patched, **choice)
    path = tmp_path / "patches" / f"{moment}.yaml"
    path.write_text(path.read_text().replace("new: y", "new: z"))
    after = make(patched, **choice)
    changed = {step.id for step in after.steps if step != before.find_step(step.id)}
    assert changed == {
        "check-patches",
        f"{moment}-core", f"patch-core-{moment}", f"{moment}-rknn", f"patch-rknn-{moment}",
    }  # fmt: skip


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
