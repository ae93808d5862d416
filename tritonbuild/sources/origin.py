"""Where things are looked for: the network with its mirrors, a bundle that was made before, or
nowhere but in the cache."""

from __future__ import annotations

import contextlib
import lzma
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tritonbuild.errors import SourceError
from tritonbuild.paths import make_dir
from tritonbuild.sources.address import file_url, strip_credentials, view_path_of
from tritonbuild.sources.archive import explain_disk_error
from tritonbuild.sources.lock import LOCK_NAME, Lock, read_lock
from tritonbuild.sources.mirror import Rewriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tritonbuild.recipe.model import Mirror

# Inside a bundle.
SOURCES = "sources"
WHEELS = "wheels"


@dataclass(frozen=True)
class Origin:
    """Addresses to try for what upstream names.

    Attributes:
        rewriter: The mirrors; None where nothing may be asked.
        bundle: Folder that `tritonbuild fetch` filled; None where there is none.
        lock: What the bundle was resolved to.
    """

    rewriter: Rewriter | None
    bundle: Path | None = None
    lock: Lock | None = None

    def git(self, address: str) -> list[str]:
        """Return the addresses to try for a repository."""
        if self.rewriter is not None:
            return self.rewriter.git(address)
        if self.bundle is None:
            return []
        view = self.bundle / SOURCES / "git" / view_path_of(address)
        return [file_url(view)] if view.is_dir() else []

    def archive(self, url: str) -> list[str]:
        """Return the addresses to try for an archive."""
        if self.rewriter is not None:
            return self.rewriter.archive(url)
        if self.bundle is None or self.lock is None:
            return []
        plain = strip_credentials(url)
        files = [self.bundle / SOURCES / one.file for one in self.lock.archives if one.url == plain]
        return [file_url(path) for path in files if path.is_file()]

    def image(self, name: str) -> list[str]:
        """Return the names to try for a container image."""
        return self.rewriter.image(name) if self.rewriter is not None else []


@contextlib.contextmanager
def open_origin(mirrors: Sequence[Mirror], offline: Path | bool, cache: Path) -> Iterator[Origin]:
    """Give the place that a build takes things from.

    Args:
        mirrors: Mirrors, the most wanted first.
        offline: False for the network, True for the cache alone, or a bundle: a folder or a tar.
        cache: tritonbuild's cache folder, where a tar is unpacked for as long as it is used.

    Raises:
        SourceError: The bundle cannot be read, or is none.
    """
    if offline is False:
        yield Origin(Rewriter(mirrors))
    elif offline is True:
        yield Origin(None)
    elif offline.is_dir():
        yield _open_bundle(offline.absolute(), str(offline))
    else:
        make_dir(cache)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".bundle-") as folder:
            unpack_bundle(offline, Path(folder))
            yield _open_bundle(Path(folder), str(offline))


def _open_bundle(folder: Path, name: str) -> Origin:
    path = folder / LOCK_NAME
    if not path.is_file():
        msg = f"{name} is nothing that `tritonbuild fetch` wrote: it has no {LOCK_NAME}"
        raise SourceError(msg, hint="make it where there is a network: tritonbuild fetch --output")
    return Origin(None, folder, read_lock(path))


def unpack_bundle(path: Path, target: Path) -> None:
    """Unpack a bundle; nothing is written outside the target.

    Raises:
        SourceError: It is no tar, or one that was made to do harm.
        HostError: There is no room for it.
    """
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                _check_member(member, path)
                # Modes and owners are of no use here, and links are refused.
                member.mode = 0o755 if member.isdir() else 0o644
                archive.extract(member, target, set_attrs=False, **_FILTER)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as err:
        msg = f"{path} is no bundle: {err}"
        raise SourceError(msg, hint="make it again with `tritonbuild fetch`") from err
    except OSError as err:
        if err.filename in (str(path), path):
            msg = f"cannot read {path}: {err.strerror}"
            raise SourceError(msg, hint="--offline takes what `tritonbuild fetch` wrote") from err
        raise explain_disk_error(err, str(path)) from err


# What Python's own filter refuses is refused here already, on versions that have none too.
_FILTER: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def _check_member(member: tarfile.TarInfo, path: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
        msg = f"{path} holds {member.name!r}, which could leave its folder"
        raise SourceError(msg, hint="do not use this file: `tritonbuild fetch` never writes such")
