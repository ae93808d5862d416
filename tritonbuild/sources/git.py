"""git repositories: fetched once into a shared bare cache, exactly the commits that are wanted.

Everything that is fetched hangs on a reference `refs/tritonbuild/commits/<commit>`, which git
writes last: what has none did not arrive whole. Histories are not fetched where a server can
leave them out.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tritonbuild import proc
from tritonbuild.console import terminal
from tritonbuild.errors import SourceError, UnreachableError
from tritonbuild.paths import make_dir
from tritonbuild.sources.address import (
    COMMIT,
    OFFLINE_HINT,
    PULL_REQUEST,
    check_address,
    check_ref,
    mask,
    strip_credentials,
    view_path_of,
)
from tritonbuild.sources.gitrun import (
    NETWORK,
    GitLog,
    check_room,
    check_whole,
    explain,
    hide_credentials,
    make_bare,
    run_git,
)
from tritonbuild.sources.wait import hold_lock, pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tritonbuild.proc import Result

_COMMITS = "refs/tritonbuild/commits"
_RESOLVED = "refs/tritonbuild/resolved"

_ABBREVIATED = re.compile(r"[0-9a-f]{7,39}")

# Seconds before each further try at an address whose network failed.
_PAUSES = (0.5, 2.0)
# A try that took longer (seconds) has waited for its host: the kernel gives up on one that drops
# all packets after two minutes, and git cannot be told to give up sooner.
_PATIENCE = 45.0


@dataclass(frozen=True)
class Fetched:
    """A commit that is in the cache, whole.

    Attributes:
        repository: Bare repository that holds it.
        commit: Its id.
        ref: Full name of the reference that led to it; None for a commit that was named itself.
    """

    repository: Path
    commit: str
    ref: str | None


class GitCache:
    """The shared cache of repositories.

    Args:
        root: `<cache>/git`.
        candidates_of: Returns the addresses to try for an address, in order; none where only what
            is in the cache counts.
        log: Gets what git said.
    """

    def __init__(self, root: Path, candidates_of: Callable[[str], list[str]], log: GitLog) -> None:
        self._root = root
        self._candidates_of = candidates_of
        self._log = log
        # Hosts that did not answer: they come last, and get one more chance each time, not three.
        self._dead: set[str] = set()

    def fetch(self, address: str, ref: str, *, locked: str | None = None) -> Fetched:
        """Return the commit that a tag, branch, pull request or commit id means, fetched.

        Args:
            address: The repository, as upstream names it.
            ref: What is wanted of it.
            locked: The commit that the lock holds for it.

        Raises:
            SourceError: There is no such reference, or it is not what the lock holds.
            UnreachableError: No address answered.
            HostError: git is not there, or there is no room.
        """
        check_address(address)
        check_ref(ref, address)
        with self._hold(address) as repository:
            candidates = self._candidates_of(address)
            for candidate in candidates:
                check_address(candidate)
            candidates = sorted(candidates, key=lambda one: _host_of(one) in self._dead)
            if not candidates:
                return self._find_kept(repository, address, ref, locked)
            if COMMIT.fullmatch(ref):
                return self._fetch_commit(repository, address, ref, candidates)
            return self._fetch_ref(repository, address, ref, locked, candidates)

    @contextlib.contextmanager
    def _hold(self, address: str) -> Iterator[Path]:
        """Give the cached repository, made if need be, for nobody else's use."""
        proc.require_tool("git", reason="to fetch sources", hint="apt-get install git")
        path = self._root / view_path_of(address)
        make_dir(path.parent)
        with hold_lock(path.with_suffix(".lock")):
            if not (path / "HEAD").is_file():
                self._make(path)
            _remove_stale_locks(path)
            yield path

    def _make(self, path: Path) -> None:
        shutil.rmtree(path, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as name:
            made = Path(name) / "git"
            make_bare(made)
            made.rename(path)

    # --- what is there ------------------------------------------------------------------------

    def _has(self, repository: Path, commit: str) -> bool:
        """Return whether a commit arrived whole: it hangs on its reference, and nothing else does."""
        name = f"{_COMMITS}/{commit}"
        result = run_git(
            repository, ["rev-parse", "--quiet", f"{name}^{{commit}}", f"{name}^{{tree}}"]
        )
        return result.returncode == 0 and result.output.split()[:1] == [commit]

    def _find_kept(self, repository: Path, address: str, ref: str, locked: str | None) -> Fetched:
        name, known = _read_resolved(repository, ref)
        commit = ref if COMMIT.fullmatch(ref) else locked or known
        if commit is None or not self._has(repository, commit):
            what = f" (commit {commit[:12]})" if commit else ""
            msg = f"{strip_credentials(address)}: {ref}{what} is not there, and nobody may be asked"
            raise SourceError(msg, hint=OFFLINE_HINT)
        return Fetched(repository, commit, None if commit == ref else name)

    # --- from outside -------------------------------------------------------------------------

    def _fetch_commit(
        self, repository: Path, address: str, commit: str, candidates: Sequence[str]
    ) -> Fetched:
        if self._has(repository, commit):
            return Fetched(repository, commit, None)
        tried = _Attempts(address)
        for candidate in candidates:
            result = self._fetch_spec(repository, candidate, f"{commit}:{_COMMITS}/{commit}")
            if result.returncode and not NETWORK.search(result.output):
                # Older servers give only what a branch or tag leads to.
                result = self._fetch_all(repository, candidate)
                run_git(repository, ["update-ref", f"{_COMMITS}/{commit}", commit])
            if result.returncode == 0 and self._has(repository, commit):
                return Fetched(repository, commit, None)
            tried.add(candidate, result)
        raise tried.describe("commit " + commit)

    def _fetch_ref(
        self,
        repository: Path,
        address: str,
        ref: str,
        locked: str | None,
        candidates: Sequence[str],
    ) -> Fetched:
        tried = _Attempts(address)
        # Where the lock's commit is here, asking only tells whether upstream moved.
        patient = locked is None or not self._has(repository, locked)
        for candidate in candidates:
            listed = self._list_refs(candidate, _patterns_of(ref), patient=patient)
            if isinstance(listed, str):
                tried.errors.append((candidate, listed))
                continue
            name, commit = _choose_ref(listed, ref)
            if commit is None:
                tried.lacking.append(candidate)
            elif locked and commit != locked:
                tried.moved.append((candidate, commit))
            elif self._bring(repository, candidate, name, commit, tried):
                _note_resolved(repository, name, commit)
                return Fetched(repository, commit, name)
        if locked and tried.moved:
            raise _describe_move(address, ref, locked, tried.moved)
        if locked and not tried.lacking and self._has(repository, locked):
            # Nobody can be asked, and what the lock wants is here.
            return Fetched(repository, locked, _read_resolved(repository, ref)[0])
        if tried.lacking:
            return self._fetch_abbreviated(repository, address, ref, tried)
        raise tried.describe(ref)

    def _bring(
        self, repository: Path, candidate: str, name: str, commit: str, tried: _Attempts
    ) -> bool:
        """Fetch a reference that an address has; whether its commit is there now."""
        if self._has(repository, commit):
            return True
        result = self._fetch_spec(repository, candidate, f"{name}:{_COMMITS}/{commit}")
        if result.returncode:
            tried.add(candidate, result)
        elif self._has(repository, commit):
            return True
        else:
            run_git(repository, ["update-ref", "-d", f"{_COMMITS}/{commit}"])
            tried.errors.append((candidate, "it moved while it was being fetched; run again"))
        return False

    def _fetch_abbreviated(
        self, repository: Path, address: str, ref: str, tried: _Attempts
    ) -> Fetched:
        """Return the commit that a shortened id means; only a whole repository can tell.

        Raises:
            SourceError: It means none.
        """
        for candidate in tried.lacking if _ABBREVIATED.fullmatch(ref) else ():
            if self._fetch_all(repository, candidate).returncode:
                continue
            result = run_git(repository, ["rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"])
            commit = result.output.strip()
            if result.returncode == 0 and COMMIT.fullmatch(commit):
                run_git(repository, ["update-ref", f"{_COMMITS}/{commit}", commit])
                return Fetched(repository, commit, None)
        raise self._describe_missing(tried, address, ref)

    def _list_refs(
        self, candidate: str, patterns: Sequence[str], *, patient: bool = True
    ) -> dict[str, str] | str:
        """Return references and their commits, or what went wrong."""
        argv = ["ls-remote", "--", strip_credentials(candidate), *patterns]
        result = self._try(argv, candidate, patient=patient)
        if result.returncode:
            return explain(result)
        found: dict[str, str] = {}
        for line in result.output.splitlines():
            commit, _, name = line.partition("\t")
            if COMMIT.fullmatch(commit):
                found[name] = commit
        return found

    def _describe_missing(self, tried: _Attempts, address: str, ref: str) -> SourceError:
        from tritonbuild.recipe.load import suggest

        names: set[str] = set()
        for candidate in tried.lacking:
            listed = self._list_refs(candidate, ["refs/tags/*", "refs/heads/*"])
            if isinstance(listed, dict):
                names |= {re.sub(r"^refs/(tags|heads)/|\^\{\}$", "", name) for name in listed}
        msg = f"{strip_credentials(address)} has no tag or branch {ref}{suggest(ref, names)}"
        others = [f"  {mask(place)}: {error}" for place, error in tried.errors]
        newest = ", ".join(sorted(names, reverse=True)[:5])
        return SourceError(
            "\n".join([msg, *others]), hint=f"it has: {newest}" if newest else "it has none at all"
        )

    def _fetch_spec(self, repository: Path, candidate: str, spec: str) -> Result:
        argv = [
            "fetch", "--no-tags", "--no-write-fetch-head", "--force", "--depth=1",
            "--update-shallow", "--", strip_credentials(candidate), f"+{spec}",
        ]  # fmt: skip
        result = self._try(argv, candidate, repository)
        if result.returncode and "shallow" in result.output:
            # A server of plain files has no histories to leave out.
            argv = [one for one in argv if one != "--depth=1"]
            result = self._try(argv, candidate, repository)
        return result

    def _fetch_all(self, repository: Path, candidate: str) -> Result:
        deepen = ["--unshallow"] if (repository / "shallow").is_file() else []
        argv = [
            "fetch", "--no-tags", "--no-write-fetch-head", "--force", *deepen, "--",
            strip_credentials(candidate), "+refs/heads/*:refs/tritonbuild/heads/*",
            "+refs/tags/*:refs/tritonbuild/tags/*",
        ]  # fmt: skip
        return self._try(argv, candidate, repository)

    def _try(
        self,
        argv: list[str],
        candidate: str,
        repository: Path | None = None,
        *,
        patient: bool = True,
    ) -> Result:
        """Run git against an address; a network that fails gets further chances."""
        with hide_credentials(candidate) as settings:
            host = _host_of(candidate)
            pauses = iter(_PAUSES if patient and host not in self._dead else ())
            while True:
                started = time.monotonic()
                result = run_git(repository, argv, settings=settings, visible=True)
                self._log.add(["git", *argv], result)
                check_room(result)
                check_whole(repository, result)
                if result.returncode == 0 or not NETWORK.search(result.output):
                    self._dead.discard(host)
                    return result
                seconds = next(pauses, None)
                if seconds is None or time.monotonic() - started > _PATIENCE:
                    self._give_up(host, result)
                    return result
                pause(seconds)

    def _give_up(self, host: str, result: Result) -> None:
        """Ask a host last from now on; one of this machine has no name."""
        if host and host not in self._dead:
            self._dead.add(host)
            terminal.warning(f"{host} is asked last from now on: {explain(result)}")


def _host_of(address: str) -> str:
    """Return the host of an address, without anybody's password; none where it has no scheme."""
    return urlsplit(strip_credentials(address)).netloc if "://" in address else ""


def _remove_stale_locks(repository: Path) -> None:
    """Delete locks of a git that was killed: we hold the only lock that counts."""
    stale = [*repository.glob("*.lock"), *repository.glob("refs/**/*.lock")]
    stale += [*repository.glob("objects/info/*.lock"), *repository.glob("objects/pack/tmp_*")]
    for path in stale:
        path.unlink(missing_ok=True)


def _patterns_of(ref: str) -> list[str]:
    if PULL_REQUEST.fullmatch(ref):
        return [f"refs/{ref}"]
    names = dict.fromkeys((ref, ref.removeprefix("origin/")))
    return [f"refs/{kind}" for name in names for kind in
            (f"tags/{name}", f"tags/{name}^{{}}", f"heads/{name}")]  # fmt: skip


def _choose_ref(listed: Mapping[str, str], ref: str) -> tuple[str, str | None]:
    """Return the reference that is meant, and the commit that it leads to; tags come first."""
    for name in _patterns_of(ref):
        if name in listed and not name.endswith("^{}"):
            return name, listed.get(f"{name}^{{}}", listed[name])
    return "", None


def _note_resolved(repository: Path, name: str, commit: str) -> None:
    """Remember what a reference led to, for work without a network."""
    run_git(repository, ["update-ref", f"{_RESOLVED}/{name.removeprefix('refs/')}", commit])


def _read_resolved(repository: Path, ref: str) -> tuple[str, str | None]:
    """Return the full name of a reference and what it led to when it was fetched last."""
    names = [name for name in _patterns_of(ref) if not name.endswith("^{}")]
    for name in names:
        known = f"{_RESOLVED}/{name.removeprefix('refs/')}"
        result = run_git(repository, ["rev-parse", "--verify", "--quiet", known])
        if result.returncode == 0 and COMMIT.fullmatch(result.output.strip()):
            return name, result.output.strip()
    return names[0], None


def _describe_move(
    address: str, ref: str, locked: str, found: Sequence[tuple[str, str]]
) -> SourceError:
    lines = [
        f"{strip_credentials(address)}: {ref} is not the commit that the lock holds",
        f"  locked {locked}",
        *(f"  found  {commit} at {mask(place)}" for place, commit in found),
    ]
    return SourceError(
        "\n".join(lines),
        hint="somebody moved it; `tritonbuild lock --update` shows what moved and takes it",
    )


class _Attempts:
    """What each address that was tried said."""

    def __init__(self, address: str) -> None:
        self.address = strip_credentials(address)
        self.errors: list[tuple[str, str]] = []
        self.lacking: list[str] = []
        self.moved: list[tuple[str, str]] = []

    def add(self, candidate: str, result: Result) -> None:
        """Note how an address failed."""
        self.errors.append((candidate, explain(result)))

    def describe(self, what: str) -> UnreachableError:
        """Return the error that says what could not be fetched, and why from nowhere."""
        lines = [f"{self.address}: cannot fetch {what}"]
        lines += [f"  {mask(place)}: {error}" for place, error in self.errors]
        return UnreachableError(
            "\n".join(lines),
            hint="check the network and proxy, or choose a mirror with --mirror; what has arrived "
            "so far is kept",
        )
