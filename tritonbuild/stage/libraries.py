"""The shared libraries that a board's system has, and how new they are.

The knowledge comes from a real root of the board's operating system, or, where its archive cannot
be reached, from the os recipe's list of base libraries.
"""

from __future__ import annotations

import json
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from tritonbuild.errors import AssembleError
from tritonbuild.stage.elffile import parse_number, read_elf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tritonbuild.arch import Arch

# Libraries whose symbol versions are numbers that only go up, and the prefixes of those versions.
_VERSIONED = {
    "libc.so.6": ("GLIBC",),
    "libstdc++.so.6": ("GLIBCXX", "CXXABI"),
    "libgcc_s.so.1": ("GCC",),
}

# As many as the kernel follows before it calls it a loop.
_MOST_LINKS = 40


@dataclass(frozen=True)
class SystemLibraries:
    """What the board's system has for a program to load.

    Attributes:
        source: `root` where real files were read, `recipe` where a list was taken for granted.
        packages: Package of each library, by the name that the loader looks for; "" where the
            root has the library but none of its packages does.
        versions: Highest symbol version of each prefix, such as `{"GLIBC": "2.36"}`.
        root_dir: The root, None for `recipe`.
        paths: Where each library lies; empty for `recipe`.
    """

    source: Literal["root", "recipe"]
    packages: Mapping[str, str]
    versions: Mapping[str, str]
    root_dir: Path | None = None
    paths: Mapping[str, Path] = field(default_factory=dict, repr=False)

    @classmethod
    def from_root(cls, root_dir: Path, packages_json: Path, arch: Arch) -> SystemLibraries:
        """Return what a root of the board's operating system has.

        Args:
            root_dir: The root; links are followed inside it only.
            packages_json: `{"packages": {NAME: {"files": [PATH, ...]}}}` for what is in it.
            arch: The board's architecture.

        Raises:
            AssembleError: It is not a root of that architecture.
        """
        root_dir = root_dir.resolve()
        owners = _read_owners(packages_json)
        packages: dict[str, str] = {}
        paths: dict[str, Path] = {}
        for folder in _library_folders(root_dir, arch):
            for name, path in _list_libraries(root_dir, folder):
                if name not in paths:
                    paths[name] = path
                    packages[name] = _find_owner(owners, root_dir, folder / name, path)
        versions: dict[str, str] = {}
        for name, prefixes in _VERSIONED.items():
            if name in paths:
                versions |= _read_highest(paths[name], prefixes, arch)
        if "GLIBC" not in versions:
            msg = f"{root_dir} is not a root for {arch}: it has no libc.so.6 with versions"
            raise AssembleError(msg, hint=f"delete {root_dir.parent} and run again")
        return cls("root", packages, versions, root_dir, paths)

    @classmethod
    def from_recipe(cls, step_details: Mapping[str, Any]) -> SystemLibraries:
        """Return what the os recipe says that every image has.

        Args:
            step_details: `details` of the plan's verify step.
        """
        versions = {"GLIBC": step_details["glibc"], "GLIBCXX": step_details["glibcxx"]}
        return cls("recipe", dict(step_details["base_libraries"]), versions)

    def has_interpreter(self, path: str) -> bool:
        """Tell whether a program's PT_INTERP is there."""
        if self.root_dir is None:
            return PurePosixPath(path).name in self.packages
        return resolve_inside(self.root_dir, PurePosixPath(path)) is not None

    def read_versions(self, library: str) -> frozenset[str] | None:
        """Return every symbol version that a library defines, None where nobody knows."""
        path = self.paths.get(library)
        return read_elf(path).defined_versions if path else None


def resolve_inside(root_dir: Path, path: PurePosixPath) -> Path | None:
    """Follow a path as if `root_dir` were `/`; None where it leads to nothing.

    An absolute link starts at the root again and `..` stops there, so that a root for another
    machine never shows this machine's files.

    Args:
        root_dir: The root; resolved.
        path: A path in the root, with or without its leading slash.
    """
    todo = [part for part in reversed(path.parts) if part != "/"]
    here = root_dir
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            here = here if here == root_dir else here.parent
            continue
        step = here / part
        try:
            mode = step.lstat().st_mode
        except OSError:
            return None
        if not stat.S_ISLNK(mode):
            here = step
            continue
        links += 1
        if links > _MOST_LINKS:
            return None
        target = PurePosixPath(step.readlink())
        here = root_dir if target.is_absolute() else here
        todo += [part for part in reversed(target.parts) if part != "/"]
    return here


def _library_folders(root_dir: Path, arch: Arch) -> Iterator[PurePosixPath]:
    """Yield the loader's folders in its order: ld.so.conf's first, then the built-in ones."""
    seen = set()
    built_in = [f"/{folder}" for folder in ("lib", "usr/lib")]
    multiarch = [f"{folder}/{arch.to_multiarch()}" for folder in built_in]
    for folder in (*_read_ld_conf(root_dir), *multiarch, *built_in):
        if folder not in seen:
            seen.add(folder)
            yield PurePosixPath(folder)


def _read_ld_conf(root_dir: Path) -> Iterator[str]:
    conf_dir = resolve_inside(root_dir, PurePosixPath("/etc/ld.so.conf.d"))
    if conf_dir is None:
        return
    for name in sorted(path.name for path in conf_dir.glob("*.conf")):
        conf = resolve_inside(root_dir, PurePosixPath("/etc/ld.so.conf.d", name))
        for line in conf.read_text(encoding="utf-8").splitlines() if conf else ():
            if line.startswith("/"):
                yield line.strip().rstrip("/")


def _list_libraries(root_dir: Path, folder: PurePosixPath) -> Iterator[tuple[str, Path]]:
    found = resolve_inside(root_dir, folder)
    if found is None or not found.is_dir():
        return
    for entry in found.iterdir():
        if ".so" in entry.name:
            path = resolve_inside(root_dir, PurePosixPath(entry.relative_to(root_dir)))
            if path is not None and path.is_file():
                yield entry.name, path


def _read_owners(packages_json: Path) -> dict[str, str]:
    """Return the package of each file; `usr/` is cut off, as merged roots have one folder."""
    packages = json.loads(packages_json.read_text(encoding="utf-8"))["packages"]
    return {
        file.lstrip("/").removeprefix("usr/"): name
        for name, package in packages.items()
        for file in package["files"]
    }


def _find_owner(owners: Mapping[str, str], root_dir: Path, name: PurePosixPath, path: Path) -> str:
    """Return the package of a library: that of its link, else that of the file behind it."""
    candidates = (name.relative_to("/"), path.relative_to(root_dir))
    keys = [str(candidate).removeprefix("usr/") for candidate in candidates]
    return next((owners[key] for key in keys if key in owners), "")


def _read_highest(path: Path, prefixes: tuple[str, ...], arch: Arch) -> dict[str, str]:
    try:
        elf = read_elf(path)
    except ValueError:
        return {}
    if elf.machine != arch.to_elf_machine():
        return {}
    found = {prefix: find_highest(elf.defined_versions, prefix) for prefix in prefixes}
    return {prefix: version for prefix, version in found.items() if version}


def find_highest(names: Iterable[str], prefix: str) -> str | None:
    """Return the highest number that stands behind a prefix: `2.34` of GLIBC_2.4, GLIBC_2.34."""
    pattern = re.compile(rf"{prefix}_(\d+(?:\.\d+)*)")
    numbers = [match[1] for match in map(pattern.fullmatch, names) if match]
    return max(numbers, key=parse_number, default=None)
