"""Steps as bash scripts on this machine: contained, logged whole, and with a bounded memory of ours."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from tritonbuild import proc
from tritonbuild.console import terminal
from tritonbuild.errors import HostError
from tritonbuild.executors.cgroup import count_oom_kills
from tritonbuild.executors.sandbox import DIRECT
from tritonbuild.record import write_twin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import IO

    from tritonbuild.engine.jobs import JobPool
    from tritonbuild.executors.sandbox import Sandbox

MARK = proc.STEP_MARK

_TAIL_BYTES = 256 << 10
_LINE_BYTES = 4 << 10


@dataclass(frozen=True)
class ScriptResult:
    """How a script ended.

    Attributes:
        returncode: Exit code; negative is the signal that ended it.
        seconds: Wall time.
        killed_for_memory: It failed, and a compiler of it found no memory or was killed for want
            of it.
        tail: The last 256 KiB that it printed.
    """

    returncode: int
    seconds: float
    killed_for_memory: bool
    tail: str


class Watcher(Protocol):
    """Who shows how a script gets on."""

    def feed(self, line: str) -> None:
        """Take a line that the script printed."""

    def follow(self, pid: int) -> None:
        """Take the id of the process below which all of the script's are."""

    def note(self, text: str) -> None:
        """Take what is going on before the script prints anything."""


def run_script(
    script: Path,
    *,
    log: Path,
    environment: Mapping[str, str],
    watch: Callable[[str], None],
    cwd: Path | None = None,
    started: Callable[[int], None] | None = None,
    append: bool = False,
    sandbox: Sandbox = DIRECT,
) -> ScriptResult:
    """Run a bash script to its end; a failure is the caller's to judge.

    All that it starts ends with it and with us, even if we are killed. Where the kernel does not
    allow that (no namespaces), what an earlier run left is killed before this one starts.

    Args:
        script: The script.
        log: File that gets everything it prints as it comes, with a JSON twin (see `proc.run`).
        environment: Additions to the environment (see `proc.make_env`).
        watch: Gets each line that it prints, cut at 4 KiB, in this thread.
        cwd: Working folder.
        started: Gets the id of the process below which all others are.
        append: Keep what the log holds already.
        sandbox: Where it runs; the script and what it works on are mounted there under their own
            paths.

    Raises:
        HostError: There is no bash, the log cannot be written, or processes of an earlier run do
            not end.
        KeyboardInterrupt: Everything is being stopped.
    """
    mark = str(log.absolute())
    kill_marked(mark)
    env = {**environment, MARK: mark}
    argv = sandbox.argv(["bash", str(script)], env)
    # bubblewrap makes namespaces by itself.
    contained = proc.contain_processes() if sandbox.root is None else []
    guard = [*proc.offer_to_oom_killer(), *contained]
    kills = count_oom_kills()
    signs = MemorySigns()
    with _open_log(log, append=append) as sink:
        output = _Output(sink, watch, signs)
        try:
            ended = proc.stream(
                [*guard, *argv], feed=output.feed, env=env, cwd=cwd, started=started
            )
        finally:
            # ninja gives each command a process group of its own, which outlives that of ninja.
            kill_marked(mark)
        output.finish()
    write_twin(
        log, argv, env=proc.make_env(dict(environment)), cwd=cwd, returncode=ended.returncode,
        seconds=ended.seconds,
    )  # fmt: skip
    failed = ended.returncode != 0
    short = failed and (signs.found or count_oom_kills() > kills)
    return ScriptResult(ended.returncode, ended.seconds, short, output.tail)


