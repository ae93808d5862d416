"""Whether all recipes within reach are valid and every board comes to a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tritonbuild.errors import RecipeError, TritonBuildError, UnsupportedError
from tritonbuild.plan.archive import has_tree
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Request
from tritonbuild.plan.select import lineage, misfits_of
from tritonbuild.plan.wheel import check_assembly
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import load_patch
from tritonbuild.recipe.model import RECIPE_KINDS

if TYPE_CHECKING:
    from tritonbuild.recipe.load import RecipeBook


@dataclass
class Report:
    """What was checked and what is wrong, a line or more a problem.

    Attributes:
        refused: Combinations that recipes say do not work, and why.
    """

    checked: int = 0
    problems: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def check_book(book: RecipeBook) -> Report:
    """Load every recipe and patch, and plan every board for each system, release and provider."""
    report = Report()
    for kind in RECIPE_KINDS:
        for name in book.names(kind):
            report.checked += 1
            try:
                book.get(kind, name)
            except RecipeError as err:
                report.problems.append(err.message)
    if not report.problems:
        _check_components(book, report)
    if not report.problems:  # else every plan would repeat them
        _check_plans(book, report)
    return report


def _check_components(book: RecipeBook, report: Report) -> None:
    for name in book.names("components"):
        try:
            component = book.component(name)
            lineage(book, component)
            check_assembly(component)
            for relative in component.source.patches if component.source else ():
                load_patch(relative, book.folders)
            for variant in component.source.variants.values() if component.source else ():
                for relative in variant.patches:
                    load_patch(relative, book.folders)
        except TritonBuildError as err:
            report.problems.append(f"{book.origin('components', name)}: {err.message}")


def _check_plans(book: RecipeBook, report: Report) -> None:
    for board in book.names("boards"):
        refused, planned = len(report.refused), 0
        for os in book.board(board).os:
            for release in _releases_for(book, board):
                for provider in _providers_for(book, board, os, release):
                    planned += 1
                    _check_plan(book, Request(board, os, release, provider), report)
        if planned and len(report.refused) - refused == planned:
            where = book.origin("boards", board)
            report.problems.append(f"{where}: none of its systems comes to a plan")


def _check_plan(book: RecipeBook, request: Request, report: Report) -> None:
    report.checked += 1
    what = f"{request.os}, {request.release}, {request.provider}"
    try:
        make_plan(book, request)
    except UnsupportedError as err:
        report.refused.append(f"{request.board}: {what}: {err.message}")
    except TritonBuildError as err:
        where = f"{book.origin('boards', request.board)}: {what}"
        report.problems.append(f"{where}: {err.message}")


def _releases_for(book: RecipeBook, board: str) -> list[str]:
    """Return a board's own release, and those that whoever wrote the board wrote too.

    A small release of a user's need not carry what a shipped board takes, nor the other way round.
    """
    folder = book.origin("boards", board).parent.parent
    own = book.board(board).release
    names = book.names("releases")
    return [n for n in names if n == own or book.origin("releases", n).parent.parent == folder]


def _providers_for(book: RecipeBook, board: str, os: str, release: str) -> list[ProviderKind]:
    """Return the providers that a release and all of a board's components can come from.

    Components that the board refuses do not count. Where there are none, a board's own release is
    planned all the same: to say what is wrong.
    """
    known, recipe, own = book.names("components"), book.board(board), book.release(release)
    if any(misfits_of(book, own, name) for name in recipe.components if name in known):
        return list(own.providers) if release == recipe.release else []
    found = []
    for kind in own.providers:
        if kind is ProviderKind.ARCHIVE and not has_tree(own, recipe, os):
            continue
        refused = {name for name in recipe.components if recipe.find_refusal(name, kind)}
        names = [name for name in recipe.components if name in known and name not in refused]
        if all(book.component(name).provides(kind) for name in names):
            found.append(kind)
    return found or (list(own.providers) if release == recipe.release else [])
