"""Every archive of a build, fetched side by side and put into its folder of sources."""

from __future__ import annotations

import json
import os
import shutil
import threading
from typing import TYPE_CHECKING

from tritonbuild.console import terminal
from tritonbuild.errors import SourceError
from tritonbuild.paths import hash_file, make_dir, write_text
from tritonbuild.sources.address import mask, strip_credentials
from tritonbuild.sources.archive import Archive, ArchiveCache, name_of
from tritonbuild.sources.lock import Lock, LockedArchive
from tritonbuild.sources.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tritonbuild.sources.gather import NestedArchive
    from tritonbuild.sources.resolve import ArchiveWanted

# Size and time of each file when its checksum was right: as long as they stay, so does it.
_SEEN = "archives.json"


class Collector:
    """Fetches archives into a folder of sources.

    Args:
        store: The folder.
        cache: The shared cache.
        candidates_of: Returns the addresses to try for an address.
        lock: What they must be.
        report: Told what is being fetched.
    """

    def __init__(
        self,
        store: Path,
        cache: ArchiveCache,
        candidates_of: Callable[[str], list[str]],
        lock: Lock | None,
        report: Callable[[str], None],
    ) -> None:
        self._store = store
        self._cache = cache
        self._candidates_of = candidates_of
        self._lock = lock
        self._report = report
        self._guard = threading.Lock()
        self._taken: list[LockedArchive] = []
        self._notes: list[str] = []
        self._places: dict[str, str] = {}

    def run(
        self, wanted: Sequence[ArchiveWanted], nested: Sequence[NestedArchive]
    ) -> tuple[list[LockedArchive], list[str]]:
        """Fetch all; return what they are, and notes on those that are left to CMake.

        Raises:
            SourceError: One that is surely needed did not come, or is not what it must be.
        """
        tasks = Tasks()
        for one in wanted:
            tasks.submit(self._take_wanted, one)
        for other in nested:
            tasks.submit(self._take_nested, other)
        tasks.run()
        self._remove_others()
        _note_seen(self._store, self._taken)
        return self._taken, self._notes

    def _take_wanted(self, wanted: ArchiveWanted) -> None:
        archive = self._make([wanted.url], wanted.sha256, None)
        found = self._take(archive, [wanted.url], wanted.component, wanted.name, None)
        if archive.sha256 is None:
            terminal.warning(
                f"nobody publishes a checksum of {archive.name}: what came now (sha256 "
                f"{found.sha256}) is noted in the lock, and checked from then on"
            )

    def _take_nested(self, nested: NestedArchive) -> None:
        external = nested.external
        what = f"{nested.component}: {external.name} ({mask(external.urls[0])}) is left to CMake: "
        if external.seed is None or external.digest is None:
            self._note(what + "without a checksum, CMake takes nothing that is there already")
            return
        try:
            archive = self._make(external.urls, None, external.digest)
            self._take(archive, external.urls, nested.component, external.name, external.seed)
        except SourceError as err:
            if nested.certain:
                raise
            self._note(what + err.message.splitlines()[0])

    def _note(self, text: str) -> None:
        with self._guard:
            self._notes.append(text)

    def _make(
        self, urls: Sequence[str], sha256: str | None, digest: tuple[str, str] | None
    ) -> Archive:
        """Return what is wanted, with every checksum that is known of it."""
        locked = self._lock.sha256_of(strip_credentials(urls[0])) if self._lock else None
        if digest is not None and digest[0] == "SHA256":
            sha256 = digest[1]
        if locked and sha256 and locked != sha256:
            msg = (
                f"{mask(urls[0])}: its checksum is not the one that the lock holds\n"
                f"  locked sha256 {locked}\n  wanted sha256 {sha256}"
            )
            hint = "`tritonbuild lock --update` shows what moved, and takes it"
            raise SourceError(msg, hint=hint)
        return Archive(urls[0], name_of(urls[0]), sha256 or locked, (digest,) if digest else ())

    def _take(
        self, archive: Archive, urls: Sequence[str], component: str, name: str, seed: str | None
    ) -> LockedArchive:
        self._report(archive.name)
        candidates = list(dict.fromkeys(c for url in urls for c in self._candidates_of(url)))
        arrived = self._cache.fetch(archive, candidates)
        found = LockedArchive(
            component, name, strip_credentials(urls[0]), arrived.sha256, arrived.size,
            self._choose_place(component, name, archive.name, arrived.sha256), seed,
        )  # fmt: skip
        _place(arrived.path, self._store / found.file)
        with self._guard:
            self._taken.append(found)
        return found

    def _choose_place(self, component: str, name: str, file: str, sha256: str) -> str:
        """Return where a file goes; others of the same name keep their place."""
        with self._guard:
            for folder in (name, f"{component}-{name}", sha256):
                place = f"archives/{_make_plain(folder)}/{file}"
                if self._places.setdefault(place, sha256) == sha256:
                    return place
        msg = f"no place for {file}"
        raise AssertionError(msg)

    def _remove_others(self) -> None:
        kept = {self._store / one.file for one in self._taken}
        for path in (self._store / "archives").glob("*/*"):
            if path not in kept:
                path.unlink(missing_ok=True)


def _make_plain(name: str) -> str:
    """Return a name that can be a folder's."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._+-") else "_" for c in name)
    return kept.lstrip(".-")[:100] or "archive"


def _place(source: Path, target: Path) -> None:
    """Put a file of the cache into a folder, without a second copy where that works."""
    make_dir(target.parent)
    beside = target.with_name(f".{target.name}.{threading.get_ident()}")
    beside.unlink(missing_ok=True)
    try:
        os.link(source, beside)
    except OSError:
        shutil.copyfile(source, beside)
    beside.replace(target)
    # Of two names for one file, rename leaves both (rename(2)).
    beside.unlink(missing_ok=True)


def _describe(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def _note_seen(store: Path, archives: Sequence[LockedArchive]) -> None:
    seen = {one.file: [one.sha256, _describe(store / one.file)] for one in archives}
    write_text(store / _SEEN, json.dumps(seen, indent=1, sort_keys=True) + "\n")


def are_archives_intact(lock: Lock, store: Path) -> bool:
    """Return whether a lock's archives are in a folder of sources, unchanged.

    Only a file that was touched since it was checked is read again.
    """
    try:
        seen = json.loads((store / _SEEN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        seen = {}
    for archive in lock.archives:
        path = store / archive.file
        try:
            if seen.get(archive.file) == [archive.sha256, _describe(path)]:
                continue
            if hash_file(path) != archive.sha256:
                return False
        except OSError:
            return False
    return True
