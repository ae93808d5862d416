"""Commands of a plan as lines of a bash script: every value is text, never code.

Values that need no care look as Triton's build.py writes them: -D arguments in double quotes,
paths bare. What tritonbuild adds to a script stands in blocks of its own (`BLOCK_START`,
`BLOCK_END`), so that deleting the blocks gives upstream's script back.
"""

from __future__ import annotations

import itertools
import re
import shlex
from typing import TYPE_CHECKING

from tritonbuild.errors import RenderError
from tritonbuild.paths import data_dir

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tritonbuild.plan.model import Command

BLOCK_START = "# tritonbuild: "
BLOCK_END = "# end tritonbuild"

# Every cmake line of build.py starts with these; the variables may be unset, so scripts that hold
# them cannot say `set -u`.
PASS_THROUGH = " ".join(
    f'"-D{name}=${{{name}}}"'
    for name in ("TRT_VERSION", "CMAKE_TOOLCHAIN_FILE", "VCPKG_TARGET_TRIPLET")
)

# Bash functions that commands may call, and the file below templates/ that defines each.
FUNCTIONS = {
    "tritonbuild_fetch": "cmake_build_fetch.sh",
    "tritonbuild_edit": "cmake_build_edit.sh",
    "tritonbuild_ninja": "cmake_build_ninja.sh",
    "tritonbuild_download": "cmake_build_download.sh",
    "tritonbuild_unpack": "cmake_build_unpack.sh",
}

# Printable ASCII without what bash looks at inside double quotes: $ ` " \ and, interactively, !.
_SAFE_IN_DOUBLE_QUOTES = re.compile(r"[ #%-\[\]-_a-~]*")
_PATTERN = re.compile(r"[A-Za-z0-9._*?-]+")


def quote(text: str) -> str:
    """Return text as one word of a bash script, on one line and in printable characters.

    Words that need no quotes stay bare. Bytes that were no UTF-8 (surrogate escapes, as Python has
    them from the command line) come out as they went in.

    Raises:
        RenderError: It holds what no argument can: a NUL, or half of a surrogate pair.
    """
    if "\0" in text:
        msg = f"{text!r}: a NUL cannot be passed to a program"
        raise RenderError(msg, hint="take the NUL out of the value")
    if text.isprintable():
        return shlex.quote(text)
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as err:
        msg = f"{text!r}: not text that a file can hold: {err.reason}"
        raise RenderError(msg, hint="give the value as UTF-8") from None
    return "$'" + "".join(_escape_byte(byte) for byte in data) + "'"


def _escape_byte(byte: int) -> str:
    """Return a byte for bash's $'...'.

    Bytes above 127 are escaped too: in some locales (GBK) one of them and the backslash after it
    would be read as one character.
    """
    char = chr(byte)
    if char in "\\'":
        return "\\" + char
    return char if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"


def quote_argument(text: str) -> str:
    """Return a cmake argument as build.py writes it: -D in double quotes, the rest bare."""
    if text.startswith("-D") and _SAFE_IN_DOUBLE_QUOTES.fullmatch(text):
        return f'"{text}"'
    return quote(text)


def quote_glob(path: str) -> str:
    """Return a path whose last part the shell expands; its folder is text.

    Raises:
        RenderError: The last part holds more than letters, digits, `._-` and `*?`.
    """
    folder, slash, pattern = path.rpartition("/")
    if not _PATTERN.fullmatch(pattern):
        msg = f"{path}: {pattern!r} is no file name pattern"
        raise RenderError(msg, hint="letters, digits, `.`, `_`, `-`, `*` and `?` may stand there")
    return (quote(folder) if folder else "") + slash + pattern


def format_command(command: Command) -> str:
    """Return a command as one line, without its guard and note."""
    if command.cmake:
        arguments = (quote_argument(argument) for argument in command.argv[1:])
        return " ".join((quote(command.argv[0]), PASS_THROUGH, *arguments))
    words = [quote(word) for word in command.argv]
    if command.glob:
        words[1] = quote_glob(command.argv[1])
    return " ".join(words)


def format_commands(commands: Iterable[Command]) -> list[str]:
    """Return the lines of some commands, with guards, and with notes as blocks of tritonbuild's.

    Neighbours that share a note share its block, those that share a guard too share one `if`.
    """
    lines: list[str] = []
    for note, noted in itertools.groupby(commands, key=lambda command: command.note):
        inner: list[str] = []
        for path, guarded in itertools.groupby(noted, key=lambda command: command.unless_exists):
            inner += _guard([format_command(command) for command in guarded], path)
        lines += inner if note is None else format_block(note, inner)
    return lines


def format_block(note: str, lines: Sequence[str]) -> list[str]:
    """Return lines as a block of tritonbuild's own, under a comment that says why."""
    return [BLOCK_START + _to_comment(note), *lines, BLOCK_END]


def _to_comment(text: str) -> str:
    """Put text on one line: a comment ends where its line ends."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())


def _guard(lines: list[str], path: str | None) -> list[str]:
    """Run lines only where a path does not exist, in build.py's form."""
    if path is None:
        return lines
    return [f"if [[ ! -e {quote(path)} ]]; then", *(f"  {line};" for line in lines), "fi"]


def format_functions(commands: Iterable[Command]) -> list[str]:
    """Return the definitions of the bash functions that some commands call."""
    called = {command.argv[0] for command in commands}
    lines: list[str] = []
    for name, file in FUNCTIONS.items():
        if name in called:
            lines += (data_dir("templates") / file).read_text(encoding="utf-8").splitlines()
    return lines
