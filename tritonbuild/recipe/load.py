"""Find, read and validate recipes; a folder of the user's overlays the shipped ones by name.

Every problem of every file that was asked for is reported at once, as `file:line: what`.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from tritonbuild.errors import RecipeError
from tritonbuild.paths import data_dir
from tritonbuild.recipe.changes import parse_diff
from tritonbuild.recipe.component import Component
from tritonbuild.recipe.fields import Recipe
from tritonbuild.recipe.model import RECIPE_KINDS, Board, Mirror, OperatingSystem, Release
from tritonbuild.recipe.npu import NpuFamily
from tritonbuild.recipe.patch import Patch
from tritonbuild.recipe.yaml import Document, read_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    from tritonbuild.recipe.yaml import KeyPath

R = TypeVar("R", bound=Recipe)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")

# What users call one recipe of each kind, for messages.
NOUNS = {
    "releases": "release",
    "components": "component",
    "boards": "board",
    "os": "operating system",
    "mirrors": "mirror",
    "failures": "set of failure rules",
    "npus": "NPU",
    "models": "example model",
}


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean "x"?` where something known is close to a name, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


@dataclass
class RecipeBook:
    """All recipes within reach: the shipped ones and, over them, the user's.

    Attributes:
        folders: Recipe folders, the most important first; each holds `boards/`, `releases/`...
    """

    folders: tuple[Path, ...]
    _loaded: dict[tuple[str, str], Recipe] = field(default_factory=dict)
    _names: dict[str, list[str]] = field(default_factory=dict)
    _aliases: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def open(cls, user_dir: Path | None = None) -> RecipeBook:
        """Open the shipped recipes under `user_dir`, or under ./recipes where that is one.

        Raises:
            RecipeError: `user_dir` was named and is no folder.
        """
        shipped = data_dir("recipes")
        if user_dir is not None:
            if not user_dir.is_dir():
                msg = f"{user_dir}: no such folder"
                raise RecipeError(msg, hint="--recipes takes a folder with boards/, components/...")
            return cls((user_dir.resolve(), shipped))
        local = Path("recipes").resolve()
        if local.is_dir() and local != shipped.resolve():
            return cls((local, shipped))
        return cls((shipped,))

    def with_recipes(self, kind: str, recipes: Iterable[Recipe]) -> RecipeBook:
        """Return a book in which some recipes of a kind are others, or new; files stay as they are."""
        changed = {(kind, recipe.name): recipe for recipe in recipes}
        names = {*self.names(kind), *(name for _, name in changed)}
        return RecipeBook(
            self.folders,
            {**self._loaded, **changed},
            {**self._names, kind: sorted(names)},
            self._aliases,
        )

    def suit_to(self, release: Release) -> RecipeBook:
        """Return a book in which the components are those that a release builds in its own way.

        Raises:
            RecipeError: The release names one that does not exist.
        """
        replaced = []
        for name, way in release.components.items():
            for one in (name, way):
                self.check_reference(
                    "components", one, "releases", release.name, "components", name
                )
            own = self.component(way)
            replaced.append(own.model_copy(update={"name": name, "abstract": False}))
        if not replaced:
            return self
        book = self.with_recipes("components", replaced)
        aliases = {("components", name): way for name, way in release.components.items()}
        return replace(book, _aliases={**self._aliases, **aliases})

    def names(self, kind: str) -> list[str]:
        """Return the names of all recipes of a kind (`boards`, `components`, ...), sorted."""
        if kind not in self._names:
            paths = [path for folder in self.folders for path in folder.glob(f"{kind}/*.yaml")]
            self._names[kind] = sorted({path.stem for path in paths})
        return list(self._names[kind])

    def origin(self, kind: str, name: str) -> Path:
        """Return the file that a recipe is read from.

        Raises:
            RecipeError: There is none of that name; close names are offered.
        """
        name = self._aliases.get((kind, name), name)
        for folder in self.folders:
            path = folder / kind / f"{name}.yaml"
            if _NAME.fullmatch(name) and os.path.lexists(path):
                _check_inside(path, folder)
                if not path.is_file():
                    msg = f"{path}: is not a file, or a link to nothing"
                    raise RecipeError(msg, hint="a recipe is a plain .yaml file")
                return path
        names = self.names(kind)
        if name in names:
            msg = f'{kind}/{name}.yaml: "{name}" cannot be the name of a recipe'
            raise RecipeError(
                msg, hint="lower case letters, digits, '.', '_' and '-' may stand there"
            )
        msg = f'unknown {NOUNS[kind]} "{name}"{suggest(name, names)}'
        raise RecipeError(msg, hint=f"known: {', '.join(names)}")

    def locate(self, kind: str, name: str, *path: str | int) -> str:
        """Return `file:line` of a value in a recipe, for a problem that only shows later on."""
        origin = self.origin(kind, name)
        return f"{origin}:{read_document(origin).find_line(path)}"

    def check_reference(self, kind: str, name: str, *by: str | int) -> None:
        """Check that a recipe that another one names exists.

        Args:
            kind: Kind of the recipe that is named.
            name: Its name.
            by: Kind, name and key path of where it is named.

        Raises:
            RecipeError: It does not exist; says where it is named.
        """
        names = self.names(kind)
        if name not in names:
            where = self.locate(str(by[0]), str(by[1]), *by[2:])
            msg = f'{where}: unknown {NOUNS[kind]} "{name}"{suggest(name, names)}'
            raise RecipeError(msg, hint=f"known: {', '.join(names)}")

    def release(self, name: str) -> Release:
        """Load a release."""
        return self._get("releases", name, Release)

    def component(self, name: str) -> Component:
        """Load a component."""
        return self._get("components", name, Component)

    def board(self, name: str) -> Board:
        """Load a board."""
        return self._get("boards", name, Board)

    def operating_system(self, name: str) -> OperatingSystem:
        """Load an operating system."""
        return self._get("os", name, OperatingSystem)

    def mirror(self, name: str) -> Mirror:
        """Load a mirror."""
        return self._get("mirrors", name, Mirror)

    def npu(self, name: str) -> NpuFamily:
        """Load an NPU."""
        return self._get("npus", name, NpuFamily)

    def get(self, kind: str, name: str) -> Recipe:
        """Load a recipe of any kind.

        Raises:
            RecipeError: It does not exist or is not valid.
        """
        return self._get(kind, name, RECIPE_KINDS[kind])

    def _get(self, kind: str, name: str, model: type[R]) -> R:
        found = self._loaded.get((kind, name))
        if found is None:
            found = load_file(self.origin(kind, name), model)
            self._loaded[kind, name] = found
        assert isinstance(found, model)
        return found


def load_file(path: Path, model: type[R]) -> R:
    """Read and validate one recipe file.

    Raises:
        RecipeError: With every problem of the file, each as `file:line: where: what`.
    """
    recipe = _validate(path, model)
    if recipe.name != path.stem:
        msg = f'{path}:1: name: is "{recipe.name}", but the file is called {path.name}'
        raise RecipeError(msg, hint="a recipe is found by its file name, so the two must agree")
    return recipe


def locate_patch(relative: str, folders: Sequence[Path] = ()) -> Path:
    """Return the file of a patch: `patches/` in one of these recipe folders, or the shipped one.

    Args:
        relative: Its path below patches/, such as `python/boost-mirror.yaml`.
        folders: Recipe folders, the most important first.

    Raises:
        RecipeError: It does not exist or lies outside.
    """
    places = [*(folder / "patches" for folder in folders), data_dir("patches")]
    place = next((each for each in places if os.path.lexists(each / relative)), places[-1])
    path = place / relative
    _check_inside(path, place)
    if not path.is_file():
        known = {str(p.relative_to(each)) for each in places for p in each.rglob("*.yaml")}
        msg = f'unknown patch "{relative}"{suggest(relative, known)}'
        raise RecipeError(msg, hint=f"known: {_join(known)}")
    return path


def load_patch(relative: str, folders: Sequence[Path] = ()) -> Patch:
    """Load a patch with its diff; see `locate_patch`.

    Raises:
        RecipeError: It does not exist, lies outside, or is not valid.
    """
    path = locate_patch(relative, folders)
    patch = _validate(path, Patch)
    if patch.diff is not None:
        diff = path.parent / patch.diff
        _check_inside(diff, path.parent)
        if not diff.is_file():
            msg = f"{path}: diff: there is no file {patch.diff} beside it"
            raise RecipeError(msg, hint="put the diff into the same folder")
        patch.take_hunks(parse_diff(diff, diff.read_bytes()))
    return patch


M = TypeVar("M", bound="BaseModel")


def _validate(path: Path, model: type[M]) -> M:
    document = read_document(path)
    problems = [(line, message) for line, message in document.problems]
    try:
        recipe = model.model_validate(document.data)
    except ValidationError as err:
        problems += [
            _explain(detail, document, model) for detail in err.errors() if not _is_echo(detail)
        ]
    else:
        if not problems:
            return recipe
    lines = [f"{path}:{line}: {message}" for line, message in sorted(set(problems))]
    raise RecipeError("\n".join(lines), hint="`tritonbuild schema` says what may stand where")


def _is_echo(detail: ErrorDetails) -> bool:
    """Return whether a list is called too short only because its items are wrong themselves."""
    found = detail["input"]
    return (
        detail["type"] == "too_short"
        and isinstance(found, list)
        and len(found) >= detail["ctx"]["min_length"]
    )


def _explain(detail: ErrorDetails, document: Document, model: type[BaseModel]) -> tuple[int, str]:
    """Turn one of pydantic's findings into (line, message)."""
    path: KeyPath = detail["loc"]
    line = document.find_line(path)
    where = ".".join(str(part) for part in path) or "the file"
    kind = detail["type"]
    if kind == "extra_forbidden":
        known = _known_keys(model, path[:-1])
        key = str(path[-1])
        return line, f"{where}: unknown key{suggest(key, known) or f' (known: {_join(known)})'}"
    if kind == "missing":
        return line, f"{where}: missing"
    found = detail["input"]
    if kind == "too_short":
        return line, f"{where}: should hold at least {detail['ctx']['min_length']}"
    shown = f", not {_kind_of(found)}"
    if isinstance(found, str):
        shown = ", not " + repr(re.sub(r"://[^/@\s]*@", "://***@", found))
    message = detail["msg"].removeprefix("Value error, ")
    message = re.sub(
        r"^Input should be a valid dictionary or instance of \w+", "should be a mapping", message
    )
    message = re.sub(r"^Input should be a valid tuple", "should be a list", message)
    message = re.sub(r"^Input should be an? ", "should be a ", message)
    return line, f"{where}: {message}{shown if len(shown) < 200 else ''}"


