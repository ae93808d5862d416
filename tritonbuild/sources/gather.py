"""Everything that a build takes from git, however deep it is nested, fetched side by side."""

from __future__ import annotations

import posixpath
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tritonbuild.errors import SourceError
from tritonbuild.sources.address import mask, strip_credentials, view_path_of
from tritonbuild.sources.externals import is_switched_off
from tritonbuild.sources.lock import LockedRepository, LockedSubmodule
from tritonbuild.sources.scan import SOURCE, scan
from tritonbuild.sources.tasks import Tasks
from tritonbuild.sources.tree import Tree, list_submodules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tritonbuild.sources.checkout import Checkout
    from tritonbuild.sources.externals import External
    from tritonbuild.sources.git import Fetched, GitCache
    from tritonbuild.sources.lock import Lock

_MAX_NESTING = 8


@dataclass(frozen=True)
class Repository:
    """A repository that was found and fetched.

    Attributes:
        locked: What the lock says of it.
        fetched: Where it is.
        address: As upstream wrote it.
        submodules: Where each of its submodules is, beside what the lock says.
    """

    locked: LockedRepository
    fetched: Fetched
    address: str
    submodules: tuple[tuple[LockedSubmodule, Fetched], ...] = ()


@dataclass(frozen=True)
class NestedArchive:
    """An archive that CMake would download; `certain` as an external is."""

    component: str
    external: External
    certain: bool


@dataclass
class Gathered:
    """Everything that was found.

    Attributes:
        missed: Addresses of repositories that are left to CMake.
    """

    repositories: list[Repository] = field(default_factory=list)
    archives: list[NestedArchive] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Top:
    """A component's own repository; `cmake_dir` is the folder in it that CMake is given."""

    component: str
    address: str
    ref: str
    variables: Mapping[str, str]
    externals: Mapping[str, str]
    checkout: Checkout | None = None
    cmake_dir: str = ""


def gather(
    tops: Sequence[Top], cache: GitCache, lock: Lock | None, report: Callable[[str], None]
) -> Gathered:
    """Fetch the repositories of all components, and what those fetch in turn.

    Raises:
        SourceError: Something that is surely needed did not come.
    """
    return _Gatherer(cache, lock, report).run(tops)


