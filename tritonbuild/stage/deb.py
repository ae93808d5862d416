"""A Debian package of the tree, written without Debian's tools: the same bytes on any machine.

The format is an ar archive of three members (deb(5)); dpkg reads zstd since 1.21.18, which Debian 12
has, and Ubuntu's since 18.04.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tarfile
import textwrap
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from tritonbuild.errors import UsageError
from tritonbuild.paths import hash_file
from tritonbuild.stage.members import (
    PREFIX,
    list_members,
    make_file,
    make_info,
    write_package,
    write_zstd_tar,
)
from tritonbuild.stage.verified import packages_used

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from tritonbuild.paths import Workspace
    from tritonbuild.stage.members import Contents, Member, Package

NAME = "tritonserver"

# Debian policy 5.6.12, without an epoch.
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+~]*(-[A-Za-z0-9.+~]+)?")

# libstdc++'s package version that has a symbol version, newest first.
# https://gcc.gnu.org/onlinedocs/libstdc++/manual/abi.html
_GLIBCXX = (
    ((3, 4, 33), "14"), ((3, 4, 32), "13.2"), ((3, 4, 31), "13"), ((3, 4, 30), "12"),
    ((3, 4, 29), "11"), ((3, 4, 28), "9.3"), ((3, 4, 27), "9.2"), ((3, 4, 26), "9"),
)  # fmt: skip

_COPYRIGHT = """\
Triton Inference Server and its backends, as built by tritonbuild.
Each part's licence is in the tree: /opt/tritonserver/LICENSE and /opt/tritonserver/licenses.
Where every file came from is in /opt/tritonserver/manifest.json.
"""


@dataclass(frozen=True)
class Control:
    """What the package says of itself.

    Attributes:
        version: Debian version.
        arch: Debian's name of the architecture.
        depends: Packages, with versions where they are known (`libc6 (>= 2.34)`).
        summary: One line.
        description: More of it.
    """

    version: str
    arch: str
    depends: tuple[str, ...]
    summary: str
    description: str

    def format(self, installed_size: int) -> str:
        """Return the control file.

        Args:
            installed_size: Bytes.
        """
        lines = [
            f"Package: {NAME}",
            f"Version: {self.version}",
            f"Architecture: {self.arch}",
            "Maintainer: tritonbuild <tritonbuild@localhost>",
            f"Installed-Size: {-(-installed_size // 1024)}",
            *([f"Depends: {', '.join(self.depends)}"] if self.depends else []),
            "Section: net",
            "Priority: optional",
            "Homepage: https://github.com/triton-inference-server/server",
            f"Description: {_to_line(self.summary)}",
            *(f" {line}" for line in textwrap.wrap(_to_line(self.description), 78)),
        ]
        return "\n".join(lines) + "\n"


def make_deb(ws: Workspace, *, name: str, date: str, control: Control) -> Package:
    """Pack the stage into `out/<name>.deb`, with its checksum and manifest beside it.

    Args:
        ws: The work directory; its stage and manifest are there.
        name: File name without `.deb`.
        date: The release's date; see `tritonbuild.stage.members.write_package`.
        control: What the package says of itself.

    Raises:
        UsageError: The name, the date or the version is not one.
        AssembleError: There is no stage, or it is not what its manifest says.
        HostError: The package cannot be written.
    """
    if not _VERSION.fullmatch(control.version):
        msg = f'"{control.version}" is not a version of a Debian package'
        raise UsageError(msg, hint="digits first, then letters, digits, `.`, `+`, `~` and `-`")

    def write(path: Path, contents: Contents) -> None:
        _write(path, contents, control)

    return write_package(ws, name=name, suffix=".deb", date=date, write=write)


def depends_on(verified: Mapping[str, Any], python: str | None = None) -> tuple[str, ...]:
    """Return what the tree takes from the board's system, as Debian packages.

    Args:
        verified: What the ELF check found (`verify.json`).
        python: Version of the system's Python that the tree is made for, such as `3.11`.
    """
    least = _least_versions(verified["highest"])
    names = packages_used(verified)
    found = [f"{name} (>= {least[name]})" if name in least else name for name in names]
    if python:
        major, minor = python.split(".")
        found += [f"python3 (>= {python})", f"python3 (<< {major}.{int(minor) + 1})"]
    return tuple(found)


def _least_versions(highest: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the lowest version of the packages whose symbol versions say it."""
    least = {}
    for prefix, package in (("GLIBC", "libc6"), ("GLIBCXX", "libstdc++6")):
        needed = highest.get(prefix, {}).get("version", "").rpartition("_")[2]
        if not re.fullmatch(r"\d+(\.\d+)+", needed):
            continue
        number = tuple(map(int, needed.split(".")))
        known = needed if prefix == "GLIBC" else _package_of_glibcxx(number)
        if known:
            least[package] = known
    return least


