"""Runs a step's script in a container: `run_step.py SCRIPT [JOBS]`.

What BuildKit lacks for long builds is done here.

- Containers that compile at the same time share JOBS tokens, as GNU make's clients do: a named pipe in
  a folder that all of them see. Whoever comes first fills it; tokens of a container that was
  killed come back when nobody else compiles.
  https://www.gnu.org/software/make/manual/html_node/POSIX-Jobserver.html
- BuildKit shows 1 MiB of what a script prints, or 2 where it is newer, and 100 KiB or 200 a second; it
  drops the rest, where the error would be. So the middle is left out here, and the end is not.
  https://github.com/moby/buildkit/blob/v0.8.3/util/progress/logs/logs.go
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

POOL = "/run/tritonbuild-jobs"

# Bytes that are shown: of what comes first, of ninja's progress after that, of the end, and of all.
START = 640 << 10
PROGRESS = 64 << 10
END = 256 << 10
LIMIT = (1 << 20) - 1
# Bytes a second, and of a line in one piece.
SPEED = 96 << 10
PIECE = 16 << 10

_TENTH = re.compile(rb"\[ *\d*0(/\d+|%)\]")


@contextlib.contextmanager
def hold(name: str, kind: int) -> Iterator[int]:
    """Hold a lock of the pool; the kernel lets go of it when we end, however we do."""
    file = os.open(f"{POOL}/{name}", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, kind)
        yield file
    finally:
        os.close(file)


@contextlib.contextmanager
def share_jobs(jobs: int) -> Iterator[dict[str, str]]:
    """Take part in the pool; yield the variables by which ninja and make do so, too.

    A ninja older than 1.13 knows no tokens: then one container compiles after the other.
    """
    said = subprocess.run(["ninja", "--version"], capture_output=True, text=True, check=False)
    version = [int(part) for part in re.findall(r"\d+", said.stdout)[:2]]
    if version < [1, 13]:
        with hold("alone", fcntl.LOCK_EX):
            yield {}
        return
    pipe = f"{POOL}/tokens"
    # Nobody else comes or fills the pipe while `setup` is held; a pipe that nobody holds is empty.
    with contextlib.ExitStack() as stack:
        with hold("setup", fcntl.LOCK_EX):
            users = stack.enter_context(hold("users", fcntl.LOCK_UN))
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_first = True
            except BlockingIOError:
                is_first = False
            if is_first:
                Path(pipe).unlink(missing_ok=True)
                os.mkfifo(pipe)
            tokens = os.open(pipe, os.O_RDWR)
            stack.callback(os.close, tokens)
            if is_first:
                os.write(tokens, b"+" * jobs)
            fcntl.flock(users, fcntl.LOCK_SH)
        token = os.read(tokens, 1)  # each client may run one job without asking
        stack.callback(os.write, tokens, token)
        yield {"MAKEFLAGS": f"-j{jobs} --jobserver-auth=fifo:{pipe}"}


class Shown:
    """What BuildKit is given to show: all of it, or the start, a sign of life and the end."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._started = time.monotonic()
        self._held: deque[bytes] = deque()
        self._held_size = self._shown = self._left_out = 0

    def add(self, line: bytes) -> None:
        """Take a line, or a piece of one that is long."""
        # Of [12/345] every tenth does, once there is no room for all.
        if self._left_out and _TENTH.match(line):
            self._write(line, START + PROGRESS)
        self._held.append(line)
        self._held_size += len(line)
        self.settle()
        while self._held_size > END:
            gone = len(self._held.popleft())
            self._held_size -= gone
            self._left_out += gone

    def settle(self, limit: int = START) -> None:
        """Show what is held, as far as that may be by now."""
        while self._held and self._write(self._gap() + self._held[0], limit):
            self._held_size -= len(self._held.popleft())
            self._left_out = 0

    def finish(self) -> None:
        """Show all that is held, as soon as that may be."""
        self.settle(LIMIT)
        while self._held:
            time.sleep(0.1)
            self.settle(LIMIT)

    def _gap(self) -> bytes:
        gone = self._left_out
        return b"\n--- tritonbuild: %d bytes are left out here\n" % gone if gone else b""

    def _write(self, text: bytes, limit: int) -> bool:
        """Write a text, if that keeps within a limit and is not faster than BuildKit shows it."""
        seconds = int(time.monotonic() - self._started) + 1
        if self._shown + len(text) > min(limit, seconds * SPEED):
            return False
        self._shown += len(text)
        self._out.write(text)
        self._out.flush()
        return True


def copy(child: subprocess.Popen[bytes], shown: Shown) -> None:
    """Show what a child prints until it has ended; what it leaves running may keep the pipe."""
    assert child.stdout is not None
    pipe = child.stdout.fileno()
    rest = b""
    while True:
        if not select.select([pipe], [], [], 1)[0]:
            if child.poll() is not None:
                break
            shown.settle()
            continue
        block = os.read(pipe, PIECE)
        if not block:
            break
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            shown.add(line + b"\n")
        if len(rest) >= PIECE:
            shown.add(rest)
            rest = b""
    if rest:
        shown.add(rest)
    shown.finish()


def run(script: str, environment: dict[str, str]) -> int:
    """Run a script, show what it prints, and return its exit code."""
    argv = ["bash", script]
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, **environment}, bufsize=0,
    ) as child:  # fmt: skip
        copy(child, Shown(sys.stdout.buffer))
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def main(script: str, jobs: str | None = None) -> int:
    """Run a script, with a share of the jobs if there is a number of them."""
    with share_jobs(int(jobs)) if jobs else contextlib.nullcontext({}) as environment:
        return run(script, environment)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
