"""git's own program, started so that it asks nobody, leaves nothing running and tells no secrets."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.errors import HostError
from tritonbuild.sources.address import mask, strip_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tritonbuild.proc import Result

# Settings that must not depend on the user's: nothing runs in the background or asks, and a server
# that falls silent is given up.
_SETTINGS = {
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.file.allow": "always",
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "60",
    "fetch.recurseSubmodules": "false",
    # git forces packs to the disk before a reference names what is in them, but no loose objects:
    # after a power cut those would be empty, and the commit would still count as fetched.
    "fetch.unpackLimit": "1",
    "advice.detachedHead": "false",
    "core.hooksPath": "/dev/null",
}

# What git says when it is the network that failed, and trying again may help.
NETWORK = re.compile(
    r"could not resolve|couldn't connect|failed to connect|connection (?:refused|reset|timed out)|"
    r"timed out|early eof|rpc failed|unexpected disconnect|hung up|gnutls|\bssl\b|\btls\b|empty reply|"
    r"transfer closed|returned error: (?:5\d\d|429)|network is unreachable|operation too slow|"
    r"bytes of body are still expected|expected flush|premature end|the remote end|"
    r"\bssl_(?:read|connect|error)|http/?2 (?:stream|framing)|(?:send|recv) failure|broken pipe|"
    r"failure when receiving|connection (?:closed|was reset)|no route to host",
    re.IGNORECASE,
)
_GONE = re.compile(
    r"not found|does not appear to be a git repository|does not exist|returned error: 4\d\d|"
    r"authentication failed|could not read (?:username|from remote)|access denied|"
    r"permission denied|no such file|not a git repository",
    re.IGNORECASE,
)

# What git says when its own repository is the one that is broken.
_DAMAGED = re.compile(
    r"object file .* is empty|(?:loose|packed) object .* is corrupt|"
    r"failed to validate delta base reference|bad object refs/tritonbuild/|"
    r"packfile .* (?:is|cannot|does not)|index file .* (?:is|too)"
)


def git_env(extra: Mapping[str, str] | None = None) -> dict[str, str | None]:
    """Return what git's processes get besides the usual environment."""
    settings = {**_SETTINGS, **(extra or {})}
    env: dict[str, str | None] = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    env["GIT_CONFIG_COUNT"] = str(len(settings))
    for number, (key, value) in enumerate(settings.items()):
        env[f"GIT_CONFIG_KEY_{number}"] = key
        env[f"GIT_CONFIG_VALUE_{number}"] = value
    return env


@dataclass
class GitLog:
    """A file that gets every git command and what it said, from all threads."""

    path: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, argv: Sequence[str], result: Result) -> None:
        """Append a command and its output, without anybody's password."""
        text = f"$ {proc.format_argv(argv)}\n{result.output}"
        if result.returncode:
            text += f"[exit code {result.returncode}]\n"
        with self._lock, self.path.open("a", encoding="utf-8") as out:
            out.write(mask(text if text.endswith("\n") else text + "\n"))


def make_bare(path: Path) -> None:
    """Make an empty bare repository.

    Raises:
        HostError: It cannot be made.
    """
    argv = ["git", "init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--"]
    result = proc.capture([*argv, str(path)], env=git_env())
    if result.returncode:
        msg = f"cannot make a repository in {path}: {result.output.strip()}"
        raise HostError(msg, hint="is the disk full, or the folder read-only?")


def run_git(
    repository: Path | None,
    argv: Sequence[str],
    *,
    settings: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    visible: bool = False,
) -> Result:
    """Run git to its end, for its exit code and output.

    Args:
        repository: The repository; None for commands that need none.
        argv: What stands after `git`.
        settings: Configuration for this one command.
        env: Further variables.
        visible: It may take long: it can be stopped, and is shown with -v.
    """
    place = [f"--git-dir={repository}"] if repository else []
    command = ["git", *place, *argv]
    full = {**git_env(settings), **(env or {})}
    if visible:
        return proc.run(command, env=full, check=False)
    return proc.capture(command, env=full)


def check_room(result: Result) -> None:
    """Raise where git failed because a disk is full.

    Raises:
        HostError: It is.
    """
    if result.returncode and re.search(r"No space left on device|Disk quota", result.output):
        msg = f"no room on disk: {mask(_last_line(result.output))}"
        raise HostError(msg, hint="free some space, or set TRITONBUILD_CACHE_DIR elsewhere")


def check_whole(repository: Path | None, result: Result) -> None:
    """Raise where git failed because a repository of the cache is broken.

    Raises:
        HostError: It is; others may still borrow from it, so that it is not deleted here.
    """
    if repository is None or not result.returncode:
        return
    for line in result.output.splitlines():
        # A server on this machine says the same of its own.
        is_ours = str(repository) in line or "refs/tritonbuild/" in line
        if is_ours and _DAMAGED.search(line):
            msg = f"the cached repository {repository} is damaged: {line.strip()}"
            raise HostError(msg, hint=f"delete {repository} and run again: it is fetched anew")


@contextlib.contextmanager
def hide_credentials(candidate: str) -> Iterator[dict[str, str]]:
    """Give settings that put a password back into an address, out of sight of `ps` and logs."""
    plain = strip_credentials(candidate)
    if plain == candidate:
        yield {}
        return
    fd, name = tempfile.mkstemp(prefix="tritonbuild-", suffix=".gitconfig")
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as out:
            out.write(f"[url {quote(candidate)}]\n\tinsteadOf = {quote(plain)}\n")
        yield {"include.path": name}
    finally:
        Path(name).unlink(missing_ok=True)


def quote(value: str) -> str:
    """Return a value or subsection as git's configuration files want it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def explain(result: Result) -> str:
    """Return in one line why git failed."""
    line = _last_line(result.output)
    kind = "no such repository, or no right to read it: " if _GONE.search(line) else ""
    return f"{kind}{mask(line)} (git: exit code {result.returncode})"


def _last_line(output: str) -> str:
    """Return the line that says why: git's first `fatal:` or `error:`, else its last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [
        line for line in lines if re.match(r"(fatal|error|remote: .*error)", line, re.IGNORECASE)
    ]
    return (telling or lines or ["no message"])[0 if telling else -1]
