"""The rules of a change, on the bytes of a file: whether it applies, and what comes of it.

A change is only made where it can be taken back exactly, and where it can be told afterwards that
it was made. `tritonbuild_edit` (templates/cmake_build_edit.sh) has the same rules for scripts, and
a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from tritonbuild.recipe.changes import NEW_FILE, NO_FILE

if TYPE_CHECKING:
    from tritonbuild.recipe.changes import Change


class State(str, Enum):
    """How a patch stands to the sources."""

    APPLIES = "applies"
    APPLIED = "applied"
    UPSTREAM = "fixed upstream"
    MISFIT = "does not fit"
    UNKNOWN = "not known yet"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Verdict:
    """What a change comes to.

    Attributes:
        state: APPLIES, APPLIED or MISFIT.
        result: The file after the change where it applies, before it where it was applied; None
            where the file is not there then.
    """

    state: State
    result: bytes | None = None


_MISFIT = Verdict(State.MISFIT)


def encode(text: str) -> bytes:
    """Return a recipe's text as the bytes that stand in a file."""
    return text.encode("utf-8", "surrogateescape")


def judge(change: Change, content: bytes | None) -> Verdict:
    """Return whether a change applies to a file, was applied, or does not fit.

    Args:
        change: Any but a guard.
        content: The file; None where there is none.
    """
    verdict = _judge_once(change, content)
    after = {State.APPLIES: State.APPLIED, State.APPLIED: State.APPLIES}.get(verdict.state)
    # Made twice, or taken back twice, it must come to the same.
    if after is None or _judge_once(change, verdict.result).state is not after:
        return _MISFIT
    return verdict


def _judge_once(change: Change, content: bytes | None) -> Verdict:
    old, new = encode(change.old), encode(change.new)
    if change.where in (NEW_FILE, NO_FILE):
        before, after = (None, new) if change.where == NEW_FILE else (old, None)
        if content == before:
            return Verdict(State.APPLIES, after)
        return Verdict(State.APPLIED, before) if content == after else _MISFIT
    if content is None:
        return _MISFIT
    forward = _swap(content, old, new, change.where)
    backward = _swap(content, new, old, change.where)
    if forward is not None and backward is not None:
        # The longer text, which holds the other, is what was meant.
        if old in new:
            forward = None
        elif new in old:
            backward = None
    if forward is not None and backward is None:
        return Verdict(State.APPLIES, forward)
    if backward is not None and forward is None:
        return Verdict(State.APPLIED, backward)
    return _MISFIT


def find_places(content: bytes, part: bytes, where: str) -> list[int]:
    """Return the offsets at which a text stands, also where they overlap.

    With `@LINE` they are those of whole lines; where there are several and one is at this line,
    only that one.
    """
    line = int(where[1:]) if where.startswith("@") else None
    found = []
    at = content.find(part) if part else -1
    while at >= 0:
        if line is None or _is_whole(content, at, part):
            found.append(at)
        at = content.find(part, at + 1)
    if line is not None and len(found) > 1:
        found = [at for at in found if content.count(b"\n", 0, at) == line - 1] or found
    return found


def _is_whole(content: bytes, at: int, part: bytes) -> bool:
    """Return whether a text begins with a line and ends with one, or with the file."""
    begins = at == 0 or content[at - 1 : at] == b"\n"
    return begins and (part.endswith(b"\n") or at + len(part) == len(content))


def count_of(where: str) -> int:
    """Return how often the old text of a change must be there."""
    return 1 if where.startswith("@") else int(where)


def _swap(content: bytes, old: bytes, new: bytes, where: str) -> bytes | None:
    """Return content with another text, None where that could not be taken back exactly."""
    found = find_places(content, old, where)
    if len(found) != count_of(where):
        return None
    edited = replace_at(content, found, len(old), new)
    growth = len(new) - len(old)
    if find_places(edited, new, where) != [at + i * growth for i, at in enumerate(found)]:
        return None
    return edited


def replace_at(content: bytes, places: list[int], length: int, new: bytes) -> bytes:
    """Return content with another text in some places."""
    parts = []
    start = 0
    for at in places:
        parts += [content[start:at], new]
        start = at + length
    return b"".join((*parts, content[start:]))
