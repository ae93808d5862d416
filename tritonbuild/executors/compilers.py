"""Compilers of this machine for a root of another architecture: QEMU's work, done eight times faster.

Debian and Ubuntu build each GCC also as a cross compiler, from the same sources. Its programs run on
this machine; put into a root, they can do what the root's own compiler does under QEMU. Only programs
are taken from it: every header, start file and library that goes into an object or a program is the
root's own, because the folders where a cross compiler looks for them are made of links into the root.
So configure checks, generators and tests run as on the board, and only compiling, assembling and
linking do not.

Whether that is true is not assumed: one file is compiled both ways, and both objects and both linked
programs have to be the same.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tritonbuild import proc
from tritonbuild.arch import Arch
from tritonbuild.errors import SourceError
from tritonbuild.executors.rootfs import HOST_PROGRAMS, RootSpec, make_cached, make_root
from tritonbuild.paths import data_dir, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tritonbuild.executors.rootfs import Root
    from tritonbuild.executors.sandbox import Sandbox
    from tritonbuild.plan.model import Step

# First in PATH: compilers, assemblers and linkers under all names that builds call them by.
BIN = HOST_PROGRAMS / "compilers"

# Counts up when the same packages would come out differently.
_VERSION = 1

# What of GCC's own folder are programs, or are loaded by them.
_PROGRAMS = (
    "cc1", "cc1plus", "collect2", "g++-mapper-server", "lto-wrapper", "lto1", "liblto_plugin.so",
    "libcc1.so", "plugin",
)  # fmt: skip

# -fno-ident: the version string of a compiler is not the code that it makes.
_COMPILE = ("-std=c++17", "-O3", "-fPIC", "-pthread", "-fno-ident", "-c", "sample.cc", "-o")
_LINK = ("-pthread",)
_WORK = PurePosixPath("/tmp/check")


@dataclass(frozen=True)
class Compilers:
    """Programs of this machine for a root.

    Attributes:
        folder: In the cache.
    """

    folder: Path

    @property
    def tree(self) -> Path:
        """What is mounted on `HOST_PROGRAMS`."""
        return self.folder / "tree"

    @property
    def version(self) -> str:
        """What the C++ compiler calls itself."""
        return str(self._read_report()["version"])

    @property
    def difference(self) -> str | None:
        """What it does otherwise than the root's own compiler; None where it does the same."""
        found = self._read_report()["difference"]
        return None if found is None else str(found)

    def _read_report(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(_report_path(self.folder).read_text(encoding="utf-8"))
        return content


def _report_path(folder: Path) -> Path:
    return folder / "check.json"


@dataclass(frozen=True)
class CompilersSpec:
    """What compilers are for.

    Attributes:
        root: Root that they compile for.
        arch: Its architecture.
        gcc: Major version of its GCC.
        host: The root that they are taken from, for this machine's architecture.
    """

    root: Root
    arch: Arch
    gcc: str
    host: RootSpec

    @property
    def key(self) -> str:
        """The folder's name in the cache."""
        # A root that was deleted and made anew may have another compiler: then all is looked at again.
        root = [self.root.folder.name, self.root.read_versions()]
        content = json.dumps([_VERSION, root, self.host.key, _read_sample()], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        return f"{self.host.suite}-{self.arch}-gcc{self.gcc}-{digest}"


def _read_sample() -> str:
    return (data_dir("templates") / "compilers" / "sample.cc").read_text(encoding="utf-8")


def compilers_spec_of(step: Step, root: Root, arch: Arch) -> CompilersSpec | None:
    """Return what a plan's step asks for; None where this machine runs the root's own programs."""
    native = Arch.native()
    if native is arch or native is not Arch.AMD64:
        return None
    details: dict[str, Any] = step.details
    gcc = str(details["gcc"])
    triplet = arch.to_multiarch().replace("_", "-")
    host = RootSpec(
        details["distribution"], details["suite"], native.value,
        ("ccache", f"g++-{gcc}-{triplet}"), {}, details["mirror"], essential=False,
    )  # fmt: skip
    return CompilersSpec(root, arch, gcc, host)


def find_compilers(spec: CompilersSpec, cache: Path) -> Compilers | None:
    """Return compilers that were made and checked before; None where there are none."""
    found = Compilers(cache / "compilers" / spec.key)
    return found if _report_path(found.folder).is_file() and found.tree.is_dir() else None


def make_compilers(spec: CompilersSpec, sandbox: Sandbox, cache: Path, log: Path) -> Compilers:
    """Return compilers for a root, made and checked if the cache has none.

    They may turn out to be different from the root's own (`Compilers.difference`).

    Args:
        spec: What they are for.
        sandbox: Runs programs of the root.
        cache: The user's cache.
        log: For what is run.

    Raises:
        HostError: They cannot be unpacked here.
        SourceError: The distribution has no such compilers, or the root has another GCC.
        UnreachableError: Its archive cannot be used from here.
    """
    found = find_compilers(spec, cache)
    if found:
        return found
    target = cache / "compilers" / spec.key

    def make(folder: Path) -> None:
        _arrange(spec, make_root(spec.host, cache, log).tree, folder / "tree")
        report = _check(sandbox, folder, log.with_name(f"{log.stem}-check.log"))
        write_text(_report_path(folder), json.dumps(report, indent=2) + "\n")

    make_cached(target, make, is_there=lambda: find_compilers(spec, cache) is not None)
    return Compilers(target)


def _arrange(spec: CompilersSpec, source: Path, tree: Path) -> None:
    """Make the tree that is mounted in the root: programs, and links to all else."""
    triplet = spec.arch.to_multiarch()
    # Links to files of the cache, not copies: the same disk, and nobody changes either of them.
    shutil.copytree(source, tree, symlinks=True, copy_function=_link_file)
    own = tree / "usr" / "lib" / "gcc-cross" / triplet / spec.gcc
    for path in list(own.iterdir()):
        if path.name not in _PROGRAMS:
            _remove(path)
    of_root = PurePosixPath("/usr/lib/gcc") / triplet / spec.gcc
    for name in _names(spec.root.tree, of_root):
        if name not in _PROGRAMS:
            (own / name).symlink_to(of_root / name)
    # The C library's and Linux's headers and libraries of the cross compiler's own.
    for name in ("include", "lib"):
        _remove(tree / "usr" / triplet / name)
    _link_headers(spec, tree / "usr" / triplet / "include" / "c++" / spec.gcc)
    names = tree / BIN.name
    names.mkdir()
    for name, program in _name_programs(tree, triplet, spec.gcc):
        (names / name).symlink_to(PurePosixPath("..") / "usr" / "bin" / program)


def _link_headers(spec: CompilersSpec, folder: Path) -> None:
    """Let the C++ library's headers be the root's own.

    GCC names a header by where a link leads, if that is shorter; so even `__FILE__` is the same.
    """
    folder.mkdir(parents=True)
    headers = PurePosixPath("/usr/include/c++") / spec.gcc
    for name in _names(spec.root.tree, headers):
        (folder / name).symlink_to(headers / name)
    triplet = spec.arch.to_multiarch()
    (folder / triplet).symlink_to(PurePosixPath("/usr/include") / triplet / "c++" / spec.gcc)


def _names(root: Path, folder: PurePosixPath) -> list[str]:
    """Return the names in a folder of the root.

    Raises:
        SourceError: It is not there: the root has another compiler than the recipe says.
    """
    path = root / folder.relative_to("/")
    if not path.is_dir():
        msg = f"the root has no {folder}"
        raise SourceError(msg, hint="mend `gcc` in the os recipe: it is another version there")
    return sorted(each.name for each in path.iterdir())


def _name_programs(tree: Path, triplet: str, gcc: str) -> Iterator[tuple[str, str]]:
    """Yield the names that builds call each program by: with triplet and version, and without."""
    prefix, suffix = f"{triplet}-", f"-{gcc}"
    given: set[str] = set()
    for path in sorted((tree / "usr" / "bin").glob(f"{prefix}*")):
        short = path.name.removeprefix(prefix)
        for name in (path.name, path.name.removesuffix(suffix), short, short.removesuffix(suffix)):
            # The root's own GCC would find this linker in PATH, which cannot load its plugin.
            if name not in given and not name.startswith("ld"):
                given.add(name)
                yield name, path.name
    yield "ccache", "ccache"
    yield "cc", f"{prefix}gcc{suffix}"
    yield "c++", f"{prefix}g++{suffix}"


def _check(sandbox: Sandbox, folder: Path, log: Path) -> dict[str, str | None]:
    """Compile and link one file with the root's compiler and with ours; compare the results."""
    work = folder / "check"
    work.mkdir()
    (work / "sample.cc").write_text(_read_sample(), encoding="utf-8")
    plain = sandbox.with_bind(work, _WORK, writable=True).with_folder(_WORK)
    fast = plain.with_bind(folder / "tree", HOST_PROGRAMS).with_path(BIN)
    ours = str(BIN / "g++")  # by path: what cannot be executed is looked for elsewhere in PATH
    difference = None
    for name, place, program in (("own", plain, "/usr/bin/g++"), ("ours", fast, ours)):
        for argv in (
            [program, *_COMPILE, f"{name}.o"],
            [program, *_LINK, f"{name}.o", "-o", name],
        ):
            if difference is not None:
                break  # the log is that of what failed
            done = proc.run(place.argv(argv), log=log, check=False)
            if done.returncode != 0:
                difference = f"`{proc.format_argv(argv)}` failed: {done.output.strip()[-500:]}"
    if difference is None:
        difference = _compare(work)
    version = proc.capture(fast.argv([ours, "--version"])).output.partition("\n")[0]
    shutil.rmtree(work)
    return {"version": version, "difference": difference}


def _compare(work: Path) -> str | None:
    for suffix, when in ((".o", "compiled"), ("", "linked")):
        if (work / f"own{suffix}").read_bytes() != (work / f"ours{suffix}").read_bytes():
            return f"one file came out differently when it was {when}"
    return None


def _link_file(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:  # not every file system has hard links
        shutil.copy2(source, target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
