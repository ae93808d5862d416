"""CMake's language, as far as it takes to see which sources a project fetches.

`parse_commands` is the whole grammar (cmake-language(7)); `is_true` answers conditions where that
is possible without running CMake, and says so where it is not. Of the parsers on the package
index, cmake-parser stops at the first odd comment, and the others (cmakelang, gersemi) are
formatters with a parser inside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild.plan.scope import is_true as is_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<comment>\#\[(?P<fence>=*)\[.*?\](?P=fence)\]|\#[^\n]*)
      | (?P<bracket>\[(?P<fill>=*)\[\n?(?P<inside>.*?)\](?P=fill)\])
      | (?P<quoted>"(?:\\.|[^\\"])*")
      | (?P<open>\() | (?P<close>\)) | (?P<semicolon>;)
      | (?P<plain>(?:\\.|[^\s()#"\\;])(?:\\.|"(?:\\.|[^\\"])*"|[^\s()#"\\;])*)""",
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(r"[A-Za-z_]\w*")
_REFERENCE = re.compile(r"\$(?P<kind>ENV|CACHE|)\{(?P<name>[A-Za-z0-9_./+-]+)\}")

# What the target is not, and is: tritonbuild builds on Linux.
_PLATFORM = {
    **dict.fromkeys(
        ("WIN32", "MSVC", "APPLE", "ANDROID", "IOS", "CYGWIN", "MINGW", "XCODE", "BORLAND",
         "MSYS", "CMAKE_CROSSCOMPILING"), "0"),
    "UNIX": "1",
    "LINUX": "1",
    "CMAKE_SYSTEM_NAME": "Linux",
    "CMAKE_HOST_SYSTEM_NAME": "Linux",
}  # fmt: skip


@dataclass(frozen=True)
class Argument:
    """One argument as it is written.

    Attributes:
        text: Without its quotes.
        quoted: It stays one argument, whatever is in it.
        raw: It is in brackets: nothing in it is replaced.
    """

    text: str
    quoted: bool = False
    raw: bool = False


@dataclass(frozen=True)
class Command:
    """One command: its name in lower case, its arguments, and the line that it begins on."""

    name: str
    arguments: tuple[Argument, ...]
    line: int


def parse_commands(text: str) -> Iterator[Command]:
    """Yield the commands of a file; the rest of one that is no CMake any more is left out."""
    name: str | None = None
    depth, start, line = 0, 1, 1
    found: list[Argument] = []
    for token in _tokenise(text):
        kind = token.kind
        if depth == 0:
            if kind == "plain":
                name, start = token.text, line
            elif kind == "open" and name is not None:
                depth, found = 1, []
        elif kind == "open":
            depth += 1
            found.append(Argument("("))
        elif kind == "close":
            depth -= 1
            if depth:
                found.append(Argument(")"))
            elif name is not None and _NAME.fullmatch(name):
                yield Command(name.lower(), tuple(found), start)
                name = None
        elif kind != "semicolon":
            found.append(Argument(token.text, kind != "plain", kind == "bracket"))
        line += token.lines


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    lines: int


def _tokenise(text: str) -> Iterator[_Token]:
    position = 0
    while match := _TOKEN.match(text, position):
        position = match.end()
        lines = match[0].count("\n")
        if match["space"] is not None or match["comment"] is not None:
            if lines:
                yield _Token("semicolon", "", lines)
        elif match["bracket"] is not None:
            yield _Token("bracket", match["inside"], lines)
        elif match["quoted"] is not None:
            yield _Token("quoted", match["quoted"][1:-1].replace("\\\n", ""), lines)
        else:
            kind = next(k for k in ("open", "close", "semicolon", "plain") if match[k] is not None)
            yield _Token(kind, match[0], lines)


class Variables:
    """Variables by name; None for one whose value only CMake itself can tell."""

    def __init__(self, known: dict[str, str | None]) -> None:
        self.known = known

    def copy(self) -> Variables:
        """Return a copy that changes alone."""
        return Variables(dict(self.known))

    def get(self, name: str) -> str | None:
        """Return a value, None where it is not known."""
        return self.known[name] if name in self.known else _PLATFORM.get(name)

    def expand(self, text: str) -> str | None:
        """Return a text with `${NAME}` replaced, innermost first; None where one is unknown."""
        for _ in range(20):
            unknown = False

            def replace(match: re.Match[str]) -> str:
                nonlocal unknown
                value = self.get(match["name"]) if match["kind"] != "ENV" else None
                unknown = unknown or value is None
                return value or ""

            replaced = _REFERENCE.sub(replace, text)
            if unknown:
                return None
            if replaced == text:
                break
            text = replaced
        return None if "${" in text else re.sub(r'\\([()#" $@;\\])', r"\1", text)

    def expand_all(self, arguments: Sequence[Argument]) -> list[str | None]:
        """Return arguments with variables replaced and lists taken apart, as CMake passes them."""
        found: list[str | None] = []
        for argument in arguments:
            value = argument.text if argument.raw else self.expand(argument.text)
            if value is None or argument.quoted:
                found.append(value)
            else:
                found += [part for part in value.split(";") if part]
        return found

    def merge(self, branches: Sequence[Variables]) -> None:
        """Take over what several possible ways agree on; the rest is not known any more."""
        names = {name for branch in branches for name in branch.known}
        for name in names:
            values = {branch.known.get(name, _PLATFORM.get(name, "")) for branch in branches}
            self.known[name] = values.pop() if len(values) == 1 else None


