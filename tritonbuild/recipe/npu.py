"""What a recipe of an NPU may say: its systems on chips, known trouble, and the demo that proves it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, model_validator

from tritonbuild.recipe.fields import (
    Name,
    Recipe,
    RelativePath,
    Strict,
    VersionRange,
)

# left, top, right, bottom.
Box = Annotated[tuple[int, ...], Field(min_length=4, max_length=4)]
Score = Annotated[float, Field(ge=0, le=1)]


class NpuSoc(Strict):
    """A system on a chip that has this NPU."""

    cores: Annotated[int, Field(ge=1)]
    """Cores of the NPU."""
    target: Name
    """What the demo's CMakeLists.txt calls it, as TARGET_SOC."""
    folders: Annotated[tuple[RelativePath, ...], Field(min_length=1)]
    """Folders that its models may be in, by version of the vendor's repository; the first that is
    there counts."""


class Combination(Strict):
    """Versions and a system that are known not to work together."""

    driver: VersionRange | None = None
    """The kernel driver's version."""
    kernel: VersionRange | None = None
    """The kernel's version."""
    library: VersionRange | None = None
    """The version of the vendor's library."""
    socs: tuple[Name, ...] = ()
    """Systems on chips that are concerned; all where this is left out."""
    problem: str
    """What happens."""
    fix: str
    """What to do."""
    upstream: Annotated[tuple[str, ...], Field(min_length=1)]
    """Where it was reported."""

    @model_validator(mode="after")
    def _check_condition(self) -> Combination:
        if self.driver is None and self.kernel is None and self.library is None:
            msg = "say driver, kernel or library: with no condition it would always hold"
            raise ValueError(msg)
        return self


class ExpectedObject(Strict):
    """An object that the demo has to find."""

    label: str
    """Its class, as the demo prints it."""
    box: Box
    """Left, top, right and bottom in pixels of the picture."""
    score: Score
    """How sure the model was."""


class Baseline(Strict):
    """What the demo printed where it worked."""

    name: Name
    """What messages call it."""
    summary: str
    """Which model and versions it is of."""
    outputs: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of the model's outputs: which of several models it is of."""
    objects: Annotated[tuple[ExpectedObject, ...], Field(min_length=1)]
    """What was found."""
    average_ms: dict[Name, Annotated[float, Field(gt=0)]]
    """Milliseconds of one run, the average that the demo prints, for each system on a chip."""


class Tolerances(Strict):
    """How far a result may be from a baseline."""

    iou: Score
    """Intersection over union of two boxes of the same object, at least."""
    score: Score
    """Difference of two scores of the same object, at most."""
    unexpected: Score
    """Score from which an object that the baseline does not have is a mistake."""
    slower: Annotated[float, Field(ge=1)]
    """How many times the baseline's time is told as slow."""


class Demo(Strict):
    """The vendor's program that finds objects in a picture."""

    component: Name
    """The component that builds it."""
    program: RelativePath
    """The program in its folder."""
    model: RelativePath
    """The model; {folder} is one of the system on a chip's."""
    image: RelativePath
    """The picture."""
    labels: RelativePath
    """The names of the classes, one a line, which the program reads from its current folder."""
    libraries: RelativePath
    """The folder of libraries that the program needs."""
    tolerances: Tolerances
    """How far its results may be from a baseline."""
    baselines: Annotated[tuple[Baseline, ...], Field(min_length=1)]
    """What it printed where it worked."""


class NpuFamily(Recipe):
    """An NPU that several systems on chips have."""

    library: str
    """The vendor's library that runs models."""
    socs: dict[Name, NpuSoc]
    """The systems on chips, by the name in /proc/device-tree/compatible."""
    combinations: tuple[Combination, ...] = ()
    """Versions that are known not to work."""
    demo: Demo
    """What proves that it works."""

    def find_soc(self, compatible: str) -> tuple[str, NpuSoc] | None:
        """Return name and facts of the system on a chip, None where it has no such NPU.

        Args:
            compatible: `rockchip,rk3588`, a name such as `rk3588s`, or all that a device tree says,
                with blanks or zeros between; the longest name that one begins with counts.
        """
        words = [word.partition(",")[2] or word for word in re.split(r"[\0\s]+", compatible)]
        found = [name for name in self.socs if any(word.startswith(name) for word in words)]
        best = max(found, key=len, default=None)
        return (best, self.socs[best]) if best else None
