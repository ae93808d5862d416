"""What a board has and lacks to run what a plan builds: judged from its facts, pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonbuild.doctor.model import Finding, Status, apt_argv, parse_version
from tritonbuild.doctor.needs import GIB, MIB, WHEEL_MEMORY
from tritonbuild.hosts.facts import SERVER_PORTS
from tritonbuild.hosts.npu import find_trouble
from tritonbuild.plan.jobs import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tritonbuild.hosts.facts import Facts
    from tritonbuild.plan.model import Plan
    from tritonbuild.plan.npu import BoardNpu
    from tritonbuild.recipe.model import Board, OperatingSystem

# A tree from wheels has 250 MB; while a newer one arrives, two are there.
BOARD_ROOM = 600 * MIB

# With less memory than this, a model that grows has nowhere to go without swap.
_SMALL_MEMORY = 4 * GIB


def judge_board(
    facts: Facts,
    plan: Plan,
    board: Board,
    system: OperatingSystem,
    *,
    folder: str,
    npu: BoardNpu | None = None,
) -> list[Finding]:
    """Return a finding for each need of a board; what is not known only warns.

    Args:
        facts: What the board is.
        plan: What is to run there.
        board: Its recipe.
        system: The recipe of the operating system that the plan is for.
        folder: Where the tree will be.
        npu: What is known of its NPU.
    """
    return [
        *_judge_system(facts, plan, system),
        *_judge_resources(facts, board, folder),
        *_judge_programs(facts, plan, system),
        *(_judge_npu(facts, plan, board) if board.npu else ()),
        *(_tell_trouble(facts, npu) if npu else ()),
        *(_judge_gpu(facts, plan, board) if board.cuda else ()),
    ]


def _judge_system(facts: Facts, plan: Plan, system: OperatingSystem) -> Iterator[Finding]:
    arch = plan.selection.arch
    if facts.arch is None:
        found = f"{facts.machine}, 32-bit programs" if facts.machine else ""
    else:
        found = str(facts.arch)
    status = Status.OK if found == arch else Status.MISSING
    yield Finding("machine", status, found, arch, "the tree is for it")
    status = Status.OK if facts.os == system.name else Status.WARN
    found = facts.os_name or facts.os or ""
    yield Finding("system", status, found, system.name, "the tree was checked against it")
    yield _compare("glibc", facts.glibc, system.glibc, "programs of a newer C library do not start")
    yield Finding(
        "kernel", Status.OK if facts.kernel else Status.WARN, facts.kernel or "", "any",
        "drivers depend on it",
    )  # fmt: skip


def _compare(tool: str, found: str | None, least: str, why: str) -> Finding:
    """Return whether a version is high enough."""
    if found is None:
        return Finding(tool, Status.WARN, "", f"≥ {least}", why)
    old = parse_version(found) < parse_version(least)
    return Finding(tool, Status.OLD if old else Status.OK, found, f"≥ {least}", why)


def _judge_resources(facts: Facts, board: Board, folder: str) -> Iterator[Finding]:
    cores = board.cpu.cores
    status = Status.OK if (facts.cores or 0) >= cores else Status.WARN
    why = f"the recipe's {board.cpu.model}"
    yield Finding("cores", status, str(facts.cores or ""), str(cores), why)
    yield _judge_governor(facts)
    yield _judge_memory(facts)
    yield _judge_swap(facts)
    found = "" if facts.free is None else f"{format_size(facts.free)} free"
    enough = facts.free is not None and facts.free >= BOARD_ROOM
    status = Status.WARN if facts.free is None else Status.OK if enough else Status.MISSING
    why = f"{folder}: two versions, while one arrives"
    yield Finding("disk", status, found, format_size(BOARD_ROOM), why)


def _judge_governor(facts: Facts) -> Finding:
    why = "other governors answer slowly after a pause, and figures differ from run to run"
    found = ", ".join(facts.governors)
    if not found or facts.governors == ("performance",):
        # A kernel without governors (a virtual machine) has nothing to set.
        return Finding("governor", Status.OK, found or "none", "performance", why)
    fix = ("cpupower", "frequency-set", "-g", "performance")
    return Finding("governor", Status.WARN, found, "performance", why, fix, by_hand=True)


def _judge_memory(facts: Facts) -> Finding:
    needed, why = f"{format_size(WHEEL_MEMORY)} available", "the server, without your models"
    if facts.available is None:
        return Finding("memory", Status.WARN, "", needed, why)
    found = f"{format_size(facts.available)} available of {format_size(facts.memory or 0)}"
    status = Status.OK if facts.available >= WHEEL_MEMORY else Status.WARN
    return Finding("memory", status, found, needed, why)


def _judge_swap(facts: Facts) -> Finding:
    small = (facts.memory or 0) < _SMALL_MEMORY
    needed, why = "some" if small else "any", "where memory is short, the kernel kills the server"
    if facts.swap is None:
        return Finding("swap", Status.WARN, "", needed, why)
    status = Status.WARN if small and not facts.swap else Status.OK
    found = format_size(facts.swap) if facts.swap else "none"
    return Finding("swap", status, found, needed, why)


def _judge_programs(facts: Facts, plan: Plan, system: OperatingSystem) -> Iterator[Finding]:
    if "python" in plan.selection.components:
        yield _judge_python(facts, system)
    yield _judge_ports(facts)
    for name, package, why in (
        ("rsync", "rsync", "deploy sends through it"),
        ("flock", "util-linux", "deploy keeps two of itself apart"),
    ):
        path = facts.programs.get(name)
        fix = None if path else apt_argv(package)
        yield Finding(name, Status.OK if path else Status.WARN, path or "", "any", why, fix)
    rights = {True: "root", False: "sudo without a password"}[facts.is_root]
    able = facts.root_prefix is not None
    yield Finding(
        "rights", Status.OK if able else Status.WARN, rights if able else "neither",
        "root, or sudo without a password", "deploy writes to /opt and sets the service up",
    )  # fmt: skip
    found = "runs" if facts.systemd else "does not run"
    yield Finding(
        "systemd", Status.OK if facts.systemd else Status.WARN, found, "runs",
        "deploy makes a service; --no-service does without",
    )  # fmt: skip


def _judge_python(facts: Facts, system: OperatingSystem) -> Finding:
    needed, why = system.python, "the python backend is made for one Python"
    if facts.python is None:
        return Finding("python3", Status.MISSING, "", needed, why, apt_argv("python3"))
    fits = parse_version(facts.python)[:2] == parse_version(needed)[:2]
    # Which python3 comes first in PATH says little about what an image has besides.
    return Finding("python3", Status.OK if fits else Status.WARN, facts.python, needed, why)


def _judge_ports(facts: Facts) -> Finding:
    needed, why = "free", "HTTP, gRPC and metrics, where nothing else is said"
    tool = f"ports {SERVER_PORTS[0]}-{SERVER_PORTS[-1]}"
    if facts.ports is None:
        return Finding(tool, Status.WARN, "", needed, why)
    if facts.ports:
        taken = f"in use: {', '.join(map(str, facts.ports))}"
        return Finding(tool, Status.WARN, taken, needed, why)
    return Finding(tool, Status.OK, "free", needed, why)


def _judge_npu(facts: Facts, plan: Plan, board: Board) -> Iterator[Finding]:
    """Judge what the NPU's backend takes from the board; only a plan that has it cannot do without."""
    assert board.npu is not None
    npu, lacking = facts.npu, Status.WARN
    if "rknn" in plan.selection.components:
        lacking = Status.MISSING
    wanted = board.npu.compatible
    fits = wanted in (npu.soc or "").split()
    status = Status.OK if fits else Status.WARN if npu.soc is None else lacking
    yield Finding("soc", status, npu.soc or "", wanted, "the NPU's models are made for it")
    found = f"{npu.driver}, from {npu.driver_from}" if npu.driver else ""
    why = " ".join(board.npu.notes) or "the kernel's driver of the NPU"
    yield Finding("NPU driver", Status.OK if npu.driver else lacking, found, "any", why)
    found = " ".join(filter(None, (npu.library, npu.library_version)))
    why = "the NPU's library; it must fit the driver, so it is the board's own"
    yield Finding(
        "NPU library", Status.OK if npu.library else lacking, found, board.npu.runtime, why
    )
    usable = [device.path for device in npu.devices if device.readable and device.writable]
    found = ", ".join(usable) or ", ".join(f"{device.path}: no right" for device in npu.devices)
    status = Status.OK if usable else lacking
    fix = None
    if npu.devices and not usable:
        status, fix = Status.WARN, ("usermod", "-aG", "render,video", facts.user or "USER")
    yield Finding(
        "NPU device", status, found, "/dev/dri/renderD* or /dev/rknpu", "the way to the NPU",
        fix, by_hand=True,
    )  # fmt: skip


