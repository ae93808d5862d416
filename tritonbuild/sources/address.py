"""git addresses and references: which are accepted, which are the same, and what may be shown."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from tritonbuild.errors import SourceError

if TYPE_CHECKING:
    from pathlib import PurePath

OFFLINE_HINT = (
    "where there is a network, `tritonbuild fetch` with the same options brings everything that a "
    "build needs"
)

COMMIT = re.compile(r"[0-9a-f]{40}")
PULL_REQUEST = re.compile(r"pull/\d+/head")

# git-check-ref-format(1), and narrower: what a shell or git could take for something else is out.
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/@=,-]*")
_URL = re.compile(r"(https?|ssh|git|file)://[^-\s]\S*")
_SCP = re.compile(r"(?P<user>[A-Za-z0-9_][\w.-]*)@(?P<host>[A-Za-z0-9][\w.-]*):(?P<path>[^-\s]\S*)")
_USER_INFO = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)[^/@\s'\"]*@")
_PLAIN_PART = re.compile(r"[A-Za-z0-9._+~@-]+")
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~=@-]{0,199}")


def check_address(address: str) -> None:
    """Refuse what git could take for an option, a command, or more than one line.

    Raises:
        SourceError: It is no address of a repository.
    """
    fine = address.isprintable() and (
        _URL.fullmatch(address) or _SCP.fullmatch(address) or address.startswith("/")
    )
    if not fine:
        msg = f"not an address of a git repository: {mask(address)!r}"
        raise SourceError(msg, hint="https://..., ssh://..., git@host:path, file:///... or /path")


def check_ref(ref: str, address: str) -> None:
    """Refuse what is no name of a tag, a branch, a pull request or a commit.

    Raises:
        SourceError: It is none; nothing was run with it.
    """
    bad = (
        not _REF.fullmatch(ref)
        or any(text in ref for text in ("..", "//", "/.", "@{", ".lock/"))
        or ref.endswith(("/", ".", ".lock"))
        or len(ref) > 200
    )
    if bad:
        msg = f"{mask(address)}: not the name of a tag, branch or commit: {ref!r}"
        raise SourceError(
            msg, hint="letters, digits and ._+/@- may stand there, no .. and no blank"
        )


def mask(text: str) -> str:
    """Return a text with the user and password of every address in it taken out."""
    return _USER_INFO.sub(lambda found: f"{found['scheme']}***@", text)


def strip_credentials(address: str) -> str:
    """Return an address as it may be shown and kept: without password, and user where that is one.

    The user of an ssh address is part of where it leads to, and no secret.
    """
    match = _URL.fullmatch(address)
    if match is None:
        return address
    if match[1] == "ssh":
        return re.sub(r"^(ssh://[^/@:]+):[^/@]*@", r"\1@", address)
    return _USER_INFO.sub(lambda found: found["scheme"], address)


def is_safe_name(name: str) -> bool:
    """Return whether a file may be called that: no option, no folder, nothing that a shell reads."""
    return _SAFE_NAME.fullmatch(name) is not None


def file_url(path: str | PurePath) -> str:
    """Return the `file://` address of an absolute path; git, too, decodes what follows a `%`."""
    return f"file://{quote(os.fsencode(path), safe='/+@=~')}"


def view_path_of(address: str) -> PurePosixPath:
    """Return `HOST/PATH.git`: the same for every spelling of one repository's address.

    Raises:
        SourceError: It is no address, or its path has `..` in it.
    """
    check_address(address)
    host, path = _split(address)
    raw = [part for part in path.removesuffix("/").removesuffix(".git").split("/") if part]
    if not raw or any(part in (".", "..") for part in raw):
        msg = f"not an address of a git repository: {mask(address)!r}"
        raise SourceError(msg, hint="its path is empty, or has . or .. in it")
    parts = [_make_plain(part) for part in (host, *raw)]
    parts[-1] += ".git"
    return PurePosixPath(*parts)


def _split(address: str) -> tuple[str, str]:
    scp = _SCP.fullmatch(address)
    if scp and "://" not in address:
        return scp["host"].lower(), scp["path"]
    if address.startswith("/"):
        return "local", address
    try:
        url = urlsplit(address)
        port = f"+{url.port}" if url.port else ""
    except ValueError:
        return "", ""
    if url.scheme == "file":
        return "local", url.path
    return (url.hostname or "unknown") + port, url.path


def _make_plain(part: str) -> str:
    """Return a name that any file system takes, another one for each original."""
    if _PLAIN_PART.fullmatch(part) and not part.startswith(("-", ".")) and len(part) < 100:
        return part
    digest = hashlib.sha256(part.encode()).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9]', '_', part)[:60]}-{digest}"


def spellings_of(address: str) -> list[str]:
    """Return the prefixes under which a repository may be named, without `.git`."""
    plain = strip_credentials(address)
    found = [_drop_suffix(address), _drop_suffix(plain)]
    match = re.fullmatch(r"https?(://.*)", found[1])
    if match:
        found += [f"https{match[1]}", f"http{match[1]}"]
    return list(dict.fromkeys(found))


def _drop_suffix(address: str) -> str:
    return address.rstrip("/").removesuffix(".git")


def resolve_relative(address: str, parent: str) -> str:
    """Return a submodule's address; `../x.git` is relative to its parent's, as git has it."""
    if not address.startswith(("./", "../")):
        return address
    head, separator, path = _split_for_join(parent.rstrip("/"))
    joined = posixpath.normpath(posixpath.join(path, address))
    if joined.startswith(".."):
        return address
    return f"{head}{separator}{joined.lstrip('/') if separator != '' else joined}"


def _split_for_join(address: str) -> tuple[str, str, str]:
    """Return what stands before a path, the separator, and the path, as text that joins again."""
    url = re.fullmatch(r"([a-z]+://[^/]*)/(.*)", address)
    if url:
        return url[1], "/", url[2]
    scp = _SCP.fullmatch(address)
    if scp:
        return f"{scp['user']}@{scp['host']}", ":", scp["path"]
    return "", "", address
