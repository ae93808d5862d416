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
from tritonbuild.executors.arrange import arrange
from tritonbuild.executors.rootfs import RootSpec, make_cached, make_root
from tritonbuild.paths import data_dir, write_text
from tritonbuild.plan.layout import HOST_PROGRAMS
from tritonbuild.plan.root import COMPILERS

if TYPE_CHECKING:
    from tritonbuild.executors.rootfs import Root
    from tritonbuild.executors.sandbox import Sandbox
    from tritonbuild.plan.model import Step

# First in PATH.
BIN = COMPILERS

# Counts up when the same packages would come out differently.
_VERSION = 3

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
        content = json.dumps(
            [_VERSION, root, self.host.key, _read_template("sample.cc")], sort_keys=True
        )
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        return f"{self.host.suite}-{self.arch}-gcc{self.gcc}-{digest}"


def _read_template(name: str) -> str:
    return (data_dir("templates") / "compilers" / name).read_text(encoding="utf-8")


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
    """Make the tree that is mounted in the root.

    Raises:
        SourceError: The root has another compiler than the recipe says.
    """
    triplet = spec.arch.to_multiarch()
    try:
        arrange(source, spec.root.tree, tree, triplet, spec.gcc)
    except FileNotFoundError as err:
        msg = f"the root has no {err}"
        hint = "mend `gcc` in the os recipe: it is another version there"
        raise SourceError(msg, hint=hint) from err


def _check(sandbox: Sandbox, folder: Path, log: Path) -> dict[str, str | None]:
    """Compile and link one file with the root's compiler and with ours; compare the results."""
    work = folder / "check"
    work.mkdir()
    for name in ("sample.cc", "compare.sh"):
        (work / name).write_text(_read_template(name), encoding="utf-8")
    place = sandbox.with_bind(work, _WORK, writable=True).with_folder(_WORK)
    place = place.with_bind(folder / "tree", HOST_PROGRAMS)
    ours = str(BIN / "g++")  # by path: what cannot be executed is looked for elsewhere in PATH
    argv = ["bash", str(_WORK / "compare.sh"), str(_WORK), ours]
    done = proc.run(place.argv(argv), log=log, check=False)
    said = done.output.strip() or f"exit code {done.returncode}"
    version = proc.capture(place.argv([ours, "--version"])).output.partition("\n")[0]
    shutil.rmtree(work)
    return {"version": version, "difference": said if done.returncode != 0 else None}
