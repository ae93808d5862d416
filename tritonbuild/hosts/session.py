"""A command beside us whose stdin we hold, here or at the other end of a connection."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from typing import TYPE_CHECKING

from tritonbuild import proc

if TYPE_CHECKING:
    import subprocess  # noqa: TID251  # for the name of a type only
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# How long a command that was released may take to end, in seconds: a server lets requests finish.
_GRACE = 20.0


class ChildSession:
    """A child of ours as a `Session`."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self._rest = b""
        self._errors: list[bytes] = []

    def read_line(self, start: str, timeout: float) -> str | None:
        """Return its next line that begins so, None where it ended or said none in time."""
        deadline = time.monotonic() + timeout
        line = self._read_line(deadline)
        while line is not None and not line.startswith(start):
            line = self._read_line(deadline)
        return line

    def _read_line(self, deadline: float) -> str | None:
        assert self._child.stdout is not None
        fd = self._child.stdout.fileno()
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                return None
            block = os.read(fd, 1 << 12)
            if not block:
                return None
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace")

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        return self._child.poll()

    def release(self) -> None:
        """End its stdin."""
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()

    def read_errors(self) -> str:
        """Return what it wrote to stderr, once it has ended."""
        assert self._child.stderr is not None
        self._child.wait()
        with contextlib.suppress(OSError, ValueError):
            self._errors.append(self._child.stderr.read())
        return b"".join(self._errors).decode(errors="replace")

    def wait(self, timeout: float) -> None:
        """Wait for its end, not longer than that."""
        deadline = time.monotonic() + timeout
        while self._child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)


@contextlib.contextmanager
def hold_child(
    argv: Sequence[str], *, log: Path | None, shown: str | None = None
) -> Iterator[ChildSession]:
    """Run a command for the length of the block; see `tritonbuild.hosts.model.Host.hold`."""
    with proc.attached(argv, shown=shown) as child:
        session = ChildSession(child)
        with _copied(child, log) if log else contextlib.nullcontext():
            try:
                yield session
            finally:
                session.release()
                session.wait(_GRACE)


@contextlib.contextmanager
def _copied(child: subprocess.Popen[bytes], log: Path) -> Iterator[None]:
    """Copy what a child says to a file, as it comes; what it said at its end, too."""

    def pump(fd: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            while block := os.read(fd, 1 << 16):
                sink.write(block)

    pipes = [pipe for pipe in (child.stdout, child.stderr) if pipe]
    # Both write to one open file, unbuffered: what comes in one piece stays in one.
    with log.open("wb", buffering=0) as sink:
        threads = [threading.Thread(target=pump, args=(p.fileno(),), daemon=True) for p in pipes]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for thread in threads:
                thread.join(1.0)
