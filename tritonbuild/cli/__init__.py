"""The `tritonbuild` command: parse, call, print; and the one place that turns errors into exits."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


# Seconds after a signal within which another one is taken for the same wish.
_IMPATIENCE = 1.0


def main() -> None:
    """Run the command line; exit with the code that belongs to the error, if any."""
    if sys.argv[1:] == ["--version"]:
        # Asked for by scripts and prompts: answered before anything is imported for it.
        from tritonbuild import __version__

        sys.stdout.write(f"tritonbuild {__version__}\n")
        return
    from tritonbuild.cli.app import app
    from tritonbuild.console import terminal
    from tritonbuild.errors import HostError, TritonBuildError

    _unwind_on_signals()
    _forget_repository()
    try:
        app()
    except TritonBuildError as err:
        terminal.error(err)
        raise SystemExit(err.exit_code) from None
    except OSError as err:
        # A full disk or a read-only folder can show itself at any write.
        import errno

        if err.errno not in {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT}:
            raise
        host_error = HostError(f"{err.filename or 'cannot write'}: {err.strerror}")
        host_error.hint = "free some space or mend the rights, then run the same command again"
        terminal.error(host_error)
        _drop_output()
        raise SystemExit(host_error.exit_code) from None
    except Exception:
        terminal.bug()
        raise


def _unwind_on_signals() -> None:
    """Make Ctrl-C, SIGTERM and SIGHUP unwind once: children stop, temporary folders go.

    Whoever asks again, having waited, gets the end at once. The kernel ends our children then, and
    what is left in the cache and in the work directory is what `kill -9` leaves.
    """
    first: list[float] = []

    def unwind(number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not first:
            first.append(now)
            atexit.register(_ignore_signals)
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        # An impatient double press, or timeout(1), which signals us and then our whole group: a
        # second exception would break off the unwinding that the first one began.
        if now - first[0] > _IMPATIENCE:
            os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Whoever started us with nohup does not want SIGHUP to be heard.
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, unwind)


def _ignore_signals() -> None:
    """Let a signal that comes while Python ends change nothing; it would take the exit code away."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _forget_repository() -> None:
    """Take away the variables by which git, in a hook say, tells which repository is worked in.

    No repository of ours is meant, and GitPython looks at them. `git rev-parse --local-env-vars`
    lists them.
    """
    for name in (
        "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_CONFIG_COUNT",
        "GIT_CONFIG_PARAMETERS", "GIT_DIR", "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_NO_REPLACE_OBJECTS", "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX", "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE",
    ):  # fmt: skip
        os.environ.pop(name, None)


def _drop_output() -> None:
    """Send what is left in stdout's buffer nowhere: Python flushes it once more at the end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
