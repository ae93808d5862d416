"""What every kind of package holds: the stage's files as archive members that never differ.

Names, order, owners, modes and times come from the manifest and the release, not from the disk.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from tritonbuild.console import terminal
from tritonbuild.errors import AssembleError, HostError, TritonBuildError, UsageError
from tritonbuild.paths import hash_file, make_dir, write_text
from tritonbuild.stage.manifest import MANIFEST_NAME, check_manifest, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import IO, BinaryIO

    from tritonbuild.paths import Workspace

# Where the tree is on the board.
PREFIX = PurePosixPath("opt/tritonserver")

# Measured on 185 MB of a real tree, two cores: level 3 0.5 s and 54 MiB, level 10 1.2 s and 47 MiB,
# level 15 9.6 s and 47 MiB.
_LEVEL = 10

# More workers than that only take memory.
_MOST_WORKERS = 8

_MIB = 1 << 20

# More would not fit one screen.
_SHOWN_DIFFERENCES = 20

# An archive member and what is in it: a file's path, bytes, or nothing.
Member = tuple[tarfile.TarInfo, "Path | bytes | None"]


@dataclass(frozen=True)
class Package:
    """A finished package.

    Attributes:
        path: The package.
        checksum_path: Its checksum, for `sha256sum -c`.
        manifest_path: A copy of the manifest that is inside.
        sha256: The package's checksum.
        size: Bytes of the package.
        unpacked_size: Bytes of the tree's files in it.
        files: Number of the tree's files and links in it, without the manifest.
    """

    path: Path
    checksum_path: Path
    manifest_path: Path
    sha256: str
    size: int
    unpacked_size: int
    files: int


@dataclass(frozen=True)
class Contents:
    """What is packed.

    Attributes:
        tree: The /opt/tritonserver tree, which is what its manifest says.
        manifest: The manifest.
        text: The manifest as it lies in the package.
        mtime: Time stamp of everything.
    """

    tree: Path
    manifest: Mapping[str, Any]
    text: str
    mtime: int

    @property
    def unpacked_size(self) -> int:
        """Bytes of the tree's files."""
        return sum(entry.get("size", 0) for entry in self.manifest["files"])


def write_package(
    ws: Workspace, *, name: str, suffix: str, date: str, write: Callable[[Path, Contents], None]
) -> Package:
    """Write `out/<name><suffix>` with its checksum and manifest beside it; whole or not at all.

    Args:
        ws: The work directory; its stage and manifest are there.
        name: File name without its suffix.
        suffix: Such as `.tar.zst`.
        date: The release's date, `YYYY-MM-DD`: the time stamp of every member, unless
            SOURCE_DATE_EPOCH says another.
        write: Writes the package to a path.

    Raises:
        UsageError: The name or the date is not one.
        AssembleError: There is no stage, or it is not what its manifest says.
        HostError: The package cannot be written.
    """
    if not name or PurePosixPath(name).name != name:
        msg = f'"{name}" is not a file name'
        raise UsageError(msg, hint="leave folders out: packages go to out/ in the work directory")
    mtime = read_mtime(date)
    text = require_stage(ws)
    contents = Contents(ws.tritonserver_dir, read_manifest(ws.manifest_path), text, mtime)
    out_dir = make_dir(ws.out_dir)
    path = out_dir / f"{name}{suffix}"
    checksum_path = out_dir / f"{path.name}.sha256"
    manifest_path = out_dir / f"{name}.manifest.json"
    part = out_dir / f".{path.name}.part"
    try:
        write(part, contents)
        sha256 = hash_file(part)
        size = part.stat().st_size
        # An interruption between these leaves a package without checksum, never a wrong one.
        checksum_path.unlink(missing_ok=True)
        part.replace(path)
        write_text(manifest_path, text)
        write_text(checksum_path, f"{sha256}  {path.name}\n")
    except OSError as err:
        raise _explain_failure(err, out_dir) from err
    finally:
        part.unlink(missing_ok=True)
    count = len(contents.manifest["files"])
    return Package(path, checksum_path, manifest_path, sha256, size, contents.unpacked_size, count)


