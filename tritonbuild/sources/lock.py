"""tritonbuild.lock: the exact commits, checksums and digests that a plan was resolved to."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tritonbuild.errors import SourceError
from tritonbuild.paths import write_text
from tritonbuild.sources.address import COMMIT, view_path_of

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_VERSION = 1
LOCK_NAME = "tritonbuild.lock"

_HEADER = """\
# What a build is made from, exactly. Written by `tritonbuild lock`; `tritonbuild lock --update`
# shows what moved since then. Keep it under version control.
"""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class LockedSubmodule:
    """A submodule, or one of a submodule.

    Attributes:
        path: Below the repository that it belongs to.
        repository: Its address.
        commit: What the repository wants of it.
    """

    path: str
    repository: str
    commit: str


@dataclass(frozen=True)
class LockedRepository:
    """A repository that a component is made from.

    Attributes:
        component: The component; several may use the same repository.
        repository: Its address, without any password.
        ref: What was wanted of it: a tag, a branch, `pull/N/head` or a commit.
        commit: What that came to.
        name: Full name of the reference; None for a commit.
        via: Name under which CMake fetches it, in lower case as in CMake's folder names; None for
            the component's own repository.
        declared: File that says so, below the name of its repository.
        submodules: All of them, also those of submodules, by path.
        checkout: It is a folder of the user's, not upstream's repository.
        dirty: Id of the tree with uncommitted changes; None where there were none.
    """

    component: str
    repository: str
    ref: str
    commit: str
    name: str | None = None
    via: str | None = None
    declared: str | None = None
    submodules: tuple[LockedSubmodule, ...] = ()
    checkout: bool = False
    dirty: str | None = None


@dataclass(frozen=True)
class LockedArchive:
    """An archive that a component takes.

    Attributes:
        component: The component.
        name: What the release or CMake calls it.
        url: Upstream's address, without any password.
        sha256, size: Of the file; size in bytes.
        file: Where it lies below the folder of sources.
        seed: Where it must lie below the component's CMake build folder before CMake runs, so that
            it is not downloaded; None for archives that tritonbuild unpacks.
    """

    component: str
    name: str
    url: str
    sha256: str
    size: int
    file: str
    seed: str | None = None


@dataclass(frozen=True)
class LockedWheel:
    """A wheel that is taken ready-made."""

    distribution: str
    filename: str
    sha256: str


@dataclass(frozen=True)
class LockedImage:
    """A container image and the digest that its name stands for."""

    name: str
    digest: str


@dataclass(frozen=True)
class Lock:
    """Everything that a plan was resolved to.

    Attributes:
        notes: What could not be resolved beforehand, and why.
    """

    repositories: tuple[LockedRepository, ...] = ()
    archives: tuple[LockedArchive, ...] = ()
    wheels: tuple[LockedWheel, ...] = ()
    images: tuple[LockedImage, ...] = ()
    notes: tuple[str, ...] = ()
    version: int = field(default=LOCK_VERSION)

    def commit_of(self, repository: str, ref: str) -> str | None:
        """Return the commit that is locked for a repository's reference."""
        place = view_path_of(repository)
        for one in self.repositories:
            if one.ref == ref and not one.checkout and view_path_of(one.repository) == place:
                return one.commit
        return None

    def sha256_of(self, url: str) -> str | None:
        """Return the checksum that is locked for an archive's address."""
        return next((one.sha256 for one in self.archives if one.url == url), None)

    def digest_of(self, image: str) -> str | None:
        """Return the digest that is locked for an image's name."""
        return next((one.digest for one in self.images if one.name == image), None)

    def sorted(self) -> Lock:
        """Return the same lock in the order in which it is written."""
        return dataclasses.replace(
            self,
            repositories=tuple(_merge(self.repositories)),
            archives=tuple(sorted(set(self.archives), key=lambda o: (o.component, o.name, o.url))),
            wheels=tuple(sorted(set(self.wheels), key=lambda o: o.filename)),
            images=tuple(sorted(set(self.images), key=lambda o: o.name)),
            notes=tuple(sorted(set(self.notes))),
        )


def _merge(repositories: tuple[LockedRepository, ...]) -> list[LockedRepository]:
    """Return one entry for what a component takes from several places, in order."""
    found: dict[tuple[str, str, str], LockedRepository] = {}
    for one in sorted(
        repositories,
        key=lambda o: (o.component, o.repository, o.ref, o.via or "", o.declared or ""),
    ):
        known = found.setdefault((one.component, one.repository, one.ref), one)
        submodules = {*known.submodules, *one.submodules}
        if len(submodules) > len(known.submodules):
            ordered = tuple(sorted(submodules, key=lambda o: o.path))
            found[one.component, one.repository, one.ref] = dataclasses.replace(
                known, submodules=ordered
            )
    return list(found.values())


def format_lock(lock: Lock) -> str:
    """Return a lock as its file holds it: sorted, a value a line, so that it can be compared."""
    import yaml

    content = dataclasses.asdict(lock.sorted())
    version = content.pop("version")
    data = {"version": version, **{k: [_trim(o) for o in v] for k, v in content.items() if v}}
    return _HEADER + yaml.safe_dump(data, sort_keys=False, width=1000, allow_unicode=True)


