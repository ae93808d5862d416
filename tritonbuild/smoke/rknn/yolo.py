"""Objects from the three outputs of a yolov5 model, as rknn_yolov5_demo finds them.

Anchors, strides and the formula of a box are yolov5's (ultralytics/yolov5, models/yolo.py, 6.x and
7.0); the thresholds are the demo's (src/postprocess.cc). Among boxes of one class that overlap the
surest stays, as yolov5 has it; the demo's loop lets some boxes of other classes go, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild.smoke.rknn.compare import intersection_over_union
from tritonbuild.smoke.rknn.output import Detection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Pixels of the model's input for a cell of each output, and width and height of its anchors.
STRIDES = (8, 16, 32)
ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
# x, y, width, height and whether there is an object; one number a class follows.
BOX = 5


@dataclass(frozen=True)
class Thresholds:
    """Which boxes count.

    Attributes:
        box: Least score of an object, and least certainty that there is one.
        nms: Overlap from which two boxes of a class are one object.
    """

    box: float
    nms: float


def find_objects(
    outputs: Sequence[Sequence[float]],
    labels: Sequence[str],
    thresholds: Thresholds,
    *,
    size: int = 640,
) -> list[Detection]:
    """Return the objects, the surest first.

    Args:
        outputs: The model's three outputs in its order, each flat: anchor, number, row, column.
        labels: The classes' names.
        thresholds: Which boxes count.
        size: Width and height of the model's input in pixels.

    Raises:
        ValueError: The outputs are not those of such a model.
    """
    if len(outputs) != len(STRIDES):
        msg = f"{len(STRIDES)} outputs are wanted, not {len(outputs)}"
        raise ValueError(msg)
    found: list[Detection] = []
    for values, stride, anchors in zip(outputs, STRIDES, ANCHORS, strict=True):
        grid = size // stride
        if len(values) != len(anchors) * (BOX + len(labels)) * grid * grid:
            msg = f"an output has {len(values)} numbers, which are no {grid} x {grid} cells"
            raise ValueError(msg)
        found += _find_in_output(values, labels, thresholds, stride, grid, anchors)
    return _suppress(found, thresholds.nms)


def _find_in_output(
    values: Sequence[float],
    labels: Sequence[str],
    thresholds: Thresholds,
    stride: int,
    grid: int,
    anchors: Sequence[tuple[int, int]],
) -> Iterator[Detection]:
    cells = grid * grid
    # Newer models end with the sigmoid, older ones leave it to who reads them.
    activate = _sigmoid if min(values) < 0 or max(values) > 1 else _as_it_is
    for index, anchor in enumerate(anchors):
        start = index * (BOX + len(labels)) * cells
        certain = values[start + 4 * cells : start + 5 * cells]
        for cell in [at for at, value in enumerate(certain) if activate(value) >= thresholds.box]:
            numbers = [activate(values[start + at * cells + cell]) for at in range(BOX)]
            scores = [values[start + (BOX + at) * cells + cell] for at in range(len(labels))]
            best = max(range(len(labels)), key=scores.__getitem__)
            surest = activate(scores[best])
            if surest <= thresholds.box:
                continue
            box = _place_box(numbers, cell, stride, grid, anchor)
            yield Detection(labels[best], box, surest * numbers[4])


def _place_box(
    numbers: Sequence[float], cell: int, stride: int, grid: int, anchor: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom in pixels, inside the picture."""
    row, column = divmod(cell, grid)
    x = (numbers[0] * 2 - 0.5 + column) * stride
    y = (numbers[1] * 2 - 0.5 + row) * stride
    width = (numbers[2] * 2) ** 2 * anchor[0]
    height = (numbers[3] * 2) ** 2 * anchor[1]
    size = grid * stride
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    left, top, right, bottom = (int(min(max(corner, 0), size)) for corner in corners)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _suppress(found: Sequence[Detection], overlap: float) -> list[Detection]:
    """Return the surest of those boxes of a class that overlap."""
    kept: list[Detection] = []
    for one in sorted(found, key=lambda detection: detection.score, reverse=True):
        rivals = (other for other in kept if other.label == one.label)
        if all(intersection_over_union(one.box, rival.box) <= overlap for rival in rivals):
            kept.append(one)
    return kept


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-max(min(value, 60.0), -60.0)))


def _as_it_is(value: float) -> float:
    return value
