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
from yaml.nodes import MappingNode, ScalarNode, SequenceNode

from tritonbuild.errors import RecipeError

if TYPE_CHECKING:
    from pathlib import Path

    from yaml.nodes import Node

KeyPath = tuple[str | int, ...]


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


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        RecipeError: It cannot be read, is not UTF-8, or is not YAML.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        msg = f"{path}: {err.strerror}"
        raise RecipeError(msg) from err
    except UnicodeDecodeError as err:
        msg = f"{path}: not UTF-8 text (byte {err.start})"
        raise RecipeError(msg) from err
    try:
        root = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as err:
        line = err.problem_mark.line + 1 if err.problem_mark else 1
        msg = f"{path}:{line}: not YAML: {err.problem}"
        raise RecipeError(msg) from err
    except (yaml.YAMLError, RecursionError) as err:
        msg = f"{path}: not YAML: {err}"
        raise RecipeError(msg) from err
    document = Document()
    if root is not None:
        document.data = _Converter(document).convert(root, ())
    return document


class _Converter:
    """Turns nodes into plain data; remembers lines and problems in the document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._seen: set[int] = set()

    def convert(self, node: Node, path: KeyPath) -> object:
        line = node.start_mark.line + 1
        self._document.lines.setdefault(path, line)
        if id(node) in self._seen:
            self._document.problems.append((line, "aliases (*name) are not allowed in recipes"))
            return None
        self._seen.add(id(node))
        if isinstance(node, MappingNode):
            return self._convert_mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.convert(item, (*path, i)) for i, item in enumerate(node.value)]
        if node.tag == "tag:yaml.org,2002:null":
            return None
        return str(node.value)

    def _convert_mapping(self, node: MappingNode, path: KeyPath) -> dict[str, object]:
        result: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value if isinstance(key_node, ScalarNode) else None
            if key is None:
                self._document.problems.append((line, "a key must be plain text"))
                continue
            key_path = (*path, key)
            if key in result:
                first = self._document.lines[key_path]
                self._document.problems.append(
                    (line, f"duplicate key '{key}' (first on line {first})")
                )
                continue
            self._document.lines[key_path] = line
            result[key] = self.convert(value_node, key_path)
        return result