def read_mtime(date: str) -> int:
    """Return the time stamp of every member: SOURCE_DATE_EPOCH, or midnight UTC of a date.

    https://reproducible-builds.org/specs/source-date-epoch/

    Raises:
        UsageError: It is not a time.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch:
        # What a tar header's eleven octal digits hold.
        if not epoch.isascii() or not epoch.isdigit() or int(epoch) >= 8**11:
            msg = f'SOURCE_DATE_EPOCH="{epoch}" is not a number of seconds'
            raise UsageError(msg, hint="unset it to use the release's date")
        return int(epoch)
    try:
        day = dt.date.fromisoformat(date)
    except ValueError as err:
        msg = f'"{date}" is not a date'
        raise UsageError(msg, hint="write it as YYYY-MM-DD") from err
    midnight = dt.datetime.combine(day, dt.time(), tzinfo=dt.timezone.utc)
    return int(midnight.timestamp())


def require_stage(ws: Workspace) -> str:
    """Return the manifest's text when the stage is what it says.

    Raises:
        AssembleError: There is no stage, or it differs.
    """
    hint = "run `tritonbuild build` first"
    if not ws.tritonserver_dir.is_dir() or not ws.manifest_path.is_file():
        msg = f"{ws.root} has no finished stage"
        raise AssembleError(msg, hint=hint)
    terminal.progress("check the stage against its manifest")
    differences = check_manifest(ws.tritonserver_dir, read_manifest(ws.manifest_path))
    if differences:
        lines = [f"  {line}" for line in differences[:_SHOWN_DIFFERENCES]]
        if len(differences) > len(lines):
            lines.append(f"  and {len(differences) - len(lines)} more")
        msg = "the stage is not what its manifest says:\n" + "\n".join(lines)
        hint = "changes in the stage are not kept: put them into a recipe and build again"
        raise AssembleError(msg, hint=hint)
    return ws.manifest_path.read_text(encoding="utf-8")


def list_members(contents: Contents) -> Iterator[Member]:
    """Yield the tree's members under opt/tritonserver, sorted, folders before what is in them.

    The parent of opt/tritonserver is no member: unpacking must not touch the board's own /opt.
    """
    own_content = contents.text.encode()
    own = {"path": MANIFEST_NAME, "size": len(own_content), "mode": "0644"}
    seen: set[PurePosixPath] = set()
    entries = [own, *contents.manifest["files"]]
    for entry in sorted(entries, key=lambda e: PurePosixPath(e["path"]).parts):
        target = PREFIX / entry["path"]
        for folder in reversed([p for p in target.parents if p.is_relative_to(PREFIX)]):
            if folder not in seen:
                seen.add(folder)
                yield make_info(folder, contents.mtime, kind=tarfile.DIRTYPE, mode=0o755), None
        if "link" in entry:
            info = make_info(target, contents.mtime, kind=tarfile.SYMTYPE, mode=0o777)
            info.linkname = entry["link"]
            yield info, None
        else:
            mode = int(entry["mode"], 8)
            info = make_info(target, contents.mtime, kind=tarfile.REGTYPE, mode=mode)
            info.size = entry["size"]
            yield info, own_content if entry is own else contents.tree / entry["path"]


def make_info(path: PurePosixPath, mtime: int, *, kind: bytes, mode: int) -> tarfile.TarInfo:
    """Return a member that belongs to root."""
    info = tarfile.TarInfo(str(path))
    info.type = kind
    info.mode = mode
    info.mtime = mtime
    info.uname = info.gname = "root"
    return info


def make_file(path: PurePosixPath | str, content: bytes, mtime: int) -> Member:
    """Return a plain file as a member."""
    info = make_info(PurePosixPath(path), mtime, kind=tarfile.REGTYPE, mode=0o644)
    info.size = len(content)
    return info, content


@contextlib.contextmanager
def open_tar(stream: IO[bytes]) -> Iterator[tarfile.TarFile]:
    """Write a tar archive to a stream.

    In GNU's format, because PAX would add records that differ between Python versions.
    """
    with tarfile.open(
        fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT, bufsize=_MIB
    ) as archive:
        yield archive


def add_members(archive: tarfile.TarFile, members: Iterable[Member]) -> None:
    """Add members with their content."""
    for info, content in members:
        terminal.progress(f"pack: {archive.offset // _MIB} MiB, {info.name}")
        if isinstance(content, bytes):
            archive.addfile(info, io.BytesIO(content))
        elif content is None:
            archive.addfile(info)
        else:
            with content.open("rb") as source:
                archive.addfile(info, source)


def write_zstd_tar(file: BinaryIO, members: list[Member]) -> None:
    """Write members as tar.zst, whose bytes depend on them, the level and the zstd library only.

    The compressor always runs its multi-threaded way, at least one worker: zero workers is another
    algorithm with another output.
    """
    import zstandard

    total = _measure([info for info, _ in members])
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        source_size=total,
        write_content_size=True,
        write_checksum=True,
        threads=min(os.cpu_count() or 1, _MOST_WORKERS),
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    # The frame is ended only when all went well: otherwise it would complain about the size that
    # was announced, and hide what really happened.
    stream = compressor.stream_writer(cast("IO[bytes]", file), size=total, closefd=False)
    with open_tar(stream) as archive:
        add_members(archive, members)
    stream.flush(zstandard.FLUSH_FRAME)


def _measure(infos: list[tarfile.TarInfo]) -> int:
    """Return the size of the archive before compression: zstd's header says it in front."""
    size = 2 * tarfile.BLOCKSIZE
    for info in infos:
        size += len(info.tobuf(tarfile.GNU_FORMAT, tarfile.ENCODING, "surrogateescape"))
        size += -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return -(-size // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def _explain_failure(err: OSError, folder: Path) -> TritonBuildError:
    if err.errno in (errno.ENOSPC, errno.EDQUOT):
        msg = f"no room on disk for the package in {folder}"
        return HostError(msg, hint="free some space and run again")
    msg = f"cannot write the package to {folder}: {err.strerror or err}"
    return HostError(msg, hint="look at the rights of the folder, and that no build runs in it")
