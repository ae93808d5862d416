"""Which needs a plan has: pure, so that it can be told for any machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonbuild.arch import Arch
from tritonbuild.doctor.programs import (
    Buildx,
    Bundled,
    Ccache,
    CMake,
    Docker,
    ForDeploy,
    GrpcClient,
    Packages,
    Pip,
    Program,
)
from tritonbuild.doctor.system import (
    Binfmt,
    Keyring,
    Machine,
    Memory,
    Room,
    Sandbox,
    SubordinateIds,
)
from tritonbuild.plan.model import Executor
from tritonbuild.recipe.fields import ProviderKind

if TYPE_CHECKING:
    from pathlib import Path

    from tritonbuild.doctor.model import Need
    from tritonbuild.plan.model import Plan

GIB = 1 << 30
MIB = 1 << 20

# Measured with Debian 12 for orangepi5b: the root has 330 MB; the wheels 60 MB; the tree is there
# twice while it is assembled, 250 MB each.
CACHE_SIZE = 450 * MIB
# Besides that root one to build in (1.0 GB), one to run the server in, and compilers (300 MB).
EMULATED_CACHE_SIZE = 2 * GIB
WHEEL_WORK_SIZE = 600 * MIB
# Not measured: archives for JetPack hold CUDA code for several GPUs and TensorFlow, and the tree is
# there twice while it is unpacked.
ARCHIVE_WORK_SIZE = 6 * GIB
# https://github.com/triton-inference-server/server/issues/1468 and what a CPU build leaves behind.
SOURCE_WORK_SIZE = 20 * GIB
# tritonserver with two Python models and numpy, under QEMU, stays below this.
WHEEL_MEMORY = 1 * GIB
# What the largest files of core and ONNX Runtime take to compile, one at a time.
SOURCE_MEMORY = 2 * GIB


_NINJA = Bundled("ninja", (1, 13), "runs the compilers, and shares their number among components")
_DEPLOY = (
    ForDeploy("ssh", "openssh-client", "deploy reaches boards through it"),
    ForDeploy("rsync", "rsync", "deploy sends the tree with it"),
)
_PATCHELF = Bundled("patchelf", (0, 14), "lets the tree's libraries find each other")


def make_needs(
    plan: Plan,
    *,
    native: Arch | None,
    direct: bool,
    is_root: bool,
    work_dir: Path,
    cache: Path,
) -> tuple[Need, ...]:
    """Return what a plan needs of a host; looks at nothing.

    Args:
        plan: What is to be built.
        native: The host's architecture.
        direct: Whether the board's programs run there without a root of the board's system
            (`tritonbuild.executors.place.runs_directly`).
        is_root: Whether tritonbuild runs as root there.
        work_dir: Where the build works.
        cache: Where downloads and roots are kept.
    """
    in_root = plan.selection.runs_in_root
    arch = Arch(plan.selection.arch)
    running = _running_needs(arch, native, direct=direct and not in_root)
    if plan.selection.provider.is_ready_made:
        return _ready_needs(plan, running, is_root, work_dir, cache)
    if in_root:
        return _root_needs(plan, running, is_root, work_dir, cache)
    return _source_needs(plan, native, work_dir)


def _running_needs(arch: Arch, native: Arch | None, *, direct: bool) -> list[Need]:
    """Return what starts the board's programs: nothing on a machine like the board."""
    needs: list[Need] = []
    if native is not arch:
        qemu = (f"qemu-{arch.to_qemu()}-static", f"qemu-{arch.to_qemu()}")
        runs = f"runs {arch} programs in the smoke test"
        needs += [Program("qemu-user", qemu, (6, 0), "qemu-user-static", runs), Binfmt(arch)]
    if not direct:
        why = "runs the server in a sandbox"
        needs += [Program("bubblewrap", ("bwrap",), (0, 4), "bubblewrap", why), Sandbox()]
    return needs


