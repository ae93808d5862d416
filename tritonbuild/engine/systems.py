"""The steps that unpack systems: roots of the board's, and the host's compilers for one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonbuild import proc
from tritonbuild.arch import Arch
from tritonbuild.console import terminal
from tritonbuild.errors import HostError, SourceError
from tritonbuild.executors.compilers import (
    compilers_spec_of,
    find_compilers,
    make_compilers,
)
from tritonbuild.executors.rootfs import find_root, make_root, mmdebstrap_argv, root_spec_of
from tritonbuild.executors.sandbox import Sandbox, check_emulation, check_sandbox
from tritonbuild.paths import write_text
from tritonbuild.plan.model import Executor

if TYPE_CHECKING:
    from tritonbuild.executors.rootfs import Root, RootSpec
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan, Step

# Measured: benchmarks/executors.py, docs/emulated.md.
_COST = "the compilers of the board's system run under QEMU, which takes some eight times as long"


def make_step_root(
    step: Step, name: str, ws: Workspace, cache: Path, builder: str | None = None
) -> Root:
    """Make the root of a step, with a script that shows how.

    Args:
        step: The step.
        name: `NN-<step>`.
        ws: The work directory.
        cache: The user's cache.
        builder: BuildKit's builder for a root of an image; None takes Docker's usual one.

    Raises:
        UnreachableError: The distribution's archive cannot be used from here.
        HostError: This machine cannot make one.
        SourceError: The archive lacks something that the recipe names.
    """
    spec = root_spec_of(step)
    _write_script(spec, name, ws)
    return make_root(spec, cache, ws.logs_dir / f"{name}.log", builder)


def is_step_root_there(step: Step, folder: str | None, cache: Path) -> bool:
    """Return whether the root that a step made is still in the cache."""
    root = find_root(root_spec_of(step), cache)
    return root is not None and str(root.folder) == folder


def make_step_compilers(
    plan: Plan, step: Step, name: str, ws: Workspace, cache: Path
) -> dict[str, Any]:
    """Bring the host's compilers for the build's root, and check them; say what it costs if not.

    Returns:
        The step's outputs: `compilers`, their folder, and `reason` where the root's own are used.

    Raises:
        HostError: Programs of the root cannot run here.
    """
    arch = Arch(plan.selection.arch)
    in_containers = plan.selection.executor is Executor.BUILDX
    if in_containers and not plan.selection.accelerate:  # nothing of it runs here
        return {"compilers": None, "reason": "the root's own are used"}
    check_emulation(arch)
    root = find_root(root_spec_of(plan.find_step("build-root")), cache)
    assert root is not None, "the step before made it"
    sandbox = Sandbox(root.tree, qemu_cpu=plan.selection.qemu_cpu, network=False)
    check_sandbox(sandbox)
    is_cross = plan.selection.executor is Executor.CROSS
    fall_back = _refuse if is_cross else _fall_back
    if Arch.native() is arch and not is_cross and not in_containers:
        return {"compilers": None, "reason": "this machine runs the root's own"}
    if not plan.selection.accelerate:
        terminal.warning(f"--no-accelerate: {_COST}")
        return {"compilers": None, "reason": "--no-accelerate"}
    spec = compilers_spec_of(step, root, arch)
    if spec is None:
        return fall_back(f"there are no compilers for {arch} that run on this machine")
    _write_script(spec.host, name, ws)
    try:
        compilers = make_compilers(spec, sandbox, cache, ws.logs_dir / f"{name}.log")
    except SourceError as err:  # a full disk, say, is no reason to go on eight times as slow
        if is_cross:
            raise
        return fall_back(err.message)
    if compilers.difference:
        return fall_back(f"{compilers.version} is not like the root's own: {compilers.difference}")
    return {"compilers": str(compilers.folder)}


def are_step_compilers_there(plan: Plan, step: Step, folder: str | None, cache: Path) -> bool:
    """Return whether the compilers that a step brought are still in the cache, if it brought any.

    Where it could not make any it has to try again: a disk that was full may have room by now, and
    another build that had more luck may have left some in the cache, which scripts would then use.
    """
    root = find_root(root_spec_of(plan.find_step("build-root")), cache)
    if root is None:
        return False
    spec = compilers_spec_of(step, root, Arch(plan.selection.arch))
    if spec is None or not plan.selection.accelerate:
        return folder is None
    found = find_compilers(spec, cache)
    if found is None:
        return False
    return folder == (None if found.difference else str(found.folder))


def _refuse(reason: str) -> dict[str, Any]:
    raise HostError(reason, hint="--executor emulated needs no cross compiler")


def _fall_back(reason: str) -> dict[str, Any]:
    terminal.warning(f"{reason}\n{_COST}")
    return {"compilers": None, "reason": reason}


def _write_script(spec: RootSpec, name: str, ws: Workspace) -> None:
    """Write how to make a root by hand; the step itself keeps it in the cache."""
    argv = mmdebstrap_argv(spec, Path("mmdebstrap"), Path("root.tar"))
    text = f"#!/bin/sh\nset -e\n{proc.format_argv(argv)}\n"
    write_text(ws.scripts_dir / f"{name}.sh", text, executable=True)
