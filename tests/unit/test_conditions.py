"""Conditions of patches and adjustments: which machines they are for, and in which words."""

from __future__ import annotations

import pytest

from tritonbuild.errors import RecipeError
from tritonbuild.plan.conditions import explain, holds
from tritonbuild.plan.model import Machine
from tritonbuild.recipe.fields import Condition


def machine(**versions: str) -> Machine:
    usual = {"gcc": "12.2.0", "cmake": "3.25.1", "glibc": "2.36", "python": "3.11.2"}
    return Machine("arm64", "debian-12", **{**usual, **versions}, origin="os/debian-12")


@pytest.mark.parametrize(
    ("wanted", "version", "expected"),
    [
        (">=12", "12.2.0", True),
        (">=12", "11.4.0", False),
        (">=12", "12", True),
        (">12", "12.2.0", False),
        (">12", "13.1.0", True),
        ("<=12", "12.2.0", True),
        ("<=12.1", "12.2.0", False),
        ("<13", "12.9", True),
        ("==12", "12.2.0", True),
        ("==12.2.0", "12.2", True),
        ("==12.2.1", "12.2", False),
        (">=12.2.1", "12.2", False),
        (">=2.36", "2.4", False),
        (">=2.36", "2.100", True),
        (">=9,<12", "11.4.0", True),
        (">=9,<12", "12.0.0", False),
        (">=13", "13.0.1-rc2", True),
    ],
)
def test_versions_are_compared_as_far_as_the_condition_writes_them(wanted, version, expected):
    assert holds(Condition(gcc=wanted), machine(gcc=version)) is expected


def test_all_parts_must_hold():
    both = Condition(gcc=">=12", glibc=">=2.36")
    assert holds(both, machine())
    assert not holds(both, machine(glibc="2.35"))
    assert not holds(both, machine(gcc="11.4.0"))


def test_a_condition_without_parts_holds_everywhere():
    assert holds(Condition(), machine())
    assert explain(Condition(), machine()) == "everywhere"


@pytest.mark.parametrize("tool", ["gcc", "cmake", "glibc", "python"])
def test_each_tool_is_looked_at(tool):
    assert holds(Condition(**{tool: "==99.1"}), machine(**{tool: "99.1"}))
    assert not holds(Condition(**{tool: "==99.1"}), machine())


def test_explain_says_what_was_found_and_what_was_wanted():
    said = explain(Condition(gcc=">=12,<14", cmake=">=4"), machine())
    assert said == "GCC 12.2.0 is >=12 and <14, CMake 3.25.1 is not >=4 (os/debian-12)"


def test_a_version_that_is_none_is_an_error():
    with pytest.raises(RecipeError, match="'unknown' is no version of CMake"):
        holds(Condition(cmake=">=4"), machine(cmake="unknown"))
