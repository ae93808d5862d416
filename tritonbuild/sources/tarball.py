"""Tar archives of files that somebody else packed: looked through before anything is written.

Links are allowed, because libraries have them, and nothing may lie below one: so no file is ever
written through a link, and where a link leads is decided by its own text alone.
"""

from __future__ import annotations

import lzma
import posixpath
import shutil
import tarfile
import zlib
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.errors import SourceError
from tritonbuild.sources.archive import explain_disk_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK = 1 << 20

# More than any server has, fewer than would keep us busy for hours.
_MOST_MEMBERS = 200_000

_DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)

_HOSTILE = "do not use this file: it was made to do harm"


class Tarball:
    """A tar archive opened for unpacking; packed with gzip, xz, bzip2 or not at all.

    Raises:
        SourceError: It is no tar archive, is damaged, or has a member that could do harm: a name
            or link that leaves its folder, a name below a link or twice, a device.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._tar = tarfile.open(path)  # noqa: SIM115  (closed by close())
        except _DAMAGE as err:
            raise self._damaged(str(err)) from err
        except OSError as err:
            if err.errno is None:  # gzip and bz2 raise such for what they read
                raise self._damaged(str(err)) from err
            msg = f"cannot read {path}: {err.strerror}"
            raise SourceError(msg, hint="look at the file's rights") from err
        try:
            self._members = self._read_members()
        except BaseException:
            self._tar.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._tar.close()

    @property
    def names(self) -> list[str]:
        """Names of the files and links, in the archive's own order, which is quickest to read."""
        return list(self._members)

    @property
    def size(self) -> int:
        """Bytes that all files take when unpacked."""
        return sum(member.size for member in self._members.values())

    def read_text(self, name: str, limit: int = 4096) -> str:
        """Return the beginning of a small file.

        Raises:
            SourceError: The archive is damaged.
        """
        try:
            source = self._tar.extractfile(self._members[name])
            return source.read(limit).decode(errors="replace") if source else ""
        except _DAMAGE as err:
            msg = f"{name}: {err}"
            raise self._damaged(msg) from err

    def link_of(self, name: str) -> str | None:
        """Return the text of a symbolic link; None for a file."""
        member = self._members[name]
        return member.linkname if member.issym() else None

    def twin_of(self, name: str) -> str | None:
        """Return the file, earlier in the archive, that a hard link is; None for other members."""
        member = self._members[name]
        return _normalise(member.linkname) if member.islnk() else None

    def is_executable(self, name: str) -> bool:
        """Return whether whoever packed a file could run it."""
        return bool(self._members[name].mode & 0o100)

    def extract(self, name: str, target: Path) -> None:
        """Write one file, which is there whole when this returns; of its rights nothing is kept.

        Raises:
            SourceError: The archive is damaged.
            HostError: It cannot be written.
        """
        proc.check_stopping()
        try:
            source = self._tar.extractfile(self._members[name])
            assert source is not None, "only plain files are extracted"
            with source, target.open("xb") as sink:
                shutil.copyfileobj(source, sink, _BLOCK)
        except _DAMAGE as err:
            msg = f"{name}: {err}"
            raise self._damaged(msg) from err
        except OSError as err:
            if err.errno is None:
                msg = f"{name}: {err}"
                raise self._damaged(msg) from err
            raise explain_disk_error(err, target.name) from err

    def _damaged(self, why: str) -> SourceError:
        msg = f"{self.path.name} is no tar archive, or is damaged: {why}"
        return SourceError(msg, hint=f"delete {self.path} and fetch it again")

    # --- what is in it ------------------------------------------------------------------------

    def _read_members(self) -> dict[str, tarfile.TarInfo]:
        found: dict[str, tarfile.TarInfo] = {}
        folders: set[str] = set()
        try:
            for member in self._iterate():
                name = self._check_name(member)
                if member.isdir():
                    folders.add(name)
                elif name in found:
                    self._refuse(f"{name!r} twice", "do not use this file: nobody packs so")
                else:
                    self._check_kind(member, name, found)
                    found[name] = member
        except _DAMAGE as err:
            raise self._damaged(str(err)) from err
        except OSError as err:
            raise self._damaged(str(err)) from err
        self._check_places(found, folders)
        return found

    def _iterate(self) -> Iterator[tarfile.TarInfo]:
        for count, member in enumerate(self._tar):
            proc.check_stopping()
            if count >= _MOST_MEMBERS:
                self._refuse(f"more than {_MOST_MEMBERS} members", _HOSTILE)
            yield member

    def _check_name(self, member: tarfile.TarInfo) -> str:
        name = _normalise(member.name)
        parts = name.split("/")
        if member.name.startswith("/") or "\\" in name or ".." in parts:
            self._refuse(f"the path {member.name!r}, which would leave its folder", _HOSTILE)
        if not name.isprintable() or (name == "." and not member.isdir()):
            self._refuse(f"the path {member.name!r}", _HOSTILE)
        return name

    def _check_kind(
        self, member: tarfile.TarInfo, name: str, found: dict[str, tarfile.TarInfo]
    ) -> None:
        if member.issym():
            text = member.linkname
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), text))
            if text.startswith("/") or target.split("/")[0] == "..":
                self._refuse(f"the link {name!r} to {text!r}, out of its folder", _HOSTILE)
            if _climbs_later(text):
                self._refuse(f"the link {name!r} to {text!r}", _HOSTILE)
        elif member.islnk():
            twin = found.get(_normalise(member.linkname))
            if twin is None or not twin.isfile():
                self._refuse(
                    f"{name!r}, a link to {member.linkname!r}, which is not in it", _HOSTILE
                )
        elif not member.isfile():
            self._refuse(f"{name!r}, which is neither file, folder nor link", _HOSTILE)

    def _check_places(self, found: dict[str, tarfile.TarInfo], folders: set[str]) -> None:
        """Refuse what lies below a file or a link, and a file where a folder is."""
        for name in (*found, *folders):
            for parent in _parents(name):
                if parent in found:
                    kind = "link" if found[parent].issym() else "file"
                    self._refuse(f"{name!r} below the {kind} {parent!r}", _HOSTILE)
        for name in folders & set(found):
            self._refuse(f"{name!r} as a file and as a folder", _HOSTILE)

    def _refuse(self, what: str, hint: str) -> None:
        msg = f"{self.path.name} holds {what}"
        raise SourceError(msg, hint=hint)


def _normalise(name: str) -> str:
    """Return a member's name without what means nothing; `..` stays, to be refused."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/".join(parts) or "."


def _parents(name: str) -> Iterator[str]:
    while (name := posixpath.dirname(name)) != "":
        yield name


def _climbs_later(text: str) -> bool:
    """Return whether a link goes up after it went down.

    What it went down into may be a link itself, and then `..` leads elsewhere than its text says.
    """
    parts = [part for part in text.split("/") if part not in ("", ".")]
    down = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    return ".." in parts[down:]
