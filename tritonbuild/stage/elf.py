"""Check every ELF file of an assembled tree against the board's system.

A library that is missing or too new would otherwise be found on the board only. The rules are
those of glibc's loader (ld.so(8)): DT_RPATH of the file and of who loads it, where there is no
DT_RUNPATH; then DT_RUNPATH; then the system. Each file is looked at for itself: that a library
happens to be loaded by somebody else already does not count.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from tritonbuild.arch import Arch
from tritonbuild.errors import AssembleError
from tritonbuild.stage.elffile import parse_number, parse_version, read_elf
from tritonbuild.stage.runpath import list_elf_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonbuild.stage.elffile import ElfFile
    from tritonbuild.stage.libraries import SystemLibraries

# More would not fit one screen; verify.json has them all.
_SHOWN_PROBLEMS = 20

_ORIGINS = ("$ORIGIN", "${ORIGIN}")


@dataclass(frozen=True, order=True)
class Problem:
    """Something that would not work on the board.

    Attributes:
        file: The ELF file, relative to the tree.
        what: What is wrong with it.
        hint: What to do about it.
    """

    file: str
    what: str
    hint: str


@dataclass(frozen=True)
class Highest:
    """The highest symbol version of a prefix that the tree needs, and one file that needs it."""

    version: str
    file: str


@dataclass(frozen=True)
class ElfReport:
    """What the check found.

    Attributes:
        arch: The board's architecture.
        source: `root` or `recipe`: what the tree was checked against.
        files: Number of ELF files.
        seconds: How long it took.
        problems: Sorted by file; empty when all is well.
        system_libraries: Libraries that the tree takes from the board's system, and the package
            of each.
        to_install: Libraries that the board may lack, and the package of each.
        highest: Highest symbol version that is needed of each prefix.
        board: Highest symbol version that the board has of each prefix.
    """

    arch: str
    source: Literal["root", "recipe"]
    files: int
    seconds: float
    problems: tuple[Problem, ...]
    system_libraries: dict[str, str]
    to_install: dict[str, str]
    highest: dict[str, Highest]
    board: dict[str, str]

    def to_json(self) -> str:
        """Return the report as `verify.json` holds it."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


def check_tree(
    tree: Path,
    *,
    arch: Arch,
    system: SystemLibraries,
    installable: Mapping[str, str] | None = None,
) -> ElfReport:
    """Check every ELF file of a tree; problems are returned, not raised.

    Args:
        tree: The /opt/tritonserver tree.
        arch: The board's architecture.
        system: What the board's system has.
        installable: Libraries that can be installed on the board, and the package of each: one
            that is needed and not there is no problem, but listed in `to_install`.
    """
    started = time.monotonic()
    check = _Check(Path(os.path.realpath(tree)), arch, system, installable or {})
    count = check.read_files()
    check.resolve_run_paths()
    check.resolve_libraries()
    check.compare_versions()
    check.find_interpreters()
    return ElfReport(
        arch=arch.value,
        source=system.source,
        files=count,
        seconds=round(time.monotonic() - started, 3),
        problems=tuple(sorted(set(check.problems))),
        system_libraries=dict(sorted(check.system_libraries.items())),
        to_install=dict(sorted(check.to_install.items())),
        highest=dict(sorted(check.highest.items())),
        board=dict(sorted(system.versions.items())),
    )


def raise_if_bad(report: ElfReport) -> None:
    """Stop when the check found a problem.

    Raises:
        AssembleError: Lists the problems, as many as fit one screen.
    """
    if not report.problems:
        return
    shown = report.problems[:_SHOWN_PROBLEMS]
    lines = [f"  {problem.file}: {problem.what}" for problem in shown]
    if len(report.problems) > len(shown):
        lines.append(f"  and {len(report.problems) - len(shown)} more")
    count = len(report.problems)
    msg = f"{count} {'problem' if count == 1 else 'problems'} in the assembled tree:\n"
    hints = dict.fromkeys(problem.hint for problem in shown)
    raise AssembleError(msg + "\n".join(lines), hint="; ".join(list(hints)[:3]))


