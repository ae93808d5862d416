"""What the check of a tree's ELF files found, as `verify.json` keeps it for what comes later."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tritonbuild.errors import AssembleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonbuild.paths import Workspace


def read_verified(ws: Workspace) -> dict[str, Any]:
    """Return what the check found; the fields are those of `tritonbuild.stage.elf.ElfReport`.

    Raises:
        AssembleError: The tree was not checked.
    """
    try:
        return dict(json.loads(ws.verify_path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as err:
        msg = f"{ws.root} has no checked tree: verify.json cannot be read"
        raise AssembleError(msg, hint="run `tritonbuild build` again") from err


def packages_to_install(verified: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the Debian packages that a board needs, besides what every image of its system has."""
    return tuple(sorted(set(verified["to_install"].values()) - {""}))


def packages_used(verified: Mapping[str, Any]) -> tuple[str, ...]:
    """Return all Debian packages that a tree takes libraries or programs from."""
    every = {*verified["system_libraries"].values(), *verified["to_install"].values()}
    return tuple(sorted(every - {""}))
