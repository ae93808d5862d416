"""Plans: stable, complete, and keyed by everything that decides a result."""

from __future__ import annotations

import dataclasses
import json
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonbuild.plan.layout import SourceLayout
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import (
    Command,
    Executor,
    Request,
    Setting,
    Step,
    StepKind,
    key_of,
    key_parts_of,
)
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import RecipeBook


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    # Opened from a folder without ./recipes: the shipped ones only.
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        return RecipeBook.open()


EVERYTHING = [
    (board, os, release, provider)
    for board in ("generic-arm64", "orangepi5b")
    for os in ("debian-12", "ubuntu-22.04")
    for release in ("r23.12", "r24.01")
    for provider in (ProviderKind.SOURCE, ProviderKind.WHEEL)
]


@pytest.mark.parametrize(("board", "os", "release", "provider"), EVERYTHING)
def test_every_combination_has_a_plan_whose_steps_come_after_what_they_need(
    book, board, os, release, provider
):
    plan = make_plan(book, Request(board, os=os, release=release, provider=provider))
    seen: set[str] = set()
    for step in plan.steps:
        assert set(step.needs) <= seen
        assert step.why
        seen.add(step.id)
    assert len(seen) == len(plan.steps)
    assert json.loads(plan.to_json())["selection"]["os"] == os
    assert bool(plan.jobs) is (provider is ProviderKind.SOURCE)


def test_wheel_plan_pins_every_file_and_names_its_limits(book):
    plan = make_plan(book, Request("orangepi5b", os="debian-12", provider=ProviderKind.WHEEL))
    fetches = [step for step in plan.steps if step.kind is StepKind.FETCH]
    assert {step.details["distribution"] for step in fetches} == {
        "nvidia-pytriton", "numpy", "onnxruntime", "rknn-toolkit-lite2", "psutil", "ruamel.yaml",
    }  # fmt: skip
    assert all(len(str(step.details["sha256"])) == 64 for step in fetches)
    assert [step.id for step in plan.steps if not step.id.startswith("fetch-")] == [
        "root", "assemble", "verify",
    ]  # fmt: skip
    text = "\n".join(plan.notes)
    assert "built without TRITON_ENABLE_MALI_GPU" in text
    assert "GPU-enabled build" in text
    assert "Python-based backend" in text


@pytest.mark.parametrize(("os", "tag"), [("debian-12", "cp311"), ("ubuntu-22.04", "cp310")])
def test_wheels_and_stub_are_those_of_the_systems_python(book, os, tag):
    plan = make_plan(book, Request("orangepi5b", os=os, provider=ProviderKind.WHEEL))
    assert tag in str(plan.find_step("fetch-numpy").details["filename"])
    assert plan.find_step("assemble").details["python"] == f"3.{tag[3:]}"


def test_required_components_are_added_and_it_is_said_for_whom(book):
    request = Request("orangepi5b", components=("rknn",), provider=ProviderKind.WHEEL)
    chosen = make_plan(book, request).selection
    assert chosen.components == ("core", "python", "rknn")
    assert chosen.added == {"core": "rknn", "python": "rknn"}
    source = make_plan(book, dataclasses.replace(request, provider=ProviderKind.SOURCE))
    assert source.selection.components == ("core", "rknn")


def test_order_and_repetition_of_components_do_not_matter(book):
    plans = [
        make_plan(book, Request("orangepi5b", components=names)).selection.components
        for names in (("python", "core", "python"), ("core", "python"))
    ]
    assert plans[0] == plans[1] == ("core", "python")


@pytest.mark.parametrize(("mirror", "host"), [("upstream", "archive.ubuntu.com"), ("cn", "aliyun")])
def test_programs_of_the_building_machine_come_from_ubuntus_archive_for_it(book, mirror, host):
    """Ubuntu's archive for arm64 has no packages for amd64."""
    request = Request("orangepi5b", os="ubuntu-22.04", executor=Executor.CROSS, mirror=mirror)
    plan = make_plan(book, request, layout=SourceLayout.of_work_dir(PurePosixPath("/w")))
    for step in ("tools-root", "compilers"):
        address = str(plan.find_step(step).details["mirror"])
        assert host in address
        assert address.endswith("/ubuntu")
    for step in ("root", "build-root"):
        assert str(plan.find_step(step).details["mirror"]).endswith("/ubuntu-ports")


