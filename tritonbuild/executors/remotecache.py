"""A compiler cache that machines share: ccache's remote storage, on an HTTP or Redis server.

ccache looks in its local cache first, then there, and checks a checksum over whatever arrives
(https://ccache.dev/manual/4.7.5.html#_remote_storage_backends).

An address may hold a password. It is never part of what is printed, of plan.json or of a script: it
stands in a file of the work directory that its owner alone can read, and scripts read it from there.
"""

from __future__ import annotations

import base64
import http.client
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from tritonbuild.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PORTS = {"http": 80, "redis": 6379}
_HINT = "for example redis://cache.example:6379 or http://cache.example/ccache"
_HINTS = {
    "https": "ccache speaks plain http only; reach the server through a tunnel, such as ssh -L",
    "file": "a shared folder needs no option: set CCACHE_DIR to it",
}
# ccache itself waits a tenth of that for a connection, each time.
_PATIENCE = 2.0


@dataclass(frozen=True)
class RemoteCache:
    """Where results of compilers are kept for several machines.

    Attributes:
        value: As ccache takes it, with a password if there is one.
    """

    value: str

    def __str__(self) -> str:
        """Return the address without what is secret in it."""
        url = self._url
        return f"{url.scheme}://{_format_host(url)}{url.path}"

    def __repr__(self) -> str:
        return f"RemoteCache({self})"

    @property
    def _url(self) -> SplitResult:
        return urlsplit(self.value.partition("|")[0])

    def find_problem(self) -> str | None:
        """Return why the server cannot be used, as far as a first word with it tells."""
        url = self._url
        try:
            return _ask_redis(url) if url.scheme == "redis" else _ask_http(url)
        except (OSError, ValueError, http.client.HTTPException) as err:
            return getattr(err, "strerror", None) or str(err) or type(err).__name__


def parse_remote(text: str) -> RemoteCache:
    """Return what `--ccache-remote` names.

    Raises:
        UsageError: ccache could not use it. What was given is not shown: it may hold a password.
    """
    scheme, separator, _ = text.partition("://")
    if not separator or not scheme.isalnum():
        msg = "--ccache-remote: a URL is wanted"
        raise UsageError(msg, hint=_HINT)
    if scheme not in _PORTS:
        msg = f"--ccache-remote: {scheme}:// is none of {', '.join(_PORTS)}"
        raise UsageError(msg, hint=_HINTS.get(scheme, _HINT))
    if not text.isascii() or not text.isprintable() or " " in text:
        msg = "--ccache-remote: the URL has blanks or other characters that a URL cannot hold"
        raise UsageError(msg, hint="write them as %20 and the like")
    found = RemoteCache(text)
    try:
        url = found._url
        is_good = bool(url.hostname) and "*" not in str(url.hostname) and url.port != 0
    except ValueError:  # the port is no number, or an IPv6 address is none
        is_good = False
    if not is_good:
        msg = "--ccache-remote: the URL names no host, or no port that exists"
        raise UsageError(msg, hint=_HINT)
    return found


def _format_host(url: SplitResult) -> str:
    host = f"[{url.hostname}]" if ":" in str(url.hostname) else str(url.hostname)
    return f"{host}:{url.port}" if url.port else host


def _ask_http(url: SplitResult) -> str | None:
    connection = http.client.HTTPConnection(
        str(url.hostname), url.port or _PORTS["http"], timeout=_PATIENCE
    )
    headers = {}
    if url.username is not None:
        login = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    try:
        connection.request("GET", url.path or "/", headers=headers)
        status = connection.getresponse().status
    finally:
        connection.close()
    return f"it answers {status}" if status in (401, 403) or status >= 500 else None


def _ask_redis(url: SplitResult) -> str | None:
    commands: list[Sequence[str]] = [("PING",)]
    # redis://PASSWORD@HOST is ccache's way to write one without a user.
    login = [unquote(part) for part in (url.username, url.password) if part]
    if login:
        commands.insert(0, ("AUTH", *login))
    address = (str(url.hostname), url.port or _PORTS["redis"])
    with (
        socket.create_connection(address, timeout=_PATIENCE) as connection,
        connection.makefile("rb") as replies,
    ):
        for command in commands:
            connection.sendall(_format_command(command))
            reply = replies.readline().decode(errors="replace").strip()
            if not reply.startswith("+"):
                return f"it answers {reply.lstrip('-')[:100]!r}"
    return None


def _format_command(words: Sequence[str]) -> bytes:
    """Return a command as https://redis.io/docs/reference/protocol-spec/ wants it."""
    parts = [word.encode() for word in words]
    return b"".join([b"*%d\r\n" % len(parts), *(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)])
