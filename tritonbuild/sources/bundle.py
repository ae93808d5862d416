"""Bundles: everything for a plan in one folder or tar, to build from without a network."""

from __future__ import annotations

import contextlib
import shutil
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild.console import terminal
from tritonbuild.errors import HostError, SourceError, UsageError
from tritonbuild.paths import hash_file, make_dir, write_text
from tritonbuild.sources.archive import explain_disk_error
from tritonbuild.sources.lock import LOCK_NAME, Lock, LockedWheel, write_lock
from tritonbuild.sources.origin import SOURCES, WHEELS, open_origin
from tritonbuild.sources.view import make_self_contained
from tritonbuild.sources.wheel import Wheel, fetch_wheel, get_kept_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Time stamp of every file in a tar: the same content is the same file.
_TIME = 0


def write_bundle(
    output: Path,
    bring: Callable[[Path], Lock],
    wheels: Sequence[Wheel],
    *,
    cache: Path,
    log_dir: Path,
) -> Lock:
    """Write a bundle, whole or not at all; what was fetched before is in the cache already.

    Args:
        output: A folder, or a file whose name ends with .tar; a bundle that is there is replaced.
        bring: Fills a folder of sources and returns what it resolved to.
        wheels: Wheels to fetch.
        cache: tritonbuild's cache folder.
        log_dir: Folder for what pip says.

    Raises:
        UsageError: Something else is there.
        SourceError: Something did not come.
        HostError: There is no room.
    """
    output = output.absolute()
    check_output(output)
    make_dir(output.parent)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as name:
        folder = Path(name) / "bundle"
        try:
            lock = _fill(folder, bring, wheels, cache=cache, log_dir=log_dir)
            if output.name.endswith(".tar"):
                made = Path(name) / output.name
                _write_tar(folder, made)
                made.replace(output)
            else:
                if output.exists():
                    output.rename(Path(name) / "old")
                folder.rename(output)
        except OSError as err:
            raise explain_disk_error(err, str(output)) from err
    return lock


def check_output(output: Path) -> None:
    """Refuse to replace what is no bundle.

    Raises:
        UsageError: Something else is there.
    """
    if output.name.endswith(".tar"):
        wrong = output.exists() and not output.is_file()
    elif output.is_dir():
        # A project or a work directory may have a lock, too: nothing else may be there.
        names = {path.name for path in output.iterdir()}
        wrong = bool(names) and not {LOCK_NAME} <= names <= {
            LOCK_NAME,
            SOURCES,
            WHEELS,
            "CACHEDIR.TAG",
        }
    else:
        wrong = output.exists()
    if wrong:
        msg = f"{output} is there already, and is no bundle of ours"
        raise UsageError(msg, hint="name a new folder, or a file that ends with .tar")


def _fill(
    folder: Path,
    bring: Callable[[Path], Lock],
    wheels: Sequence[Wheel],
    *,
    cache: Path,
    log_dir: Path,
) -> Lock:
    folder.mkdir()
    lock = bring(folder / SOURCES)
    for view in sorted((folder / SOURCES / "git").rglob("*.git")):
        if (view / "packed-refs").is_file():
            make_self_contained(view)
    # Where the views are decides what this file says; checkouts are in the views now.
    (folder / SOURCES / "gitconfig").unlink(missing_ok=True)
    shutil.rmtree(folder / SOURCES / "checkouts", ignore_errors=True)
    for wheel in wheels:
        kept = fetch_wheel(wheel, cache=cache, log=log_dir / f"{wheel.distribution}.log")
        make_dir(folder / WHEELS)
        shutil.copyfile(kept, folder / WHEELS / wheel.filename)
    lock = replace(lock, wheels=lock_wheels(wheels))
    write_lock(folder / LOCK_NAME, lock)
    write_text(
        folder / "CACHEDIR.TAG",
        "Signature: 8a477f597d28d172789f06886806bc55\n# made by tritonbuild\n",
    )
    return lock


def lock_wheels(wheels: Sequence[Wheel]) -> tuple[LockedWheel, ...]:
    """Return what a lock says of wheels: the release pins them."""
    return tuple(LockedWheel(one.distribution, one.filename, one.sha256) for one in wheels)


def check_wheels(lock: Lock | None, wheels: Sequence[Wheel]) -> None:
    """Hold a plan's wheels to a lock; what that does not hold has the recipe's pin, and is told.

    Args:
        lock: The lock; None where there is none to hold to.
        wheels: What the plan fetches.

    Raises:
        SourceError: The release pins others than it did.
    """
    if lock is None:
        return
    moved: list[str] = []
    missing: list[str] = []
    for wheel in wheels:
        mine = [one for one in lock.wheels if one.distribution == wheel.distribution]
        same = [one.sha256 for one in mine if one.filename == wheel.filename]
        versions = {one.filename.split("-")[1] for one in mine if one.filename.count("-") > 1}
        if wheel.sha256 in same:
            continue
        if same or (versions and wheel.version not in versions):
            moved += [
                f"{wheel.filename} is not the wheel that the lock holds",
                *(f"  locked {one.filename} sha256 {one.sha256}" for one in mine),
                f"  wanted {wheel.filename} sha256 {wheel.sha256}",
            ]
        else:  # for another Python or machine, maybe
            missing.append(wheel.filename)
    if moved:
        hint = "`tritonbuild lock --update` shows what moved, and takes it"
        raise SourceError("\n".join(moved), hint=hint)
    if missing:
        terminal.warning(
            "the lock does not hold, so the recipe's pins count: " + ", ".join(missing)
        )


def _write_tar(folder: Path, path: Path) -> None:
    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = _TIME
        member.mode = 0o755 if member.isdir() else 0o644
        return member

    # One archive of the cache may lie in two places: dereferenced, each is a file, and no link.
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, dereference=True) as archive:
        for one in sorted(folder.rglob("*")):
            name = one.relative_to(folder).as_posix()
            archive.add(one, name, recursive=False, filter=plain)


def import_wheels(offline: Path, wheels: Sequence[Wheel], *, cache: Path) -> None:
    """Put the wheels of a bundle into the cache, so that nobody has to be asked for them.

    Args:
        offline: The bundle.
        wheels: The wheels that a plan needs.
        cache: tritonbuild's cache folder.

    Raises:
        SourceError: The bundle lacks one, or holds something else under its name.
    """
    missing = [one for one in wheels if not _is_kept(one, cache)]
    if not missing:
        return
    with _open_folder(offline, cache) as folder:
        for wheel in missing:
            source = folder / WHEELS / wheel.filename
            if not source.is_file():
                msg = f"{offline} does not hold {wheel.filename}"
                raise SourceError(msg, hint="make it again with `tritonbuild fetch`")
            if hash_file(source) != wheel.sha256:
                msg = f"{wheel.filename} in {offline} is not what the recipe pins"
                raise SourceError(msg, hint="make it again with `tritonbuild fetch`")
            target = get_kept_path(wheel, cache)
            make_dir(target.parent)
            beside = target.with_name(f".{target.name}.new")
            shutil.copyfile(source, beside)
            beside.replace(target)


def _is_kept(wheel: Wheel, cache: Path) -> bool:
    path = get_kept_path(wheel, cache)
    return path.is_file() and hash_file(path) == wheel.sha256


@contextlib.contextmanager
def _open_folder(offline: Path, cache: Path) -> Iterator[Path]:
    with open_origin((), offline, cache) as origin:
        if origin.bundle is None:
            msg = f"{offline} is no bundle"
            raise HostError(msg)
        yield origin.bundle
