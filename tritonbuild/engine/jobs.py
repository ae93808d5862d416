"""One pool of job tokens for all steps that compile: a jobserver, as GNU make calls it.

The pool is a named pipe with a byte for each compiler that may run. ninja (1.13 and newer) and
GNU make (4.4 and newer) find it through MAKEFLAGS, take a byte before they start another compiler
and put it back afterwards: https://www.gnu.org/software/make/manual/html_node/POSIX-Jobserver.html.
Each of them runs one compiler without asking, so a step takes a token for that one beforehand.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import re
import select
import shutil
import tempfile
import termios
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.paths import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Self

_TOKEN = b"+"
# How long to wait for a token before looking whether everything is being stopped, in seconds.
_PATIENCE = 0.2
# MAKEFLAGS is cut at blanks, and nobody agrees on how to quote in it.
_PLAIN = re.compile(r"[A-Za-z0-9_./+=@:~-]+")
_PREFIX = ".jobs-"

# GNU make before 4.4 knows a jobserver as two open files only, and stops with "internal error:
# invalid --jobserver-auth string" when it is told of a named pipe. Debian 12 and Ubuntu 22.04 have
# make 4.3. Where an ExternalProject or a configure script calls it, this stands in its place: it
# opens the named pipe, and make 4.3 then takes part like the others.
_OLD_MAKE = """\
#!/bin/sh
case $MAKEFLAGS in
  *--jobserver-auth=fifo:*)
    head=${MAKEFLAGS%%--jobserver-auth=fifo:*}
    rest=${MAKEFLAGS#*--jobserver-auth=fifo:}
    pipe=${rest%% *}
    exec 9<>"$pipe" || exit
    export MAKEFLAGS="$head--jobserver-auth=9,9${rest#"$pipe"}"
    ;;
esac
exec @make@ "$@"
"""


def write_make(folder: Path, make: Path | None, version: str) -> None:
    """Write a `make` that takes part in a pool, if the system's is too old to do so by itself.

    CMake may remember where it found make, so the folder must be there in later runs too.

    Args:
        folder: A folder of programs that comes first in the PATH of steps.
        make: The system's, where steps find it; None where it has none.
        version: Its version.
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    path = folder / "make"
    if make and found and (int(found[1]), int(found[2])) < (4, 4):
        text = _OLD_MAKE.replace("@make@", proc.format_argv([str(make)]))
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text, executable=True)
    else:
        path.unlink(missing_ok=True)


class JobPool:
    """Tokens for at most `count` compilers at once, over all steps that run side by side.

    The number that is held back (`hold`, `limited`) is never so high that no compiler could run.

    A client that is killed keeps its tokens. While other steps run nobody can tell which tokens
    those were, so the pool is put right whenever a step starts and no other one runs.
    """

    def __init__(self, count: int, folder: Path | None = None) -> None:
        """Make a pool.

        Args:
            count: Compilers that may run at once, at least 1.
            folder: Where the pipe's own folder is made; that of killed runs is removed there, so
                nobody else may use it at the same time. The system's temporary folder where it is
                None, or where its path has characters that MAKEFLAGS cannot hold.
        """
        self.count = max(1, count)
        self._parent = folder
        self._lock = threading.RLock()
        self._change = threading.Condition(self._lock)
        self._running = 0
        self._held = 0
        self._held_for_memory = 0
        self._limits: list[int] = []
        self._closed = False

    def __enter__(self) -> Self:
        self._folder = self._make_folder()
        self.fifo = self._folder / "fifo"
        os.mkfifo(self.fifo, 0o600)
        # Open for both, so that tokens outlive the clients, and writing never waits for a reader.
        self._pipe = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        os.write(self._pipe, _TOKEN * self.count)
        self._keeper = threading.Thread(target=self._keep, name="job tokens", daemon=True)
        self._keeper.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._keeper.join()
        os.close(self._pipe)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make_folder(self) -> Path:
        """Return a new folder that is ours alone."""
        parent = self._parent
        if parent is not None:
            for stale in parent.glob(f"{_PREFIX}*"):
                shutil.rmtree(stale, ignore_errors=True)
        candidates = (parent, Path(tempfile.gettempdir()), Path("/tmp"))
        place = next(path for path in candidates if path and _PLAIN.fullmatch(str(path)))
        return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))

    def environment(self) -> dict[str, str]:
        """Return what a step that compiles needs in its environment to take part."""
        return {"MAKEFLAGS": f"-j{self.count} --jobserver-auth=fifo:{self.fifo}"}

    @property
    def free(self) -> int:
        """Tokens that nobody has."""
        waiting = array.array("i", [0])
        fcntl.ioctl(self._pipe, termios.FIONREAD, waiting)
        return waiting[0]

    @property
    def held(self) -> int:
        """Tokens that are held back."""
        return self._held

    @contextlib.contextmanager
    def implicit(self, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Take the token of the compiler that a step runs without asking; wait for it.

        Args:
            waiting: Called once if it has to wait.

        Raises:
            KeyboardInterrupt: Everything is being stopped.
        """
        proc.check_stopping()
        while not self._try_to_start():
            if waiting:
                waiting()
                waiting = None
            self._wait_for_token()
            proc.check_stopping()
        try:
            yield
        finally:
            with self._change:
                self._running -= 1
                self._put(1)
                self._change.notify_all()

    def _try_to_start(self) -> bool:
        with self._change:
            if self._running == 0:
                # Nobody has any: what is missing was a killed client's, and what is too many too.
                self._drain()
                self._put(self.count - self._held)
            if not self._take():
                return False
            self._running += 1
            self._settle()
            return True

    @contextlib.contextmanager
    def limited(self, count: int) -> Iterator[None]:
        """Let at most `count` compilers run while the block does, the other steps' included.

        Those that run already are not stopped: the number goes down as they end.
        """
        limit = max(1, count)
        with self._change:
            self._limits.append(limit)
            self._settle()
        try:
            yield
        finally:
            with self._change:
                self._limits.remove(limit)
                self._settle()

    def hold(self, count: int) -> None:
        """Hold back this many tokens, as they come in; 0 gives them back."""
        with self._change:
            self._held_for_memory = count
            self._settle()

    def _get_target(self) -> int:
        """Return how many tokens to hold back: each running step keeps one, or the next one to."""
        limit = min([self.count, *self._limits])
        wanted = max(self._held_for_memory, self.count - limit)
        return max(0, min(wanted, self.count - max(1, self._running)))

    def _settle(self) -> None:
        """Come as near to the number to be held back as is possible at once."""
        target = self._get_target()
        while self._held < target and self._take():
            self._held += 1
        if self._held > target:
            self._put(self._held - target)
            self._held = target
        self._change.notify_all()

    def _keep(self) -> None:
        """Take tokens that come in, until as many are held back as shall be."""
        # Whoever gives a token back takes it again at once, if we are not quicker: root may be.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10)
        while True:
            with self._change:
                if self._closed:
                    return
                self._settle()
                if self._held >= self._get_target():
                    self._change.wait()
                    continue
            self._wait_for_token()

    def _wait_for_token(self) -> None:
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        poll.poll(_PATIENCE * 1000)

    def _take(self) -> bool:
        try:
            return bool(os.read(self._pipe, 1))
        except BlockingIOError:
            return False

    def _put(self, tokens: int) -> None:
        if tokens > 0:
            os.write(self._pipe, _TOKEN * tokens)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._pipe, 1 << 16)
