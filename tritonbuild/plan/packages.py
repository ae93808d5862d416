"""Debian packages that a source build needs where it runs, and the board where its tree does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonbuild.plan.select import find_variant, lineage

if TYPE_CHECKING:
    from tritonbuild.plan.model import Selection
    from tritonbuild.recipe.load import RecipeBook


def packages_of(book: RecipeBook, selection: Selection) -> tuple[str, ...]:
    """Return the Debian packages that building the selection needs, sorted."""
    found: set[str] = set()
    for name in selection.components:
        component = book.component(name)
        for part in lineage(book, component):
            if part.source:
                found.update(part.source.apt_packages.get(selection.os, ()))
        variant = find_variant(component, selection.variants)
        if variant:
            found.update(variant.apt_packages.get(selection.os, ()))
    return tuple(sorted(found))


def runtime_packages_of(book: RecipeBook, selection: Selection) -> dict[str, str]:
    """Return what the board needs that no ELF file tells of, and the package of each."""
    found: dict[str, str] = {}
    for name in selection.components:
        for part in lineage(book, book.component(name)):
            if part.source:
                found.update(part.source.runtime_packages.get(selection.os, {}))
    return found
