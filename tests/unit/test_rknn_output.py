"""`smoke --rknn` on recorded outputs of rknn_yolov5_demo, whole and damaged."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonbuild.smoke.rknn.compare import intersection_over_union

RECORDINGS = Path(__file__).parents[1] / "recordings" / "rknn_yolov5_demo"
NEW, OLD = RECORDINGS / "sdk-1.5.2.txt", RECORDINGS / "sdk-1.4.0.txt"
# Reads the picture when the model is loaded.
NEWEST = RECORDINGS / "sdk-2.0.0.txt"


@pytest.fixture
def judge(cli, tmp_path):
    """Return what `smoke --rknn --recorded` says of a text."""

    def run(text: str, *options: str):
        path = tmp_path / "recorded.txt"
        path.write_text(text, encoding="utf-8")
        return cli("smoke", "--rknn", "--recorded", str(path), *options)

    return run


@pytest.mark.parametrize("recording", [NEWEST, NEW, OLD], ids=lambda path: path.stem)
def test_all_baselines_pass(judge, recording):
    outcome = judge(recording.read_text(encoding="utf-8"), "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["passed"]
    assert found["demo"]["baseline"] == recording.stem
    assert [one["label"] for one in found["demo"]["objects"]].count("person") == 4
    assert min(one["iou"] for one in found["demo"]["objects"]) == 1


def test_everything_that_is_printed_is_read(judge):
    text = NEW.read_text(encoding="utf-8")
    demo = json.loads(judge(text, "--json", "--soc", "rk3588").out)["demo"]
    assert demo["sdk"] == "1.5.2 (c6b7b351a@2023-08-23T15:28:22)"
    assert demo["driver"] == "0.8.2"
    assert (demo["inputs"], demo["outputs"]) == (["images"], ["output", "283", "285"])
    assert demo["thresholds"] == {"box": 0.25, "nms": 0.45}
    assert (demo["once_ms"], demo["average_ms"], demo["expected_ms"]) == (22.727, 20.8728, 20.8728)
    assert demo["slow"] is None


def test_order_is_that_of_one_version(judge):
    lines = NEWEST.read_text(encoding="utf-8").splitlines(keepends=True)
    picture = next(line for line in lines if line.startswith("Read "))
    lines.remove(picture)
    lines.insert(lines.index("model is NHWC input fmt\n"), picture)
    outcome = judge("".join(lines))
    assert outcome.code == 10
    assert "out of order: the model's layout" in outcome.err
    assert "comes after the picture's name" in outcome.err


def test_libraries_own_lines_do_not_matter(judge):
    text = NEW.read_text(encoding="utf-8")
    noise = "rga_api version 1.9.1_[4]\nI RKNN: [01:19:04.510] RKNN Driver Information: 0.8.2\n"
    outcome = judge(text.replace("once run use", f"{noise}once run use"))
    assert outcome.code == 0, outcome.err


def test_what_an_editor_does_to_a_text_does_not_matter(judge):
    text = NEW.read_text(encoding="utf-8")
    outcome = judge("\ufeff" + text.replace("\n", "\r\n"))
    assert outcome.code == 0, outcome.err


def test_objects_may_come_in_any_order_and_move_a_little(judge):
    lines = NEW.read_text(encoding="utf-8").splitlines()
    objects = [line for line in lines if " @ (" in line]
    for line, moved in zip(objects, reversed(objects), strict=True):
        lines[lines.index(line)] = f"#{moved}"
    text = "\n".join(line.removeprefix("#") for line in lines)
    text = text.replace("(209 244 286 506) 0.884139", "(212 241 284 509) 0.814139")
    assert judge(text).code == 0


def test_slow_run_is_a_warning_with_reasons(judge):
    text = NEW.read_text(encoding="utf-8").replace("20.872800", "61.000000")
    outcome = judge(text, "--soc", "rk3588")
    assert outcome.code == 0
    assert "2.9 times" in outcome.err
    assert "governor" in outcome.err


def drop(start: str):
    return lambda text: re.sub(rf"^{re.escape(start)}.*\n", "", text, flags=re.MULTILINE)


def swap(old: str, new: str):
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


def cut_after(word: str):
    return lambda text: text[: text.index(word) + len(word)]


def move_to_front(start: str):
    def change(text: str) -> str:
        lines = text.splitlines(keepends=True)
        line = next(line for line in lines if line.startswith(start))
        lines.remove(line)
        return "".join([line, *lines])

    return change


def translate(text: str) -> str:
    for old, new in (
        ("post process config:", "后处理配置"), ("Read ", "读取 "), ("img width", "图像宽度"),
        ("Loading mode", "加载模型"), ("sdk version", "SDK 版本"), ("model ", "模型 "),
        ("once run use", "单次运行耗时"), ("loadLabelName", "加载标签"), ("loop count", "循环次数"),
        ("  index=", "  序号="), (" @ (", " 在 ("),
    ):  # fmt: skip
        text = text.replace(old, new)
    return text


# What was done to the recording of SDK 1.5.2, and the sentence that has to be said.
DAMAGED = {
    "a number that no run prints": (
        swap("loop count = 10 ", f"loop count = {'9' * 5000} "),
        "the line that tells the average time cannot be read",
    ),
    "empty": (lambda _: "", "the demo printed nothing"),
    "only blanks": (lambda _: " \n\n", "the demo printed nothing"),
    "cut before the model": (
        cut_after("img height = 640\n"), "the output ends after 'img width = 640, img height = 640'"
    ),
    "cut in the middle of an object": (
        cut_after("bus @ (94 12"),
        "the line that tells an object cannot be read: 'bus @ (94 12'",
    ),
    "cut before the average": (
        drop("loop count"), "the output ends after 'person @ (79 354 122 516) 0.339254'"
    ),
    "in another language": (translate, "this is not the output of rknn_yolov5_demo"),
    "another program's": (
        lambda _: "usage: something else\n", "this is not the output of rknn_yolov5_demo"
    ),
    "decimal comma": (swap("22.727000 ms", "22,727000 ms"), "a decimal comma"),
    "reordered": (
        move_to_front("loop count"), "the output is out of order: its thresholds"
    ),
    "objects before the model": (
        lambda text: re.sub(r"(?s)(Loading mode.*?loadLabelName[^\n]*\n)((?:\S+ @ [^\n]*\n)+)",
                            r"\2\1", text),
        "the output is out of order",
    ),
    "two runs": (lambda text: text + text, "is there twice"),
    "no object": (
        lambda text: re.sub(r"\S+ @ .*\n", "", text), "no object was found; sdk-1.5.2 has person"
    ),
    "no driver line": (drop("sdk version:"), "does not tell the versions of SDK and driver"),
    "no driver version": (
        swap("driver version: 0.8.2", "driver version: "), "there is no driver version after SDK"
    ),
    "no bus": (drop("bus @"), "bus at (94 129 553 468) was not found"),
    "a bus elsewhere": (
        swap("bus @ (94 129 553 468)", "bus @ (300 300 630 630)"),
        "bus at (94 129 553 468) was found at (300 300 630 630), which overlaps it by",
    ),
    "a person who is a bear": (
        swap("person @ (209 244", "bear @ (209 244"), "person at (209 244 286 506) was not found"
    ),
    "an unsure bus": (
        swap("0.705055", "0.405055"), "has the score 0.405 instead of 0.705"
    ),
    "a toaster": (
        swap("loop count", "toaster @ (1 2 30 40) 0.910000\nloop count"),
        "toaster @ (1 2 30 40) 0.910000 is none of sdk-1.5.2's objects",
    ),
    "a box without area": (
        swap("bus @ (94 129 553 468)", "bus @ (553 468 94 129)"), "a box without area"
    ),
    "a score of 88": (swap("0.884139", "88.4139"), "score is not between 0 and 1"),
    "a score that is no number": (swap("0.884139", "nan"), "score is not between 0 and 1"),
    "no time": (swap("20.872800", "0.000000"), "the average took 0.000000 ms, which no run can"),
    "no runs": (swap("loop count = 10", "loop count = 0"), "the average is of no runs at all"),
    "a tensor is missing": (drop("  index=2, name=285"), "4 tensors, 3 are described"),
    "a tensor that cannot be read": (
        swap("fmt=NHWC, type=INT8", "fmt=, type="), "the line that tells a tensor cannot be read"
    ),
    "another model": (swap("name=285", "name=999"), "there is no baseline for a model with"),
    "the model is refused": (
        lambda text: cut_after("Loading mode...\n")(text)
        + "E RKNN: [08:56:48.563] Invalid RKNN model version 6\nrknn_init error ret=-6\n",
        "newer than librknnrt.so)\n  librknnrt.so says: Invalid RKNN model version 6",
    ),
    "no picture": (
        lambda text: cut_after("bus.jpg ...\n")(text) + "cv::imread model/bus.jpg fail!\n",
        "the picture model/bus.jpg cannot be read",
    ),
    "no model": (
        lambda text: cut_after("Loading mode...\n")(text) + "Open file model/x.rknn failed.\n",
        "the model model/x.rknn cannot be opened",
    ),
    "called wrongly": (
        lambda _: "Usage: ./rknn_yolov5_demo <rknn model> <jpg> \n",
        "the demo was not given one model and one picture",
    ),
    "a library is missing": (
        lambda _: "./rknn_yolov5_demo: error while loading shared libraries: librga.so: cannot "
        "open shared object file: No such file or directory\n",
        "the demo did not start: ./rknn_yolov5_demo: error while loading shared libraries",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_output_fails_with_the_right_sentence(judge, damage):
    change, sentence = DAMAGED[damage]
    outcome = judge(change(NEW.read_text(encoding="utf-8")))
    assert outcome.code == 10, outcome.out
    assert sentence in outcome.err
    assert "hint:" in outcome.err


@given(
    st.lists(st.integers(0, 900), min_size=4, max_size=4, unique=True),
    st.lists(st.integers(0, 900), min_size=4, max_size=4, unique=True),
)
def test_overlap_is_symmetric_and_1_for_the_same_box(one, other):
    boxes = [
        (min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in (one, other)
    ]  # fmt: skip
    overlap = intersection_over_union(*boxes)
    assert 0 <= overlap <= 1
    assert overlap == intersection_over_union(*reversed(boxes))
    assert intersection_over_union(boxes[0], boxes[0]) == 1


def test_errors_of_the_library_are_told_though_the_objects_are_right(judge):
    text = NEW.read_text(encoding="utf-8")
    outcome = judge(text.replace("once run", "E RKNN: [08:56:48.563] failed to submit!\nonce run"))
    assert outcome.code == 0
    assert "warning: rknn-errors: failed to submit!" in outcome.err


@pytest.mark.parametrize("soc", ["rk3588", "rk3588s", "RK3588"])
def test_soc_is_known_by_its_names(judge, soc):
    text = NEW.read_text(encoding="utf-8").replace("20.872800", "99.000000")
    assert "4.7 times" in judge(text, "--soc", soc).err


def test_driver_that_is_known_to_fail_is_told_where_the_demo_names_it(judge):
    text = NEW.read_text(encoding="utf-8").replace("driver version: 0.8.2", "driver version: 0.9.2")
    outcome = judge(text, "--soc", "rk3588")
    assert outcome.code == 0
    assert "warning: npu-trouble-1: cores 1 and 2 of the NPU fail" in outcome.err
    assert "use driver 0.8.2" in outcome.err
    assert "npu-trouble" not in judge(text).err, "which NPU it was is not known"


def test_unknown_soc_is_refused(judge):
    outcome = judge(NEW.read_text(encoding="utf-8"), "--soc", "bcm2712")
    assert outcome.code == 2
    assert "known: rk3566, rk3568, rk3588" in outcome.err


@pytest.mark.parametrize(
    "options",
    [("--host", "pi@board"), ("--http-port", "8000"), ("--work-dir", "x"), ("--demo", "x")],
)
def test_options_that_would_do_nothing_are_refused(judge, options):
    outcome = judge(NEW.read_text(encoding="utf-8"), *options)
    assert outcome.code == 2
    assert options[0] in outcome.err
