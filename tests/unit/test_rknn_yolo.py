"""Objects from the numbers of a yolov5 model."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonbuild.smoke.rknn.compare import intersection_over_union
from tritonbuild.smoke.rknn.yolo import ANCHORS, BOX, STRIDES, Thresholds, find_objects

LABELS = ("person", "bus", "bear")
SIZE = 640
USUAL = Thresholds(box=0.25, nms=0.45)


def make_outputs(objects, fill=0.0):
    """Return the outputs of a model that finds (label, box, score), each where its anchor fits."""
    outputs = []
    for stride, anchors in zip(STRIDES, ANCHORS, strict=True):
        cells = (SIZE // stride) ** 2
        outputs.append([fill] * (len(anchors) * (BOX + len(LABELS)) * cells))
    for label, (left, top, right, bottom), score in objects:
        width, height = right - left, bottom - top
        output, anchor = next(
            (index, at)
            for index, anchors in enumerate(ANCHORS)
            for at, (wide, high) in enumerate(anchors)
            if width < 3.9 * wide and height < 3.9 * high
        )
        stride = STRIDES[output]
        grid = SIZE // stride
        x, y = (left + width / 2) / stride, (top + height / 2) / stride
        numbers = [
            (x - int(x) + 0.5) / 2, (y - int(y) + 0.5) / 2,
            math.sqrt(width / ANCHORS[output][anchor][0]) / 2,
            math.sqrt(height / ANCHORS[output][anchor][1]) / 2,
            math.sqrt(score),
            *(math.sqrt(score) if name == label else 0.0 for name in LABELS),
        ]  # fmt: skip
        start = anchor * (BOX + len(LABELS)) * grid * grid + int(y) * grid + int(x)
        for index, number in enumerate(numbers):
            outputs[output][start + index * grid * grid] = number
    return outputs


boxes = st.tuples(
    st.integers(0, 500), st.integers(0, 500), st.integers(20, 130), st.integers(20, 130)
).map(lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3]))


@given(box=boxes, label=st.sampled_from(LABELS), score=st.floats(0.3, 0.99))
@settings(max_examples=20, deadline=None)
def test_object_is_found_where_it_is(box, label, score):
    (found,) = find_objects(make_outputs([(label, box, score)]), LABELS, USUAL)
    assert found.label == label
    assert found.score == pytest.approx(score)
    # Corners are whole pixels.
    assert max(abs(a - b) for a, b in zip(found.box, box, strict=True)) <= 1


def test_models_without_the_sigmoid_give_the_same():
    objects = [("person", (209, 244, 286, 506), 0.88), ("bus", (94, 129, 553, 468), 0.7)]
    activated = make_outputs(objects)
    raw = [
        [math.log(max(value, 1e-6) / (1 - min(value, 1 - 1e-6))) for value in values]
        for values in activated
    ]
    one, other = (find_objects(outputs, LABELS, USUAL) for outputs in (activated, raw))
    assert [found.label for found in one] == ["person", "bus"]
    for a, b in zip(one, other, strict=True):
        assert a.label == b.label
        assert a.score == pytest.approx(b.score, abs=1e-3)
        assert intersection_over_union(a.box, b.box) > 0.98


def test_of_boxes_that_overlap_the_surest_is_kept():
    box = (100, 100, 200, 200)
    objects = [
        ("person", box, 0.6), ("person", (115, 100, 215, 200), 0.9), ("bus", (100, 120, 200, 220), 0.5),
    ]  # fmt: skip
    found = find_objects(make_outputs(objects), LABELS, USUAL)
    assert [(one.label, round(one.score, 1)) for one in found] == [("person", 0.9), ("bus", 0.5)]


def test_unsure_objects_do_not_count():
    # Certainty and class are the square root of the score: 0.22 each.
    assert find_objects(make_outputs([("bus", (1, 1, 90, 90), 0.05)]), LABELS, USUAL) == []


@pytest.mark.parametrize("outputs", [[], [[0.0]], [[0.0]] * 3])
def test_other_tensors_are_refused(outputs):
    with pytest.raises(ValueError, match=r"outputs are wanted|has 1 numbers"):
        find_objects(outputs, LABELS, USUAL)
