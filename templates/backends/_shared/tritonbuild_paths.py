# SPDX-License-Identifier: Apache-2.0
"""Puts the server tree's own directories in front of ``sys.path``.

Import this module before numpy, before ``triton_python_backend_utils`` and before
anything that may import them.

The python backend's stub appends the backend's directory and the python backend's
directory *behind* the system's ``dist-packages``.  The wheels of the tree are built
against numpy 1.x; a numpy 2.x (or another onnxruntime, psutil, ...) installed in the
system would be found first and break them.  So the two directories move to the front.
"""

from __future__ import annotations

import sys
from pathlib import Path

_UTILS_FILE = "triton_python_backend_utils.py"


def tree_directories(search_path: list[str], here: Path) -> list[str]:
    """Return the tree's directories, most specific first.

    ``here`` is the backend's own directory (``<tree>/backends/<backend>``).  The python
    backend's directory is the entry of ``search_path`` which holds ``_UTILS_FILE``
    (that is how the stub says where it is), else the sibling ``python`` directory.
    """
    python_dirs = [
        entry for entry in search_path if entry and (Path(entry) / _UTILS_FILE).is_file()
    ]
    python_dir = python_dirs[0] if python_dirs else str(here.parent / "python")
    return [str(here), python_dir]


def _prefer_tree() -> None:
    wanted = tree_directories(sys.path, Path(__file__).resolve().parent)
    sys.path[:] = wanted + [entry for entry in sys.path if entry not in wanted]


_prefer_tree()
