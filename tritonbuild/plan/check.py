"""Whether all recipes within reach are valid and every board comes to a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tritonbuild.errors import RecipeError, TritonBuildError
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Request
from tritonbuild.plan.select import lineage
from tritonbuild.recipe.load import load_patch
from tritonbuild.recipe.model import RECIPE_KINDS, ProviderKind

if TYPE_CHECKING:
    from tritonbuild.recipe.load import RecipeBook


@dataclass
class Report:
    """What was checked and what is wrong, a line or more a problem."""

    checked: int = 0
    problems: list[str] = field(default_factory=list)


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
        _check_plans(book, report)
    return report


def _check_components(book: RecipeBook, report: Report) -> None:
    for name in book.names("components"):
        try:
            component = book.component(name)
            lineage(book, component)
            for relative in component.source.patches if component.source else ():
                load_patch(relative)
        except TritonBuildError as err:
            report.problems.append(f"{book.origin('components', name)}: {err.message}")


def _check_plans(book: RecipeBook, report: Report) -> None:
    for board in book.names("boards"):
        for os in book.board(board).os:
            for release in book.names("releases"):
                for provider in ProviderKind:
                    report.checked += 1
                    request = Request(board, os=os, release=release, provider=provider)
                    try:
                        make_plan(book, request)
                    except TritonBuildError as err:
                        where = f"{book.origin('boards', board)}: {os}, {release}, {provider}"
                        report.problems.append(f"{where}: {err.message}")