def run_build_script(
    script: Path,
    *,
    log: Path,
    pool: JobPool,
    jobs: int,
    progress: Watcher,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    sandbox: Sandbox = DIRECT,
    helpers: int = 0,
) -> ScriptResult:
    """Run a script that compiles, with tokens of a pool; once more with half of them if need be.

    That is: where a compiler was killed for memory. The second result is what counts.

    Args:
        script: The script; a second run must go on from where the first stopped, as ninja does.
        log: As for `run_script`; it holds both runs.
        pool: Where compilers take their tokens.
        jobs: Compilers that may run while it does.
        progress: Who shows how it gets on.
        environment: Additions to the environment.
        cwd: Working folder.
        sandbox: As for `run_script`.
        helpers: Compilers that may run on other machines at the same time.

    Raises:
        HostError: As for `run_script`.
        KeyboardInterrupt: Everything is being stopped.
    """
    env = {**(environment or {}), **pool.environment()}
    # It need not be in the work directory, which is all that a root has of this machine.
    tokens = pool.fifo.parent
    sandbox = sandbox.with_bind(tokens, PurePosixPath(tokens), writable=True)

    def run(count: int, *, again: bool = False) -> ScriptResult:
        with pool.implicit(lambda: progress.note("waits for a free job")), pool.limited(count):
            return run_script(
                script, log=log, environment=env, watch=progress.feed, cwd=cwd,
                started=progress.follow, append=again, sandbox=sandbox,
            )  # fmt: skip

    jobs = min(jobs, pool.count)
    result = run(min(jobs + helpers, pool.count))
    if not result.killed_for_memory:
        return result
    half = max(1, jobs // 2)
    text = f"{script.stem}: a compiler found too little memory with {jobs} jobs; again with {half}"
    terminal.warning(text)
    with _open_log(log, append=True) as sink:
        sink.write(f"\n--- tritonbuild: {text}\n\n".encode())
    return run(half, again=True)


class _Output:
    """A script's output: all of it in the log, the end of it in memory, its lines to whoever looks.

    A step may print a gigabyte, and all of that on one line.
    """

    def __init__(self, sink: IO[bytes], watch: Callable[[str], None], signs: MemorySigns) -> None:
        self._sink = sink
        self._watch = watch
        self._signs = signs
        self._blocks: deque[bytes] = deque()
        self._kept = 0
        self._begun = b""

    def feed(self, block: bytes) -> None:
        try:
            self._sink.write(block)
        except OSError as err:
            msg = f"cannot write {self._sink.name}: {err.strerror}"
            raise HostError(msg, hint="free some space, then run the same command again") from err
        self._blocks.append(block)
        self._kept += len(block)
        while self._kept - len(self._blocks[0]) >= _TAIL_BYTES:
            self._kept -= len(self._blocks.popleft())
        self._split(block)

    def _split(self, block: bytes) -> None:
        # A carriage return ends a line too: counters that paint over themselves.
        lines, end, rest = (self._begun + block.replace(b"\r", b"\n")).rpartition(b"\n")
        self._begun = rest[:_LINE_BYTES]
        if end:
            self._show(lines)

    def finish(self) -> None:
        """Hand over a last line that has no end."""
        self._show(self._begun)

    def _show(self, lines: bytes) -> None:
        text = lines.decode(errors="replace")
        self._signs.feed(text)
        for line in text.split("\n"):
            if line:
                self._watch(line[:_LINE_BYTES])

    @property
    def tail(self) -> str:
        return b"".join(self._blocks)[-_TAIL_BYTES:].decode(errors="replace")


def _open_log(log: Path, *, append: bool) -> IO[bytes]:
    try:
        return log.open("ab" if append else "wb", buffering=0)
    except OSError as err:
        msg = f"cannot write {log}: {err.strerror}"
        raise HostError(msg, hint="choose another place with --work-dir") from err


# --- out of memory ----------------------------------------------------------------------------


class MemorySigns:
    """Looks in what a step prints for what compilers, linkers, ninja and make say without memory."""

    # gcc's driver, clang's, the compilers themselves, the linker's driver, ninja from 1.13 on,
    # make, bash. 137 is a shell's way to say that SIGKILL ended a program.
    _SIGNS = re.compile(
        r"Killed signal terminated program|fatal error: Killed\b|internal compiler error: Killed"
        r"|unable to execute command: Killed|virtual memory exhausted|: memory exhausted"
        r"|out of memory allocating \d+ bytes|std::bad_alloc|LLVM ERROR: out of memory"
        r"|ld terminated with signal 9|^FAILED: \[code=(?:137|-?9)\]|^make.*\*\*\* .*Error 137$"
        r"|: line \d+: +\d+ Killed\b|Cannot allocate memory",
        re.MULTILINE,
    )
    _WORDS = ("Killed", "memory", "bad_alloc", "137", "-9", "signal 9")

    def __init__(self) -> None:
        self.found = False

    def feed(self, text: str) -> None:
        """Look at some lines."""
        # Each sign holds one of these, and to look for them costs next to nothing.
        if not self.found and any(map(text.__contains__, self._WORDS)):
            self.found = bool(self._SIGNS.search(text))


# --- what an earlier run left -----------------------------------------------------------------


def kill_marked(mark: str) -> None:
    """Kill every process of ours that was started with this mark in its environment.

    Also of a contained run: the kernel needs a moment to end what it ends with us.

    Raises:
        HostError: One of them did not end.
    """
    limit = time.monotonic() + proc.STOP_GRACE
    while pids := _find_marked(mark):
        if time.monotonic() > limit:
            msg = f"processes of an earlier run do not end: {', '.join(map(str, pids))}"
            raise HostError(msg, hint="look at them with `ps`; the disk may be hanging")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _find_marked(mark: str) -> list[int]:
    entry = os.fsencode(f"{MARK}={mark}")
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if entry in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return [pid for pid in found if pid != os.getpid()]
