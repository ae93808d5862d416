"""YAML to plain strings, lists and mappings, with the line of each value.

YAML 1.1 would turn `23.10` into 23.1, `ON` into true and `0755` into 493, and would let a
repeated key win silently. Here every scalar stays the text that was written (null stays None), a
repeated key is an error, and so are aliases: no recipe needs them, and nested ones can blow a
small file up to gigabytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from tritonbuild.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from yaml.events import Event

KeyPath = tuple[str | int, ...]

# Far more than any recipe needs, far less than Python's recursion limit.
MAX_DEPTH = 50

_YAML_HINT = "blanks indent, not tabs; quote a text that holds `: `, ` #` or begins with a sign"

_NULL_TAG = "tag:yaml.org,2002:null"
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


class _TooDeepError(Exception):
    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


@dataclass
class Document:
    """A recipe file's content.

    Attributes:
        data: Mappings, lists, strings and None.
        lines: Line number (from 1) of each key path.
        problems: (line, message) of what is wrong already at this level.
    """

    data: object = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)

    def find_line(self, path: KeyPath) -> int:
        """Return the line of a value, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def _too_deep(path: Path, line: int) -> RecipeError:
    msg = f"{path}:{line}: nested more than {MAX_DEPTH} deep"
    return RecipeError(msg, hint="no recipe needs that: is this the right file?")


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        RecipeError: It cannot be read, is not UTF-8, or is not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        msg = f"{path}: {err.strerror}"
        raise RecipeError(msg, hint="a recipe is a file that you may read") from err
    except UnicodeDecodeError as err:
        msg = f"{path}: not UTF-8 text (byte {err.start})"
        raise RecipeError(msg, hint="recipes are UTF-8: save the file in that encoding") from err
    document = Document()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _Reader(yaml.parse(text, Loader=loader), document).read()
    except yaml.MarkedYAMLError as err:
        line = err.problem_mark.line + 1 if err.problem_mark else 1
        # PyYAML has a limit of its own since 6.0.4, which brackets alone reach before ours.
        if "nesting depth" in str(err.problem):
            raise _too_deep(path, line) from None
        msg = f"{path}:{line}: not YAML: {err.problem}"
        raise RecipeError(msg, hint=_YAML_HINT) from err
    except _TooDeepError as err:
        raise _too_deep(path, err.line) from None
    except yaml.YAMLError as err:
        msg = f"{path}: not YAML: {err}"
        raise RecipeError(msg, hint=_YAML_HINT) from err
    return document


class _Reader:
    """Builds plain data from the parser's events; notes lines and problems in the document.

    Events rather than the library's node tree: composing that recurses in C, where a file of a
    hundred thousand brackets would end in a segmentation fault instead of an error.
    """

    def __init__(self, events: Iterator[Event], document: Document) -> None:
        self._events = events
        self._document = document

    def read(self) -> None:
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                break
        else:
            return
        self._document.data = self._read_value(next(self._events), ())
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                line = _line_of(event)
                problem = "a second document starts here (---): a recipe file holds one"
                self._document.problems.append((line, problem))
                return

    def _read_value(self, event: Event, path: KeyPath) -> object:
        line = _line_of(event)
        self._document.lines.setdefault(path, line)
        if len(path) > MAX_DEPTH:
            raise _TooDeepError(line)
        if isinstance(event, AliasEvent):
            self._document.problems.append((line, "aliases (*name) are not allowed in recipes"))
            return None
        if isinstance(event, SequenceStartEvent):
            return self._read_sequence(path)
        if isinstance(event, MappingStartEvent):
            return self._read_mapping(path)
        assert isinstance(event, ScalarEvent)
        if event.tag == _NULL_TAG or (event.implicit[0] and event.value in _NULLS):
            return None
        return str(event.value)

    def _read_sequence(self, path: KeyPath) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._read_value(event, (*path, len(items))))
        return items

    def _read_mapping(self, path: KeyPath) -> dict[str, object]:
        result: dict[str, object] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = event.value if isinstance(event, ScalarEvent) else None
            key_path = (*path, str(key))
            line = _line_of(event)
            if key is None:
                self._document.problems.append((line, "a key must be plain text"))
                self._skip(event, key_path)
            elif key in result:
                first = self._document.lines[key_path]
                problem = f"duplicate key '{key}' (first on line {first})"
                self._document.problems.append((line, problem))
            else:
                self._document.lines[key_path] = line
                result[key] = self._read_value(next(self._events), key_path)
                continue
            self._skip(next(self._events), key_path)
        return result

    def _skip(self, event: Event, path: KeyPath) -> None:
        """Read a value that is not wanted, without a trace of it but its own problems."""
        aside = _Reader(self._events, Document())
        aside._read_value(event, path)
        self._document.problems += aside._document.problems


def _line_of(event: Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
