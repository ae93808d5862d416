"""All patches of a build against the sources that it was resolved to, before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tritonbuild.console import terminal
from tritonbuild.patches.series import UNKNOWN, PatchInSeries, check_series
from tritonbuild.patches.text import State
from tritonbuild.recipe.changes import Change
from tritonbuild.sources.address import view_path_of

if TYPE_CHECKING:
    from pathlib import Path

    from tritonbuild.patches.series import Content
    from tritonbuild.plan.model import Step
    from tritonbuild.sources.lock import Lock, LockedRepository

# Where CMake's FetchContent puts what it fetches: build/_deps/NAME-src.
_NESTED = "build/_deps/"
_NESTED_END = "-src"


def check_patches(step: Step, lock: Lock, store: Path) -> dict[str, Any]:
    """Check every patch of a build; return the state of each.

    Args:
        step: The plan's check step.
        lock: What the sources were resolved to.
        store: Where they are.

    Raises:
        PatchError: Some do not fit; all of them are told at once.
    """
    series: Any = step.details["series"]
    patches = [
        PatchInSeries(
            part["component"],
            patch["patch"],
            patch["summary"],
            tuple(Change(*change) for change in patch["changes"]),
        )
        for part in series
        for patch in part["patches"]
    ]
    reports = check_series(patches, _Reader(lock, store).read)
    for report in reports:
        if report.state is State.UPSTREAM:
            terminal.info(f"patches/{report.name}: {report.component} has it already: left out")
    return {"states": {f"{r.component}: {r.name}": r.state.value for r in reports}}


class _Reader:
    """Reads files of components from the build's own copies of repositories."""

    def __init__(self, lock: Lock, store: Path) -> None:
        self._lock = lock
        self._store = store

    def read(self, component: str, path: str) -> Content:
        """Return a file at the commit that will be checked out."""
        if not path.startswith("build/"):
            own = self._find(component, None)
            return self._read_blob(own, path) if own else UNKNOWN
        name, _, inside = path.removeprefix(_NESTED).partition("/")
        if not path.startswith(_NESTED) or not name.endswith(_NESTED_END):
            return UNKNOWN
        nested = self._find(component, name.removesuffix(_NESTED_END))
        return self._read_blob(nested, inside) if nested else UNKNOWN

    def _find(self, component: str, nested: str | None) -> LockedRepository | None:
        """Return a component's own repository, or the one that CMake fetches under a name."""
        for one in self._lock.repositories:
            if one.component == component and _name_of(one.via) == nested:
                return one
        return None

    def _read_blob(self, locked: LockedRepository, path: str) -> bytes | None:
        import git

        view = self._store / "git" / view_path_of(locked.repository)
        with git.Repo(view) as repository:
            try:
                blob = repository.commit(locked.commit).tree / path
            except KeyError:
                return None
            content: bytes = blob.data_stream.read()
            return content


def _name_of(via: str | None) -> str | None:
    """Return the name in `NAME in REPOSITORY/FILE`."""
    return via.partition(" in ")[0] if via else None
