"""How a source build gets what comes from outside: mirrors, a lock, or a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild.paths import cache_dir, make_dir
from tritonbuild.sources.lock import find_lock
from tritonbuild.sources.rank import choose_mirrors
from tritonbuild.sources.resolve import wanted_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tritonbuild.plan.model import Plan
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import Mirror
    from tritonbuild.sources.lock import Lock


@dataclass(frozen=True)
class Outside:
    """How what comes from outside is got.

    Attributes:
        cache: The user's cache.
        choose_mirrors: Returns where to look, in order, with upstream's own addresses. Asked only
            when something is to be fetched: to choose may mean to measure.
        lock: What was locked before; None takes what is there now.
        offline: Folder that holds everything; None asks the network.
        allow_dirty: Take local checkouts as they are.
    """

    cache: Path
    choose_mirrors: Callable[[], Sequence[Mirror]] = tuple
    lock: Lock | None = None
    offline: Path | None = None
    allow_dirty: bool = False


def make_outside(
    plan: Plan,
    book: RecipeBook,
    *,
    lock_path: Path | None,
    offline: Path | None,
    allow_dirty: bool,
) -> Outside:
    """Return how a build gets what comes from outside.

    Args:
        plan: The plan.
        book: The recipes, for its mirror.
        lock_path: The lock; None takes ./tritonbuild.lock where there is one.
        offline: What `fetch` wrote; None asks the network.
        allow_dirty: Take local checkouts as they are.

    Raises:
        SourceError: The lock cannot be read.
    """
    wanted = wanted_of(plan.find_step("sources"))
    return Outside(
        make_dir(cache_dir()),
        lambda: choose_mirrors(book, plan.selection.mirror, wanted),
        find_lock(lock_path),
        offline.resolve() if offline else None,
        allow_dirty,
    )
