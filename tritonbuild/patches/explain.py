"""Why a change does not fit a file, in words and with the nearest lines of the file."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from tritonbuild.patches.text import count_of, encode, find_places, replace_at
from tritonbuild.recipe.changes import NEW_FILE, NO_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tritonbuild.recipe.changes import Change

# A change of more lines is shown by its first ones.
_MOST_LINES = 12
# Comparing every line with every other gets slow in generated files.
_MOST_COMPARED = 10_000


def explain_misfit(change: Change, content: bytes | None) -> str:
    """Return what is wrong, in one line or with an indented excerpt below it."""
    if change.where == NEW_FILE:
        return f"{change.file}: is there already, with another content"
    if content is None:
        return f"{change.file}: there is no such file"
    if change.where == NO_FILE:
        return f"{change.file}: has another content than the one that is to be removed"
    old, new = encode(change.old), encode(change.new)
    wanted = count_of(change.where)
    here = find_places(content, old, change.where)
    there = find_places(content, new, change.where)
    if len(here) == wanted:
        return f"{change.file}: {_explain_afterwards(content, old, new, here, there)}"
    if not here:
        also = f"the new text stands there {_count(content, there)}, but " if there else ""
        return f"{change.file}: {also}{_explain_absence(content, old)}"
    lines = f"the old text stands there {_count(content, here)}, not {wanted}"
    if there:
        lines += f", and the new one {_count(content, there)}"
    return f"{change.file}: {lines}"


def _explain_afterwards(
    content: bytes, old: bytes, new: bytes, here: list[int], there: list[int]
) -> str:
    """Say why a change that could be made must not be made."""
    if there and new not in old:
        what = f"the old text is there, and the new one too, {_count(content, there)}"
    elif new in old and old in replace_at(content, here, len(old), new):
        what = "the old text would still be there afterwards"
    else:
        what = "afterwards it could not be told where the new text was put"
    return f"{what}: take the lines around it into both"


def _count(content: bytes, places: Sequence[int]) -> str:
    numbers = [str(content.count(b"\n", 0, at) + 1) for at in places[:5]]
    if len(places) > 5:
        numbers.append("...")
    times = "once" if len(places) == 1 else f"{len(places)} times"
    word = "line" if len(numbers) == 1 else "lines"
    return f"{times} ({word} {', '.join(numbers)})" if places else times


def _explain_absence(content: bytes, old: bytes) -> str:
    if old.replace(b"\n", b"\r\n") in content:
        return "the old text is there, but the file's lines end in CR LF"
    if old.replace(b"\r\n", b"\n") in content:
        return "the old text is there, but without the CR before each line end"
    lines = _split(content)
    wanted = _split(old)[:_MOST_LINES]
    start = _find_nearest(lines, wanted)
    if start is None:
        return "the old text is not there, nor anything like it"
    shown = _compare(wanted, lines[start : start + len(wanted)], start)
    return "\n".join(("the old text is not there; nearest (- wanted, + there):", *shown))


def _split(content: bytes) -> list[str]:
    return content.decode("utf-8", "backslashreplace").split("\n")


def _find_nearest(lines: list[str], wanted: list[str]) -> int | None:
    """Return the index of the line where the text that is most like the wanted one begins."""
    lines = lines[:_MOST_COMPARED]
    scores = [0.0] * len(lines)
    for offset, text in enumerate(line.strip() for line in wanted):
        matcher = difflib.SequenceMatcher(autojunk=False, b=text)
        for number, line in enumerate(lines[offset:] if text else ()):
            matcher.set_seq1(line.strip())
            # A text that stands alone may be a part of a longer line.
            size = len(text) if len(wanted) == 1 and len(line) > len(text) else None
            scores[number] += _rate(matcher, size) * len(text)
    best = max(range(len(lines)), key=lambda number: scores[number], default=None)
    if best is None or scores[best] < 0.4 * max(1, sum(len(text.strip()) for text in wanted)):
        return None
    return best


def _rate(matcher: difflib.SequenceMatcher[str], size: int | None) -> float:
    """Return how alike two lines are, from 0 to 1; with a size, how much of that is in the line."""
    near = matcher.real_quick_ratio() > 0.6 and matcher.quick_ratio() > 0.6
    ratio = matcher.ratio() if near else 0.0
    if size:
        ratio = max(ratio, matcher.find_longest_match().size / size)
    return ratio if ratio > 0.5 else 0.0


def _compare(wanted: list[str], found: list[str], start: int) -> list[str]:
    """Return both as the lines of a diff, those of the file with their numbers."""
    shown = []
    number = start + 1
    for line in difflib.ndiff(wanted, found):
        sign, text = line[0], line[2:]
        if sign == "?":
            continue
        shown.append(f"    {'' if sign == '-' else number:>5} {sign} {text}".rstrip())
        number += sign != "-"
    return shown
