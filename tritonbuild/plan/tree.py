"""What the steps that make and check a tree say alike, wherever its files come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonbuild.plan.model import Step, StepKind
from tritonbuild.recipe.model import ServerOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonbuild.plan.model import Selection
    from tritonbuild.recipe.model import OperatingSystem, Release


def describe_release(release: Release) -> dict[str, object]:
    """Return what an assembled tree keeps of its release.

    How the server is called stands there only where that is not as in later releases.
    """
    found: dict[str, object] = {"triton_version": release.triton_version, "date": release.date}
    if release.server != ServerOptions():
        found["server"] = release.server.model_dump(mode="json")
    return found


def plan_verify(
    selection: Selection,
    system: OperatingSystem,
    details: Mapping[str, object],
    *,
    needs: tuple[str, ...],
    after: tuple[str, ...] = (),
    against: str = "the board's system",
) -> Step:
    """Return the step that checks every ELF file of a tree.

    Args:
        selection: What is built.
        system: The board's system.
        details: What this kind of build has to say on top.
        needs: Steps whose outcome it takes.
        after: Steps that come before it where there are such.
        against: What the tree is checked against, for people.
    """
    return Step(
        "verify", StepKind.VERIFY, f"check every ELF file of the tree against {against}",
        "a library that is missing or too new would be found on the board only",
        needs=needs,
        after=after,
        details={
            "arch": selection.arch,
            "glibc": system.glibc,
            "glibcxx": system.glibcxx,
            "base_libraries": dict(system.base_libraries),
            **details,
        },
    )  # fmt: skip