_TRUE = {"1", "ON", "YES", "TRUE", "Y"}


def is_true(arguments: Sequence[Argument], variables: Variables) -> bool | None:
    """Return what `if(...)` comes to; None where only CMake itself can tell."""
    return _Condition(arguments, variables).evaluate()


class _Condition:
    """A condition, read from the left: OR binds weakest, NOT strongest."""

    def __init__(self, arguments: Sequence[Argument], variables: Variables) -> None:
        self._arguments = list(arguments)
        self._variables = variables
        self._at = 0

    def evaluate(self) -> bool | None:
        try:
            return self._any()
        except IndexError:
            return None

    def _peek(self) -> str | None:
        if self._at >= len(self._arguments):
            return None
        argument = self._arguments[self._at]
        return None if argument.quoted else argument.text

    def _take(self) -> Argument:
        self._at += 1
        return self._arguments[self._at - 1]

    def _any(self) -> bool | None:
        found = self._all()
        while self._peek() == "OR":
            self._take()
            other = self._all()
            found = True if True in (found, other) else _known(found, other, value=False)
        return found

    def _all(self) -> bool | None:
        found = self._not()
        while self._peek() == "AND":
            self._take()
            other = self._not()
            found = False if False in (found, other) else _known(found, other, value=True)
        return found

    def _not(self) -> bool | None:
        if self._peek() == "NOT":
            self._take()
            found = self._not()
            return None if found is None else not found
        return self._one()

    def _one(self) -> bool | None:
        argument = self._take()
        if not argument.quoted and argument.text == "(":
            found = self._any()
            self._take()
            return found
        if not argument.quoted and argument.text in _UNARY:
            operand = self._take()
            known = argument.text == "DEFINED" and operand.text in self._variables.known
            return True if known else None
        operator = self._peek()
        if operator in _COMPARISONS:
            self._take()
            return self._compare(argument, operator or "", self._take())
        return self._truth(argument)

    def _truth(self, argument: Argument) -> bool | None:
        value = self._variables.expand(argument.text)
        if value is None:
            return None
        if value.upper() in _TRUE or value.isdigit():
            return value.strip("0") != ""
        if not is_on(value):
            return False
        if argument.quoted and "${" not in argument.text:
            return False
        meant = self._variables.get(value)
        return None if meant is None else is_on(meant)

    def _compare(self, left: Argument, operator: str, right: Argument) -> bool | None:
        sides = [self._value(one) for one in (left, right)]
        first, second = sides
        if first is None or second is None:
            return None
        return _COMPARISONS[operator](first, second)

    def _value(self, argument: Argument) -> str | None:
        """Return a side of a comparison: a bare word may be the name of a variable."""
        if not argument.quoted and argument.text in self._variables.known:
            return self._variables.known[argument.text]
        if not argument.quoted and argument.text in _PLATFORM:
            return _PLATFORM[argument.text]
        return self._variables.expand(argument.text)


def _known(*values: bool | None, value: bool) -> bool | None:
    return None if None in values else value


def _version(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)]


def _number(test: Callable[[float, float], bool]) -> Callable[[str, str], bool | None]:
    def compare(left: str, right: str) -> bool | None:
        try:
            return test(float(left), float(right))
        except ValueError:
            return False

    return compare


_UNARY = {
    "COMMAND", "POLICY", "TARGET", "TEST", "DEFINED", "EXISTS", "IS_DIRECTORY", "IS_SYMLINK",
    "IS_ABSOLUTE", "IS_READABLE", "IS_WRITABLE", "IS_EXECUTABLE",
}  # fmt: skip
_COMPARISONS: dict[str | None, Callable[[str, str], bool | None]] = {
    "STREQUAL": lambda left, right: left == right,
    "STRLESS": lambda left, right: left < right,
    "STRGREATER": lambda left, right: left > right,
    "EQUAL": _number(lambda left, right: left == right),
    "LESS": _number(lambda left, right: left < right),
    "GREATER": _number(lambda left, right: left > right),
    "LESS_EQUAL": _number(lambda left, right: left <= right),
    "GREATER_EQUAL": _number(lambda left, right: left >= right),
    "VERSION_EQUAL": lambda left, right: _version(left) == _version(right),
    "VERSION_LESS": lambda left, right: _version(left) < _version(right),
    "VERSION_GREATER": lambda left, right: _version(left) > _version(right),
    "VERSION_LESS_EQUAL": lambda left, right: _version(left) <= _version(right),
    "VERSION_GREATER_EQUAL": lambda left, right: _version(left) >= _version(right),
    "IN_LIST": lambda left, right: left in right.split(";"),
    # CMake's regular expressions are not Python's: only CMake can tell.
    "MATCHES": lambda _left, _right: None,
    "PATH_EQUAL": lambda _left, _right: None,
    "IS_NEWER_THAN": lambda _left, _right: None,
}
