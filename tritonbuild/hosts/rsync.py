"""rsync: what brings a folder to a machine, and what it says of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.errors import HostError
from tritonbuild.hosts.model import Sent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path, PurePosixPath

# What a tree holds that is not content, by name (`tritonbuild.stage.manifest`).
_LEFT_OUT = ("__pycache__", "/manifest.json")

# Enough for what it complains about; the statistics stand at the end.
_KEPT = 1 << 14

_HINT = "apt-get install rsync"


def rsync_argv(
    source: Path, target: str, *, base: PurePosixPath | None, remote: Sequence[str] = ()
) -> list[str]:
    """Return the command that makes `target` what the folder `source` is.

    Args:
        source: A folder here.
        target: A folder here, or `NAME:FOLDER`.
        base: A folder beside the target; what is the same in it becomes a hard link.
        remote: Options that say how the other machine is reached.
    """
    rsync = proc.require_tool("rsync", reason="to send a tree to a board", hint=_HINT)
    argv = [
        str(rsync), "--recursive", "--links", "--perms", "--chmod=D755,Fu=rwX,Fgo=rX",
        # A build writes each file anew: its time says nothing, what is in it does.
        "--checksum", "--delete", "--partial-dir=.rsync-partial",
        # Names stay what they are, whatever a shell over there would make of them.
        "--protect-args", "--info=progress2,stats2", "--no-human-readable", "--outbuf=L",
        *(f"--exclude={name}" for name in _LEFT_OUT),
    ]  # fmt: skip
    if base:
        argv.append(f"--link-dest={base}")
    return [*argv, *remote, "--", f"{source}/", f"{target}/"]


def run_rsync(argv: Sequence[str], progress: Callable[[str], None] | None) -> tuple[int, str]:
    """Run it; return its exit code and the end of what it said."""
    said = bytearray()

    def feed(block: bytes) -> None:
        said.extend(block)
        del said[:-_KEPT]
        shown = re.findall(rb"(\d+%)\s+(\S+/s)", block)
        if shown and progress:
            progress(" ".join(part.decode() for part in shown[-1]))

    ended = proc.stream(argv, feed=feed)
    return ended.returncode, said.decode(errors="replace")


def read_sent(said: str) -> Sent:
    """Return what travelled, from its statistics."""
    files = re.search(r"^Number of regular files transferred: (\d+)", said, re.MULTILINE)
    size = re.search(r"^Total bytes sent: (\d+)", said, re.MULTILINE)
    return Sent(int(files[1]) if files else 0, int(size[1]) if size else 0)


def explain_rsync(name: str, code: int, said: str) -> HostError:
    """Return why it failed, for a machine that can still be reached."""
    lines = [line for line in re.split(r"[\r\n]+", said) if re.match(r"rsync|sudo|sh:|bash:", line)]
    shown = "\n".join(f"  | {line}" for line in lines[:6])
    if "No space left on device" in said or "Disk quota exceeded" in said:
        msg = f"no room on {name} for the tree\n{shown}"
        return HostError(
            msg, hint="free some space there (`--keep 1` keeps one older version less)"
        )
    if code in (126, 127) or "command not found" in said or "rsync: not found" in said:
        msg = f"{name} has no rsync"
        return HostError(
            msg, hint=f"on the board, as root: {_HINT}; deploy --install-packages does it"
        )
    if "is your shell clean" in said:
        msg = f"{name}: the login shell says something before it runs a command"
        hint = "what prints in ~/.bashrc there must do so in interactive shells only"
        return HostError(msg, hint=hint)
    msg = f"rsync to {name} failed with exit code {code}\n{shown}"
    return HostError(msg, hint="mend what it says, then run the same command again")
