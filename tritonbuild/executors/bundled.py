"""Programs that came with tritonbuild, as Python dependencies that carry them.

The same version works on every host, and nothing has to be installed as root.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path

from tritonbuild import proc
from tritonbuild.errors import HostError


def find_bundled(name: str) -> Path | None:
    """Return the program that the distribution of its name carries, else the system's, else None.

    The virtual environment's `bin` need not be in PATH (`/path/to/venv/bin/tritonbuild` is a fair
    way to call us), so the distribution's own list of files is asked first.
    """
    return find_own(name) or proc.find_tool(name)


def find_own(name: str) -> Path | None:
    """Return the program that a distribution of its name carries beside tritonbuild, else None."""
    for path in (_find_in_distribution(name), Path(sys.prefix) / "bin" / name):
        if path is not None and path.is_file() and os.access(path, os.X_OK):
            return path
    return None


def get_bundled(name: str, *, reason: str) -> Path:
    """Return where the program is.

    Args:
        name: Of the program and of the distribution that carries it.
        reason: What it is needed for, as in `it is needed to ...`.

    Raises:
        HostError: There is none.
    """
    found = find_bundled(name)
    if found is None:
        msg = f"{name} not found: it is needed {reason}"
        raise HostError(msg, hint=f"{sys.executable} -m pip install {name}")
    return found


def _find_in_distribution(name: str) -> Path | None:
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    program = next((file for file in files if file.parts[-2:] == ("bin", name)), None)
    return Path(str(program.locate())).resolve() if program else None
