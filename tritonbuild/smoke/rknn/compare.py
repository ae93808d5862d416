"""Objects that were found against those that have to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild.errors import SmokeTestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tritonbuild.recipe.npu import Baseline, Box, Demo, ExpectedObject, Tolerances
    from tritonbuild.smoke.rknn.output import Detection


@dataclass(frozen=True)
class Match:
    """An object of a baseline, and what was found of it.

    Attributes:
        expected: The baseline's.
        found: The detection of the same class that overlaps it most; None where there is none.
        iou: Intersection over union of their boxes.
    """

    expected: ExpectedObject
    found: Detection | None
    iou: float


def intersection_over_union(one: Box, other: Box) -> float:
    """Return how much two boxes (left, top, right, bottom) overlap, from 0 to 1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def choose_baseline(demo: Demo, outputs: Sequence[str]) -> Baseline:
    """Return the baseline of the model that has these outputs.

    Args:
        demo: The demo.
        outputs: Names of the model's outputs, in order.

    Raises:
        SmokeTestError: There is none.
    """
    for baseline in demo.baselines:
        if baseline.outputs == tuple(outputs):
            return baseline
    known = " or ".join(f"{', '.join(one.outputs)} ({one.name})" for one in demo.baselines)
    msg = (
        f"there is no baseline for a model with the outputs {', '.join(outputs)}: known are {known}"
    )
    raise SmokeTestError(msg, hint="add one to recipes/npus/rknpu.yaml if the objects are right")


def check_objects(
    baseline: Baseline, tolerances: Tolerances, found: Sequence[Detection]
) -> tuple[Match, ...]:
    """Return what was found of each object of the baseline.

    Raises:
        SmokeTestError: An object was not found where it is, or one that is not there was.
    """
    if not found:
        names = ", ".join(one.label for one in baseline.objects)
        msg = f"no object was found; {baseline.name} has {names}"
        raise SmokeTestError(msg, hint="the picture or the model is another one, or the NPU fails")
    matches, left = match_objects(baseline.objects, found)
    problems = [problem for match in matches if (problem := _find_problem(match, tolerances))]
    problems += [
        f"{one} is none of {baseline.name}'s objects"
        for one in left
        if one.score >= tolerances.unexpected
    ]
    if problems:
        msg = "\n  ".join([f"the objects are not those of {baseline.name}:", *problems])
        hint = (
            f"boxes have to overlap by {tolerances.iou:g} at least (intersection over union), "
            f"scores may differ by {tolerances.score:g}"
        )
        raise SmokeTestError(msg, hint=hint)
    return matches


def match_objects(
    expected: Sequence[ExpectedObject], found: Sequence[Detection]
) -> tuple[tuple[Match, ...], list[Detection]]:
    """Pair objects with detections of their class, those that overlap most first.

    Returns:
        One match for each object, in the baseline's order, and the detections that are left.
    """
    pairs = sorted(
        (
            (intersection_over_union(one.box, other.box), row, column)
            for row, one in enumerate(expected)
            for column, other in enumerate(found)
            if one.label == other.label
        ),
        reverse=True,
    )
    chosen: dict[int, tuple[int, float]] = {}
    for iou, row, column in pairs:
        if row not in chosen and column not in [taken for taken, _ in chosen.values()]:
            chosen[row] = (column, iou)
    matches = []
    for row, one in enumerate(expected):
        column, iou = chosen.get(row, (-1, 0.0))
        matches.append(Match(one, found[column] if column >= 0 else None, iou))
    taken = {column for column, _ in chosen.values()}
    return tuple(matches), [one for index, one in enumerate(found) if index not in taken]


def _find_problem(match: Match, tolerances: Tolerances) -> str | None:
    expected, found = match.expected, match.found
    where = f"{expected.label} at ({' '.join(map(str, expected.box))})"
    if found is None or match.iou == 0:
        return f"{where} was not found"
    if match.iou < tolerances.iou:
        box = " ".join(map(str, found.box))
        return f"{where} was found at ({box}), which overlaps it by {match.iou:.2f} only"
    if abs(found.score - expected.score) > tolerances.score:
        return f"{where} has the score {found.score:.3f} instead of {expected.score:.3f}"
    return None
