"""Which sources a CMake project fetches by itself, found by reading its files as CMake would.

Only what decides that is followed: variables, conditions, lists, functions, files and folders that
are taken in, FetchContent and ExternalProject. Where only CMake itself can tell which way it
goes, all ways are looked at, and what is found there is called uncertain.

Paths are made up: `/build` is the build folder of the component and `/source` its sources, so that
a place below `/build` is known before there is one.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from tritonbuild.sources.cmake import Variables, is_true, parse_commands
from tritonbuild.sources.externals import BUILD, Defaults, make_external

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tritonbuild.sources.cmake import Argument, Command
    from tritonbuild.sources.externals import External

SOURCE = "/source"

_MAX_DEPTH = 40
_MAX_COMMANDS = 300_000
_MAX_TURNS = 200


class Surroundings(Protocol):
    """What a project is read in."""

    def read(self, path: str) -> str | None:
        """Return a file's text, by its made-up path; None where there is none."""

    def bring(self, external: External) -> bool:
        """Take note of something that is fetched; whether its files can be read now."""


@dataclass
class _Run:
    """One run of CMake: what all its folders share."""

    surroundings: Surroundings
    binary_dir: str
    declared: dict[str, External] = field(default_factory=dict)
    populated: set[str] = field(default_factory=set)
    commands: int = 0


def scan(
    surroundings: Surroundings,
    variables: Mapping[str, str | None],
    *,
    source_dir: str = SOURCE,
    binary_dir: str = BUILD,
    certain: bool = True,
) -> None:
    """Read a project from its CMakeLists.txt and tell the surroundings what it fetches.

    Args:
        surroundings: Gives files, and is told.
        variables: What CMake is given with -D.
        source_dir, binary_dir: Made-up paths of the project.
        certain: The project itself is surely built.
    """
    known: dict[str, str | None] = {
        "CMAKE_SOURCE_DIR": source_dir,
        "CMAKE_BINARY_DIR": binary_dir,
        "PROJECT_IS_TOP_LEVEL": "ON",
    }
    known.update(variables)
    run = _Run(surroundings, binary_dir)
    _Folder(run, Variables(known), source_dir, binary_dir, certain=certain).read_lists()


class _Return(Exception):
    """`return()`: the rest of a file or function is left out."""


