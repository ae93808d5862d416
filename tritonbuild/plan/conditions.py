"""Whether a machine is one that an adjustment or a patch is for.

Versions are compared as far as the condition writes them: `<=12` holds for 12.2, `==4` for 4.0.3,
and `>12` begins at 13.
"""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING

from tritonbuild.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tritonbuild.plan.model import Machine
    from tritonbuild.recipe.fields import Condition

_COMPARE: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
_CLAUSE = re.compile(r"(<=|>=|==|<|>)([0-9.]+)")

# What the parts of a condition are called where people read about them.
_NAMES = {"gcc": "GCC", "cmake": "CMake", "glibc": "glibc", "python": "Python"}


def holds(condition: Condition, machine: Machine) -> bool:
    """Return whether every part of a condition holds on a machine.

    Raises:
        RecipeError: The machine's version is not one.
    """
    return all(
        _is_within(wanted, _parse_version(found, tool, machine))
        for tool, wanted, found in _parts_of(condition, machine)
    )


def explain(condition: Condition, machine: Machine) -> str:
    """Return why a condition holds or does not, such as `GCC 12.2.0 is >=12 (this machine)`.

    Raises:
        RecipeError: The machine's version is not one.
    """
    said = []
    for tool, wanted, found in _parts_of(condition, machine):
        verb = "is" if _is_within(wanted, _parse_version(found, tool, machine)) else "is not"
        said.append(f"{_NAMES[tool]} {found} {verb} {' and '.join(wanted.split(','))}")
    return f"{', '.join(said)} ({machine.origin})" if said else "everywhere"


def name_versions(condition: Condition, machine: Machine) -> str:
    """Return what of a machine a condition is about, such as `Python 3.13 (os/debian-13)`."""
    found = [f"{_NAMES[tool]} {version}" for tool, _, version in _parts_of(condition, machine)]
    return f"{' and '.join(found)} ({machine.origin})"


def _parts_of(condition: Condition, machine: Machine) -> Iterator[tuple[str, str, str]]:
    """Yield tool, range and the machine's version of each part that the condition has."""
    for tool in _NAMES:
        wanted = getattr(condition, tool)
        if wanted is not None:
            yield tool, wanted, getattr(machine, tool)


def _parse_version(text: str, tool: str, machine: Machine) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", text)
    if found is None:
        msg = f"{machine.origin}: {text!r} is no version of {_NAMES[tool]}"
        raise RecipeError(msg, hint="numbers with points between them are wanted, such as 12.2")
    return tuple(int(part) for part in found[0].split("."))


def is_within(wanted: str, version: str) -> bool:
    """Return whether a version of numbers, such as `1.5.2`, is in a range such as `>=2.6,<3`."""
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = tuple(int(part) for part in found[0].split(".")) if found else (0,)
    return _is_within(wanted, numbers)


def _is_within(wanted: str, version: tuple[int, ...]) -> bool:
    for sign, text in _CLAUSE.findall(wanted):
        bound = tuple(int(part) for part in text.split("."))
        padded = version + (0,) * (len(bound) - len(version))
        if not _COMPARE[sign](padded[: len(bound)], bound):
            return False
    return True