@dataclass
class _Check:
    """One run of the check; the methods below are called in their order.

    Attributes:
        files: ELF files that the board could load, by path relative to the tree.
        others: What keeps the other ELF files from being loaded.
        folders: Folders of the tree that each file's run path leads to, relative to the tree.
        loaders: Files of the tree that load a file of the tree.
        providers: For each file: the file of the tree that a needed library is. Libraries of the
            system are not in here.
    """

    tree: Path
    arch: Arch
    system: SystemLibraries
    installable: Mapping[str, str]
    files: dict[str, ElfFile] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    folders: dict[str, list[str]] = field(default_factory=dict)
    loaders: dict[str, set[str]] = field(default_factory=dict)
    providers: dict[str, dict[str, str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    system_libraries: dict[str, str] = field(default_factory=dict)
    to_install: dict[str, str] = field(default_factory=dict)
    highest: dict[str, Highest] = field(default_factory=dict)

    def read_files(self) -> int:
        """Read every ELF file; return how many there are."""
        for path in list_elf_files(self.tree):
            name = str(path.relative_to(self.tree))
            try:
                elf = read_elf(path)
            except ValueError as err:
                self._refuse(name, str(err), "the file is damaged: fetch its wheel again")
                continue
            if elf.machine == self.arch.to_elf_machine():
                self.files[name] = elf
            else:
                what = f"is for {_name_machine(elf.machine)}, the board is {self.arch}"
                self._refuse(name, what, f"take the file from a wheel for {self.arch}")
        return len(self.files) + len(self.others)

    def _refuse(self, file: str, what: str, hint: str) -> None:
        self.others[file] = what
        self.problems.append(Problem(file, what, hint))

    def resolve_run_paths(self) -> None:
        """Find the folders that run paths lead to; other entries would break a moved tree."""
        hint = "set its run path with patchelf to something that begins with $ORIGIN"
        for name, elf in self.files.items():
            folders = self.folders[name] = []
            for entry in elf.rpath if elf.runpath is None else elf.runpath:
                folder = _resolve_entry(entry, name)
                if folder is not None:
                    folders.append(folder)
                else:
                    what = f'run path "{entry}" {_describe_entry(entry)}'
                    self.problems.append(Problem(name, what, hint))

    def resolve_libraries(self) -> None:
        """Find every needed library, in the tree and then in the system."""
        open_ends: list[tuple[str, str]] = []
        for name, elf in self.files.items():
            self.providers[name] = {}
            for library in elf.needed:
                found = self._search(name, library)
                if found is None:
                    open_ends.append((name, library))
                else:
                    self._connect(name, library, found)
        for name, library in self._inherit(open_ends):
            self._look_in_system(name, library)

    def _search(self, name: str, library: str) -> str | None:
        """Return the file that a library is, through the run path of one file."""
        if "/" in library:
            # The loader opens such a path as it is; no run path has a say.
            return None
        for folder in self.folders[name]:
            path = os.path.realpath(self.tree / folder / library)
            found = os.path.relpath(path, self.tree)
            # The loader passes over files for another machine. Links that lead out of the tree
            # end up at a path that is not among its files.
            if found in self.files:
                return found
        return None

    def _connect(self, name: str, library: str, found: str) -> None:
        self.providers[name][library] = found
        self.loaders.setdefault(found, set()).add(name)

    def _inherit(self, open_ends: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Resolve what only DT_RPATH of a file's loaders leads to; return what is still open.

        Every find makes a new loader, and so maybe another find.
        """
        while True:
            still_open = []
            for name, library in open_ends:
                found = None
                if self.files[name].runpath is None:
                    found = self._search_loaders(name, library, frozenset())
                if found is None:
                    still_open.append((name, library))
                else:
                    self._connect(name, library, found)
            if len(still_open) == len(open_ends):
                return still_open
            open_ends = still_open

    def _search_loaders(self, name: str, library: str, seen: frozenset[str]) -> str | None:
        """Return the file that a library is for all who load a file, None if one lacks it."""
        seen |= {name}
        found = None
        for loader in sorted(self.loaders.get(name, set()) - seen):
            has_rpath = self.files[loader].runpath is None
            found = (self._search(loader, library) if has_rpath else None) or (
                self._search_loaders(loader, library, seen)
            )
            if found is None:
                return None
        return found

    def _look_in_system(self, name: str, library: str) -> None:
        if "/" in library:
            what = f"needs {library} by its path"
            hint = "replace it with the bare name (patchelf --replace-needed)"
            self.problems.append(Problem(name, what, hint))
        elif library in self.system.packages:
            self.system_libraries[library] = self.system.packages[library]
        elif library in self.installable:
            self.to_install[library] = self.installable[library]
        else:
            what = f"needs {library}, which is neither in the tree nor in the board's system"
            self.problems.append(Problem(name, what, self._explain_missing(library)))

    def _explain_missing(self, library: str) -> str:
        for other, what in self.others.items():
            if PurePosixPath(other).name == library:
                return f"{other} cannot be used: it {what}"
        for other in self.files:
            if PurePosixPath(other).name == library:
                return f"{other} is there, but no run path leads to it (patchelf --set-rpath)"
        listed = "base_libraries" if self.system.source == "recipe" else "base_packages"
        return (
            f"what every image of the board has belongs in {listed} of the os recipe, what has to "
            "travel in the tree in bundled_packages"
        )

    def compare_versions(self) -> None:
        """Compare the symbol versions that are needed with those that are there."""
        known: dict[str, frozenset[str] | None] = {}
        for name, elf in self.files.items():
            too_new: dict[str, str] = {}
            for needed in elf.needed_versions:
                provider = self.providers[name].get(needed.library)
                if provider is not None:
                    defined = self.files[provider].defined_versions
                    self._check_defined(name, needed.name, provider, defined)
                elif needed.library in self.system.packages:
                    if self._is_new_enough(name, needed.name, too_new):
                        continue
                    if needed.library not in known:
                        known[needed.library] = self.system.read_versions(needed.library)
                    what = f"the board's {needed.library}"
                    self._check_defined(name, needed.name, what, known[needed.library])
            for prefix, version in too_new.items():
                what = f"needs {version}, the board has {prefix}_{self.system.versions[prefix]}"
                hint = "choose a newer --os, or wheels for an older manylinux"
                self.problems.append(Problem(name, what, hint))

    def _is_new_enough(self, name: str, version: str, too_new: dict[str, str]) -> bool:
        """Settle versions that are numbers; return False for others.

        Args:
            name: The file that needs it.
            version: What it needs.
            too_new: Gets the highest version that the board lacks, by prefix.
        """
        parsed = parse_version(version)
        if parsed is None or parsed[0] not in self.system.versions:
            return False
        prefix, number = parsed
        text = ".".join(map(str, number))
        highest = self.highest.get(prefix)
        if highest is None or number > parse_number(highest.version):
            self.highest[prefix] = Highest(text, name)
        if number > parse_number(self.system.versions[prefix]):
            before = parse_version(too_new.get(prefix, ""))
            if before is None or number > before[1]:
                too_new[prefix] = version
        return True

    def _check_defined(
        self, name: str, version: str, provider: str, defined: frozenset[str] | None
    ) -> None:
        # A library without any versions is taken by the loader, with a remark at most.
        if defined and version not in defined:
            what = f"needs {version}, which {provider} does not have"
            self.problems.append(Problem(name, what, "take both from the same wheel or package"))

    def find_interpreters(self) -> None:
        """Check that the loader that a program asks for is there."""
        for name, elf in self.files.items():
            path = elf.interpreter
            if path is not None and not self.system.has_interpreter(path):
                what = f"asks for the interpreter {path}, which the board's system does not have"
                hint = f"take a build for glibc: /lib/{self.arch.to_loader()}"
                self.problems.append(Problem(name, what, hint))


def _resolve_entry(entry: str, file: str) -> str | None:
    """Return the folder of the tree that a run path entry means; None where it leaves the tree."""
    for origin in _ORIGINS:
        rest = entry.removeprefix(origin)
        if rest != entry and (rest == "" or rest.startswith("/")) and "$" not in rest:
            parent = PurePosixPath(file).parent
            folder = os.path.normpath(f"{parent}/{rest}")
            return None if folder.split("/")[0] == ".." else folder
    return None


def _describe_entry(entry: str) -> str:
    if entry.startswith("/"):
        return "is absolute, so the tree could not be moved"
    if entry.startswith(_ORIGINS):
        return "leads out of the tree"
    return "depends on the folder that the server is started from"


def _name_machine(machine: str) -> str:
    return next((str(arch) for arch in Arch if arch.to_elf_machine() == machine), machine)
