"""Runs a step's script in a container: `run_step.py SCRIPT [JOBS]`.

What BuildKit lacks for long builds is done here.

- Containers that compile at the same time share JOBS tokens, as GNU make's clients do: a named pipe in
  a folder that all of them see. Whoever comes first fills it; tokens of a container that was
  killed come back when nobody else compiles.
  https://www.gnu.org/software/make/manual/html_node/POSIX-Jobserver.html
- BuildKit shows 2 MiB of what a script prints, and drops the rest, where the error would be. So the
  middle is left out here, and the end is not.
  https://docs.docker.com/build/buildkit/configure/ (BUILDKIT_STEP_LOG_MAX_SIZE)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

POOL = "/run/tritonbuild-jobs"

# Bytes that are shown as they come, and of the end.
SHOWN = 1 << 20
END = 256 << 10

_PROGRESS = re.compile(rb"\[ *\d+(/\d+|%)\]")


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


def run(script: str, environment: dict[str, str]) -> int:
    """Run a script, show what it prints, and return its exit code."""
    argv = ["bash", script]
    end: deque[bytes] = deque()
    shown = kept = left_out = 0
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
    ) as child:  # fmt: skip
        assert child.stdout is not None
        # A line may have no end: nothing is kept that is longer than what is shown.
        while line := child.stdout.readline(END):
            # Of [12/345] every tenth does, once there is no room for all.
            if shown < SHOWN or (_PROGRESS.match(line) and line.find(b"0/", 0, 12) > 0):
                shown += len(line)
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
                end.clear()
                kept = 0
                continue
            end.append(line)
            kept += len(line)
            while kept > END:
                gone = len(end.popleft())
                kept -= gone
                left_out += gone
    if end:
        sys.stdout.buffer.write(b"--- tritonbuild: %d bytes are left out here\n" % left_out)
        sys.stdout.buffer.writelines(end)
        sys.stdout.buffer.flush()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def main(script: str, jobs: str | None = None) -> int:
    """Run a script, with a share of the jobs if there is a number of them."""
    with share_jobs(int(jobs)) if jobs else contextlib.nullcontext({}) as environment:
        return run(script, environment)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