def _unpacking_needs(plan: Plan, *, is_root: bool) -> list[Need]:
    """Return what unpacks the board's system."""
    system = str(plan.find_step("root").details["distribution"])
    unpacks = "unpacks the board's system, to check the tree against and to run it in"
    needs: list[Need] = [
        Program("mmdebstrap", ("mmdebstrap",), (1, 2), "mmdebstrap", unpacks),
        Program("gpg", ("gpg",), (2, 2), "gpg", "mmdebstrap looks keys up with it"),
        Program("tar", ("tar",), (1, 28), "tar", unpacks),
        Keyring(system),
    ]
    if not is_root:
        needs += [
            Program("newuidmap", ("newuidmap",), None, "uidmap", "mmdebstrap without root"),
            SubordinateIds(),
        ]
    return needs


def _ready_needs(
    plan: Plan, running: list[Need], is_root: bool, work_dir: Path, cache: Path
) -> tuple[Need, ...]:
    is_wheel = plan.selection.provider is ProviderKind.WHEEL
    return (
        *([Pip()] if is_wheel else []),
        _PATCHELF,
        *_unpacking_needs(plan, is_root=is_root),
        *running,
        Room("room in the cache", cache, CACHE_SIZE),
        Room("room to work", work_dir, WHEEL_WORK_SIZE if is_wheel else ARCHIVE_WORK_SIZE),
        Memory(WHEEL_MEMORY),
        GrpcClient(),
        *_DEPLOY,
    )


def _root_needs(
    plan: Plan, running: list[Need], is_root: bool, work_dir: Path, cache: Path
) -> tuple[Need, ...]:
    containers: list[Need] = []
    if plan.selection.executor is Executor.BUILDX:
        arch = Arch(plan.selection.arch)
        containers = [Docker("runs the containers that components are built in"), Buildx(arch)]
    return (
        Program("git", ("git",), (2, 31), "git", "fetches sources"),
        _NINJA,
        _PATCHELF,
        *containers,
        *_unpacking_needs(plan, is_root=is_root),
        *running,
        Room("room in the cache", cache, EMULATED_CACHE_SIZE),
        Room("room to work", work_dir, SOURCE_WORK_SIZE),
        Memory(SOURCE_MEMORY),
        GrpcClient(),
        *_DEPLOY,
    )


def _source_needs(plan: Plan, native: Arch | None, work_dir: Path) -> tuple[Need, ...]:
    arch = Arch(plan.selection.arch)
    assert plan.machine is not None
    needs: list[Need] = [
        Machine(arch, native),
        Program("git", ("git",), (2, 31), "git", "fetches sources"),
        CMake((3, 18), plan.machine.cmake),
        _NINJA,
        Program("g++", ("g++",), (9, 0), "g++", "compiles"),
        *_cuda_needs(plan),
        _PATCHELF,
        Ccache(),
    ]
    if native is arch:
        needs.append(Packages(("python3-dev", *plan.packages)))
    if plan.selection.variants.get("onnxruntime") == "docker":
        needs.append(
            Docker("the onnxruntime backend's own build makes ONNX Runtime in a container")
        )
    return (
        *needs,
        Room("room to work", work_dir, SOURCE_WORK_SIZE),
        Memory(SOURCE_MEMORY),
        GrpcClient(),
        *_DEPLOY,
    )


def _cuda_needs(plan: Plan) -> list[Need]:
    """Return CUDA's compiler, where the core is built for a GPU: where the board says, or in PATH."""
    core = {flag.name: flag.value for flag in plan.flags["core"]}
    if core.get("TRITON_ENABLE_GPU") != "ON":
        return []
    named = [step.environment["CUDACXX"] for step in plan.steps if "CUDACXX" in step.environment]
    compiler = named[0] if named else "nvcc"
    package = "nvidia-jetpack" if "TRITON_IGPU_BUILD" in core else "nvidia-cuda-toolkit"
    return [Program("nvcc", (compiler,), None, package, "compiles for CUDA")]
