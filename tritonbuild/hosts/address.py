"""How a board is named: `user@board`, a name of ssh's own settings, or `ssh://user@board:port`."""

from __future__ import annotations

import re

from tritonbuild.errors import UsageError

# Names travel to programs of ssh's settings (ProxyCommand), which a shell may read: nothing that
# means something there is let through. Neither user nor host may look like an option.
_USER = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_IPV6 = r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.-]+)?"
_PLAIN = re.compile(rf"(?:{_USER}@)?(?:{_NAME}|{_IPV6})")
_URI = re.compile(rf"ssh://(?:{_USER}@)?(?:{_NAME}|\[{_IPV6}\])(?::(?P<port>\d{{1,5}}))?/?")


def check_address(text: str) -> str:
    """Return the name of a board as ssh takes it.

    Raises:
        UsageError: It is none.
    """
    uri = _URI.fullmatch(text)
    if uri and (uri["port"] is None or 0 < int(uri["port"]) < 1 << 16):
        return text.rstrip("/")
    if _PLAIN.fullmatch(text) and not text.startswith("ssh:"):
        return text
    msg = f"{text!r} is not the name of a board"
    raise UsageError(
        msg, hint="user@board, a Host of ~/.ssh/config, or ssh://user@board:2222 for another port"
    )


def host_part(address: str) -> str:
    """Return an address without user, port and scheme."""
    rest = address.removeprefix("ssh://").rpartition("@")[2]
    if rest.startswith("["):
        return rest[1:].partition("]")[0]
    return rest.partition(":")[0] if address.startswith("ssh://") else rest
