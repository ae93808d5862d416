"""fetch-models: an example model repository, as Triton's own fetch_models.sh makes one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from tritonbuild.cli.options import Recipes, complete_mirror, complete_model, open_book

if TYPE_CHECKING:
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import ExampleModel


def fetch_models(
    output: Annotated[
        Path,
        typer.Option(
            help="Folder that gets models/, images/ and image_client.py.", show_default=False
        ),
    ],
    names: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Example models [all].", autocompletion=complete_model),
    ] = None,
    mirror: Annotated[
        str, typer.Option(help="Whose index to ask.", autocompletion=complete_mirror)
    ] = "upstream",
    recipes: Recipes = None,
) -> None:
    """Make an example model repository, with pictures and a client. Needs nothing."""
    from tritonbuild.console import terminal
    from tritonbuild.paths import cache_dir, make_dir
    from tritonbuild.sources.example import write_client, write_model

    book = open_book(recipes)
    examples = [_get_example(book, name) for name in names or book.names("models")]
    index = book.mirror(mirror).pypi
    repository = make_dir(output / "models")
    log = make_dir(cache_dir() / "logs") / "fetch-models.log"
    for example in examples:
        with terminal.step(f"model {example.name}, {example.license}"):
            new = write_model(example, repository, index=index, cache=cache_dir(), log=log)
        if not new:
            terminal.info(f"{repository / example.name} is there already")
    write_client(output)
    terminal.info(f"`tritonbuild serve {repository}` serves them")


def _get_example(book: RecipeBook, name: str) -> ExampleModel:
    from tritonbuild.recipe.model import ExampleModel

    found = book.get("models", name)
    assert isinstance(found, ExampleModel)
    return found
