"""The steps of a build in containers: all components at once, and an image of what they give."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tritonbuild.plan.model import Step, StepKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tritonbuild.plan.model import Selection
    from tritonbuild.plan.source import Part

CONTAINERS = "containers"


def plan_containers(parts: Sequence[Part], stages: Sequence[Step]) -> Step:
    """Return the step that builds each component in a container of its own, side by side.

    It is one step because BuildKit is given everything once, and decides itself what goes on at the
    same time. It keeps what each script left: a build goes on from the script that failed.

    Args:
        parts: The components.
        stages: Their steps, in order; they run inside.
    """
    names = [part.name for part in parts]
    details: dict[str, object] = {
        "trees": {part.name: str(part.layout.tree_of(part.name)) for part in parts}
    }
    libraries = {p.name: list(p.source.libraries) for p in parts if p.source.libraries}
    if libraries:
        details["libraries"] = libraries
    return Step(
        CONTAINERS,
        StepKind.CONTAINER,
        f"build {', '.join(names)} in containers of the board's system",
        "BuildKit builds the components side by side and keeps what each of their scripts left",
        needs=("build-root", "compilers"),
        after=("sources", "check-patches"),
        details=details,
        # What comes before each of them is decided: the component's script before it.
        scripts=tuple(replace(step, needs=(), after=()) for step in stages),
    )


def plan_image(selection: Selection) -> Step:
    """Return the step that makes an image which serves the tree."""
    return Step(
        "image",
        StepKind.IMAGE,
        f"make an image of {selection.os} that serves the tree",
        "it holds the tree and what the board has to have installed for it, and nothing else",
        needs=("verify",),
    )
