"""A patch as a unified diff: of the sources where they are at hand, of its own texts elsewhere."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from tritonbuild.patches.text import State, encode, judge
from tritonbuild.recipe.changes import GUARD, NEW_FILE, NO_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tritonbuild.recipe.changes import Change
    from tritonbuild.recipe.patch import Patch

_NO_FILE = "/dev/null"


def format_diff(patch: Patch, read: Callable[[str], bytes | None] | None = None) -> str:
    """Return a patch with its reasons as comments.

    Args:
        patch: As `load_patch` has read it.
        read: Returns a file of the sources, None where it is not there. Where the patch applies
            to that, or was applied, the diff is one that `git apply` takes.
    """
    lines = [f"# {patch.summary}", f"# why: {patch.why}", *(f"# {link}" for link in patch.upstream)]
    lines.append(f"# after: {patch.after}")
    for tool, wanted in patch.when or {}:
        if wanted is not None:
            lines.append(f"# only where: {tool} {wanted}")
    if patch.mirror:
        lines.append(f"# only with: --mirror {patch.mirror}")
    lines += [
        f"# not where {change.file} holds: {change.old!r}"
        for change in patch.changes
        if change.where == GUARD
    ]
    changes = [change for change in patch.changes if change.where != GUARD]
    for file in dict.fromkeys(change.file for change in changes):
        lines += _format_file(file, [c for c in changes if c.file == file], read)
    return "\n".join(lines) + "\n"


def _format_file(
    file: str, changes: list[Change], read: Callable[[str], bytes | None] | None
) -> Iterator[str]:
    sides = _find_sides(changes, read(file)) if read else None
    if sides is None:
        yield from _format_texts(file, changes)
        return
    before, after = sides
    names = (
        _NO_FILE if before is None else f"a/{file}",
        _NO_FILE if after is None else f"b/{file}",
    )
    yield from _unify(before or b"", after or b"", *names)


def _find_sides(
    changes: Iterable[Change], content: bytes | None
) -> tuple[bytes | None, bytes | None] | None:
    """Return a file before and after, None where the changes are not all made or all to be made."""
    changes = list(changes)
    for wanted, order in ((State.APPLIES, changes), (State.APPLIED, changes[::-1])):
        result = content
        for change in order:
            verdict = judge(change, result)
            if verdict.state is not wanted:
                break
            result = verdict.result
        else:
            return (content, result) if wanted is State.APPLIES else (result, content)
    return None


def _format_texts(file: str, changes: list[Change]) -> Iterator[str]:
    """Yield the texts of the changes alone: where they stand is not known."""
    where = changes[0].where
    yield f"--- {_NO_FILE if where == NEW_FILE else f'a/{file}'}"
    yield f"+++ {_NO_FILE if where == NO_FILE else f'b/{file}'}"
    for change in changes:
        times = f" {change.where} times" if change.where.isdigit() and change.where != "1" else ""
        yield f"@@{times} @@"
        for line in difflib.ndiff(_split(encode(change.old)), _split(encode(change.new))):
            if line[0] != "?":
                yield line[0] + line[2:]


def _split(text: bytes) -> list[str]:
    return _decode(text).removesuffix("\n").split("\n") if text else []


def _unify(before: bytes, after: bytes, old_name: str, new_name: str) -> Iterator[str]:
    # Lines end at \n and nowhere else; one without it is marked as git does.
    sides = [
        [line + "\n" for line in text.split("\n")[:-1]] + ([last] if last else [])
        for text, last in ((t, t.rpartition("\n")[2]) for t in (_decode(before), _decode(after)))
    ]
    for line in difflib.unified_diff(sides[0], sides[1], old_name, new_name):
        yield line.removesuffix("\n")
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")
