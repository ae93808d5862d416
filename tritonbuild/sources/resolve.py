"""What a plan takes from outside, brought into one folder and resolved to exact commits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonbuild.console import terminal
from tritonbuild.errors import SourceError
from tritonbuild.paths import make_dir, write_text
from tritonbuild.sources.address import spellings_of, strip_credentials, view_path_of
from tritonbuild.sources.archive import ArchiveCache, explain_disk_error
from tritonbuild.sources.checkout import Checkout, take_checkout
from tritonbuild.sources.collect import Collector, are_archives_intact
from tritonbuild.sources.gather import Top, gather
from tritonbuild.sources.git import GitCache
from tritonbuild.sources.gitrun import GitLog
from tritonbuild.sources.image import find_digest
from tritonbuild.sources.lock import Lock, LockedImage
from tritonbuild.sources.origin import open_origin
from tritonbuild.sources.view import (
    View,
    format_git_config,
    hold_commits,
    read_refs,
    remove_other_views,
    write_view,
)

if TYPE_CHECKING:
    from tritonbuild.plan.model import Step
    from tritonbuild.recipe.model import Mirror
    from tritonbuild.sources.gather import Gathered
    from tritonbuild.sources.git import Fetched
    from tritonbuild.sources.origin import Origin

Report = Callable[[str], None]


@dataclass(frozen=True)
class GitWanted:
    """A component's own repository.

    Attributes:
        ref: A tag, a branch, `pull/N/head` or a commit.
        cmake_dir: The folder that CMake is given; the top where it is empty.
    """

    component: str
    repository: str
    ref: str
    cmake_dir: str = ""


@dataclass(frozen=True)
class ArchiveWanted:
    """A ready-made archive of the release; None where no checksum is known."""

    name: str
    url: str
    sha256: str | None
    component: str


@dataclass(frozen=True)
class Wanted:
    """What a plan takes from outside.

    Attributes:
        repositories: The components' own.
        archives: Ready-made ones of the release.
        variables: CMake variables that each component is given.
        externals: For each component, nested sources that are fetched only where a variable is ON.
        checkouts: Folders that components are taken from instead of their repositories.
        images: Container images.
    """

    repositories: tuple[GitWanted, ...]
    archives: tuple[ArchiveWanted, ...] = ()
    variables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    externals: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    checkouts: Mapping[str, str] = field(default_factory=dict)
    images: tuple[str, ...] = ()


def wanted_of(step: Step) -> Wanted:
    """Return what a plan's `sources` step asks for."""
    details: dict[str, Any] = step.details
    return Wanted(
        repositories=tuple(GitWanted(**one) for one in details["repositories"]),
        archives=tuple(ArchiveWanted(**one) for one in details["archives"]),
        variables=details["variables"],
        externals=details["externals"],
        checkouts=details["checkouts"],
        images=tuple(details["images"]),
    )


def bring_sources(
    wanted: Wanted,
    *,
    store: Path,
    cache: Path,
    mirrors: Sequence[Mirror],
    lock: Lock | None,
    offline: Path | bool,
    allow_dirty: bool,
    log: Path,
    report: Report,
    tell_unlocked: bool = True,
) -> Lock:
    """Bring everything that a plan takes from outside; return what it was resolved to.

    Args:
        wanted: What the plan takes.
        store: Folder of this build's sources, which is filled; what it does not need any more goes.
        cache: tritonbuild's cache folder.
        mirrors: Where to try first, the most wanted one first.
        lock: What it must be resolved to; what it does not hold is resolved anew, and said so.
        offline: A folder or tar that `tritonbuild fetch` made, or True for the cache alone: nothing
            else is asked.
        allow_dirty: Take checkouts with changes that are not committed.
        log: Gets what git said.
        report: Told what is being fetched.
        tell_unlocked: Warn of what the lock does not hold: it is one that the user keeps.

    Raises:
        SourceError: Something did not come, or is not what the lock holds.
        HostError: There is no room, or git is missing.
    """
    store, cache = store.absolute(), cache.absolute()
    try:
        with open_origin(mirrors, offline, cache) as origin:
            bringer = _Bringer(wanted, store, cache, origin, lock or origin.lock, log, report)
            found = bringer.run(allow_dirty=allow_dirty)
            if tell_unlocked:
                bringer.warn_of_unlocked(found)
            return found
    except OSError as err:
        raise explain_disk_error(err, str(store)) from err


