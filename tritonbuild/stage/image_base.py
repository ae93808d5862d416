"""The system under the tree in a container image: the board's, as small as the tree allows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tritonbuild.errors import HostError
from tritonbuild.executors.rootfs import find_root, make_root, root_spec_of
from tritonbuild.plan.root import plan_root

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tritonbuild.executors.rootfs import Root, RootSpec
    from tritonbuild.plan.model import Plan
    from tritonbuild.recipe.load import RecipeBook


def base_spec_of(plan: Plan, verified: Mapping[str, Any], book: RecipeBook) -> RootSpec:
    """Return the root that an image of a build stands on.

    The one that the tree was checked against, where that is one; else the packages that every
    image of the system has. In both cases with what the tree takes from the system besides.

    Args:
        plan: What was built.
        verified: What the ELF check found (`verify.json`).
        book: For the operating system's recipe.

    Raises:
        RecipeError: There is no recipe of the system.
    """
    for step in plan.steps:
        if step.id == "root":
            return root_spec_of(step).with_packages(set(verified["to_install"].values()) - {""})
    # A native build is for the machine that it was made on.
    system = plan.machine.os if plan.machine else plan.selection.os
    selection = replace(plan.selection, arch=verified["arch"], os=system)
    spec = replace(root_spec_of(plan_root(book, selection)), bundled={})
    used = {*verified["system_libraries"].values(), *verified["to_install"].values()} - {""}
    return spec.with_packages(used)


def get_base(spec: RootSpec, cache: Path, log: Path) -> Root:
    """Return the root, made where the cache has none.

    Raises:
        HostError: It can neither be found nor made here.
    """
    root = find_root(spec, cache)
    if root:
        return root
    try:
        return make_root(spec, cache, log)
    except HostError as err:
        err.hint = f"{err.hint}; the formats tar.zst and deb need no root"
        raise
