"""Where recipes' `from`, `format` and `if` look values up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tritonbuild.errors import RecipeError, UsageError
from tritonbuild.plan.model import Flag
from tritonbuild.plan.npu import find_npu

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonbuild.plan.model import Selection
    from tritonbuild.plan.options import SourceOptions
    from tritonbuild.recipe.component import CMakeArg
    from tritonbuild.recipe.load import RecipeBook

_HEADS = ("release", "build", "archive", "selected", "image", "library_path", "target", "npu")
_PLACEHOLDER = re.compile(r"\{([a-z0-9][a-z0-9_-]*\.[A-Za-z0-9._-]+)\}")

# https://cmake.org/cmake/help/latest/command/if.html#constant
_FALSE = {"", "0", "off", "no", "false", "n", "ignore", "notfound"}

# A recipe's name and the keys below it, for messages.
Place = tuple[str | int, ...]


def is_true(value: str | None) -> bool:
    """Return whether CMake's if() takes a value for true; what is not set is not."""
    if value is None:
        return False
    lowered = value.lower()
    return lowered not in _FALSE and not lowered.endswith("-notfound")


class Scope:
    """What can be looked up for one component."""

    def __init__(
        self,
        book: RecipeBook,
        selection: Selection,
        options: SourceOptions,
        flags: Mapping[str, tuple[Flag, ...]],
        install_prefix: str,
        archives_dir: str,
        jobs: int,
    ) -> None:
        self._book = book
        self._selection = selection
        self._options = options
        self._flags = flags
        self._archives_dir = archives_dir
        self._build = {
            "type": options.build_type,
            "install_prefix": install_prefix,
            "jobs": str(jobs),
        }
        self._target = {
            "platform": options.platform,
            "machine": options.machine_for(selection.arch),
        }
        npu = find_npu(book, book.board(selection.board))
        self._npu = {"target": npu.soc.target} if npu else {}

    def resolve(self, arg: CMakeArg, place: Place) -> Flag:
        """Return an argument with its value.

        Args:
            arg: The argument.
            place: Where it stands: the component's name and keys.

        Raises:
            RecipeError: There is nothing to take the value from.
        """
        if arg.value is not None:
            return Flag(arg.name, arg.type, arg.value, f"components/{place[0]}")
        if arg.format is not None:
            value = _PLACEHOLDER.sub(
                lambda found: self._get(found[1], arg.name, (*place, "format")), arg.format
            )
            return Flag(arg.name, arg.type, value, f"components/{place[0]}")
        assert arg.from_ is not None
        return Flag(arg.name, arg.type, self._get(arg.from_, arg.name, (*place, "from")), arg.from_)

    def holds(self, terms: tuple[str, ...], place: Place) -> bool:
        """Return whether all terms of an `if` hold.

        Raises:
            RecipeError: A term asks for something that there cannot be.
        """
        return all(self._holds(term, place) for term in terms)

    def _holds(self, term: str, place: Place) -> bool:
        positive = term.removeprefix("not ")
        name, equals, wanted = positive.partition("=")
        head, _, tail = name.partition(".")
        if head not in _HEADS and head not in self._book.names("components"):
            where = self._book.locate("components", str(place[0]), *place[1:])
            msg = f'{where}: "{term}": there is no {head}'
            raise RecipeError(msg, hint=f"a component, or {', '.join(_HEADS)}")
        value = self.look_up(head, tail)
        found = value == wanted if equals else is_true(value)
        return found == (positive == term)

    def _get(self, name: str, wanted_for: str, place: Place) -> str:
        head, _, tail = name.partition(".")
        value = self.look_up(head, tail)
        if value is None and head == "npu":
            msg = f"{self._selection.board} has no NPU that a recipe tells of, and {place[0]} is for one"
            raise UsageError(msg, hint=f"leave {place[0]} out, or take another --board")
        if value is None:
            where = self._book.locate("components", str(place[0]), *place[1:])
            msg = f"{where}: {wanted_for} takes its value from {name}: no such thing"
            if head == "release":
                msg += f" in {self._selection.release}"
            raise RecipeError(
                msg,
                hint="release.FIELD, build.FIELD, npu.target, archive.PATH, selected.NAME, NAME.VARIABLE",
            )
        return value

    def look_up(self, head: str, tail: str) -> str | None:
        """Return a value by its two names, None where there is none."""
        if head == "selected":
            return "ON" if tail in self._selection.components else "OFF"
        if head == "archive":
            return f"{self._archives_dir}/{tail}"
        if head == "release":
            found: object = self._book.release(self._selection.release)
            for part in tail.split("."):
                found = getattr(found, part, None)
            return found if isinstance(found, str) else None
        tables: dict[str, Mapping[str, str]] = {
            "build": self._build,
            "target": self._target,
            "npu": self._npu,
            "image": self._options.images,
            "library_path": self._options.library_paths,
        }
        if head in tables:
            return tables[head].get(tail)
        # CMake takes the last one of a name.
        values = [flag.value for flag in self._flags.get(head, ()) if flag.name == tail]
        return values[-1] if values else None
