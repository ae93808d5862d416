"""patch: a component's patches on a checkout of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritonbuild.cli.options import Json, Recipes, open_book

if TYPE_CHECKING:
    from tritonbuild.patches.series import PatchInSeries, PatchReport
    from tritonbuild.recipe.component import SourceProvider
    from tritonbuild.recipe.load import RecipeBook

_DONE = {
    "applies": ("applied now", "not applied"),
    "applied": ("applied before", "undone now"),
    "fixed upstream": ("fixed upstream", "fixed upstream"),
    "not known yet": ("not known yet", "not known yet"),
}


def _complete_component(incomplete: str) -> list[str]:
    from tritonbuild.recipe.load import RecipeBook

    names = RecipeBook.open().names("components")
    return [name for name in names if name.startswith(incomplete)]


def _complete_mirror(incomplete: str) -> list[str]:
    from tritonbuild.recipe.load import RecipeBook

    return [name for name in RecipeBook.open().names("mirrors") if name.startswith(incomplete)]


def _complete_variant(context: typer.Context, incomplete: str) -> list[str]:
    from tritonbuild.recipe.load import RecipeBook

    book, name = RecipeBook.open(), context.params.get("component")
    source = book.component(name).source if name in book.names("components") else None
    return [way for way in (source.variants if source else ()) if way.startswith(incomplete)]


def patch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The component's sources.")],
    component: Annotated[
        str,
        typer.Option(
            "--component",
            "-c",
            help="Whose patches.",
            autocompletion=_complete_component,
            show_default=False,
        ),
    ],
    variant: Annotated[
        str,
        typer.Option(
            help="Way of building it that the patches are for [the usual one].",
            autocompletion=_complete_variant,
        ),
    ] = "",
    check: Annotated[
        bool, typer.Option("--check", help="Only say how each patch stands to the sources.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take the patches back, exactly.")] = False,
    mirror: Annotated[
        str,
        typer.Option(
            help="Mirror of the build that the patches are for: some are for one mirror alone.",
            autocompletion=_complete_mirror,
        ),
    ] = "upstream",
    recipes: Recipes = None,
    as_json: Json = False,
) -> None:
    """Apply a component's patches to a folder of sources, check or undo them. Needs no build."""
    from tritonbuild.errors import UsageError
    from tritonbuild.patches.folder import apply_to_folder, inspect_folder, undo_in_folder
    from tritonbuild.patches.series import raise_misfits

    if check and undo:
        msg = "--check and --undo do not go together"
        raise UsageError(msg, hint="--check alone changes nothing")
    if not folder.is_dir():
        msg = f"{folder}: no such folder"
        raise UsageError(msg, hint="say where the component's sources are")
    book = open_book(recipes)
    series, left_out = _choose_patches(book, component, variant, mirror)
    if undo:
        _print(undo_in_folder(folder, series), left_out, column=1, as_json=as_json)
    elif check:
        reports = inspect_folder(folder, series)
        _print(reports, left_out, column=None, as_json=as_json)
        raise_misfits(reports)
    else:
        _print(apply_to_folder(folder, series), left_out, column=0, as_json=as_json)


def _choose_patches(
    book: RecipeBook, name: str, variant: str, mirror: str
) -> tuple[list[PatchInSeries], dict[str, str]]:
    """Return the patches that are for this machine and mirror, and why the others are left out.

    Raises:
        NothingToDoError: The component has none.
    """
    from tritonbuild.errors import NothingToDoError
    from tritonbuild.executors.machine import detect_machine
    from tritonbuild.patches.series import PatchInSeries
    from tritonbuild.plan.conditions import explain, holds
    from tritonbuild.recipe.load import load_patch

    book.mirror(mirror)  # a name that is none is told
    source = book.component(name).source
    relatives = (*source.patches, *_patches_of_variant(source, name, variant)) if source else ()
    if not relatives:
        msg = f"component {name} has no patches"
        raise NothingToDoError(msg, hint="a component's recipe lists them under source.patches")
    patches = {relative: load_patch(relative, book.folders) for relative in relatives}
    machine = detect_machine() if any(one.when for one in patches.values()) else None
    left_out = {}
    for relative, one in patches.items():
        if one.mirror not in (None, mirror):
            left_out[relative] = f"only with --mirror {one.mirror}"
        elif one.when and machine and not holds(one.when, machine):
            left_out[relative] = explain(one.when, machine)
    # What waits for CMake comes last, as in a build.
    ordered = sorted(patches.items(), key=lambda item: item[1].after != "fetch")
    series = [PatchInSeries.of(name, path, one) for path, one in ordered if path not in left_out]
    return series, left_out


def _patches_of_variant(source: SourceProvider, name: str, variant: str) -> tuple[str, ...]:
    from tritonbuild.errors import UsageError
    from tritonbuild.recipe.load import suggest

    known = list(source.variants)
    if variant and variant not in known:
        msg = f'component {name} has no variant "{variant}"{suggest(variant, known)}'
        hint = f"known: {', '.join(known)}" if known else "leave it out: there is one way only"
        raise UsageError(msg, hint=hint)
    chosen = source.variants.get(variant or next(iter(known), ""))
    return chosen.patches if chosen else ()


def _print(
    reports: list[PatchReport], left_out: dict[str, str], *, column: int | None, as_json: bool
) -> None:
    """Print each patch with its state, or with what was done about it."""
    import json

    from tritonbuild.console import terminal

    rows = [
        {
            "patch": report.name,
            "state": _describe(report, column),
            "what": report.note or report.summary,
            "problems": list(report.problems),
        }
        for report in reports
    ]
    rows += [
        {"patch": name, "state": "not needed", "what": why, "problems": []}
        for name, why in left_out.items()
    ]
    if as_json:
        terminal.output(json.dumps(rows, indent=2))
    else:
        cells = [(str(row["patch"]), str(row["state"]), str(row["what"])) for row in rows]
        terminal.table(("PATCH", "STATE", "WHAT"), cells)


def _describe(report: PatchReport, column: int | None) -> str:
    state = str(report.state)
    return _DONE[state][column] if column is not None and state in _DONE else state
