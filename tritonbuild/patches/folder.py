"""Patches on a folder of sources: their states, applied, and undone byte for byte."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.errors import PatchError
from tritonbuild.patches.series import (
    UNKNOWN,
    Files,
    Unknown,
    apply_series,
    find_guard,
    raise_misfits,
)
from tritonbuild.patches.text import State, judge
from tritonbuild.recipe.changes import GUARD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tritonbuild.patches.series import Content, PatchInSeries, PatchReport
    from tritonbuild.recipe.changes import Change

# Where CMake puts nested sources; they are not there before it has run.
_BUILD = "build/"


def inspect_folder(folder: Path, series: Sequence[PatchInSeries]) -> list[PatchReport]:
    """Return the state of each patch; what upstream's commit holds already, upstream has fixed."""
    reports = apply_series(series, _read_folder(folder), pristine=False)
    upstream = _find_upstream(folder, series)
    return [_tell_upstream(report, upstream) for report in reports]


def apply_to_folder(folder: Path, series: Sequence[PatchInSeries]) -> list[PatchReport]:
    """Apply a series whole, or nothing of it; the states are those before.

    Raises:
        PatchError: A patch does not fit, or a file cannot be written.
    """
    files = _read_folder(folder)
    reports = apply_series(series, files, pristine=False)
    raise_misfits(reports)
    _write(folder, files)
    upstream = _find_upstream(folder, series)
    return [_tell_upstream(report, upstream) for report in reports]


def undo_in_folder(folder: Path, series: Sequence[PatchInSeries]) -> list[PatchReport]:
    """Take a series back, last patch first, whole or not at all; the states are those before.

    What upstream's own commit holds stays.

    Raises:
        PatchError: What a patch wrote was changed since, or a file cannot be written.
    """
    reports = inspect_folder(folder, series)
    files, committed = _read_folder(folder), _read_head(folder)
    problems = [
        f"  patches/{patch.name}: {problem}"
        for patch, report in reversed(list(zip(series, reports, strict=True)))
        if report.state is not State.APPLIES or report.note  # else nothing of it is there
        for problem in _undo(patch, files, committed)
    ]
    if problems:
        msg = "\n".join(("cannot be undone:", *problems))
        raise PatchError(msg, hint="what a patch wrote must stand there as it was written")
    _write(folder, files)
    return reports


def _undo(patch: PatchInSeries, files: Files, committed: Files) -> list[str]:
    """Take a patch back in memory; return what is in the way."""
    if find_guard(patch, files):
        return []
    problems = []
    for change in reversed(patch.changes):
        state, result = _judge(patch, change, files)
        if _judge(patch, change, committed)[0] is State.APPLIED:
            continue
        if state is State.APPLIED:
            files.put(patch.component, change.file, result)
        elif state is State.MISFIT:
            problems.append(f"{change.file}: neither the old nor the new text stands there alone")
    return problems


def _judge(patch: PatchInSeries, change: Change, files: Files) -> tuple[State, bytes | None]:
    content = UNKNOWN if change.where == GUARD else files.get(patch.component, change.file)
    if isinstance(content, Unknown):
        return State.UNKNOWN, None
    verdict = judge(change, content)
    return verdict.state, verdict.result


# --- reading and writing --------------------------------------------------------------------


def _read_folder(folder: Path) -> Files:
    def read(_: str, path: str) -> Content:
        real = _locate(folder, path)
        if path.startswith(_BUILD) and not real.exists():
            return UNKNOWN
        try:
            return real.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as err:
            msg = f"{real}: {err.strerror}"
            raise PatchError(msg, hint="a patch changes plain files that can be read") from err

    return Files(read)


def _locate(folder: Path, path: str) -> Path:
    """Return the file that a path leads to.

    Raises:
        PatchError: A link on the way leads out of the folder, or it is no path at all.
    """
    try:
        real = (folder / path).resolve()
    except (OSError, ValueError, RuntimeError) as err:  # a NUL, links in a circle
        msg = f"{path!r}: {err}"
        raise PatchError(msg, hint="a patch changes files of the sources only") from err
    if not real.is_relative_to(folder.resolve()):
        msg = f"{folder / path}: leads out of the folder, to {real}"
        raise PatchError(msg, hint="a patch changes files of the sources only")
    return real


def _write(folder: Path, files: Files) -> None:
    """Write what changed; nothing is replaced before all of it is written beside.

    Raises:
        PatchError: A file cannot be written.
    """
    changed = {_locate(folder, path): new for (_, path), new in files.changed().items()}
    beside: dict[Path, Path] = {}
    try:
        for path, content in changed.items():
            if content is not None:
                beside[path] = _write_beside(path, content)
        for path in list(beside):
            beside[path].replace(path)
            del beside[path]
        for path, content in changed.items():
            if content is None:
                path.unlink()
    except OSError as err:
        msg = f"{err.filename or folder}: {err.strerror}"
        raise PatchError(
            msg, hint="the sources must be writable, and their disk must have room"
        ) from err
    finally:
        for left in beside.values():
            left.unlink(missing_ok=True)


def _write_beside(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
        temporary.chmod(path.stat().st_mode & 0o7777 if path.exists() else 0o644)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


# --- what upstream has ----------------------------------------------------------------------


def _find_upstream(folder: Path, series: Sequence[PatchInSeries]) -> set[str]:
    """Return the names of the patches that the checked-out commit holds already."""
    reports = apply_series(series, _read_head(folder), pristine=True)
    return {report.name for report in reports if report.state is State.UPSTREAM}


def _tell_upstream(report: PatchReport, upstream: set[str]) -> PatchReport:
    if report.state is State.APPLIED and report.name in upstream:
        return replace(report, state=State.UPSTREAM)
    return report


def _read_head(folder: Path) -> Files:
    """Return the files as the commit has them that is checked out, also of nested sources."""
    git = proc.find_tool("git")

    def read(_: str, path: str) -> Content:
        real = _locate(folder, path)
        if git is None or not real.parent.is_dir():
            return UNKNOWN
        blocks: list[bytes] = []
        argv = (str(git), "-C", str(real.parent), "cat-file", "blob", f"HEAD:./{real.name}")
        done = proc.stream(argv, feed=blocks.append)
        return b"".join(blocks) if done.returncode == 0 else UNKNOWN

    return Files(read)