def _kind_of(value: object) -> str:
    names = {dict: "a mapping", list: "a list", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)


def _join(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _known_keys(model: type[BaseModel], path: KeyPath) -> list[str]:
    """Return the keys that may stand at a place in a recipe, from the model's JSON Schema."""
    schema = _schema_of(model)
    node: dict[str, object] = schema
    for part in path:
        node = _step_into(schema, node, part)
    properties = _resolve(schema, node).get("properties", {})
    return list(properties) if isinstance(properties, dict) else []


@functools.cache
def _schema_of(model: type[BaseModel]) -> dict[str, object]:
    return model.model_json_schema(by_alias=True)


def _resolve(schema: dict[str, object], node: dict[str, object]) -> dict[str, object]:
    """Follow $ref, and the first object of an anyOf."""
    options = node.get("anyOf")
    if isinstance(options, list):
        node = next((o for o in options if o.get("type") != "null"), {})
    ref = node.get("$ref")
    if isinstance(ref, str):
        definitions = schema.get("$defs")
        assert isinstance(definitions, dict)
        found = definitions[ref.rsplit("/", 1)[1]]
        assert isinstance(found, dict)
        return found
    return node


def _step_into(
    schema: dict[str, object], node: dict[str, object], part: str | int
) -> dict[str, object]:
    node = _resolve(schema, node)
    if isinstance(part, int):
        inner = node.get("items", {})
    else:
        properties = node.get("properties", {})
        inner = properties.get(part) if isinstance(properties, dict) else None
        inner = inner or node.get("additionalProperties")
        patterns = node.get("patternProperties", {})  # where the keys are names
        inner = inner or next(iter(patterns.values() if isinstance(patterns, dict) else ()), {})
    return inner if isinstance(inner, dict) else {}


def _check_inside(path: Path, folder: Path) -> None:
    """Refuse a recipe that is reached through a link or `..` out of its folder.

    Raises:
        RecipeError: The file lies elsewhere.
    """
    real, inside = path.resolve(), folder.resolve()
    if not real.is_relative_to(inside):
        msg = f"{path}: leads outside of its folder, to {real}"
        raise RecipeError(msg, hint=f"copy the file into {inside}")