class _Bringer:
    """One call of `bring_sources`."""

    def __init__(
        self,
        wanted: Wanted,
        store: Path,
        cache: Path,
        origin: Origin,
        lock: Lock | None,
        log: Path,
        report: Report,
    ) -> None:
        self._wanted = wanted
        self._store = store
        self._origin = origin
        self._lock = lock
        self._report = report
        make_dir(store)
        make_dir(log.parent)
        log.write_bytes(b"")
        self._git = GitCache(cache / "git", origin.git, GitLog(log))
        archives = ArchiveCache(cache / "archives", report)
        self._collector = Collector(store, archives, origin.archive, lock, report)

    def run(self, *, allow_dirty: bool) -> Lock:
        tops = [self._make_top(one, allow_dirty=allow_dirty) for one in self._wanted.repositories]
        found = gather(tops, self._git, self._lock, self._report)
        archives, notes = self._collector.run(self._wanted.archives, found.archives)
        views = self._collect_views(found)
        for path, view in views.items():
            write_view(path, view)
        remove_other_views(self._store / "git", views)
        self._write_config(views, found)
        lock = Lock(
            repositories=tuple(one.locked for one in found.repositories),
            archives=tuple(archives),
            images=tuple(self._find_image(name) for name in self._wanted.images),
            notes=(*found.notes, *notes),
        ).sorted()
        for note in lock.notes:
            terminal.detail(note)
        return lock

    def _find_image(self, name: str) -> LockedImage:
        locked = self._lock.digest_of(name) if self._lock else None
        candidates = self._origin.image(name)
        if not candidates:
            if locked is None:
                msg = f"the digest of the image {name} is not known, and nobody may be asked"
                raise SourceError(msg, hint="lock it while there is a network: `tritonbuild lock`")
            return LockedImage(name, locked)
        found = find_digest(name, candidates)
        if locked and found != locked:
            msg = f"image {name} is not what the lock holds\n  locked {locked}\n  found  {found}"
            raise SourceError(
                msg, hint="`tritonbuild lock --update` shows what moved, and takes it"
            )
        return LockedImage(name, found)

    def _make_top(self, wanted: GitWanted, *, allow_dirty: bool) -> Top:
        folder = self._wanted.checkouts.get(wanted.component)
        checkout: Checkout | None = None
        if folder is not None:
            target = self._store / "checkouts" / f"{wanted.component}.git"
            checkout = take_checkout(Path(folder).absolute(), target, allow_dirty=allow_dirty)
        return Top(
            wanted.component,
            wanted.repository,
            wanted.ref,
            self._wanted.variables.get(wanted.component, {}),
            self._wanted.externals.get(wanted.component, {}),
            checkout,
            wanted.cmake_dir,
        )

    # --- views --------------------------------------------------------------------------------

    def _collect_views(self, found: Gathered) -> dict[Path, View]:
        views: dict[Path, View] = {}
        for repository in found.repositories:
            more: list[str] = []
            if repository.locked.checkout:
                more = [str(Path(self._wanted.checkouts[repository.locked.component]).absolute())]
            self._add(views, repository.address, repository.fetched, more)
            for submodule, fetched in repository.submodules:
                self._add(views, submodule.repository, fetched, [])
        return views

    def _add(
        self, views: dict[Path, View], address: str, fetched: Fetched, more: Sequence[str]
    ) -> None:
        path = self._store / "git" / view_path_of(address)
        view = views.setdefault(path, View())
        spellings = [*spellings_of(address), *more]
        view.add(fetched.commit, fetched.ref, fetched.repository, spellings)

    def _write_config(self, views: Mapping[Path, View], found: Gathered) -> None:
        others = self._origin.rewriter.git_prefixes() if self._origin.rewriter else []
        known = {spelling for view in views.values() for spelling in view.spellings}
        for address in found.missed:
            # It may begin like one that has a view: the longest prefix counts.
            plain = strip_credentials(address)
            if any(plain.startswith(one) for one in known):
                others.append((plain, (self._origin.git(plain) or [plain])[0]))
        path = self._store / "gitconfig"
        said = [*known, *(text for pair in others for text in pair)]
        secret = any(strip_credentials(text) != text for text in said)
        write_text(path, format_git_config(views, sorted(set(others))), private=secret)

    def warn_of_unlocked(self, lock: Lock) -> None:
        """Say what the lock that was given does not hold."""
        if self._lock is None:
            return
        missing = [
            f"{one.repository} {one.ref}"
            for one in lock.repositories
            if not one.checkout and self._lock.commit_of(one.repository, one.ref) is None
        ]
        missing += [one.url for one in lock.archives if self._lock.sha256_of(one.url) is None]
        if missing:
            terminal.warning(
                "the lock does not hold, so they were resolved anew: "
                + ", ".join(dict.fromkeys(missing))
            )


def make_git_environment(lock: Lock, store: Path) -> dict[str, str]:  # noqa: ARG001
    """Return the variables under which git takes every repository from a build's own views.

    One variable names a file of settings, which `bring_sources` wrote: `<store>/gitconfig`.
    """
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "include.path",
        "GIT_CONFIG_VALUE_0": str(store.absolute() / "gitconfig"),
        "GIT_TERMINAL_PROMPT": "0",
    }


def is_intact(lock: Lock, store: Path) -> bool:
    """Return whether everything that a lock names is still in the folder of sources."""
    if not (store / "gitconfig").is_file():
        return False
    commits: set[str] = set()
    paths: dict[Path, set[str]] = {}
    for repository in lock.repositories:
        pairs = [(repository.repository, repository.commit)]
        pairs += [(one.repository, one.commit) for one in repository.submodules]
        for address, commit in pairs:
            paths.setdefault(store / "git" / view_path_of(address), set()).add(commit)
            commits.add(commit)
    for path, held in paths.items():
        if not held <= set(read_refs(path).values()):
            return False
    return are_archives_intact(lock, store) and hold_commits(sorted(paths), sorted(commits))