class _Gatherer:
    """One run: tasks that may start further tasks, and what they found."""

    def __init__(self, cache: GitCache, lock: Lock | None, report: Callable[[str], None]) -> None:
        self._cache = cache
        self._lock = lock
        self._report = report
        self._found = Gathered()
        self._guard = threading.Lock()
        self._once: dict[tuple[str, str], _Once] = {}
        self._tasks = Tasks()

    def run(self, tops: Sequence[Top]) -> Gathered:
        for top in tops:
            self._tasks.submit(self._take_top, top)
        self._tasks.run()
        return self._found

    # --- repositories -------------------------------------------------------------------------

    def _take_top(self, top: Top) -> None:
        from tritonbuild.sources.git import Fetched

        if top.checkout is not None:
            name = f"refs/heads/{top.ref}"
            fetched = Fetched(top.checkout.repository, top.checkout.commit, name)
        else:
            fetched = self._fetch(top.address, top.ref)
        context = _Context(top, {SOURCE: Tree(fetched, top.address)}, certain=True, depth=0)
        self._note(context, top.address, top.ref, fetched, None)
        source = posixpath.join(SOURCE, top.cmake_dir) if top.cmake_dir else SOURCE
        scan(_Surroundings(self, context), top.variables, source_dir=source)

    def _fetch(self, address: str, ref: str) -> Fetched:
        """Fetch a reference, once, however many ask for it."""
        key = (str(view_path_of(address)), ref)
        with self._guard:
            once = self._once.setdefault(key, _Once())
        with once.lock:
            if once.error is not None:
                raise once.error
            if once.fetched is None:
                locked = self._lock.commit_of(address, ref) if self._lock else None
                self._report(f"{strip_credentials(address)} {ref}")
                try:
                    once.fetched = self._cache.fetch(address, ref, locked=locked)
                except SourceError as err:
                    once.error = err
                    raise
            return once.fetched

    def _note(
        self,
        context: _Context,
        address: str,
        ref: str,
        fetched: Fetched,
        external: External | None,
    ) -> None:
        """Fetch a repository's submodules, and write all of it down."""
        wanted = external.submodules if external else None
        submodules = self._take_submodules(address, fetched, wanted, "", 0)
        submodules.sort(key=lambda one: one[0].path)
        checkout = context.top.checkout if external is None else None
        locked = LockedRepository(
            component=context.top.component,
            repository=strip_credentials(address),
            ref=ref,
            commit=fetched.commit,
            name=fetched.ref,
            via=external.name.lower() if external else None,
            declared=context.name_file(external.origin).rpartition(":")[0] if external else None,
            submodules=tuple(one for one, _ in submodules),
            checkout=checkout is not None,
            dirty=checkout.dirty if checkout else None,
        )
        with self._guard:
            self._found.repositories.append(Repository(locked, fetched, address, tuple(submodules)))

    def _take_submodules(
        self, address: str, fetched: Fetched, wanted: Sequence[str] | None, prefix: str, depth: int
    ) -> list[tuple[LockedSubmodule, Fetched]]:
        if wanted == () or depth > _MAX_NESTING:
            return []
        found: list[tuple[LockedSubmodule, Fetched]] = []
        for submodule in list_submodules(fetched, address):
            if wanted is not None and submodule.path not in wanted:
                continue
            inner = self._fetch(submodule.repository, submodule.commit)
            path = posixpath.join(prefix, submodule.path)
            locked = LockedSubmodule(
                path, strip_credentials(submodule.repository), submodule.commit
            )
            found.append((locked, inner))
            found += self._take_submodules(submodule.repository, inner, None, path, depth + 1)
        return found

    # --- what CMake files declare ---------------------------------------------------------------

    def bring(self, context: _Context, external: External) -> bool:
        """Take note of an external; whether its sources are there to be read, below `trees`."""
        top = context.top
        if is_switched_off(external, top.externals, top.variables):
            return False
        if external.problem is not None:
            self._miss(context, external, external.problem)
            return False
        if external.repository is not None:
            return self._bring_repository(context, external, external.repository)
        if external.urls:
            certain = external.certain and context.certain
            with self._guard:
                self._found.archives.append(NestedArchive(top.component, external, certain))
            return False
        if external.content or external.source_dir is None:
            return external.source_dir is not None  # the project's own files, if any
        self._tasks.submit(self._scan_project, context, external)
        return False

    def _bring_repository(self, context: _Context, external: External, address: str) -> bool:
        if address.startswith(".") or ("://" not in address and address.startswith("/")):
            self._miss(context, external, "its repository is a folder")
            return False
        if context.depth >= _MAX_NESTING:
            self._miss(context, external, "it is nested too deep")
            return False
        if not external.content:
            self._tasks.submit(self._take_project, context, external, address)
            return False
        fetched = self._try_fetch(context, external, address)
        if fetched is None or external.root_dir is None:
            return False
        context.trees[external.root_dir] = Tree(fetched, address)
        return True

    def _take_project(self, context: _Context, external: External, address: str) -> None:
        fetched = self._try_fetch(context, external, address)
        if fetched is not None and external.root_dir is not None:
            context.trees[external.root_dir] = Tree(fetched, address)
            self._scan_project(context, external)

    def _try_fetch(self, context: _Context, external: External, address: str) -> Fetched | None:
        """Fetch what an external names; one that may not be needed at all may also fail."""
        ref = external.tag or "master"
        try:
            fetched = self._fetch(address, ref)
            self._note(context, address, ref, fetched, external)
        except SourceError as err:
            if external.certain and context.certain:
                raise
            self._miss(context, external, err.message.splitlines()[0])
            return None
        return fetched

    def _scan_project(self, context: _Context, external: External) -> None:
        """Read a project that is built on its own: it knows only what it is given."""
        inner = _Context(
            context.top,
            dict(list(context.trees.items())),
            certain=context.certain and external.certain,
            depth=context.depth + 1,
        )
        if external.source_dir and external.binary_dir:
            scan(
                _Surroundings(self, inner), external.variables, source_dir=external.source_dir,
                binary_dir=external.binary_dir, certain=inner.certain,
            )  # fmt: skip

    def _miss(self, context: _Context, external: External, why: str) -> None:
        place = context.name_file(external.origin)
        with self._guard:
            self._found.notes.append(
                f"{context.top.component}: {external.name} ({place}) is left to CMake: {mask(why)}"
            )
            if external.repository:
                self._found.missed.append(external.repository)


@dataclass
class _Once:
    """A fetch that several may wait for."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    fetched: Fetched | None = None
    error: SourceError | None = None


@dataclass
class _Context:
    """Where a project is read: what is known of the component, and the trees that can be read.

    Attributes:
        trees: By the made-up path of their top folder.
    """

    top: Top
    trees: dict[str, Tree]
    certain: bool
    depth: int

    def name_file(self, origin: str) -> str:
        """Return `REPOSITORY/FILE:LINE` for a made-up path."""
        place, _, line = origin.rpartition(":")
        found = self.find_tree(place)
        return f"{found[0].name}/{found[1]}:{line}" if found else origin

    def find_tree(self, path: str) -> tuple[Tree, str] | None:
        """Return the tree that a made-up path lies in, and the path inside it."""
        fitting = [root for root in self.trees if path == root or path.startswith(f"{root}/")]
        if not fitting:
            return None
        root = max(fitting, key=len)
        return self.trees[root], path[len(root) + 1 :]


class _Surroundings:
    """See `tritonbuild.sources.scan.Surroundings`."""

    def __init__(self, gatherer: _Gatherer, context: _Context) -> None:
        self._gatherer = gatherer
        self._context = context

    def read(self, path: str) -> str | None:
        """Return a file's text."""
        found = self._context.find_tree(path)
        return found[0].read(found[1]) if found else None

    def bring(self, external: External) -> bool:
        """Take note of an external."""
        return self._gatherer.bring(self._context, external)
