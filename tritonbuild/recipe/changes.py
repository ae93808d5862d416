"""What a patch changes, one place at a time: exact edits, and the hunks of a unified diff.

Both come to the same thing, a text and another one that takes its place, so that one set of rules
(`tritonbuild.patches.text`, and `tritonbuild_edit` in scripts) holds for them all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tritonbuild.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from unidiff.patch import Hunk, PatchedFile

# What `Change.where` may be besides a number and @LINE.
NEW_FILE = "+"
NO_FILE = "-"
GUARD = "?"

_NO_FILE = "/dev/null"
# Longer arguments cannot be passed to a program: MAX_ARG_STRLEN of Linux.
_MOST_BYTES = 100_000
_PLAIN_MODES = {None, "100644"}
_DIFF = "git diff, with a/ and b/ and some lines of context, is what is wanted"


class Change(NamedTuple):
    """One text of one file, and what takes its place.

    Attributes:
        file: Path below the component's sources.
        where: How often the old text must stand there; `@LINE` for whole lines that stand there
            once, or at this line of several; `+` where the file must not be there yet, `-` where it
            goes away; `?` where finding the old text means that there is nothing to do.
        old: Text that must stand there; bytes that are no UTF-8 as surrogate escapes.
        new: Text that takes its place.
    """

    file: str
    where: str
    old: str
    new: str


def parse_diff(path: Path, text: bytes) -> tuple[Change, ...]:
    """Return what a unified diff changes.

    Args:
        path: Where it comes from, for messages.
        text: The diff, as git writes it.

    Raises:
        RecipeError: It is malformed or binary, leads out of the folder, or says what a change of
            text cannot: renames, modes, links.
    """
    from unidiff.errors import UnidiffParseError
    from unidiff.patch import PatchSet

    # Lines end at \n and nowhere else.
    lines = text.decode("utf-8", "surrogateescape").split("\n")
    try:
        files = PatchSet([line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else []))
    except UnidiffParseError as err:
        problem = re.sub(r"\s+", " ", str(err)).strip()
        msg = f"{path}: not a diff: {problem}"
        raise RecipeError(msg, hint=_DIFF) from err
    _check_nothing_left(path, files, lines)
    changes = tuple(change for file in files for change in _read_file(path, file))
    if not changes:
        msg = f"{path}: changes nothing"
        raise RecipeError(msg, hint=_DIFF)
    return changes


def _check_nothing_left(path: Path, files: list[PatchedFile], lines: list[str]) -> None:
    """Refuse lines behind a hunk that was counted too short: the parser would drop them."""
    inside = {line.diff_line_no for file in files for hunk in file for line in hunk}
    start = min((no for no in inside if no is not None), default=0)
    for number, line in enumerate(lines, start=1):
        if number <= start or number in inside or line.startswith(("--- ", "+++ ")):
            continue
        if line.startswith(("+", "-")) and line.rstrip() != "--":
            msg = f"{path}:{number}: belongs to no hunk: its header counts too few lines"
            raise RecipeError(msg, hint="make the diff anew: the numbers after @@ must be right")


def _read_file(path: Path, file: PatchedFile) -> Iterator[Change]:
    where = f"{path}:{file.diff_line_no}"
    old_name = _read_name(where, file.source_file, "a/")
    new_name = _read_name(where, file.target_file, "b/")
    name = new_name or old_name
    if file.is_binary_file:
        msg = f"{where}: {name} is binary"
        raise RecipeError(msg, hint="a patch changes text")
    if old_name and new_name and old_name != new_name:
        msg = f"{where}: {old_name} is renamed to {new_name}"
        raise RecipeError(msg, hint="make the diff with `git diff --no-renames`")
    modes = {file.source_mode, file.target_mode}
    same = old_name and new_name and len(modes) == 1
    if name is None or not (same or modes <= _PLAIN_MODES):
        msg = f"{where}: {name} gets another mode or is a link"
        raise RecipeError(msg, hint="a patch changes the text of plain files")
    for hunk in file:
        old, new = _join(hunk, " -"), _join(hunk, " +")
        line = f"{path}:{_line_of(hunk)}"
        if max(len(part.encode("utf-8", "surrogateescape")) for part in (old, new)) > _MOST_BYTES:
            msg = f"{line}: the hunk holds more than {_MOST_BYTES} bytes"
            raise RecipeError(msg, hint="no argument of a program may be longer: split it")
        if old_name is None:
            yield Change(name, NEW_FILE, "", new)
        elif new_name is None:
            yield Change(name, NO_FILE, old, "")
        elif not old or not new:
            msg = f"{line}: the hunk has no context, so its place cannot be told"
            raise RecipeError(msg, hint="make the diff with `git diff -U3`")
        else:
            yield Change(name, f"@{hunk.target_start}", old, new)


def _line_of(hunk: Hunk) -> int:
    return hunk[0].diff_line_no or 0 if hunk else 0


def _join(hunk: Hunk, kinds: str) -> str:
    """Return the lines of one side of a hunk, without the last line end where there is none."""
    text = ""
    taken = False
    for line in hunk:
        if line.line_type == "\\":
            text = text.removesuffix("\n") if taken else text
        elif line.line_type:  # else an empty line between two files
            taken = line.line_type in kinds
            text += line.value if taken else ""
    return text


def _read_name(where: str, name: str, prefix: str) -> str | None:
    """Return the path below the sources, None for /dev/null."""
    if name == _NO_FILE:
        return None
    if name.startswith('"'):
        msg = f"{where}: {name}: a name in quotes"
        raise RecipeError(msg, hint="make the diff with `git -c core.quotePath=false diff`")
    parts = name.removeprefix(prefix).split("/")
    if not name.startswith(prefix) or any(part in ("", ".", "..", ".git") for part in parts):
        msg = f"{where}: {name}: not a path inside the sources, with {prefix} in front"
        raise RecipeError(msg, hint=_DIFF)
    return name.removeprefix(prefix)
