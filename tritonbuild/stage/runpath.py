"""Run paths relative to $ORIGIN, so that the tree works wherever it is put."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.stage.elffile import read_elf

if TYPE_CHECKING:
    from collections.abc import Iterator

_ELF_MAGIC = b"\x7fELF"
_ORIGIN = ("$ORIGIN", "${ORIGIN}")


def list_elf_files(tree: Path) -> Iterator[Path]:
    """Yield every regular ELF file of a tree, sorted."""
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as source:
                if source.read(4) == _ELF_MAGIC:
                    yield path


def set_run_paths(tree: Path, patchelf: Path) -> int:
    """Make every ELF file of a tree find its libraries inside it; return how many were changed.

    Entries that are relative and lead to a folder of the tree are kept, all others dropped, and
    the way to `lib` is added where a file needs something from there.

    Args:
        tree: The /opt/tritonserver tree.
        patchelf: The patchelf program.

    Raises:
        BuildError: patchelf failed.
    """
    libraries = {path.name for path in (tree / "lib").glob("*")}
    changed = 0
    for path in list_elf_files(tree):
        try:
            elf = read_elf(path)
        except ValueError:  # damaged: the check of the whole tree says so, with all else
            continue
        run_path = elf.rpath if elf.runpath is None else elf.runpath
        wanted = _wanted_run_path(path, run_path, elf.needed, tree, libraries)
        if wanted != run_path:
            # An empty run path is taken away rather than set: patchelf would keep an empty entry.
            argv = ["--set-rpath", ":".join(wanted)] if wanted else ["--remove-rpath"]
            proc.run([str(patchelf), *argv, str(path)])
            changed += 1
    return changed


def _wanted_run_path(
    path: Path,
    run_path: tuple[str, ...],
    needed: tuple[str, ...],
    tree: Path,
    libraries: set[str],
) -> tuple[str, ...]:
    kept = [entry for entry in run_path if _leads_inside(entry, path, tree)]
    found = {p.name for entry in kept for p in _resolve(entry, path).iterdir()}
    if any(name in libraries and name not in found for name in needed):
        relative = os.path.relpath(tree / "lib", path.parent)
        kept.append("$ORIGIN" if relative == "." else f"$ORIGIN/{relative}")
    return tuple(kept)


def _resolve(entry: str, path: Path) -> Path:
    for origin in _ORIGIN:
        entry = entry.replace(origin, str(path.parent))
    return Path(os.path.normpath(entry))


def _leads_inside(entry: str, path: Path, tree: Path) -> bool:
    if not entry.startswith(_ORIGIN):
        return False
    folder = _resolve(entry, path)
    return folder.is_relative_to(tree) and folder.is_dir()
