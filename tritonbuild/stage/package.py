"""One archive for the board: byte for byte the same each time it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonbuild.stage.members import list_members, write_package, write_zstd_tar

if TYPE_CHECKING:
    from pathlib import Path

    from tritonbuild.paths import Workspace
    from tritonbuild.stage.members import Contents, Package


def make_package(ws: Workspace, *, name: str, date: str) -> Package:
    """Pack the stage into `out/<name>.tar.zst`, with its checksum and manifest beside it.

    Args:
        ws: The work directory; its stage and manifest are there.
        name: File name without `.tar.zst`.
        date: The release's date; see `tritonbuild.stage.members.write_package`.

    Raises:
        UsageError: The name or the date is not one.
        AssembleError: There is no stage, or it is not what its manifest says.
        HostError: The package cannot be written.
    """
    return write_package(ws, name=name, suffix=".tar.zst", date=date, write=_write)


def _write(path: Path, contents: Contents) -> None:
    members = list(list_members(contents))
    with path.open("wb") as file:
        write_zstd_tar(file, members)
