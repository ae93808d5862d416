"""What compiles: which programs, with which environment, and what of that decides a result."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.arch import Arch
from tritonbuild.engine.jobs import write_make
from tritonbuild.errors import HostError
from tritonbuild.executors.compilers import BIN
from tritonbuild.executors.machine import SYSTEM_PATH, find_compiler, find_program
from tritonbuild.paths import data_dir, make_dir, write_text
from tritonbuild.plan.layout import CCACHE_DIR, HOME
from tritonbuild.plan.model import Executor
from tritonbuild.plan.root import SYSROOT
from tritonbuild.render.template import render_template
from tritonbuild.stage.members import read_mtime

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonbuild.executors.compilers import Compilers
    from tritonbuild.executors.rootfs import Root
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Machine, Plan, Step

# A header says the same of itself (__FILE__, debug information) as it does on the board.
_UNMAP_SYSROOT = f"-ffile-prefix-map={SYSROOT}/=/"

# The version string of a compiler is not the code that it makes: machines that share the work, and
# a cross compiler, may have another one of the same release.
_NO_IDENT = "-fno-ident"

_ADDED_TO = ("CFLAGS", "CXXFLAGS", "LDFLAGS")


@dataclass(frozen=True)
class Toolchain:
    """The programs of a build.

    Attributes:
        path: Value of PATH.
        compiler: First line of `c++ --version`: distributions patch their compilers, so the
            number alone does not tell.
        description: What of them all decides a result; ccache does not.
        ccache: The program, None where there is none or none is wanted.
        file: CMake's toolchain file, as scripts see it.
        environment: Variables that name programs.
        shares_jobs: Whether Ninja is new enough to take its jobs from a pool.
        flags: What compilers have to be told besides what every build tells them.
    """

    path: str
    compiler: str
    description: str
    ccache: PurePosixPath | None
    file: PurePosixPath
    environment: Mapping[str, str] = field(default_factory=dict)
    shares_jobs: bool = True
    flags: str = ""


def make_toolchain(plan: Plan, ws: Workspace, *, use_ccache: bool) -> Toolchain:
    """Look for this machine's programs and write CMake's toolchain file.

    Raises:
        HostError: A program is missing, or Ninja is too old to share job tokens.
    """
    folder = make_dir(ws.root / "tools")
    for name in ("ninja", "patchelf", "cmake"):
        _link(folder / name, _require(name))
    make = find_program("make")
    write_make(folder, make, _read_make_version(make))
    ninja_version = _read_ninja_version(folder / "ninja")
    named = {"CC": find_compiler("cc"), "CXX": find_compiler("c++")}
    program = named["CXX"] or find_program("c++")
    said = proc.capture([str(program), "--version"]).output.splitlines()
    compiler = said[0] if said else ""
    ccache = find_program("ccache") if use_ccache else None
    machine = plan.machine
    assert machine is not None
    return Toolchain(
        path=f"{folder}:{SYSTEM_PATH}",
        compiler=compiler,
        description=describe_programs(compiler, ninja_version, machine),
        ccache=PurePosixPath(ccache) if ccache else None,
        file=_write_file(ws.root, PurePosixPath(ws.root)),
        # By a name that means the same on a helper, with helpers or without: CMake remembers it.
        environment={name: str(path) for name, path in named.items() if path},
    )


def describe_programs(compiler: str, ninja: str, machine: Machine) -> str:
    """Return what of a machine's programs decides a result.

    Args:
        compiler: What `c++ --version` says.
        ninja: Ninja's version.
        machine: The machine.
    """
    programs = f"cmake {machine.cmake}, ninja {ninja}, python {machine.python}"
    return f"{compiler}; {programs}; glibc {machine.glibc}; {read_toolchain()}; {_NO_IDENT}"


def make_root_toolchain(
    plan: Plan,
    root: Root,
    compilers: Compilers | None,
    *,
    around: Path,
    home: PurePosixPath,
    use_ccache: bool,
) -> Toolchain:
    """Return the programs of a build in a root, and write CMake's toolchain file.

    Args:
        plan: The plan.
        root: The root.
        compilers: The host's compilers, which do the work of the root's; None where there are none.
        around: Folder that gets `tools` and the toolchain file.
        home: Where scripts see that folder.
        use_ccache: Use ccache.

    Raises:
        HostError: A program is missing.
    """
    folder = make_dir(around / "tools")
    # patchelf is linked statically and runs in any root; ninja needs the libraries of its machine.
    runs_here = compilers is not None or Arch.native() is Arch(plan.selection.arch)
    # A container may be on a machine that runs the root's programs and none of this one's.
    elsewhere = plan.selection.executor is Executor.BUILDX and not runs_here
    own = [] if elsewhere and "patchelf" in root.read_versions() else ["patchelf"]
    for name in ("patchelf", "ninja"):
        if name in (*own, *(["ninja"] if runs_here else [])):
            _copy(folder / name, _require(name))
        else:
            (folder / name).unlink(missing_ok=True)
    (folder / "cmake").unlink(missing_ok=True)
    versions = root.read_versions()
    write_make(folder, Path("/usr/bin/make"), versions.get("make", ""))
    assert plan.machine is not None
    gcc = f"g++-{plan.machine.gcc.partition('.')[0]}"
    compiler = compilers.version if compilers else f"{gcc} {versions.get(gcc, '')} of the root"
    digest = hashlib.sha256(json.dumps(versions, sort_keys=True).encode()).hexdigest()
    first = [str(home / "tools"), *([str(BIN)] if compilers else [])]
    ccache = PurePosixPath(BIN / "ccache" if compilers else "/usr/bin/ccache")
    return Toolchain(
        path=":".join([*first, SYSTEM_PATH]),
        compiler=compiler,
        description=f"{compiler}; packages {digest}; {read_toolchain()}; {_NO_IDENT}",
        ccache=ccache if use_ccache else None,
        file=_write_file(around, home),
        environment={
            "CCACHE_DIR": str(CCACHE_DIR),
            **_name_compilers(plan, BIN if compilers else PurePosixPath("/usr/bin")),
            **_emulate(plan),
        },
        shares_jobs=runs_here,
    )


def make_cross_toolchain(
    plan: Plan, ws: Workspace, root: Root, tools: Root, compilers: Compilers, *, use_ccache: bool
) -> Toolchain:
    """Return the programs of a cross build, and write CMake's toolchain file.

    Args:
        plan: The plan.
        ws: The work directory, which is mounted where the programs run.
        root: The board's root, which is the sysroot.
        tools: The root that the programs run in.
        compilers: The cross compiler.
        use_ccache: Use ccache.

    Raises:
        HostError: A program is missing.
    """
    folder = make_dir(ws.root / "tools")
    for name in ("patchelf", "ninja"):
        _copy(folder / name, _require(name))
    (folder / "cmake").unlink(missing_ok=True)
    versions = tools.read_versions()
    write_make(folder, Path("/usr/bin/make"), versions.get("make", ""))
    arch = Arch(plan.selection.arch)
    multiarch = arch.to_multiarch()
    text = render_template(
        "toolchain/cross.cmake.j2",
        {
            "processor": arch.to_uname(),
            "compilers": BIN,
            "sysroot": SYSROOT,
            "multiarch": multiarch,
            "work_dir": ws.root,
        },
    )
    packages = [root.read_versions(), versions]
    digest = hashlib.sha256(json.dumps(packages, sort_keys=True).encode()).hexdigest()
    pkg_config = [f"{SYSROOT}/usr/lib/{multiarch}/pkgconfig", f"{SYSROOT}/usr/share/pkgconfig"]
    return Toolchain(
        path=f"{folder}:{SYSTEM_PATH}",
        compiler=compilers.version,
        description=f"{compilers.version}; packages {digest}; {text}; {_UNMAP_SYSROOT} {_NO_IDENT}",
        ccache=BIN / "ccache" if use_ccache else None,
        file=_write_file(ws.root, PurePosixPath(ws.root), text),
        flags=_UNMAP_SYSROOT,
        environment={
            "CCACHE_DIR": str(CCACHE_DIR),
            "QEMU_LD_PREFIX": str(SYSROOT),
            "PKG_CONFIG_SYSROOT_DIR": str(SYSROOT),
            "PKG_CONFIG_LIBDIR": ":".join(pkg_config),
            **_emulate(plan),
        },
    )


def _name_compilers(plan: Plan, folder: PurePosixPath) -> dict[str, str]:
    """Return what names the compilers: in full, as some projects tell a machine by that name."""
    multiarch = Arch(plan.selection.arch).to_multiarch()
    return {"CC": str(folder / f"{multiarch}-gcc"), "CXX": str(folder / f"{multiarch}-g++")}


def _emulate(plan: Plan) -> dict[str, str]:
    """Return what tells QEMU which core it is: a script keeps nothing that it does not say itself."""
    return {"QEMU_CPU": plan.selection.qemu_cpu} if plan.selection.qemu_cpu else {}


def _require(name: str) -> Path:
    program = find_program(name)
    if program is None:
        msg = f"{name} not found"
        raise HostError(msg, hint=f"{sys.executable} -m pip install {name}")
    return program


def _read_ninja_version(ninja: Path) -> str:
    """Return the version of Ninja.

    Raises:
        HostError: It is too old to share job tokens.
    """
    version = proc.capture([str(ninja), "--version"]).output.strip()
    if tuple(int(n) for n in version.split(".")[:2] if n.isdigit()) < (1, 13):
        msg = f"Ninja is version {version}: 1.13 is the first that shares job tokens"
        raise HostError(msg, hint=f"{sys.executable} -m pip install 'ninja>=1.13'")
    return version


def _read_make_version(make: Path | None) -> str:
    said = proc.capture([str(make), "--version"]).output if make else ""
    found = re.match(r"GNU Make (\S+)", said)
    return found[1] if found else ""


def read_toolchain() -> str:
    """Return CMake's toolchain file of a build that is no cross build.

    CMake reads it in every project of a super-build, because upstream hands CMAKE_TOOLCHAIN_FILE on
    where it hands nothing else on.
    """
    return (data_dir("templates") / "toolchain" / "native.cmake").read_text(encoding="utf-8")


def _write_file(around: Path, home: PurePosixPath, text: str | None = None) -> PurePosixPath:
    """Write the toolchain file into a folder that scripts see elsewhere; return where they do."""
    file = around / "toolchain.cmake"
    text = text or read_toolchain()
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        write_text(file, text)
    return home / file.name


def read_epoch(plan: Plan) -> int:
    """Return the time that programs are to take for now: the release's, if nobody says another.

    Raises:
        UsageError: SOURCE_DATE_EPOCH is not a time.
    """
    return read_mtime(str(plan.find_step("assemble").details["date"]))


def make_environment(
    plan: Plan, home: PurePosixPath, step: Step, toolchain: Toolchain, git: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of a step's script, all that it needs besides a user's own.

    Args:
        plan: The plan.
        home: The work directory, as the script sees it.
        step: The step.
        toolchain: The programs.
        git: What lets git take every repository from the work directory.
    """
    remap = f"-ffile-prefix-map={shlex.quote(str(home))}={HOME} {_NO_IDENT}"
    flags = f"{remap} {toolchain.flags}".rstrip()
    environment = {
        "PATH": toolchain.path,
        "LC_ALL": "C.UTF-8",
        "CMAKE_TOOLCHAIN_FILE": str(toolchain.file),
        "CMAKE_GENERATOR": "Ninja",
        "SOURCE_DATE_EPOCH": str(read_epoch(plan)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CFLAGS": flags,
        "CXXFLAGS": flags,
        **toolchain.environment,
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


def _copy(path: Path, program: Path) -> None:
    """Have a program's own copy in a folder; it appears whole or not at all."""
    if path.is_file() and not path.is_symlink() and path.read_bytes() == program.read_bytes():
        return
    beside = path.with_name(f".{path.name}.new")
    shutil.copy2(program, beside)
    beside.replace(path)
