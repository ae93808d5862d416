"""list, show, check and schema: what the recipes say, and whether they may say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from tritonbuild.cli.options import Json, Recipes, open_book

if TYPE_CHECKING:
    from tritonbuild.recipe.load import RecipeBook

_KINDS = ("boards", "components", "failures", "mirrors", "models", "npus", "os", "releases")
# What `list` shows unasked: what options take.
_LISTED = tuple(kind for kind in _KINDS if kind not in ("failures", "npus"))

Kind = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(
        help=f"One of {', '.join(_KINDS)}.",
        autocompletion=lambda incomplete: [k for k in _KINDS if k.startswith(incomplete)],
    ),
]


def _complete_shown(incomplete: str) -> list[str]:
    from tritonbuild.paths import data_dir
    from tritonbuild.recipe.load import RecipeBook

    book = RecipeBook.open()
    names = [f"{kind}/{name}" for kind in _KINDS for name in book.names(kind)]
    folders = [*(folder / "patches" for folder in book.folders), data_dir("patches")]
    names += sorted({f"patches/{p.relative_to(f)}" for f in folders for p in f.rglob("*.yaml")})
    return [name for name in names if name.startswith(incomplete)]


def _check_kind(kind: str, known: tuple[str, ...] = _KINDS) -> str:
    from tritonbuild.errors import UsageError
    from tritonbuild.recipe.load import suggest

    if kind not in known:
        msg = f'unknown kind of recipe "{kind}"{suggest(kind, known)}'
        raise UsageError(msg, hint=f"known: {', '.join(known)}")
    return kind


def list_recipes(kind: Kind = None, recipes: Recipes = None, as_json: Json = False) -> None:
    """List boards, components, mirrors, example models, systems and releases. Needs nothing."""
    import json

    from tritonbuild.console import terminal
    from tritonbuild.recipe.component import Component

    book = open_book(recipes)
    rows = []
    for one in [_check_kind(kind)] if kind else _LISTED:
        for name in book.names(one):
            recipe = book.get(one, name)
            if not (isinstance(recipe, Component) and recipe.abstract):
                rows.append({"kind": one, "name": name, "summary": recipe.summary})
    if as_json:
        terminal.output(json.dumps(rows, indent=2))
    else:
        terminal.table(("KIND", "NAME", "SUMMARY"), [tuple(row.values()) for row in rows])


def show(
    name: Annotated[
        str,
        typer.Argument(
            help="A recipe's name, kind/name, or patches/COMPONENT/NAME.yaml.",
            autocompletion=_complete_shown,
        ),
    ],
    recipes: Recipes = None,
    as_json: Json = False,
) -> None:
    """Show one recipe with everything filled in, and its file; a patch as a diff. Needs nothing."""
    import json

    import yaml

    from tritonbuild.console import terminal

    book = open_book(recipes)
    if name.startswith("patches/"):
        terminal.output(_format_patch(book, name.removeprefix("patches/"), as_json=as_json))
        return
    kind, plain = _find(book, name)
    recipe = book.get(kind, plain)
    content = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    origin = str(book.origin(kind, plain))
    if as_json:
        terminal.output(json.dumps({"file": origin, "recipe": content}, indent=2))
    else:
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
        terminal.output(f"# {origin}\n{text}")


def _format_patch(book: RecipeBook, relative: str, *, as_json: bool) -> str:
    """Return a patch as a unified diff, or as data."""
    import json

    from tritonbuild.patches.show import format_diff
    from tritonbuild.recipe.load import load_patch, locate_patch

    patch = load_patch(relative, book.folders)
    origin = str(locate_patch(relative, book.folders))
    if as_json:
        content = patch.model_dump(mode="json", by_alias=True, exclude_none=True)
        return json.dumps({"file": origin, "patch": content}, indent=2)
    return f"# {origin}\n{format_diff(patch)}"


def _find(book: RecipeBook, name: str) -> tuple[str, str]:
    """Return kind and name of a recipe that is called by its name alone, or by kind/name."""
    from tritonbuild.errors import RecipeError, UsageError
    from tritonbuild.recipe.load import suggest

    if name.endswith(".yaml"):
        msg = f'"{name}" is the name of no recipe'
        hint = "a recipe is called KIND/NAME without .yaml, a patch patches/COMPONENT/NAME.yaml"
        raise UsageError(msg, hint=hint)
    if "/" in name:
        kind, _, plain = name.partition("/")
        return _check_kind(kind), plain
    kinds = [kind for kind in _KINDS if name in book.names(kind)]
    if len(kinds) > 1:
        msg = f'"{name}" is the name of {" and ".join(kinds)}'
        raise UsageError(msg, hint=f"say which: {', '.join(f'{kind}/{name}' for kind in kinds)}")
    if not kinds:
        every = [known for kind in _KINDS for known in book.names(kind)]
        msg = f'unknown recipe "{name}"{suggest(name, every)}'
        raise RecipeError(msg, hint="`tritonbuild list` shows them all")
    return kinds[0], name


def check(recipes: Recipes = None, as_json: Json = False) -> None:
    """Check every recipe within reach, and every board's plan. Offline, writes nothing."""
    import json

    from tritonbuild.console import terminal
    from tritonbuild.errors import RecipeError
    from tritonbuild.plan.check import check_book

    book = open_book(recipes)
    report = check_book(book)
    if as_json:
        found = {
            "checked": report.checked, "problems": report.problems, "refused": report.refused
        }  # fmt: skip
        terminal.output(json.dumps(found))
    if report.problems:
        raise RecipeError("\n".join(report.problems), hint="`tritonbuild schema` says what may be")
    if not as_json:
        terminal.output(f"{report.checked} recipes and plans checked, no problem")
        if report.refused:
            terminal.output(
                f"{len(report.refused)} of the plans are refused, as recipes say; --json has them"
            )


def schema(kind: Kind = None) -> None:
    """Print the JSON Schema of a kind of recipe or of a patch, for editors. Needs nothing."""
    import json

    from tritonbuild.console import terminal
    from tritonbuild.recipe.schema import make_schema, make_schemas

    content = make_schema(_check_kind(kind, (*_KINDS, "patch"))) if kind else make_schemas()
    terminal.output(json.dumps(content, indent=2))
