"""Where the scripts of a source build run, and with which programs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.arch import Arch
from tritonbuild.engine.toolchain import (
    make_cross_toolchain,
    make_root_toolchain,
    make_toolchain,
)
from tritonbuild.errors import HostError
from tritonbuild.executors.compilers import compilers_spec_of, find_compilers
from tritonbuild.executors.rootfs import find_root, root_spec_of
from tritonbuild.executors.sandbox import DIRECT, Sandbox
from tritonbuild.paths import make_dir, write_text
from tritonbuild.plan.layout import CCACHE_DIR, HOME, HOST_PROGRAMS
from tritonbuild.plan.model import Executor
from tritonbuild.plan.root import SYSROOT
from tritonbuild.sources.lock import read_lock

if TYPE_CHECKING:
    from tritonbuild.engine.toolchain import Toolchain
    from tritonbuild.executors.compilers import Compilers
    from tritonbuild.executors.rootfs import Root
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan

# What name look-ups and encrypted connections need of the host, where a build may ask the network.
_NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs")


@dataclass(frozen=True)
class Workplace:
    """Where scripts run.

    Attributes:
        sandbox: How they are started.
        toolchain: The programs that they find.
    """

    sandbox: Sandbox
    toolchain: Toolchain

    def write_entry(self, ws: Workspace) -> None:
        """Write `enter`, which runs a command where scripts run; none where they run directly."""
        if self.sandbox.root is None:
            ws.entry_path.unlink(missing_ok=True)
            return
        lines = [
            "#!/bin/sh",
            "# Runs a command in the root that the scripts run in: ./enter bash scripts/NN-STEP.sh",
            f'exec {proc.format_argv(self.sandbox.argv([]))} "$@"',
        ]
        write_text(ws.entry_path, "\n".join(lines) + "\n", executable=True)


def make_workplace(plan: Plan, ws: Workspace, cache: Path, *, use_ccache: bool) -> Workplace:
    """Return where a plan's scripts run; the steps that unpack systems are done.

    Raises:
        HostError: A program or root that is needed is not there.
    """
    if plan.selection.executor is Executor.BUILDX:
        root = get_root_of(plan, "build-root", cache)
        compilers = find_plan_compilers(plan, root, cache)
        toolchain = make_root_toolchain(
            plan, root, compilers,
            around=ws.context_dir, home=HOME, use_ccache=use_ccache,
        )  # fmt: skip
        return Workplace(DIRECT, toolchain)
    sandbox = find_sandbox(plan, ws, cache)
    if sandbox.root is None:
        return Workplace(sandbox, make_toolchain(plan, ws, use_ccache=use_ccache))
    root = get_root_of(plan, "build-root", cache)
    compilers = find_plan_compilers(plan, root, cache)
    if plan.selection.executor is Executor.CROSS:
        assert compilers is not None, "the step that brings them refuses to do without"
        tools = get_root_of(plan, "tools-root", cache)
        toolchain = make_cross_toolchain(plan, ws, root, tools, compilers, use_ccache=use_ccache)
    else:
        toolchain = make_root_toolchain(
            plan, root, compilers,
            around=ws.root, home=PurePosixPath(ws.root), use_ccache=use_ccache,
        )  # fmt: skip
    return Workplace(sandbox, toolchain)


def find_sandbox(plan: Plan, ws: Workspace, cache: Path) -> Sandbox:
    """Return how a plan's scripts are started: as they are, or in a root.

    There they have a network only where the lock says that something is left to CMake, or where
    ccache asks a server.

    Raises:
        HostError: The root is not there.
    """
    if not plan.selection.runs_in_root or plan.selection.executor is Executor.BUILDX:
        return DIRECT
    executor = plan.selection.executor
    root = get_root_of(plan, "build-root", cache)
    inside = get_root_of(plan, "tools-root", cache) if executor is Executor.CROSS else root
    compilers = find_plan_compilers(plan, root, cache)
    here = PurePosixPath(ws.root)
    sandbox = Sandbox(inside.tree, qemu_cpu=plan.selection.qemu_cpu, folder=here, network=False)
    sandbox = sandbox.with_bind(ws.root, here, writable=True)
    # The build's own repositories take their objects from there.
    objects, compiled = make_dir(cache / "git"), make_dir(cache / "ccache")
    sandbox = sandbox.with_bind(objects, PurePosixPath(objects))
    sandbox = sandbox.with_bind(compiled, CCACHE_DIR, writable=True)
    if executor is Executor.CROSS:
        sandbox = sandbox.with_bind(root.tree, SYSROOT)
    # CMake fetches what could not be told beforehand.
    is_left_to_cmake = ws.source_lock_path.is_file() and read_lock(ws.source_lock_path).notes
    if is_left_to_cmake or ws.remote_cache_path.is_file():
        sandbox = _with_network(sandbox)
    return sandbox.with_bind(compilers.tree, HOST_PROGRAMS) if compilers else sandbox


def _with_network(sandbox: Sandbox) -> Sandbox:
    for name in _NETWORK_FILES:
        if Path(name).exists():
            sandbox = sandbox.with_bind(Path(name).resolve(), PurePosixPath(name))
    return replace(sandbox, network=True)


def get_root_of(plan: Plan, step_id: str, cache: Path) -> Root:
    """Return the root that a step of a plan unpacked.

    Raises:
        HostError: It is not there.
    """
    root = find_root(root_spec_of(plan.find_step(step_id)), cache)
    if root is None:
        msg = f"the root of {plan.selection.os} that step {step_id} unpacked is not there"
        raise HostError(msg, hint="run `tritonbuild build` again: it makes it anew")
    return root


def find_plan_compilers(plan: Plan, root: Root, cache: Path) -> Compilers | None:
    """Return the host's compilers for a root; None where its own are used."""
    step = plan.find_step("compilers")
    spec = compilers_spec_of(step, root, Arch(plan.selection.arch))
    compilers = find_compilers(spec, cache) if spec and plan.selection.accelerate else None
    return compilers if compilers and compilers.difference is None else None
