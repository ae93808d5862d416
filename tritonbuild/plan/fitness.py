"""What recipes know not to work: refused when it is planned, not found out after hours.

Each refusal says in one sentence what does not go together, and in its hint what does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tritonbuild.errors import UnsupportedError
from tritonbuild.plan.conditions import holds, name_versions
from tritonbuild.plan.model import THIS_MACHINE, Machine
from tritonbuild.plan.scope import is_true
from tritonbuild.plan.select import lineage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tritonbuild.plan.model import Flag, Selection
    from tritonbuild.recipe.component import Component, UnfitMachine
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import OperatingSystem, Release, WheelFile

# PEP 600, and the one older name that says the same of glibc 2.17.
_MANYLINUX = re.compile(r"manylinux_2_(\d+)_\w+|manylinux(2014)_\w+")
_GLIBC_OF_2014 = 17


def check_machine(book: RecipeBook, selection: Selection, machine: Machine) -> tuple[str, ...]:
    """Refuse a machine that a component cannot be built on.

    Args:
        book: The recipes.
        selection: What is built.
        machine: The machine that builds; for a build in a root, one like the board.

    Returns:
        What a machine has to have beside its system's programs, where nobody has looked at it yet.

    Raises:
        UnsupportedError: It cannot; says why, and what goes instead.
    """
    notes = []
    for name, unfit in _list_unfit(book, selection):
        if not holds(unfit.when, machine):
            continue
        found = name_versions(unfit.when, machine)
        may_be_beside = unfit.beside and not selection.runs_in_root
        if may_be_beside and machine.origin != THIS_MACHINE:
            notes.append(f"{name} with {found}: {unfit.why}; {unfit.instead}")
        elif unfit.beside and selection.base_image:
            notes.append(f"{name}: {unfit.why}: {selection.base_image} has to have it")
        else:
            msg = f"{name} cannot be built with {found}: {unfit.why}"
            raise UnsupportedError(msg, hint=unfit.instead)
    return tuple(dict.fromkeys(notes))


def _list_unfit(book: RecipeBook, selection: Selection) -> Iterator[tuple[str, UnfitMachine]]:
    for name in selection.components:
        for part in lineage(book, book.component(name)):
            for unfit in part.source.unfit if part.source else ():
                yield name, unfit


def check_cuda(selection: Selection, flags: Mapping[str, tuple[Flag, ...]]) -> None:
    """Refuse CUDA in a root of the board's system: no distribution's archive has NVIDIA's.

    Raises:
        UnsupportedError: CUDA is asked for, and the root is made of packages.
    """
    wanted = any(
        flag.name == "TRITON_ENABLE_GPU" and is_true(flag.value) for flag in flags.get("core", ())
    )
    if wanted and selection.runs_in_root and selection.base_image is None:
        msg = (
            f"--executor {selection.executor}: a root of {selection.os} has no CUDA, which "
            "core.TRITON_ENABLE_GPU=ON needs"
        )
        hint = "build on the board with --executor native, or add --base-image IMAGE with CUDA"
        raise UnsupportedError(msg, hint=hint)


def check_wheels(
    book: RecipeBook,
    selection: Selection,
    components: Iterable[Component],
    release: Release,
    system: OperatingSystem,
) -> None:
    """Refuse a system whose Python or C library wheels were not made for.

    Raises:
        UnsupportedError: Says which, and which of the board's systems go.
    """
    parts = list(components)
    for component in parts:
        lack = _find_lack(component, release, system)
        if lack is None:
            continue
        listed = book.board(selection.board).os
        others = [book.operating_system(name) for name in listed]
        fitting = [
            other.name
            for other in others
            if not any(_find_lack(part, release, other) for part in parts)
        ]
        ways = [f"take --os {' or '.join(fitting)}"] if fitting else []
        if _find_lack(book.component("core"), release, system) is None:
            ways.append("take the server alone: -c core")
        if _can_be_built(book, selection, system):
            ways.append("build with --from source")
        raise UnsupportedError(lack, hint=", or ".join(ways) or "take another --release")


def _can_be_built(book: RecipeBook, selection: Selection, system: OperatingSystem) -> bool:
    """Return whether nothing of a system is in the way of a build from source."""
    machine = Machine(
        selection.arch, system.name, system.gcc or "0", system.cmake or "0", system.glibc,
        system.python, f"os/{system.name}",
    )  # fmt: skip
    unfit = [one for _, one in _list_unfit(book, selection) if not one.beside]
    return not any(holds(one.when, machine) for one in unfit)


def _find_lack(component: Component, release: Release, system: OperatingSystem) -> str | None:
    """Return why a component's wheels do not go with a system; None where they do."""
    if component.wheel is None:
        return None
    if _is_for_one_python(component) and system.python not in release.pythons:
        return (
            f"{release.name} has a python backend stub for Python {', '.join(release.pythons)}, "
            f"and {system.name} has Python {system.python}"
        )
    for name in component.wheel.wheels:
        pin = release.wheels.get(name)
        file = pin.find_file(system.python) if pin else None
        needed = find_glibc(file) if file else None
        if file and needed and needed > parse_glibc(system.glibc):
            return (
                f"{name} {file.version} is made for glibc 2.{needed[1]} and newer, "
                f"and {system.name} has {system.glibc}"
            )
    return None


def _is_for_one_python(component: Component) -> bool:
    """Return whether files of a component are for one version of Python."""
    layout = component.wheel.layout if component.wheel else ()
    return any("{python}" in part.files for part in layout)


def find_glibc(file: WheelFile) -> tuple[int, int] | None:
    """Return the oldest glibc that one of a wheel's tags is for; None for any system."""
    minors = [
        int(found[1]) if found[1] else _GLIBC_OF_2014
        for found in _MANYLINUX.finditer(file.filename.replace(".", " "))
    ]
    return (2, min(minors)) if minors else None


def parse_glibc(version: str) -> tuple[int, int]:
    """Return a version of glibc as numbers."""
    major, _, minor = version.partition(".")
    return int(major), int(minor)
