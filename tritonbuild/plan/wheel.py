"""The steps of `--from wheel`: nothing is compiled, everything is pinned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonbuild.errors import RecipeError
from tritonbuild.paths import data_dir
from tritonbuild.plan.fitness import check_wheels
from tritonbuild.plan.model import Step, StepKind
from tritonbuild.plan.packages import bundled_packages_of
from tritonbuild.plan.root import plan_root
from tritonbuild.plan.tree import describe_release, plan_verify
from tritonbuild.recipe.load import suggest

if TYPE_CHECKING:
    from tritonbuild.plan.model import Selection
    from tritonbuild.recipe.component import Component
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import OperatingSystem, Release


def plan_wheel_steps(book: RecipeBook, selection: Selection) -> tuple[Step, ...]:
    """Return root, fetches, assembly and verification.

    Raises:
        RecipeError: The release has no wheel for the operating system's Python, or a component
            takes files from a wheel or template that is not there.
        UnsupportedError: Its wheels do not go with the operating system.
    """
    system = book.operating_system(selection.os)
    release = book.release(selection.release)
    components = [book.component(name) for name in selection.components]
    check_wheels(book, selection, components, release, system)
    root = plan_root(book, selection)
    fetches = _plan_fetches(book, selection, components, release, system)
    bundled = bundled_packages_of(book, selection, system)
    assembly = _plan_assembly(components, selection, system, fetches, release, bundled)
    verify = plan_verify(selection, system, {"bundled": bundled}, needs=(root.id, assembly.id))
    return (root, *fetches, assembly, verify)


def _plan_fetches(
    book: RecipeBook,
    selection: Selection,
    components: list[Component],
    release: Release,
    system: OperatingSystem,
) -> list[Step]:
    users: dict[str, list[str]] = {}
    for component in components:
        for wheel in component.wheel.wheels if component.wheel else ():
            users.setdefault(wheel, []).append(component.name)
    index = book.mirror(selection.mirror).pypi
    steps = []
    for name, names in users.items():
        pin = release.wheels.get(name)
        file = pin.find_file(system.python) if pin else None
        if pin is None or file is None:
            msg = f"{release.name} pins no wheel of {name} for Python {system.python}"
            raise RecipeError(msg, hint=f"add it under wheels: in releases/{release.name}.yaml")
        details: dict[str, object] = {
            "distribution": name,
            "filename": file.filename,
            "sha256": file.sha256,
            "python": system.python,
            "license": pin.license,
            "index": index,
        }
        why = f"for {', '.join(names)}: {pin.why}"
        title = f"fetch {name} {file.version}"
        steps.append(Step(f"fetch-{name}", StepKind.FETCH, title, why, details=details))
    return steps


def check_assembly(component: Component) -> None:
    """Check that a component's wheels and template folders are there to take files from.

    Raises:
        RecipeError: Its layout names a wheel that is not among its wheels, or a folder of
            templates is not shipped.
    """
    if component.wheel is None:
        return
    wheels = component.wheel.wheels
    for part in component.wheel.layout:
        if part.wheel not in wheels:
            close = suggest(part.wheel, wheels)
            msg = f"{component.name}: layout: {part.wheel} is not among its wheels{close}"
            raise RecipeError(msg, hint=f"known: {', '.join(wheels)}")
    shipped = data_dir("templates")
    for relative in component.wheel.templates:
        if not (shipped / relative).is_dir():
            known = sorted(f"backends/{path.name}" for path in (shipped / "backends").iterdir())
            close = suggest(relative, known)
            msg = f"{component.name}: templates/{relative}: no such folder{close}"
            raise RecipeError(msg, hint=f"known: {', '.join(known)}")


def _plan_assembly(
    components: list[Component],
    selection: Selection,
    system: OperatingSystem,
    fetches: list[Step],
    release: Release,
    bundled: dict[str, list[str]],
) -> Step:
    for component in components:
        check_assembly(component)
    parts = [
        {
            "component": component.name,
            "layout": [part.model_dump() for part in component.wheel.layout],
            "links": component.wheel.links,
            "templates": list(component.wheel.templates),
            "artefacts": list(component.artefacts.get(selection.provider, ())),
        }
        for component in components
        if component.wheel
    ]
    return Step(
        id="assemble",
        kind=StepKind.ASSEMBLE,
        title="assemble /opt/tritonserver",
        why="one tree that needs nothing installed on the board and that can be moved",
        needs=("root", *(step.id for step in fetches)),
        details={
            "parts": parts,
            "python": system.python,
            "arch": selection.arch,
            "bundled": bundled,
            **describe_release(release),
        },
    )