def _trim(value: object) -> object:
    """Return a record without what it does not have."""
    if not isinstance(value, dict):
        return value
    return {
        key: [_trim(one) for one in inner] if isinstance(inner, (list, tuple)) else inner
        for key, inner in value.items()
        if inner is not None and inner is not False and inner != ()
    }


def write_lock(path: Path, lock: Lock) -> None:
    """Write a lock's file."""
    write_text(path, format_lock(lock))


def read_lock(path: Path) -> Lock:
    """Read a lock's file.

    Raises:
        SourceError: It cannot be read, or is not a lock.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        msg = f"cannot read {path}: {err}"
        raise SourceError(msg, hint="`tritonbuild lock` writes it") from err
    return parse_lock(text, str(path))


def find_lock(path: Path | None) -> Lock | None:
    """Return the lock to hold to: the one that is named, else ./tritonbuild.lock if it is there.

    Raises:
        SourceError: It cannot be read, or is not a lock.
    """
    if path is None and not Path(LOCK_NAME).is_file():
        return None
    return read_lock(path or Path(LOCK_NAME))


def parse_lock(text: str, origin: str) -> Lock:
    """Return the lock that a text holds; nothing in it may lead out of the folder of sources.

    Raises:
        SourceError: It is not a lock, or one of another version.
    """
    import yaml
    from pydantic import TypeAdapter, ValidationError

    try:
        data: Any = yaml.safe_load(text)
        if isinstance(data, dict) and data.get("version", 1) != LOCK_VERSION:
            msg = f"{origin} is a lock of version {data['version']}, not {LOCK_VERSION}"
            raise SourceError(msg, hint="`tritonbuild lock --update` writes a new one")
        lock = TypeAdapter(Lock).validate_python(data)
    except (yaml.YAMLError, ValidationError) as err:
        msg = f"{origin} is not a lock: {_first_line(err)}"
        raise SourceError(msg, hint="`tritonbuild lock --update` writes a new one") from err
    for problem in _find_problems(lock):
        msg = f"{origin}: {problem}"
        raise SourceError(msg, hint="`tritonbuild lock --update` writes a new one")
    return lock


def _first_line(err: Exception) -> str:
    return " ".join(str(err).split())[:200]


def _find_problems(lock: Lock) -> Iterator[str]:
    for repository in lock.repositories:
        view_path_of(repository.repository)
        for commit in (repository.commit, *(one.commit for one in repository.submodules)):
            if not COMMIT.fullmatch(commit):
                yield f"{repository.repository}: {commit!r} is not the id of a commit"
        for submodule in repository.submodules:
            view_path_of(submodule.repository)
    for archive in lock.archives:
        if not _SHA256.fullmatch(archive.sha256):
            yield f"{archive.name}: {archive.sha256!r} is not a sha256"
        for place in (archive.file, archive.seed):
            if place is not None and not _is_inside(place):
                yield f"{archive.name}: {place!r} leads out of its folder"


def _is_inside(place: str) -> bool:
    path = PurePosixPath(place)
    fine = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
    # A command would take it for an option.
    return fine and not place.startswith("-") and place.isprintable()


# --- what moved -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """One thing that two locks do not agree on; None is what one of them does not have."""

    what: str
    old: str | None
    new: str | None

    def format(self) -> str:
        """Return it as a line for people."""
        if self.old is None:
            return f"+ {self.what}: {self.new}"
        if self.new is None:
            return f"- {self.what}: {self.old}"
        return f"~ {self.what}: {self.old} -> {self.new}"


def differences(old: Lock, new: Lock) -> list[Difference]:
    """Return what moved from one lock to another, sorted."""
    before, after = dict(_list_entries(old)), dict(_list_entries(new))
    return [
        Difference(what, before.get(what), after.get(what))
        for what in sorted({*before, *after})
        if before.get(what) != after.get(what)
    ]


def _list_entries(lock: Lock) -> Iterator[tuple[str, str]]:
    for repository in lock.repositories:
        name = f"{repository.component}: {repository.repository} {repository.ref}"
        yield name, repository.dirty or repository.commit
        for submodule in repository.submodules:
            yield f"{name}, submodule {submodule.path}", submodule.commit
    for archive in lock.archives:
        yield f"{archive.component}: {archive.url}", f"sha256 {archive.sha256}"
    for wheel in lock.wheels:
        yield f"wheel {wheel.filename}", f"sha256 {wheel.sha256}"
    for image in lock.images:
        yield f"image {image.name}", image.digest


def describe_sources(lock: Lock, component: str | None) -> str:
    """Return what a component is made from, exactly; nothing of the others."""
    mine = [dataclasses.asdict(one) for one in lock.repositories if one.component == component]
    archives = [dataclasses.asdict(one) for one in lock.archives if one.component == component]
    return json.dumps([mine, archives], sort_keys=True)


def list_sources(lock: Lock) -> list[dict[str, Any]]:
    """Return what everything is made from, for the manifest: no path of this machine."""
    repositories = [
        {
            "component": one.component,
            "repository": "local checkout" if one.checkout else one.repository,
            "ref": one.ref,
            "commit": one.commit,
            **({"dirty": one.dirty} if one.dirty else {}),
        }
        for one in lock.repositories
    ]
    archives = [
        {
            "component": one.component,
            "name": one.name,
            "url": "local file" if one.url.startswith("file:") else one.url,
            "sha256": one.sha256,
        }
        for one in lock.archives
    ]
    return [*repositories, *archives]
