"""Archives from the web: fetched from several addresses in turn, resumed, checked, then kept.

A file gets into the cache under its checksum and only after it was checked, so nothing there is
ever cut short or something else. What arrived so far of one that broke off is kept elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tritonbuild import proc
from tritonbuild.errors import HostError, SourceError, TritonBuildError, UnreachableError
from tritonbuild.paths import hash_file, make_dir, write_text
from tritonbuild.sources.address import OFFLINE_HINT, is_safe_name, mask, strip_credentials
from tritonbuild.sources.wait import hold_lock, pause
from tritonbuild.sources.whole import find_damage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import requests

_BLOCK = 1 << 18
# Seconds to connect, and to wait for the next bytes.
_TIMEOUT = (10, 30)
_RETRIES = 4
_BACKOFF = 0.4
# A download that breaks off goes on as long as each turn brings something, but not for ever.
_MAX_TURNS = 30
_MAX_BARREN_TURNS = 3
# Beside what has arrived so far: what it is of.
_ORIGIN = "origin.json"

_MAGIC = {
    (".tar.gz", ".tgz"): (b"\x1f\x8b", "gzip"),
    (".tar.xz", ".txz"): (b"\xfd7zXZ\0", "xz"),
    (".tar.bz2", ".tbz2"): (b"BZh", "bzip2"),
    (".zip",): (b"PK", "zip"),
    (".tar.zst",): (b"\x28\xb5\x2f\xfd", "zstd"),
}
_HTML = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--(?:(?!-->).)*-->\s*)*<(!doctype\s+html|html|head|body)\b",
                   re.IGNORECASE | re.DOTALL)  # fmt: skip


@dataclass(frozen=True)
class Archive:
    """An archive that is wanted.

    Attributes:
        url: Where upstream has it.
        name: Name of the file.
        sha256: Checksum; None where nobody knows it yet.
        digests: Further checksums, as CMake names their kinds.
    """

    url: str
    name: str
    sha256: str | None = None
    digests: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Arrived:
    """An archive in the cache.

    Attributes:
        url: The address that it came from; None where it was there already.
    """

    path: Path
    sha256: str
    size: int
    url: str | None


def name_of(url: str) -> str:
    """Return the file name that an address ends with.

    Raises:
        SourceError: It ends with none that is safe to use.
    """
    name = unquote(PurePosixPath(urlsplit(url).path).name)
    if not is_safe_name(name):
        msg = f"{mask(url)}: the address does not end with the name of a file"
        raise SourceError(msg, hint="name a file such as https://.../name-1.0.tar.gz")
    return name


class ArchiveCache:
    """The shared cache of archives.

    Args:
        root: `<cache>/archives`.
        report: Told how far a download is.
    """

    def __init__(self, root: Path, report: Callable[[str], None]) -> None:
        self._root = root
        self._report = report

    def fetch(self, archive: Archive, candidates: Sequence[str]) -> Arrived:
        """Return an archive's file in the cache, fetched if it is not there.

        Args:
            archive: What is wanted.
            candidates: Addresses to try, in order; none where only the cache counts.

        Raises:
            SourceError: What arrived is not what is wanted, from any address.
            UnreachableError: No address answered.
            HostError: There is no room for it.
        """
        kept = self._find_kept(archive)
        if kept is not None:
            return kept
        errors: list[tuple[str, _Fault]] = []
        for candidate in candidates:
            try:
                with _translate_errors(archive.name):
                    return self._fetch_from(archive, candidate)
            except _Fault as fault:
                errors.append((candidate, fault))
        raise self._make_error(archive, errors)

    def _make_error(self, archive: Archive, errors: Sequence[tuple[str, _Fault]]) -> SourceError:
        if not errors:
            place = strip_credentials(archive.url)
            msg = f"{archive.name} ({place}) is not there, and nobody may be asked"
            return SourceError(msg, hint=OFFLINE_HINT)
        lines = [f"cannot fetch {archive.name}"]
        lines += [f"  {mask(place)}: {fault.text}" for place, fault in errors]
        if any(fault.content for _, fault in errors):
            return SourceError(
                "\n".join(lines),
                hint="what arrived was not kept; choose another mirror with --mirror, or look at "
                "the address in a browser",
            )
        return UnreachableError(
            "\n".join(lines),
            hint="check the network and proxy, or choose a mirror with --mirror; what has arrived "
            "so far is kept",
        )

    # --- what is there ------------------------------------------------------------------------

    def _index_path(self, url: str) -> Path:
        return self._root / ".by-address" / f"{_key(url)}.json"

    def _find_kept(self, archive: Archive) -> Arrived | None:
        sha256 = archive.sha256
        if sha256 is None:
            try:
                noted = json.loads(self._index_path(archive.url).read_text(encoding="utf-8"))
                sha256 = str(noted["sha256"])
            except (OSError, ValueError, KeyError, TypeError):
                return None
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            return None
        path = self._root / sha256 / archive.name
        if not path.is_file():
            return None
        if _hash(path, "SHA256") != sha256:
            path.unlink(missing_ok=True)
            return None
        if any(_hash(path, kind) != value for kind, value in archive.digests if _knows(kind)):
            return None
        return Arrived(path, sha256, path.stat().st_size, None)

    def _keep(self, archive: Archive, part: Path, sha256: str, url: str) -> Arrived:
        target = self._root / sha256 / archive.name
        make_dir(target.parent)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.chmod(0o644)
        part.replace(target)
        write_text(self._index_path(archive.url), json.dumps({"sha256": sha256}) + "\n")
        return Arrived(target, sha256, target.stat().st_size, strip_credentials(url))

    # --- from outside -------------------------------------------------------------------------

    def _fetch_from(self, archive: Archive, url: str) -> Arrived:
        folder = make_dir(self._root / ".partial" / _key(url))
        with hold_lock(folder / "lock"):
            # Somebody else may have fetched it while we waited.
            kept = self._find_kept(archive)
            return kept if kept is not None else self._receive_checked(archive, url, folder)

    def _receive_checked(self, archive: Archive, url: str, folder: Path) -> Arrived:
        part = folder / "data"
        if not archive.sha256 and not archive.digests and not _read_validator(folder):
            # Nothing could tell that the two halves are of different files.
            part.unlink(missing_ok=True)
        resumed = _Download(url, archive.name, folder, self._report).run()
        fault = _check_content(archive, part)
        if fault is not None and resumed:
            # The two halves may be of different files: once more, from the start.
            part.unlink(missing_ok=True)
            _Download(url, archive.name, folder, self._report).run()
            fault = _check_content(archive, part)
        if fault is not None:
            part.unlink(missing_ok=True)
            raise fault
        return self._keep(archive, part, _hash(part, "SHA256"), url)


class _Fault(Exception):
    """Why an address is given up; `content` says that something arrived, but not what we want."""

    def __init__(self, text: str, *, content: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.content = content


class _Download:
    """One file on its way; what has arrived is in `data`, what it is of in `origin.json`."""

    def __init__(self, url: str, name: str, folder: Path, report: Callable[[str], None]) -> None:
        self._url = url
        self._name = name
        self._part = folder / "data"
        self._origin = folder / _ORIGIN
        self._report = report
        self._may_resume = True
        self._answered = False
        self._said = 0.0

    def run(self) -> bool:
        """Receive the whole file; return whether it came in more than one piece.

        Raises:
            _Fault: It did not come.
        """
        if self._url.startswith("file://"):
            self._copy()
            return False
        barren, pieces = 0, 1 if self._size() else 0
        problem: str | None = None
        with _open_session() as session:
            for _ in range(_MAX_TURNS):
                before = self._size()
                problem = self._receive(session)
                if problem is None:
                    return pieces > 0
                if not self._answered:
                    break  # urllib3 has tried several times already
                pieces += 1
                barren = 0 if self._size() > before else barren + 1
                if barren >= _MAX_BARREN_TURNS:
                    break
                pause(_BACKOFF * 2**barren)
        arrived = f"broke off after {_format_size(self._size())}: " if self._answered else ""
        msg = f"{arrived}{problem}"
        raise _Fault(msg)

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _copy(self) -> None:
        source = Path(unquote(urlsplit(self._url).path))
        try:
            opened = source.open("rb")
        except OSError as err:
            msg = f"{err.strerror}"
            raise _Fault(msg) from err
        with opened, self._part.open("wb") as sink:
            shutil.copyfileobj(opened, sink, _BLOCK)
        _refuse_page(self._part, self._name)

    def _receive(self, session: requests.Session) -> str | None:
        """Receive what is missing; return what went wrong on the way, None at the end."""
        import requests
        import urllib3

        offset = self._size() if self._may_resume else 0
        headers = {"Accept-Encoding": "identity", **self._range(offset)}
        self._answered = False
        expected: int | None = None
        failure: str | None = None
        try:
            with session.get(self._url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
                self._answered = True
                start = self._find_start(answer, offset)
                if start is None:
                    return "the server did not go on where it should"
                expected = _expected_size(answer, start)
                self._write(answer, start)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as err:
            failure = _describe(err)
        size = self._size()
        if expected is not None and size != expected:
            return f"{size} of {expected} bytes arrived"
        return failure

    def _range(self, offset: int) -> dict[str, str]:
        if not offset:
            return {}
        headers = {"Range": f"bytes={offset}-"}
        validator = _read_validator(self._origin.parent)
        if validator:
            headers["If-Range"] = validator
        return headers

    def _find_start(self, answer: requests.Response, offset: int) -> int | None:
        """Return where in the file the answer's bytes belong; None to ask again."""
        if answer.status_code == 416 and offset:
            self._may_resume = False
            return None
        if answer.status_code >= 400:
            msg = f"HTTP {answer.status_code} {answer.reason}".rstrip()
            raise _Fault(msg)
        if answer.status_code == 206:
            match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != offset:
                self._may_resume = False
                return None
            return offset
        self._may_resume = True
        etag = answer.headers.get("ETag", "")
        origin = {
            # A weak tag may stay the same for other bytes (RFC 9110, 8.8.3).
            "etag": "" if etag.startswith("W/") else etag,
            "modified": answer.headers.get("Last-Modified", ""),
        }
        write_text(self._origin, json.dumps(origin) + "\n")
        return 0

    def _write(self, answer: requests.Response, start: int) -> None:
        total = _expected_size(answer, start)
        with self._part.open("r+b" if start else "wb") as sink:
            if start:
                sink.seek(start)
                sink.truncate()
            while block := answer.raw.read(_BLOCK, decode_content=False):
                proc.check_stopping()
                if sink.tell() == 0 and _HTML.match(block) and not _is_page_wanted(self._name):
                    raise _make_page_fault(block)
                sink.write(block)
                self._say(sink.tell(), total)

    def _say(self, size: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._said > 0.5:
            self._said = now
            of = f" of {_format_size(total)}" if total else ""
            self._report(f"{self._name}: {_format_size(size)}{of}")


def _read_validator(folder: Path) -> str | None:
    """Return by what a server tells whether a file is still the one that a part is of."""
    try:
        origin = json.loads((folder / _ORIGIN).read_text(encoding="utf-8"))
        return origin["etag"] or origin["modified"] or None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _expected_size(answer: requests.Response, start: int) -> int | None:
    ranged = re.match(r"bytes \d+-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    if answer.status_code == 206 and ranged:
        return int(ranged[1])
    length = answer.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def _open_session() -> requests.Session:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = requests.Session()
    # A server that asks to come back in an hour is given up sooner: there are other addresses.
    retry = Retry(
        total=_RETRIES, connect=2, backoff_factor=_BACKOFF, status_forcelist=(429, 500, 502, 503, 504),
        respect_retry_after_header=False, raise_on_status=False,
    )  # fmt: skip
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _describe(err: Exception) -> str:
    """Return what is wrong with a connection, without the layers of libraries around it."""
    inner: Any = err
    while True:
        deeper = getattr(inner, "reason", None) or (inner.args[0] if inner.args else None)
        if not isinstance(deeper, Exception):
            break
        inner = deeper
    text = re.sub(r"^.*?\): |<[^>]* object at 0x[0-9a-f]+>[,:]? ?", "", str(inner))
    return mask(f"{type(err).__name__}: {text}")[:300]


# --- what arrived -----------------------------------------------------------------------------


def _check_content(archive: Archive, part: Path) -> _Fault | None:
    """Return why a file is not what is wanted, None where it is."""
    for endings, (magic, kind) in _MAGIC.items():
        if archive.name.lower().endswith(endings):
            with part.open("rb") as source:
                if source.read(len(magic)) != magic:
                    size = _format_size(part.stat().st_size)
                    return _Fault(f"what arrived is no {kind} file ({size})", content=True)
    wanted = [("SHA256", archive.sha256)] if archive.sha256 else []
    for kind, value in (*wanted, *archive.digests):
        if not _knows(kind):
            continue
        found = _hash(part, kind)
        if found != value:
            text = f"{kind.lower()} is not what it should be: expected {value}, got {found}"
            return _Fault(text, content=True)
    if any(_knows(kind) for kind, _ in (*wanted, *archive.digests)):
        return None
    damage = find_damage(part, archive.name)
    if damage is None:
        return None
    size = _format_size(part.stat().st_size)
    return _Fault(f"what arrived is cut short or damaged ({size}): {damage}", content=True)


def _refuse_page(path: Path, name: str) -> None:
    with path.open("rb") as source:
        block = source.read(4096)
    if _HTML.match(block) and not _is_page_wanted(name):
        raise _make_page_fault(block)


def _make_page_fault(block: bytes) -> _Fault:
    title = re.search(rb"<title[^>]*>\s*(.*?)\s*</title", block, re.IGNORECASE | re.DOTALL)
    said = f' ("{title[1].decode(errors="replace")[:80]}")' if title else ""
    return _Fault(f"a web page{said} was served in place of the archive", content=True)


def _is_page_wanted(name: str) -> bool:
    return name.lower().endswith((".html", ".htm", ".xhtml", ".xml", ".svg"))


def _knows(kind: str) -> bool:
    return kind.lower().replace("sha3_", "sha3-") in _HASHES


_HASHES = {
    "md5": "md5", "sha1": "sha1", "sha224": "sha224", "sha256": "sha256", "sha384": "sha384",
    "sha512": "sha512", "sha3-224": "sha3_224", "sha3-256": "sha3_256", "sha3-384": "sha3_384",
    "sha3-512": "sha3_512",
}  # fmt: skip


def _hash(path: Path, kind: str) -> str:
    return hash_file(path, _HASHES[kind.lower().replace("sha3_", "sha3-")])


def _key(url: str) -> str:
    return hashlib.sha256(strip_credentials(url).encode()).hexdigest()[:32]


def _format_size(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB" if size >= 1 << 20 else f"{size} bytes"


@contextlib.contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    """Turn what a disk refuses into an error that says so."""
    try:
        yield
    except TritonBuildError:
        raise
    except OSError as err:
        raise explain_disk_error(err, name) from err


def explain_disk_error(err: OSError, name: str) -> HostError:
    """Return the error for a file that could not be written."""
    if err.errno in (errno.ENOSPC, errno.EDQUOT):
        msg = f"no room on disk for {name}"
        return HostError(msg, hint="free some space, or set TRITONBUILD_CACHE_DIR elsewhere")
    msg = f"cannot write {err.filename or name}: {err.strerror or err}"
    return HostError(msg, hint="another place for downloads: TRITONBUILD_CACHE_DIR")
