"""How a source build gets what comes from outside: mirrors, a lock, or a bundle."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild.errors import SourceError
from tritonbuild.paths import cache_dir, make_dir, write_text
from tritonbuild.sources.lock import find_lock, format_lock, read_lock
from tritonbuild.sources.rank import choose_mirrors
from tritonbuild.sources.resolve import bring_sources, is_intact, wanted_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan, Step
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


def bring_outside(
    step: Step, name: str, ws: Workspace, outside: Outside, report: Callable[[str], None]
) -> Lock:
    """Bring all that a plan's `sources` step asks for; note what it came to in the build's lock.

    Args:
        step: The step.
        name: `NN-<step>`, for its log.
        ws: The work directory, whose folder of sources is filled.
        outside: How it is got.
        report: Told what is being fetched.

    Raises:
        SourceError: Something did not come, or is not what the lock holds.
        HostError: There is no room, or git is missing.
    """
    offline = outside.offline
    lock = bring_sources(
        wanted_of(step),
        store=ws.sources_dir,
        cache=outside.cache,
        mirrors=() if offline else outside.choose_mirrors(),
        # What `fetch` wrote has a lock of its own.
        lock=outside.lock or (None if offline else _read_own_lock(ws)),
        offline=offline or False,
        allow_dirty=outside.allow_dirty,
        log=ws.logs_dir / f"{name}.log",
        report=report,
        # Of a lock of ours nobody expects that it holds a component that is new.
        tell_unlocked=outside.lock is not None or offline is not None,
    )
    write_text(ws.source_lock_path, format_lock(lock))
    return lock


def _read_own_lock(ws: Workspace) -> Lock | None:
    """Return what this build was resolved to before: a branch that moved changes nothing here."""
    try:
        return read_lock(ws.source_lock_path)
    except SourceError:
        return None


def digest_lock(ws: Workspace) -> str:
    """Return a checksum of the build's lock; empty where there is none."""
    path = ws.source_lock_path
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def are_sources_there(ws: Workspace, digest: str) -> bool:
    """Return whether the lock is the one that a step left, and all that it names is there.

    Args:
        ws: The work directory.
        digest: What `digest_lock` said after the step.
    """
    if digest_lock(ws) != digest:
        return False
    return is_intact(read_lock(ws.source_lock_path), ws.sources_dir)
