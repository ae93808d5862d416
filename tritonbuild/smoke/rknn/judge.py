"""What a run of the demo proves: its objects, and its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritonbuild.smoke.rknn.compare import Match, check_objects, choose_baseline
from tritonbuild.smoke.rknn.output import read_output

if TYPE_CHECKING:
    from tritonbuild.recipe.npu import Baseline, Demo
    from tritonbuild.smoke.rknn.output import DemoOutput


@dataclass(frozen=True)
class Verdict:
    """A run that found what it has to find.

    Attributes:
        output: What was printed.
        baseline: What it was compared with.
        matches: Each object of the baseline, and what was found of it.
        expected_ms: Milliseconds that a run takes on this system on a chip; None where nobody
            measured it.
        slow: Why the time is not what is expected; None where it is.
    """

    output: DemoOutput
    baseline: Baseline
    matches: tuple[Match, ...]
    expected_ms: float | None
    slow: str | None

    def describe(self) -> str:
        """Return what was found, in a line."""
        found = ", ".join(str(match.found) for match in self.matches)
        return f"all {len(self.matches)} objects of {self.baseline.name}: {found}"

    def describe_time(self) -> str:
        """Return how long a run took, in a line."""
        took = (
            f"{self.output.average_ms:.1f} ms a run, the average of {self.output.loops}; the first "
            f"{self.output.once_ms:.1f} ms"
        )
        if self.expected_ms is None:
            return f"{took}; there is no figure of such a board to compare it with"
        return f"{took}; {self.expected_ms:.1f} ms were measured on such a board"

    def to_dict(self) -> dict[str, Any]:
        """Return it as a report holds it."""
        output = self.output
        return {
            "baseline": self.baseline.name,
            "sdk": output.sdk,
            "driver": output.driver,
            "image": output.image,
            "thresholds": {"box": output.box_threshold, "nms": output.nms_threshold},
            "inputs": [tensor.name for tensor in output.inputs],
            "outputs": [tensor.name for tensor in output.outputs],
            "objects": [
                {
                    "label": match.expected.label,
                    "expected": list(match.expected.box),
                    "found": list(match.found.box),
                    "iou": round(match.iou, 4),
                    "expected_score": match.expected.score,
                    "score": match.found.score,
                }
                for match in self.matches
                if match.found
            ],
            "once_ms": output.once_ms,
            "average_ms": output.average_ms,
            "expected_ms": self.expected_ms,
            "slow": self.slow,
            "complaint": output.complaint,
        }


def judge(demo: Demo, text: str, soc: str | None) -> Verdict:
    """Return what a run proves.

    Args:
        demo: The demo.
        text: What it printed.
        soc: System on a chip that it ran on; None where that is not known.

    Raises:
        SmokeTestError: The output is damaged or tells of a failure, or the objects are others.
    """
    output = read_output(text)
    baseline = choose_baseline(demo, [tensor.name for tensor in output.outputs])
    matches = check_objects(baseline, demo.tolerances, output.detections)
    expected = baseline.average_ms.get(soc) if soc else None
    slow = None
    if expected and output.average_ms > expected * demo.tolerances.slower:
        times = output.average_ms / expected
        slow = (
            f"{output.average_ms:.1f} ms a run is {times:.1f} times the {expected:.1f} ms that such "
            "a board takes"
        )
    return Verdict(output, baseline, matches, expected, slow)
