"""What a patch may say: exact edits, a diff, where they are needed, and why."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, model_validator

from tritonbuild.recipe.changes import GUARD, Change
from tritonbuild.recipe.fields import (
    Condition,
    Name,
    RelativePath,
    Strict,
)


class Edit(Strict):
    """One exact-match edit of a file."""

    file: RelativePath
    """The file below the component's sources."""
    old: Annotated[str, Field(min_length=1)]
    """Text that must stand there."""
    new: Annotated[str, Field(min_length=1)]
    """Text that takes its place; to take something away, keep a line beside it in both."""
    count: Annotated[int, Field(ge=1)] = 1
    """How often the old text must stand there, exactly."""


class Fixed(Strict):
    """A text by which upstream's own repair is known."""

    file: RelativePath
    """The file below the component's sources."""
    text: Annotated[str, Field(min_length=1)]
    """Text that stands there once upstream has put it right in its own way."""


class Patch(Strict):
    """Edits of one component's fetched sources, and why."""

    version: Annotated[int, Field(alias="schema", ge=1, le=1)] = 1
    """Version of the recipe format."""
    summary: str
    """One line."""
    why: str
    """What goes wrong without it."""
    upstream: tuple[str, ...] = ()
    """Threads and commits that tell more."""
    after: Literal["fetch", "configure"] = "fetch"
    """The moment: right after the clone, or once CMake has fetched the nested sources."""
    when: Condition | None = None
    """Where it is needed; everywhere where this is left out."""
    mirror: Name | None = None
    """The mirror that it is for; all of them where this is left out."""
    fixed: tuple[Fixed, ...] = ()
    """Where one of these is found, upstream has put it right and the patch is left out."""
    edits: tuple[Edit, ...] = ()
    """The edits, in order."""
    diff: RelativePath | None = None
    """A unified diff beside this file, as git writes it; its hunks come after the edits."""
    _hunks: tuple[Change, ...] = PrivateAttr(())

    @model_validator(mode="after")
    def _check_not_empty(self) -> Patch:
        if not self.edits and self.diff is None:
            msg = "say edits, a diff, or both"
            raise ValueError(msg)
        return self

    @property
    def changes(self) -> tuple[Change, ...]:
        """What it changes, in order: `load_patch` has read the diff."""
        return (
            *(Change(fixed.file, GUARD, fixed.text, "") for fixed in self.fixed),
            *(Change(edit.file, str(edit.count), edit.old, edit.new) for edit in self.edits),
            *self._hunks,
        )

    def take_hunks(self, hunks: tuple[Change, ...]) -> None:
        """Keep what the diff changes; only for whoever reads the patch."""
        self._hunks = hunks
