"""What failures of a build step look like in its log, and what to do about each.

The rules are recipes of a kind of their own: `failures/NAME.yaml`, overlaid by name like the others.
They need no board and no plan.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from tritonbuild.recipe.fields import Name, Recipe, Strict

if TYPE_CHECKING:
    from tritonbuild.recipe.load import RecipeBook

KIND = "failures"


def _check_pattern(text: str) -> str:
    """Refuse what is no regular expression, and what would match anything."""
    try:
        pattern = re.compile(text, re.MULTILINE)
    except re.error as err:
        msg = f"not a regular expression: {err}"
        raise ValueError(msg) from None
    if pattern.search(""):
        msg = "matches the empty text, and so every log"
        raise ValueError(msg)
    return text


Pattern = Annotated[str, AfterValidator(_check_pattern)]
Link = Annotated[str, Field(pattern=r"^https?://\S+$")]
# The values of tritonbuild.plan.model.StepKind, which is above this layer's reach.
StepName = Literal[
    "root", "compilers", "sources", "check", "fetch", "patch", "configure", "build", "install",
    "container", "assemble", "verify", "image",
]  # fmt: skip


class FailureClass(str, Enum):
    """Whose fault a failure is; it decides the exit code."""

    HOST = "host"
    SOURCE = "source"
    PATCH = "patch"
    BUILD = "build"

    def __str__(self) -> str:
        return self.value


class Retry(str, Enum):
    """What is worth trying once without asking."""

    SAME = "same"
    FEWER_JOBS = "fewer-jobs"

    def __str__(self) -> str:
        return self.value


class FailureRule(Strict):
    """One way to fail, as it shows in a log."""

    name: Name
    """What the rule is called in messages and in `--json`."""
    pattern: Pattern
    """Python regular expression, searched in each line of the log's end, colours taken away.
    A paragraph of a CMake message counts as one line; `^` and `$` are the ends of a line."""
    also: Pattern | None = None
    """A second expression that must be found too, on whatever line."""
    steps: tuple[StepName, ...] = ()
    """Kinds of steps in which the rule counts; all, where none is named."""
    cause: str
    """Why it happens, in one or two sentences."""
    action: str
    """What to do about it, in one or two sentences."""
    links: tuple[Link, ...] = ()
    """Where it was reported or explained."""
    error: FailureClass | None = None
    """What kind of failure it is: it decides the exit code. The step's own, where none is named."""
    retry: Retry | None = None
    """What is worth one more try by itself: the same again, or with fewer compilers at once."""
    priority: Annotated[int, Field(ge=0, le=100)] = 50
    """Where several rules fit, the highest comes first. A cause is higher than what it causes."""
    examples: Annotated[tuple[str, ...], Field(min_length=1)]
    """Lines of real logs in which this rule comes first; a test holds that."""


class FailureRules(Recipe):
    """A file of rules."""

    rules: Annotated[tuple[FailureRule, ...], Field(min_length=1)]
    """The rules; where two of one priority fit equally well, the first comes first."""


def load_rules(book: RecipeBook) -> tuple[FailureRule, ...]:
    """Load every rule within reach: the user's files over the shipped ones of the same name.

    Raises:
        RecipeError: A file is not valid; says file and line.
    """
    rules: list[FailureRule] = []
    for name in book.names(KIND):
        found = book.get(KIND, name)
        assert isinstance(found, FailureRules)
        rules += found.rules
    return tuple(rules)
