"""Python wheels for another machine: fetched by pip, pinned by checksum, kept, unpacked safely.

pip does the fetching, so that the user's own index, proxy and certificate settings hold. A wheel
gets into the cache only when its checksum is the pinned one.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import stat
import sys
import tempfile
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.errors import BuildError, HostError, SourceError
from tritonbuild.paths import hash_file, make_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 1 << 20

# A fetch that is older than this, in seconds, is nobody's any more.
_LEFTOVER_AGE = 24 * 3600


@dataclass(frozen=True)
class Wheel:
    """A pinned wheel.

    Attributes:
        distribution: Name on the index.
        filename: File name, which says version, Python and platforms.
        sha256: Checksum.
        python: Python version of the machine that it is for, such as `3.11`.
        index: Simple index to ask instead of the user's own; None for the user's.
    """

    distribution: str
    filename: str
    sha256: str
    python: str
    index: str | None = None

    @property
    def version(self) -> str:
        """Version, from the file name (PEP 427)."""
        return self.filename.split("-")[1]

    @property
    def platforms(self) -> list[str]:
        """Platform tags, from the file name."""
        return self.filename.removesuffix(".whl").split("-")[-1].split(".")


def fetch_wheel(wheel: Wheel, *, cache: Path, log: Path) -> Path:
    """Return the wheel's file in the cache, fetched if it is not there.

    Args:
        wheel: What to fetch.
        cache: tritonbuild's cache folder.
        log: Gets what pip said.

    Raises:
        SourceError: It did not arrive, or is not what is pinned.
        HostError: There is no room for it.
    """
    kept = get_kept_path(wheel, cache)
    if kept.is_file() and hash_file(kept) == wheel.sha256:
        return kept
    make_dir(cache / "wheels")
    _remove_leftovers(cache / "wheels")
    with tempfile.TemporaryDirectory(dir=cache / "wheels", prefix=".fetch-") as name:
        arrived = _download(wheel, Path(name), log)
        found = hash_file(arrived)
        if found != wheel.sha256:
            raise SourceError(_describe_mismatch(wheel, found), hint=_MISMATCH_HINT)
        make_dir(kept.parent)
        arrived.replace(kept)
    return kept


def get_kept_path(wheel: Wheel, cache: Path) -> Path:
    """Return where a wheel is kept in the cache."""
    return cache / "wheels" / wheel.sha256 / wheel.filename


def _remove_leftovers(folder: Path) -> None:
    """Delete what a killed run left behind, once nobody can still be writing it."""
    for path in folder.glob(".fetch-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFTOVER_AGE:
                shutil.rmtree(path, ignore_errors=True)


def requirement_of(wheel: Wheel) -> str:
    """Return the line of a requirements file that pins a wheel."""
    return f"{wheel.distribution}=={wheel.version} --hash=sha256:{wheel.sha256}"


def download_argv(wheel: Wheel, requirements: Path, target: Path) -> list[str]:
    """Return the pip command that fetches a wheel for another machine."""
    # `any` wheels still need a platform named, or pip would refuse to look beyond this machine.
    platforms = [tag for tag in wheel.platforms if tag != "any"] or ["manylinux2014_aarch64"]
    return [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input",
        "--disable-pip-version-check", "--progress-bar=off", "--python-version", wheel.python,
        "--implementation", "cp", *(f"--platform={tag}" for tag in platforms),
        *(["--index-url", wheel.index] if wheel.index else []),
        "--require-hashes", "--dest", str(target), "--requirement", str(requirements),
    ]  # fmt: skip


def _download(wheel: Wheel, folder: Path, log: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(requirement_of(wheel) + "\n", encoding="utf-8")
    target = folder / "arrived"
    # Newer pips go on where a broken download stopped; older ones do not know the variable.
    result = proc.run(
        download_argv(wheel, requirements, target),
        log=log,
        check=False,
        env={"PIP_RESUME_RETRIES": "5"},
    )
    if result.returncode != 0:
        raise _explain_failure(wheel, result.output, log)
    arrived = [path for path in target.iterdir() if path.suffix == ".whl"]
    if len(arrived) != 1:
        msg = f"pip fetched {len(arrived)} files for {wheel.filename}; log: {log}"
        raise SourceError(msg, hint="say -v to see the command, and try it by hand")
    return arrived[0]


_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|Failed to establish|Temporary failure in name|"
    r"Network is unreachable|Connection refused|ConnectionError|ProxyError|ReadTimeout|SSLError|"
    r"connection (?:broken|aborted|timed out)",
    re.IGNORECASE,
)
_MISMATCH_HINT = (
    "a proxy or mirror may have served something else; the file was not kept. "
    "If the release was replaced upstream, the pin in recipes/releases/ must be looked at again"
)


def _explain_failure(wheel: Wheel, output: str, log: Path) -> Exception:
    """Return the error that fits what pip said."""
    if "No space left on device" in output:
        msg = f"no room on disk for {wheel.filename}"
        return HostError(msg, hint="free some space, or set TRITONBUILD_CACHE_DIR elsewhere")
    got = re.search(r"Got\s+([0-9a-f]{64})", output)
    if got:
        return SourceError(_describe_mismatch(wheel, got.group(1)), hint=_MISMATCH_HINT)
    if _NETWORK.search(output):
        msg = f"cannot reach the package index for {wheel.filename}; log: {log}"
        return SourceError(
            msg,
            hint="check the network, proxy and pip's index settings (`pip config list`), or "
            "choose a mirror with --mirror; what has arrived so far is kept",
        )
    if re.search(r"is invalid|not a zip file|BadZipFile", output):
        msg = f"{wheel.filename} is not a wheel: the file is broken; log: {log}"
        return SourceError(msg, hint=_MISMATCH_HINT)
    failure = BuildError(f"pip could not fetch {wheel.filename}").message
    tail = "\n".join(f"  | {line}" for line in output.rstrip().splitlines()[-6:])
    return SourceError(
        f"{failure}:\n{tail}\n  log: {log}",
        hint="the index that pip is set up for may not have this file, or cannot be reached: see "
        "`pip config list`",
    )


def _describe_mismatch(wheel: Wheel, found: str) -> str:
    return (
        f"{wheel.filename} is not what the recipe pins\n"
        f"  expected sha256 {wheel.sha256}\n"
        f"  got      sha256 {found}"
    )


# What zipfile and zlib raise for a member that is damaged, encrypted or packed in an odd way.
_DAMAGE = (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError)


class WheelArchive:
    """A wheel opened for unpacking, its names checked before anything is written.

    Raises:
        SourceError: It is not a zip file, is damaged, or has a name that would leave the target
            folder, or a link.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as err:
            msg = f"{path.name} is not a zip file: {err}"
            raise SourceError(msg, hint=f"delete {path} and run again") from err
        self._members = {info.filename: info for info in self._list_members()}

    def close(self) -> None:
        """Let go of the file."""
        self._zip.close()

    @property
    def names(self) -> list[str]:
        """Names of the files, sorted."""
        return sorted(self._members)

    @property
    def size(self) -> int:
        """Bytes that all files take when unpacked."""
        return sum(info.file_size for info in self._members.values())

    def extract(self, name: str, target: Path, *, executable: bool) -> None:
        """Write one file; its checksum inside the archive is checked on the way.

        Raises:
            SourceError: The archive is damaged.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._zip.open(self._members[name]) as source, target.open("xb") as sink:
                shutil.copyfileobj(source, sink, _BLOCK)
        except _DAMAGE as err:
            msg = f"{self.path.name} is damaged at {name}: {err}"
            raise SourceError(msg, hint=f"delete {self.path} and run again") from err
        target.chmod(0o755 if executable else 0o644)

    def _list_members(self) -> Iterator[zipfile.ZipInfo]:
        seen: set[str] = set()
        for info in self._zip.infolist():
            name = info.filename
            parts = name.rstrip("/").split("/")
            if name.startswith("/") or "\\" in name or any(p in ("", ".", "..") for p in parts):
                msg = f"{self.path.name} holds the path {name!r}, which would leave its folder"
                raise SourceError(msg, hint="do not use this file: it was made to do harm")
            if stat.S_ISLNK(info.external_attr >> 16):
                msg = f"{self.path.name} holds a symbolic link, {name!r}"
                raise SourceError(msg, hint="wheels have no links: do not use this file")
            if name in seen:
                msg = f"{self.path.name} holds {name!r} twice"
                raise SourceError(msg, hint="do not use this file: it is not a proper wheel")
            seen.add(name)
            if not name.endswith("/"):
                yield info
