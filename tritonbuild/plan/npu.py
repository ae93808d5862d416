"""Which NPU a board has, by the recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import Board
    from tritonbuild.recipe.npu import NpuFamily, NpuSoc


@dataclass(frozen=True)
class BoardNpu:
    """A board's NPU.

    Attributes:
        family: What is known of all of its kind.
        name: The system on a chip, as the family's recipe has it.
        soc: What is known of that.
    """

    family: NpuFamily
    name: str
    soc: NpuSoc


def find_npu(book: RecipeBook, board: Board) -> BoardNpu | None:
    """Return a board's NPU, None where it has none that a recipe tells of."""
    return find_npu_of(book, board.npu.compatible) if board.npu else None


def find_npu_of(book: RecipeBook, compatible: str) -> BoardNpu | None:
    """Return the NPU of a machine whose device tree says this, None where no recipe tells of it."""
    for kind in book.names("npus"):
        family = book.npu(kind)
        found = family.find_soc(compatible)
        if found:
            return BoardNpu(family, *found)
    return None
