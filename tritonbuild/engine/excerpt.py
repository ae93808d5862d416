"""The lines of a log that say what went wrong; found from its end, whatever its size.

Build tools bury the error: ninja and make let other compilers finish first, an ExternalProject prints
a whole inner build, CMake ends with "Configuring incomplete". So the last run of lines that look like errors
is searched for, and its first line that says something is where reading starts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

# How much is read at once, how far an error is looked for from the end, and how much around it is
# looked at: memory stays bounded by the last, whatever the log's size.
_BLOCK = 1 << 20
_SEARCHED = 64 << 20
_WINDOW = 4 << 20

# More than this is no line for people.
_LONGEST_LINE = 200
MOST_LINES = 15

# What belongs to one failure stands close together; so many lines without an error part two.
_GAP = 200
# When one compiler failed, those beside it finish; so many that finished part two.
_GAP_PROGRESS = 64

# Says what is wrong.
_SPECIFIC = re.compile(
    r"^(?!\+)(?:"
    r".*?\b(?:fatal )?error: |.*\binternal compiler error\b|"
    r"CMake Error\b|fatal: |remote: (?:fatal|error)|curl: \(\d+\)|wget: |E: |ERROR[: ]|dpkg: error|"
    r".*undefined reference to |.*\bld(?:\.\w+)?: (?:cannot find|error|final link failed)|"
    r"Traceback \(most recent call last\)|Fatal Python error|"
    r".*: command not found|.*: not found$|.*: No such file or directory$|.*: Permission denied|"
    r".*: Text file busy|.*No space left on device|.*Disk quota exceeded|.*Read-only file system|"
    r".*Segmentation fault|.*Illegal instruction|(?:.*: line \d+: *\d+ )?Killed\b|"
    r".*: Killed$|.*\bBus error\b|.*Aborted(?: \(core dumped\))?$|"
    r"qemu: |.*error while loading shared libraries|.*Cannot connect to the Docker daemon|"
    r"g?make(?:\[\d+\])?: \*\*\* No rule|ninja: (?:error|fatal)|tritonbuild: |"
    r"patch: \*\*\*\*|.*\bcannot (?:fork|allocate memory)\b"
    r")",
    re.IGNORECASE,
)  # fmt: skip
# Says only that, or where.
_WEAK = re.compile(r"^(?:FAILED: |g?make(?:\[\d+\])?: \*\*\* |collect2: |compilation terminated)")
# Looks like an error and is none.
_NO_ERROR = re.compile(
    r"^(?:ninja: build stopped|-- |g?make(?:\[\d+\])?: \*\*\* Waiting|.*\bwarning: |CMake Warning|"
    r"\s*\d* \| )"  # a line of the sources, as GCC quotes it
)
# The quick test before the slow one, for logs of gigabytes.
_TRACES = (
    b"rror: ", b"rror at", b"rror:", b"ERROR", b"Error ", b"error while", b"dpkg: error", b"compiler error",
    b"FAILED", b"fatal", b"Fatal", b"***", b"illed", b": not found", b"command not found",
    b"undefined ref", b"cannot ", b"Cannot ", b"No such file", b"ermission denied", b"No space left",
    b"uota exceeded", b"Traceback", b"egmentation", b"llegal", b"Bus error", b"borted", b"qemu",
    b"curl: ", b"wget: ", b"E: ", b"Read-only", b"tritonbuild", b"Text file busy", b"remote: ",
    b"link failed", b"terminated",
)  # fmt: skip

_PROGRESS = re.compile(r"^\[ *\d+(?:/\d+|%)\]")
_TRACE = re.compile(r"^\+ (?!\+)")
_END = re.compile(r"^(?:ninja: build stopped|-- Configuring incomplete|See also \")")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Excerpt:
    """What matters of a log.

    Attributes:
        shown: The lines that matter, at most `MOST_LINES`.
        searched: What rules are compared with: the lines around, paragraphs joined.
        command: The command that failed, where the shell traced it (`bash -x`).
        recognised: Whether a line looked like an error; else `shown` is just the end.
    """

    shown: tuple[str, ...]
    searched: tuple[str, ...]
    command: str | None
    recognised: bool


def read_excerpt(log: Path) -> Excerpt:
    """Return what matters of a log; nothing where there is none."""
    try:
        with log.open("rb") as file:
            return _read(file)
    except OSError:
        return Excerpt((), (), None, recognised=False)


def _read(file: BinaryIO) -> Excerpt:
    size = file.seek(0, 2)
    anchor = _find_last_error(file, size)
    start = max(0, (size if anchor is None else anchor) - _WINDOW)
    lines = _read_lines(file, start, min(size, (anchor or size) + (_BLOCK >> 1)))
    first = _find_first_error(lines)
    if first is None:
        shown = _shorten(
            [line for line in lines if line.strip() and not _END.match(line)][-MOST_LINES:]
        )
        searched = lines[-_SEARCHED_LINES:]
    else:
        shown = _shorten(_cut_block(lines, first))
        searched = lines[max(0, first - 100) : first + _SEARCHED_LINES]
        last = _read_lines(file, max(0, size - (_BLOCK >> 4)), size)[-100:]
        searched = searched if searched[-100:] == last else searched + last
    command = _find_traced(lines[:first]) or _find_earlier_traced(file, start)
    return Excerpt(
        tuple(shown), tuple(_join_paragraphs(searched)), command, recognised=first is not None
    )


_SEARCHED_LINES = 1500


def clean(line: str) -> str:
    """Return a line without colours, control characters and what a progress bar overwrote."""
    line = _ESCAPE.sub("", line.rstrip("\r\n"))
    return _CONTROL.sub("", line.rsplit("\r", 1)[-1]).rstrip()


def _read_lines(file: BinaryIO, start: int, end: int) -> list[str]:
    file.seek(start)
    data = file.read(end - start)
    if start:  # what the cut left of a line is none
        data = data[data.find(b"\n") + 1 :]
    return [clean(line) for line in data.decode(errors="replace").split("\n")]


def _walk_back(file: BinaryIO, size: int, least: int) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, bytes) of blocks of whole lines, the last one first.

    A line that is longer than a block comes in pieces.
    """
    end = size
    while end > least:
        start = max(0, end - _BLOCK)
        file.seek(start)
        data = file.read(end - start)
        cut = data.find(b"\n", 0, -1) + 1 if start else 0
        yield start + cut, data[cut:]
        end = start + cut


