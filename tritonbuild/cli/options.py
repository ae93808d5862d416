"""Options that several verbs share, and what they come to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan, Request, Setting
    from tritonbuild.recipe.load import RecipeBook


def _complete(kind: str, incomplete: str) -> list[str]:
    from tritonbuild.recipe.load import RecipeBook

    return [name for name in RecipeBook.open().names(kind) if name.startswith(incomplete)]


def _complete_board(incomplete: str) -> list[str]:
    return _complete("boards", incomplete)


def _complete_os(incomplete: str) -> list[str]:
    return _complete("os", incomplete)


def _complete_release(incomplete: str) -> list[str]:
    return _complete("releases", incomplete)


def _complete_mirror(incomplete: str) -> list[str]:
    return _complete("mirrors", incomplete)


def _complete_component(incomplete: str) -> list[str]:
    from tritonbuild.plan.select import selectable
    from tritonbuild.recipe.load import RecipeBook

    return [name for name in selectable(RecipeBook.open()) if name.startswith(incomplete)]


def _complete_provider(incomplete: str) -> list[str]:
    return [name for name in ("source", "wheel") if name.startswith(incomplete)]


# typer reads these annotations at run time on Python 3.10 too, hence Optional.
Board = Annotated[
    str,
    typer.Option(help="Board to build for.", autocompletion=_complete_board, show_default=False),
]
Os = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Its operating system [the board's usual one].", autocompletion=_complete_os),
]
Release = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Triton release [the board's].", autocompletion=_complete_release),
]
From = Annotated[
    str,
    typer.Option(
        "--from", help="Where components come from: source or wheel.",
        autocompletion=_complete_provider,
    ),
]  # fmt: skip
Executor = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Where a source build runs [native]."),
]
Components = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--component", "-c", help="Component to take; repeat it for more [the board's].",
        autocompletion=_complete_component,
    ),
]  # fmt: skip
Mirror = Annotated[
    str, typer.Option(help="Set of addresses to fetch from.", autocompletion=_complete_mirror)
]
Jobs = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--jobs", "-j", min=1, help="Compilers at once [from cores and memory]."),
]
Settings = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="COMPONENT.FLAG=VALUE", help="Set a CMake value; repeatable."),
]
Recipes = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="Folder of your own recipes, over the shipped ones [./recipes]."),
]
NewWorkDir = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--work-dir", help="Folder to work in [build/BOARD-RELEASE-HOW]."),
]
WorkDir = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="Folder to work in [the last build's]."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def make_request(
    *,
    board: str,
    os: str | None,
    release: str | None,
    provider: str,
    executor: str | None = None,
    components: list[str] | None,
    mirror: str = "upstream",
    jobs: int | None = None,
    settings: list[str] | None = None,
) -> Request:
    """Return what the options ask for.

    Raises:
        UsageError: A value is none of those that exist, or --set is malformed.
    """
    from tritonbuild.plan.model import Executor, Request
    from tritonbuild.recipe.model import ProviderKind

    return Request(
        board=board,
        os=os,
        release=release,
        provider=ProviderKind(_choose("--from", provider, [p.value for p in ProviderKind])),
        executor=Executor(_choose("--executor", executor, [e.value for e in Executor]))
        if executor
        else None,
        components=tuple(components or ()),
        mirror=mirror,
        jobs=jobs,
        settings=tuple(_parse_setting(text) for text in settings or ()),
    )


def _choose(option: str, value: str, known: list[str]) -> str:
    from tritonbuild.errors import UsageError
    from tritonbuild.recipe.load import suggest

    if value not in known:
        msg = f'{option}: unknown value "{value}"{suggest(value, known)}'
        raise UsageError(msg, hint=f"known: {', '.join(known)}")
    return value


def _parse_setting(text: str) -> Setting:
    import re

    from tritonbuild.errors import UsageError
    from tritonbuild.plan.model import Setting

    # Only the first `=` separates: a value may hold more of them.
    found = re.fullmatch(r"([a-z0-9][a-z0-9._-]*)\.([A-Za-z_][A-Za-z0-9_]*)=(.*)", text, re.DOTALL)
    if not found or "\0" in text:
        msg = f"--set {text!r}: COMPONENT.FLAG=VALUE is wanted"
        raise UsageError(msg, hint="for example --set core.TRITON_ENABLE_TRACING=OFF")
    return Setting(*found.groups())


def open_book(recipes: Path | None) -> RecipeBook:
    """Open the shipped recipes, with the user's over them."""
    from tritonbuild.recipe.load import RecipeBook

    return RecipeBook.open(recipes)


def open_workspace(work_dir: Path | None) -> tuple[Workspace, Plan]:
    """Return the work directory that was named, or the last build's, and the plan built in it.

    Raises:
        UsageError: There is none, or nothing was built in it.
    """
    from tritonbuild.errors import UsageError
    from tritonbuild.paths import Workspace, recall
    from tritonbuild.plan.model import read_plan

    ws = Workspace(work_dir.resolve() if work_dir else recall())
    if not ws.plan_path.is_file():
        msg = f"{ws.root} is no work directory: it has no plan.json"
        raise UsageError(msg, hint="run `tritonbuild build` first")
    text = ws.plan_path.read_text(encoding="utf-8", errors="replace")
    return ws, read_plan(text, str(ws.plan_path))
