"""Where a plan's programs can run on this machine."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from tritonbuild.arch import Arch
from tritonbuild.errors import HostError
from tritonbuild.executors.rootfs import find_root, make_root, root_spec_of
from tritonbuild.executors.sandbox import Sandbox, check_emulation

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from tritonbuild.plan.model import Plan


def find_place(plan: Plan, cache: Path, *, packages: Collection[str], log: Path) -> Sandbox:
    """Return how the board's programs are started here: directly on a board, else in its root.

    Args:
        plan: What was built.
        cache: The user's cache.
        packages: What has to be installed on the board for it; such a root is made if need be.
        log: For what is run to make one.

    Raises:
        HostError: There is no root of the board's system, or QEMU is not set up.
    """
    arch = Arch(plan.selection.arch)
    if runs_directly(arch, plan.selection.os):
        return Sandbox(root=None)
    bare = root_spec_of(plan.find_step("root"))
    wanted = bare.with_packages(packages)
    root = find_root(wanted, cache)
    if root is None and wanted != bare:
        root = make_root(wanted, cache, log)
    if root is None:
        msg = f"there is no root of {plan.selection.os} here to run {arch} programs in"
        raise HostError(
            msg,
            hint="run `tritonbuild build` again where the distribution's archive can be reached, "
            "build with another --os, or unpack the package on the board and run smoke there",
        )
    check_emulation(arch)
    return Sandbox(root=root.tree, qemu_cpu=plan.selection.qemu_cpu)


def runs_directly(arch: Arch, os: str) -> bool:
    """Whether this machine is like the board: its architecture and, by recipe name, its system."""
    return Arch.native() is arch and host_system() == os


def host_system() -> str | None:
    """Return this machine's system as the os recipes name it, such as `debian-12`."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return None
    return f"{release.get('ID')}-{release.get('VERSION_ID')}"
