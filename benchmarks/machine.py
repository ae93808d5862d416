"""The machine that the figures come from: without these facts they mean nothing."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import tritonbuild
from tritonbuild import proc
from tritonbuild.arch import Arch
from tritonbuild.executors.sandbox import find_binfmt


def describe_machine() -> dict[str, str]:
    """Return the facts, in the order in which they are printed."""
    return {
        "tritonbuild": tritonbuild.__version__,
        "processor": _find(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo")) or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": _describe_memory(),
        "system": f"{_describe_system()}, Linux {platform.release()} {platform.machine()}",
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "emulation": _describe_emulation(),
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _find(pattern: str, path: Path) -> str | None:
    try:
        found = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return found[1].strip() if found else None


def _describe_memory() -> str:
    total = _find(r"^MemTotal:\s*(\d+) kB", Path("/proc/meminfo"))
    return f"{int(total) / (1 << 20):.1f} GiB" if total else "unknown"


def _describe_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _describe_emulation() -> str:
    if Arch.native() is Arch.ARM64:
        return "none: this is arm64"
    rule = find_binfmt(Arch.ARM64)
    if rule is None:
        return "not set up"
    # The rule may name a link that only the kernel can call.
    said = proc.capture([str(Path(rule.interpreter).resolve()), "--version"]).output.splitlines()
    return said[0] if said else rule.interpreter
