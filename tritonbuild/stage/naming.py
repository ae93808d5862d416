"""What packages and images of a build are called, and what they say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tritonbuild.plan.model import Plan


def version_of(plan: Plan) -> str:
    """Return Triton's version."""
    return str(plan.find_step("assemble").details["triton_version"])


def name_of(plan: Plan) -> str:
    """Return a package's name without its suffix: `tritonserver-VERSION-BOARD-OS-PROVIDER`."""
    chosen = plan.selection
    parts = ("tritonserver", version_of(plan), chosen.board, chosen.os, str(chosen.provider))
    return "-".join(parts)


def tag_of(plan: Plan) -> str:
    """Return an image's name: `tritonserver:VERSION-BOARD-OS-PROVIDER`."""
    return name_of(plan).replace("-", ":", 1)


def labels_of(plan: Plan) -> dict[str, str]:
    """Return an image's labels that come from the plan."""
    chosen = plan.selection
    return {
        "org.opencontainers.image.description": (
            f"Triton {version_of(plan)} for {chosen.board}: {', '.join(chosen.components)}"
        ),
        "tritonbuild.release": chosen.release,
        "tritonbuild.provider": str(chosen.provider),
    }
