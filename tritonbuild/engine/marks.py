"""Whether what a step left is still what it left."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from tritonbuild.paths import write_text

if TYPE_CHECKING:
    from pathlib import Path


def list_tree(tree: Path) -> str:
    """Return a checksum over names, modes, sizes and times: whether somebody touched a tree."""
    digest = hashlib.sha256()
    for path in sorted(tree.rglob("*")):
        status = path.lstat()
        if not path.is_dir() or path.is_symlink():
            digest.update(
                f"{path.relative_to(tree)} {status.st_mode} {status.st_size} "
                f"{status.st_mtime_ns}\n".encode()
            )
    return digest.hexdigest()


def _find_mark(folder: Path) -> Path:
    """Return where a folder's mark is: not where it would count as a change of the sources."""
    return (
        folder / ".git" / "tritonbuild" if (folder / ".git").is_dir() else folder / ".tritonbuild"
    )


def mark_folder(folder: Path) -> str:
    """Mark a folder that a script made anew, and return the mark.

    It goes with the folder: who deletes it, or runs the script by hand, takes away what later steps
    did in it.
    """
    mark = secrets.token_hex(8)
    write_text(_find_mark(folder), mark + "\n")
    return mark


def read_mark(folder: Path) -> str | None:
    """Return a folder's mark, None where it has none."""
    try:
        return _find_mark(folder).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
