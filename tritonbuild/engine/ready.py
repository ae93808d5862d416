"""What builds have in common that compile nothing: the board's root, and the check against it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import tritonbuild
from tritonbuild.arch import Arch
from tritonbuild.console import terminal
from tritonbuild.engine.systems import make_step_root
from tritonbuild.engine.verify import verify_tree
from tritonbuild.errors import UnreachableError
from tritonbuild.executors.rootfs import Root
from tritonbuild.stage.libraries import SystemLibraries
from tritonbuild.stage.patchelf import get_patchelf, read_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan, Step

Outputs = dict[str, Any]


def make_board_root(plan: Plan, step: Step, name: str, ws: Workspace, cache: Path) -> Outputs:
    """Make the root of the board's system; without one the build goes on, and says so.

    Returns:
        The step's outputs: `root`, its folder; None and `incomplete` where there is none.

    Raises:
        HostError: This machine cannot make one.
        SourceError: The archive lacks something that the recipe names.
    """
    try:
        root = make_step_root(step, name, ws, cache)
    except UnreachableError as err:
        terminal.warning(
            f"{err.message}\nThe tree is checked against the recipe's list of "
            f"{plan.selection.os}'s libraries instead, and cannot be smoke-tested here."
        )
        return {"root": None, "incomplete": err.message}
    return {"root": str(root.folder)}


def verify_against_root(
    plan: Plan,
    ws: Workspace,
    step: Step,
    needed: Mapping[str, Outputs],
    *,
    installable: Mapping[str, str],
    runtime_packages: Mapping[str, str] | None = None,
    sources: Sequence[Mapping[str, Any]] = (),
) -> Outputs:
    """Check the tree against the board's root, or against the os recipe where there is none.

    Args:
        plan: The plan.
        ws: The work directory.
        step: Its verify step.
        needed: Outputs of its root and assemble steps.
        installable: Libraries that can be installed on the board, and the package of each.
        runtime_packages: What the board needs that no ELF file tells of, and the package of each.
        sources: What it was made from, where the plan does not pin it.

    Raises:
        AssembleError: The tree would not work on the board.
    """
    folder = needed["root"]["root"]
    root = Root(Path(folder)) if folder else None
    details: dict[str, Any] = step.details
    arch = Arch(plan.selection.arch)
    system = (
        SystemLibraries.from_root(root.tree, root.packages_path, arch)
        if root
        else SystemLibraries.from_recipe(details)
    )
    outputs = verify_tree(
        plan,
        ws,
        system=system,
        installable=installable,
        origins=needed["assemble"]["origins"],
        tools=tool_versions(),
        versions=root.read_versions() if root else {},
        # The root is such an image: nothing of it has to be installed.
        always_there=set(system.packages.values()) if runtime_packages else None,
        runtime_packages=runtime_packages,
        sources=sources,
    )
    if not folder:
        outputs["incomplete"] = needed["root"]["incomplete"]
    return outputs


def list_bundled(step: Step) -> dict[str, str]:
    """Return the libraries of packages that an image may lack, and the package of each."""
    details: dict[str, Any] = step.details
    return {
        library: package
        for package, libraries in details["bundled"].items()
        for library in libraries
    }


def tool_versions() -> dict[str, str]:
    """Return the versions of what writes the tree."""
    return {"tritonbuild": tritonbuild.__version__, "patchelf": read_version(get_patchelf())}