def _package_of_glibcxx(number: tuple[int, ...]) -> str | None:
    return next((version for least, version in _GLIBCXX if number >= least), None)


def _to_line(text: str) -> str:
    """Put text on one line: a line break would begin another field."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _write(path: Path, contents: Contents, control: Control) -> None:
    data = list(_list_data(contents))
    files = [
        make_file("control", control.format(contents.unpacked_size).encode(), contents.mtime),
        make_file("md5sums", _list_checksums(data).encode(), contents.mtime),
    ]
    control_tar = io.BytesIO()
    write_zstd_tar(control_tar, [_below_dot(member) for member in (_root(contents), *files)])
    with path.open("w+b") as file:
        file.write(b"!<arch>\n")
        _add_part(file, "debian-binary", contents.mtime, io.BytesIO(b"2.0\n"))
        control_tar.seek(0)
        _add_part(file, "control.tar.zst", contents.mtime, control_tar)
        # Its size is known when it is written.
        header = file.tell()
        file.write(_format_header("data.tar.zst", contents.mtime, 0))
        start = file.tell()
        write_zstd_tar(file, [_below_dot(member) for member in data])
        size = file.tell() - start
        _pad(file, size)
        file.seek(header)
        file.write(_format_header("data.tar.zst", contents.mtime, size))


def _root(contents: Contents) -> Member:
    return make_info(PurePosixPath("."), contents.mtime, kind=tarfile.DIRTYPE, mode=0o755), None


def _list_data(contents: Contents) -> Iterable[Member]:
    """Yield all that is unpacked, with every folder above it, as dpkg wants them."""
    yield _root(contents)
    doc = PurePosixPath("usr/share/doc") / NAME
    folders = (*reversed(PREFIX.parents[:-1]), *reversed(doc.parents[:-1]), doc)
    above = [
        (make_info(folder, contents.mtime, kind=tarfile.DIRTYPE, mode=0o755), None)
        for folder in folders
    ]
    copyright_file = make_file(doc / "copyright", _COPYRIGHT.encode(), contents.mtime)
    members = [*above, *list_members(contents), copyright_file]
    yield from sorted(members, key=lambda member: PurePosixPath(member[0].name).parts)


def _list_checksums(members: Iterable[Member]) -> str:
    """Return md5sums: what `dpkg --verify` compares with."""
    lines = []
    for info, content in members:
        if content is None:
            continue
        digest = _hash(content) if isinstance(content, bytes) else hash_file(content, "md5")
        lines.append(f"{digest}  {info.name}\n")
    return "".join(lines)


def _hash(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _below_dot(member: Member) -> Member:
    """Return a member under `./`, as dpkg writes them."""
    info, content = member
    info.name = "./" if info.name == "." else f"./{info.name}"
    return info, content


def _format_header(name: str, mtime: int, size: int) -> bytes:
    """Return an ar member's header: text in columns, all of it."""
    return f"{name:<16}{mtime:<12}{0:<6}{0:<6}{100644:<8}{size:<10}`\n".encode("ascii")


def _add_part(file: BinaryIO, name: str, mtime: int, content: io.BytesIO) -> None:
    size = content.getbuffer().nbytes
    file.write(_format_header(name, mtime, size))
    shutil.copyfileobj(content, file)
    _pad(file, size)


def _pad(file: BinaryIO, size: int) -> None:
    """Let the next member begin at an even place."""
    if size % 2:
        file.write(b"\n")