def test_mirror_decides_where_pip_and_apt_look(book):
    request = Request("orangepi5b", os="debian-12", provider=ProviderKind.WHEEL)
    upstream, cn = (
        make_plan(book, dataclasses.replace(request, mirror=mirror))
        for mirror in ("upstream", "cn")
    )
    assert upstream.find_step("fetch-numpy").details["index"] is None, "the user's own settings"
    assert upstream.find_step("root").details["mirror"] is None
    assert str(cn.find_step("fetch-numpy").details["index"]).startswith("https://mirrors.aliyun")
    assert str(cn.find_step("root").details["mirror"]).endswith("/debian")
    checksums = [plan.find_step("fetch-numpy").details["sha256"] for plan in (upstream, cn)]
    assert checksums[0] == checksums[1]


# --- flags ----------------------------------------------------------------------------------


def flags_of(book, component, *settings, board="orangepi5b", components=()):
    request = Request(board, components=components, settings=tuple(Setting(*s) for s in settings))
    return {flag.name: flag for flag in make_plan(book, request).flags[component]}


def test_board_switch_wins_over_recipe_and_says_why(book):
    flag = flags_of(book, "core")["TRITON_ENABLE_MALI_GPU"]
    assert flag.value == "ON"
    assert flag.origin.startswith("boards/orangepi5b: without it")
    assert flags_of(book, "core", board="generic-arm64")["TRITON_ENABLE_MALI_GPU"].value == "OFF"


def test_setting_of_core_reaches_the_backends_that_take_it_from_there(book):
    setting = ("core", "TRITON_ENABLE_MALI_GPU", "ON")
    flags = flags_of(book, "python", setting)
    assert flags["TRITON_ENABLE_MALI_GPU"].value == "ON"


def test_ensemble_is_a_switch_of_core(book):
    on = flags_of(book, "core", components=("core", "ensemble"))
    off = flags_of(book, "core", components=("core",))
    assert on["TRITON_ENABLE_ENSEMBLE"].value == "ON"
    assert off["TRITON_ENABLE_ENSEMBLE"].value == "OFF"


def test_new_flag_goes_to_the_end_and_keeps_the_order_of_the_others(book):
    before = list(flags_of(book, "core"))
    assert list(flags_of(book, "core", ("core", "MY_FLAG", "1"))) == [*before, "MY_FLAG"]


def test_last_setting_of_a_flag_wins(book):
    flags = flags_of(book, "core", ("core", "A", "1"), ("core", "A", "2"))
    assert flags["A"].value == "2"


# --- keys -----------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
details = st.dictionaries(st.text(), json_values, max_size=4)


def key(step, needed=(), inputs=()):
    numbered = {str(number): one for number, one in enumerate(needed)}
    return key_of(key_parts_of(step, numbered, dict(inputs)))


def make_step(details, *, why="w", title="t", commands=()):
    return Step("a", StepKind.FETCH, title, why, commands=tuple(commands), details=details)


@given(details)
def test_key_does_not_depend_on_the_order_of_details_or_on_words(found):
    turned = dict(reversed(list(found.items())))
    assert key(make_step(found), ["k"]) == key(make_step(turned, why="x", title="y"), ["k"])


@given(details, details)
def test_key_is_another_one_for_other_details(first, second):
    keys = [key(make_step(found)) for found in (first, second)]
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (keys[0] == keys[1]) is same


@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_key_depends_on_what_is_needed(first, second):
    keys = [key(make_step({}), found) for found in (first, second)]
    assert (keys[0] == keys[1]) is (first == second)


@given(st.lists(st.text(), min_size=1, max_size=3), st.lists(st.text(), min_size=1, max_size=3))
def test_key_depends_on_commands(first, second):
    keys = [key(make_step({}, commands=[Command(tuple(argv))])) for argv in (first, second)]
    assert (keys[0] == keys[1]) is (first == second)
