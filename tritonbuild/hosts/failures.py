"""What ssh says when it fails, in words that help."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tritonbuild.errors import HostError
from tritonbuild.hosts.address import host_part

LOST = (
    "the version that ran there before still does; look whether the board is up, then run the "
    "same command again: it goes on where it stopped"
)


@dataclass(frozen=True)
class _Rule:
    """What a line of ssh's means.

    Attributes:
        pattern: What to look for.
        meaning: What is wrong; `{board}` is the address.
        hint: What to do; `{board}` and `{name}`, the address without user and port, are filled in.
    """

    pattern: str
    meaning: str
    hint: str


# In this order: the first that fits says most.
_RULES = (
    _Rule(
        "REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed",
        "{board} is not the machine that it was: its host key has changed",
        "if the board was set up anew, forget the old key with `{forget}`, then log in once with "
        "`ssh {board}` and compare the new one; if it was not, somebody else may be answering",
    ),
    _Rule(
        r"Host key verification failed|No \S+ host key is known for",
        "{board}: its host key is not known yet",
        "log in once with `ssh {board}` and compare the key's fingerprint with the board's",
    ),
    _Rule(
        r"Permission denied \(|Too many authentication failures|No supported authentication",
        "{board} does not let us in",
        "put your key there with `ssh-copy-id {board}`, or load it with ssh-add; passwords "
        "cannot be asked for here",
    ),
    _Rule(
        "Could not resolve hostname",
        "{name}: no such host name",
        "use the board's address, or name it in ~/.ssh/config",
    ),
    _Rule(
        "Connection refused",
        "{board} refuses the connection: no ssh server listens there",
        "start it on the board (systemctl enable --now ssh), or say its port: ssh://user@board:2222",
    ),
    _Rule(
        "No route to host|Network is unreachable|Host is down",
        "there is no way to {board}",
        "is the board on, and on a network that this machine reaches?",
    ),
    _Rule(
        "[Tt]imed out(?! waiting for)|timeout during",
        "{board} does not answer",
        "is the board on, and on a network that this machine reaches? A firewall may be silent, too",
    ),
    _Rule(
        "Bad owner or permissions|Bad configuration option|no argument after keyword|"
        "Can't open user config",
        "ssh cannot read its settings",
        "mend ~/.ssh/config, or the file of TRITONBUILD_SSH_CONFIG",
    ),
)  # fmt: skip


def explain_connect(address: str, said: str) -> HostError:
    """Return why a connection did not come about.

    Args:
        address: The board.
        said: What ssh wrote to stderr.
    """
    name = host_part(address)
    forget = re.search(r"(ssh-keygen -f .* -R .*)", said)
    values = {
        "board": address, "name": name,
        "forget": forget[1].strip() if forget else f"ssh-keygen -R {name}",
    }  # fmt: skip
    for rule in _RULES:
        if re.search(rule.pattern, said):
            return HostError(
                _with_words(rule.meaning.format(**values), said), hint=rule.hint.format(**values)
            )
    return HostError(
        _with_words(f"cannot connect to {address}", said),
        hint=f"`ssh -v {address}` says more",
    )


def explain_loss(address: str, said: str) -> HostError:
    """Return that a connection broke that had been there."""
    return HostError(_with_words(f"the connection to {address} was lost", said), hint=LOST)


def _with_words(meaning: str, said: str) -> str:
    """Return a meaning with the last lines that ssh said itself."""
    lines = [line.strip() for line in said.splitlines() if line.strip(" @\r\t")]
    return "\n".join([meaning, *(f"  | {line}" for line in lines[-4:])])
