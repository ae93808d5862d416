"""Debian packages that a source build needs where it runs, and the board where its tree does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonbuild.plan.select import find_variant, lineage
from tritonbuild.recipe.fields import ProviderKind

if TYPE_CHECKING:
    from tritonbuild.plan.model import Selection
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import OperatingSystem


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


def bundled_packages_of(
    book: RecipeBook, selection: Selection, system: OperatingSystem
) -> dict[str, list[str]]:
    """Return the packages whose libraries travel in a tree from wheels, and those libraries."""
    found = {name: list(libraries) for name, libraries in system.bundled_packages.items()}
    for name in selection.components:
        component = book.component(name)
        if component.wheel and selection.provider is ProviderKind.WHEEL:
            packages = component.wheel.bundled_packages.get(system.name, {})
            found |= {package: list(libraries) for package, libraries in packages.items()}
    return found


def runtime_packages_of(book: RecipeBook, selection: Selection) -> dict[str, str]:
    """Return what the board needs that no ELF file tells of, and the package of each."""
    found: dict[str, str] = {}
    for name in selection.components:
        for part in lineage(book, book.component(name)):
            if part.source:
                found.update(part.source.runtime_packages.get(selection.os, {}))
    return found