def _tell_trouble(facts: Facts, npu: BoardNpu) -> Iterator[Finding]:
    """Yield what is known to fail with the versions that were found."""
    library = facts.npu.library_version
    for one in find_trouble(npu, facts, [library] if library else []):
        found = f"driver {facts.npu.driver or '?'}, kernel {facts.kernel or '?'}"
        yield Finding("NPU trouble", Status.WARN, found, one.fix, one.problem)


def _judge_gpu(facts: Facts, plan: Plan, board: Board) -> Iterator[Finding]:
    """Judge what CUDA takes from the board; only a plan that has TensorRT cannot do without that."""
    gpu = facts.gpu
    found = " ".join(
        filter(None, (gpu.l4t and f"L4T {gpu.l4t}", gpu.jetpack and f"JetPack {gpu.jetpack}"))
    )
    is_other = bool(gpu.l4t and board.l4t and not gpu.has_l4t(board.l4t))
    status = Status.MISSING if is_other else Status.OK if gpu.l4t else Status.WARN
    needed = f"Jetson Linux {board.l4t or ''}".strip()
    yield Finding("GPU driver", status, found, needed, "libraries of CUDA go with one JetPack")
    lacking = Status.WARN
    if "tensorrt" in plan.selection.components:
        lacking = Status.MISSING
    status = Status.OK if gpu.libcuda else lacking
    yield Finding("libcuda", status, gpu.libcuda or "", "libcuda.so.1", "the way to the GPU")
    yield Finding(
        "TensorRT", Status.OK if gpu.tensorrt else lacking, gpu.tensorrt or "", "any",
        "the tensorrt backend's library",
    )  # fmt: skip