def _find_last_error(file: BinaryIO, size: int) -> int | None:
    """Return where the last line lies that says that something is wrong."""
    for offset, data in _walk_back(file, size, max(0, size - _SEARCHED)):
        if not any(trace in data for trace in _TRACES):
            continue
        end = len(data)
        for line in reversed(data.split(b"\n")):
            end -= len(line) + 1
            text = clean(line[:_BLOCK].decode(errors="replace")) if _may_matter(line) else ""
            if text and _weigh(text):
                return offset + max(0, end + 1)
    return None


def _may_matter(line: bytes) -> bool:
    return any(trace in line for trace in _TRACES)


def _weigh(line: str) -> int:
    """Return 2 for a line that says what is wrong, 1 for one that says that something is."""
    line = line[:2000]
    if _NO_ERROR.match(line):
        return 0
    return 2 if _SPECIFIC.match(line) else 1 if _WEAK.match(line) else 0


def _find_first_error(lines: Sequence[str]) -> int | None:
    """Return the index of the line where the last failure begins to be told."""
    first = specific = None
    quiet = progress = 0
    for index in range(len(lines) - 1, -1, -1):
        line = lines[index]
        weight = _weigh(line)
        if weight:
            first, quiet, progress = index, 0, 0
            specific = index if weight == 2 else specific
        elif first is not None:
            quiet += 1
            progress += bool(_PROGRESS.match(line))
            # A shell that goes on to its next command was content with the one before.
            if quiet > _GAP or progress > _GAP_PROGRESS or _TRACE.match(line):
                break
    return first if specific is None else specific


def _cut_block(lines: Sequence[str], first: int) -> list[str]:
    """Return the lines that tell of one failure."""
    block = [lines[first]]
    limit = MOST_LINES * 4 if lines[first].startswith("Traceback") else MOST_LINES
    for line in lines[first + 1 : first + limit * 2]:
        if _PROGRESS.match(line) or _TRACE.match(line) or _END.match(line) or len(block) >= limit:
            break
        if line.startswith("FAILED: ") and len(block) > 1:
            break
        if line or block[-1]:
            block.append(line)
        if block[0].startswith("Traceback") and line[:1].strip():
            break
    while block and not block[-1]:
        block.pop()
    if len(block) > MOST_LINES:  # how it began, and what it came to
        block = [block[0], "...", *block[-(MOST_LINES - 2) :]]
    edge = next(
        (
            line
            for line in reversed(lines[max(0, first - 30) : first])
            if line.startswith("FAILED: ")
        ),
        None,
    )
    return [edge, *block[: MOST_LINES - 1]] if edge else block


def _shorten(lines: Sequence[str]) -> list[str]:
    """Cut long lines in their middle: the place is in front and the reason at the end."""
    half = _LONGEST_LINE // 2 - 2
    return [
        line if len(line) <= _LONGEST_LINE else f"{line[:half]} … {line[-half:]}" for line in lines
    ]


def _join_paragraphs(lines: Sequence[str]) -> Iterator[str]:
    """Put each paragraph of a CMake message on one line: CMake breaks them at column 77."""
    paragraph: list[str] = []
    inside = False
    for line in lines:
        if inside and line.startswith("  ") and not line.startswith("    "):
            paragraph.append(line.strip())
            continue
        if paragraph:
            yield " ".join(paragraph)
            paragraph = []
        if line:
            inside = line.startswith(("CMake Error", "CMake Warning")) or (
                inside and line.startswith((" ", "Call Stack"))
            )
            yield line[: 1 << 12]
    if paragraph:
        yield " ".join(paragraph)


def _find_traced(lines: Sequence[str]) -> str | None:
    """Return the last command that the shell traced."""
    found = next((line for line in reversed(lines) if _TRACE.match(line)), None)
    return found[2:].strip() if found else None


def _find_earlier_traced(file: BinaryIO, end: int) -> str | None:
    """Return the last command traced before a place: what it said has filled all that was read."""
    for _, data in _walk_back(file, end, 0):
        found = data.rfind(b"\n+ ")
        start = found + 3 if found >= 0 else 2 if data.startswith(b"+ ") else None
        if start is not None:
            line = data[start : start + (1 << 14)].split(b"\n", 1)[0]
            return clean(line.decode(errors="replace"))
    return None