class _Folder:
    """One folder with its CMakeLists.txt, or a file or function that works on its variables."""

    def __init__(
        self,
        run: _Run,
        variables: Variables,
        source_dir: str,
        binary_dir: str,
        *,
        certain: bool,
        depth: int = 0,
        functions: dict[str, tuple[tuple[str, ...], list[Command]]] | None = None,
    ) -> None:
        self._run = run
        self._variables = variables
        self._certain = certain
        self._depth = depth
        self._functions = functions if functions is not None else {}
        self._file = ""
        self._source_dir = source_dir
        self._binary_dir = binary_dir
        variables.known.update(
            {
                "CMAKE_CURRENT_SOURCE_DIR": source_dir,
                "CMAKE_CURRENT_BINARY_DIR": binary_dir,
                "CMAKE_CURRENT_LIST_DIR": source_dir,
            }
        )

    def read_lists(self) -> None:
        """Read the folder's CMakeLists.txt."""
        self._read(posixpath.join(self._source_dir, "CMakeLists.txt"))

    def _read(self, path: str) -> None:
        text = self._run.surroundings.read(path) if self._depth < _MAX_DEPTH else None
        if text is None:
            return
        before = (self._file, self._variables.get("CMAKE_CURRENT_LIST_DIR"))
        self._file = path
        self._variables.known["CMAKE_CURRENT_LIST_DIR"] = posixpath.dirname(path)
        try:
            self._execute(list(parse_commands(text)))
        except _Return:
            pass
        finally:
            self._file, self._variables.known["CMAKE_CURRENT_LIST_DIR"] = before

    # --- flow ---------------------------------------------------------------------------------

    def _execute(self, commands: Sequence[Command]) -> None:
        at = 0
        while at < len(commands):
            command = commands[at]
            self._run.commands += 1
            if self._run.commands > _MAX_COMMANDS:
                return
            ending = _BLOCKS.get(command.name)
            if ending is None:
                self._do(command)
                at += 1
                continue
            end = _find_end(commands, at, command.name, ending)
            self._do_block(command, commands[at + 1 : end])
            at = end + 1

    def _do_block(self, command: Command, body: Sequence[Command]) -> None:
        if command.name == "if":
            self._do_if(command, body)
        elif command.name in ("function", "macro"):
            names = [argument.text for argument in command.arguments]
            if names:
                self._functions[names[0].lower()] = (tuple(names[1:]), list(body))
        elif command.name == "foreach":
            self._do_foreach(command, body)
        elif command.name == "while":
            self._maybe([body, []])
        else:
            self._execute(body)

    def _do_if(self, command: Command, body: Sequence[Command]) -> None:
        possible: list[Sequence[Command]] = []
        for arguments, branch in _split_branches(command, body):
            found = True if arguments is None else is_true(arguments, self._variables)
            if found is False:
                continue
            possible.append(branch)
            if found:
                break
        else:
            possible.append([])
        if len(possible) == 1:
            self._execute(possible[0])
        else:
            self._maybe(possible)

    def _maybe(self, possible: Sequence[Sequence[Command]]) -> None:
        """Go every one of several ways of which CMake takes one."""
        before, certain = self._variables, self._certain
        self._certain = False
        ended = []
        for commands in possible:
            self._variables = before.copy()
            try:
                self._execute(commands)
            except _Return:
                continue
            ended.append(self._variables)
        self._variables, self._certain = before, certain
        if ended:
            before.merge(ended)

    def _do_foreach(self, command: Command, body: Sequence[Command]) -> None:
        words = self._variables.expand_all(command.arguments)
        if not words or words[0] is None:
            return
        name, rest = words[0], words[1:]
        items: list[str | None]
        if "RANGE" in rest or "ZIP_LISTS" in rest or None in rest:
            items = [None]
        elif rest[:1] == ["IN"]:
            items = list(self._items(rest[1:]))
        else:
            items = rest
        if None in items:
            self._variables.known[name] = None
            self._maybe([body, []])
            return
        for item in items[:_MAX_TURNS]:
            self._variables.known[name] = item
            self._execute(body)

    def _items(self, words: Sequence[str | None]) -> Iterator[str | None]:
        kind = ""
        for word in words:
            if word in ("LISTS", "ITEMS"):
                kind = word or ""
            elif kind == "LISTS":
                value = self._variables.get(word or "")
                yield from [None] if value is None else [one for one in value.split(";") if one]
            else:
                yield word

    def _call(self, command: Command) -> None:
        names, body = self._functions[command.name]
        if self._depth >= _MAX_DEPTH:
            return
        values = self._variables.expand_all(command.arguments)
        inner = _Folder(
            self._run, self._variables.copy(), self._source_dir, self._binary_dir,
            certain=self._certain, depth=self._depth + 1, functions=self._functions,
        )  # fmt: skip
        inner._file = self._file
        known = inner._variables.known
        known.update(dict(zip(names, values, strict=False)))
        rest = values[len(names) :]
        for key, part in (("ARGN", rest), ("ARGV", values)):
            texts = [value for value in part if value is not None]
            known[key] = ";".join(texts) if len(texts) == len(part) else None
        try:
            inner._execute(body)
        except _Return:
            return

    # --- commands -----------------------------------------------------------------------------

    def _do(self, command: Command) -> None:
        if command.name in self._functions:
            self._call(command)
            return
        handler: Callable[[Command], None] | None = {
            "set": self._set,
            "unset": self._unset,
            "option": self._option,
            "list": self._list,
            "string": self._forget_result,
            "get_filename_component": self._forget_result,
            "find_package": self._forget_result,
            "project": self._project,
            "include": self._include,
            "add_subdirectory": self._add_subdirectory,
            "return": self._return,
            "fetchcontent_declare": self._declare,
            "fetchcontent_getproperties": self._get_properties,
            "fetchcontent_populate": self._populate,
            "fetchcontent_makeavailable": self._make_available,
            "externalproject_add": self._external_project,
        }.get(command.name)
        if handler is not None:
            handler(command)

    def _return(self, _command: Command) -> None:
        raise _Return

    def _set(self, command: Command) -> None:
        words = self._variables.expand_all(command.arguments)
        name = words[0] if words else None
        if not name or name.startswith(("ENV{", "CACHE{")):
            return
        values = words[1:]
        if "CACHE" in values:
            if name in self._variables.known and "FORCE" not in values[values.index("CACHE") :]:
                return
            values = values[: values.index("CACHE")]
        elif values[-1:] == ["PARENT_SCOPE"]:
            return
        texts = [value for value in values if value is not None]
        self._variables.known[name] = ";".join(texts) if len(texts) == len(values) else None

    def _unset(self, command: Command) -> None:
        for word in self._variables.expand_all(command.arguments[:1]):
            if word:
                self._variables.known[word] = ""

    def _option(self, command: Command) -> None:
        words = self._variables.expand_all(command.arguments)
        if words and words[0] and words[0] not in self._variables.known:
            self._variables.known[words[0]] = words[2] if len(words) > 2 else "OFF"

    def _list(self, command: Command) -> None:
        words = self._variables.expand_all(command.arguments)
        if len(words) < 2 or not words[1]:
            return
        action, name, values = words[0], words[1], words[2:]
        if action not in ("APPEND", "PREPEND"):
            if action not in ("LENGTH", "GET", "FIND", "JOIN", "SUBLIST"):
                self._variables.known[name] = None
            return
        before = self._variables.known.get(name, "")
        if before is None or None in values:
            self._variables.known[name] = None
            return
        old = [before] if before else []
        new = [value for value in values if value is not None]
        self._variables.known[name] = ";".join(old + new if action == "APPEND" else new + old)

    def _forget_result(self, command: Command) -> None:
        """A variable gets a value that only CMake itself can work out."""
        words = [word for word in self._variables.expand_all(command.arguments) if word]
        if command.name == "find_package" and words:
            self._variables.known[f"{words[0]}_FOUND"] = None
            return
        for word in words[1:] if command.name == "string" else words[:1]:
            if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", word) and word in self._variables.known:
                self._variables.known[word] = None

    def _project(self, command: Command) -> None:
        words = self._variables.expand_all(command.arguments)
        name = words[0] if words else None
        known = self._variables.known
        for prefix in ("PROJECT", *([name] if name else [])):
            known[f"{prefix}_SOURCE_DIR"] = self._source_dir
            known[f"{prefix}_BINARY_DIR"] = self._binary_dir
        if name:
            known["PROJECT_NAME"] = name
        if "VERSION" in words[:-1]:
            known["PROJECT_VERSION"] = words[words.index("VERSION") + 1]

    def _include(self, command: Command) -> None:
        words = self._variables.expand_all(command.arguments)
        if not words or not words[0]:
            return
        place = posixpath.normpath(posixpath.join(self._source_dir, words[0]))
        if not place.endswith(".cmake") and "/" not in words[0]:
            listed = self._variables.get("CMAKE_MODULE_PATH") or ""
            folders = [one for one in listed.split(";") if one]
            places = [posixpath.join(folder, f"{words[0]}.cmake") for folder in folders]
        else:
            places = [place]
        for path in places:
            if self._run.surroundings.read(path) is not None:
                self._depth += 1
                self._read(path)
                self._depth -= 1
                return

    def _add_subdirectory(self, command: Command) -> None:
        words = self._variables.expand_all(command.arguments)
        if not words or not words[0]:
            return
        source = posixpath.normpath(posixpath.join(self._source_dir, words[0]))
        named = words[1] if len(words) > 1 and words[1] != "EXCLUDE_FROM_ALL" else words[0]
        binary = posixpath.normpath(posixpath.join(self._binary_dir, named or words[0]))
        self._enter(source, binary, certain=self._certain)

    def _enter(self, source: str, binary: str, *, certain: bool) -> None:
        _Folder(
            self._run, self._variables.copy(), source, binary,
            certain=certain, depth=self._depth + 1, functions=dict(self._functions),
        ).read_lists()  # fmt: skip

    # --- what is fetched ----------------------------------------------------------------------

    def _declare(self, command: Command) -> None:
        words = self._variables.expand_all(command.arguments)
        if words and words[0]:
            name = words[0]
            base = self._variables.get("FETCHCONTENT_BASE_DIR") or f"{self._run.binary_dir}/_deps"
            lower = name.lower()
            found = self._make(
                command, words,
                Defaults(
                    f"{base}/{lower}-subbuild/{lower}-populate-prefix",
                    f"{base}/{lower}-src", f"{base}/{lower}-build",
                ),
            )  # fmt: skip
            # The first declaration in a run of CMake is the one that counts.
            self._run.declared.setdefault(lower, found)

    def _make(self, command: Command, words: Sequence[str | None], defaults: Defaults) -> External:
        return make_external(
            str(words[0]), words[1:], defaults, folder=self._binary_dir,
            certain=self._certain, origin=f"{self._file}:{command.line}",
        )  # fmt: skip

    def _get_properties(self, command: Command) -> None:
        for word in self._variables.expand_all(command.arguments[:1]):
            if word:
                done = "TRUE" if word.lower() in self._run.populated else "FALSE"
                self._variables.known[f"{word.lower()}_POPULATED"] = done

    def _populate(self, command: Command) -> None:
        words = self._variables.expand_all(command.arguments)
        if not words or not words[0]:
            return
        if len(words) > 1 and words[1] != "QUIET":
            self._declare(command)
        self._fetch_content(words[0].lower())

    def _fetch_content(self, lower: str) -> External | None:
        found = self._run.declared.get(lower)
        if found is None or lower in self._run.populated:
            return None
        if self._variables.get(f"FETCHCONTENT_SOURCE_DIR_{lower.upper()}"):
            return None
        self._run.populated.add(lower)
        found = replace(found, certain=found.certain and self._certain)
        known = self._variables.known
        known[f"{lower}_POPULATED"] = "TRUE"
        known[f"{lower}_SOURCE_DIR"] = found.root_dir
        known[f"{lower}_BINARY_DIR"] = found.binary_dir
        return found if self._run.surroundings.bring(found) else None

    def _make_available(self, command: Command) -> None:
        for word in self._variables.expand_all(command.arguments):
            found = self._fetch_content(word.lower()) if word else None
            if found and found.source_dir and found.binary_dir:
                self._enter(found.source_dir, found.binary_dir, certain=found.certain)

    def _external_project(self, command: Command) -> None:
        words = self._variables.expand_all(command.arguments)
        if words and words[0]:
            found = self._make(command, words, Defaults(f"{words[0]}-prefix"))
            self._run.surroundings.bring(found)


_BLOCKS = {
    "if": "endif",
    "foreach": "endforeach",
    "while": "endwhile",
    "function": "endfunction",
    "macro": "endmacro",
    "block": "endblock",
}


def _find_end(commands: Sequence[Command], start: int, opening: str, closing: str) -> int:
    depth = 0
    for at in range(start, len(commands)):
        if commands[at].name == opening:
            depth += 1
        elif commands[at].name == closing:
            depth -= 1
            if depth == 0:
                return at
    return len(commands)


def _split_branches(
    command: Command, body: Sequence[Command]
) -> Iterator[tuple[Sequence[Argument] | None, Sequence[Command]]]:
    """Yield each branch of an `if` with its condition; None for `else`."""
    condition: Sequence[Argument] | None = command.arguments
    depth, start = 0, 0
    for at, inner in enumerate(body):
        if inner.name == "if":
            depth += 1
        elif inner.name == "endif":
            depth -= 1
        elif depth == 0 and inner.name in ("elseif", "else"):
            yield condition, body[start:at]
            condition = inner.arguments if inner.name == "elseif" else None
            start = at + 1
    yield condition, body[start:]
