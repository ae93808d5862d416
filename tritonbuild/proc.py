"""The one door through which tritonbuild starts other programs.

Programs get an argument list (never a shell line), a closed stdin and an environment that was made
for them. The kernel kills them when tritonbuild dies; what they start in turn is theirs to keep in
order, or is kept in namespaces that end with them (`contain`). What ran is kept beside its output (`Log`), so that it can be
run again by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild.console import terminal
from tritonbuild.errors import BuildError, HostError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

# What a child may inherit. Proxies, certificates and pip's own settings are the user's wishes for
# every program that goes out to the network; everything else is made up by the caller.
_INHERITED = frozenset(
    {
        "PATH", "HOME", "TMPDIR", "TERM", "USER", "LOGNAME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
        "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE", "SOURCE_DATE_EPOCH", "NETRC", "APT_CONFIG",
    }
)  # fmt: skip
_INHERITED_PREFIXES = ("PIP_", "DOCKER_")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "ftp_proxy")

# How long a program that was asked to stop may take before it is killed, in seconds.
STOP_GRACE = 5.0

# Programs that run right now; steps run in threads, and Ctrl-C reaches the main one only.
_running: set[subprocess.Popen[bytes]] = set()
_stopping = threading.Event()


@dataclass(frozen=True)
class Result:
    """What a program left behind.

    Attributes:
        returncode: Exit code; negative is the signal that ended it.
        output: stdout and, where they were joined, stderr.
        seconds: Wall time.
    """

    returncode: int
    output: str
    seconds: float


def make_env(extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Return a child's environment: an allow-list of ours, a fixed locale, and `extra`.

    A value of None in `extra` takes the variable away.
    """
    env = {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES) or name.lower() in _PROXIES
    }
    env.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    env["LC_ALL"] = "C.UTF-8"
    for name, value in (extra or {}).items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    return env


def find_tool(name: str) -> Path | None:
    """Return where a program is; the system's sbin folders are searched too."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def require_tool(name: str, *, reason: str, hint: str) -> Path:
    """Return where a program is.

    Raises:
        HostError: It is not there; the message says what it would have been for.
    """
    found = find_tool(name)
    if found is None:
        msg = f"{name} not found: it is needed {reason}"
        raise HostError(msg, hint=hint)
    return found


def format_argv(argv: Sequence[str]) -> str:
    """Return a command as one line that a shell would read the same way."""
    return shlex.join(argv)


def run(
    argv: Sequence[str],
    *,
    log: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    cwd: Path | None = None,
    check: bool = True,
) -> Result:
    """Run a program to its end and return its joined output.

    Args:
        argv: Program and arguments.
        log: File that gets the output as it comes, with a JSON twin (`.json`) that holds argv,
            cwd, the environment, exit code and seconds.
        env: Additions to the environment (see `make_env`).
        cwd: Working folder.
        check: Raise when the exit code is not 0.

    Raises:
        HostError: The program does not exist.
        BuildError: It failed (with `check`).
        KeyboardInterrupt: Everything is being stopped (see `stopped`).
    """
    check_stopping()
    terminal.detail(f"+ {format_argv(argv)}")
    started = time.monotonic()
    child_env = make_env(env)
    with contextlib.ExitStack() as stack:
        sink: IO[bytes] | None = stack.enter_context(log.open("wb")) if log else None
        with _popen(argv, child_env, cwd, subprocess.PIPE) as child:
            _running.add(child)
            try:
                check_stopping()
                output = _tee(child, sink)
            except BaseException:
                stop(child)
                raise
            finally:
                _running.discard(child)
        result = Result(child.returncode, output, time.monotonic() - started)
    check_stopping()
    if log:
        _write_twin(log, argv, child_env, cwd, result)
    if check and result.returncode != 0:
        msg = describe_failure(argv, result, log)
        if "No space left on device" in result.output:
            raise HostError(msg, hint="free some space, then run the same command again")
        raise BuildError(msg, hint="mend what it says, then run the same command again")
    return result


def capture(argv: Sequence[str], *, env: Mapping[str, str | None] | None = None) -> Result:
    """Run a short program quietly, for its answer; a failure is the caller's to judge."""
    terminal.detail(f"+ {format_argv(argv)}")
    started = time.monotonic()
    try:
        done = subprocess.run(
            list(argv), env=make_env(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False, timeout=60,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as err:
        return Result(127, str(err), time.monotonic() - started)
    output = done.stdout.decode(errors="replace")
    return Result(done.returncode, output, time.monotonic() - started)


def run_visible(argv: Sequence[str]) -> int:
    """Run a program with the user's own terminal (doctor --fix); return its exit code.

    What it says is talk, not data: it goes to stderr.
    """
    terminal.info(f"+ {format_argv(argv)}")
    try:
        return subprocess.run(list(argv), stdout=2, check=False).returncode
    except OSError as err:
        msg = f"cannot run {argv[0]}: {err.strerror}"
        raise HostError(msg) from err


@contextlib.contextmanager
def background(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str | None] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program beside us, its output in `log`; it is stopped when the block ends.

    SIGTERM first, SIGKILL to its whole process group after `STOP_GRACE` seconds.
    """
    terminal.detail(f"+ {format_argv(argv)}")
    with log.open("wb") as sink, _popen(argv, make_env(env), cwd, sink) as child:
        try:
            yield child
        finally:
            stop(child)


def stop(child: subprocess.Popen[bytes], grace: float = STOP_GRACE) -> None:
    """Stop a child and everything in its process group: TERM, then KILL."""
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace)
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()


def contain() -> list[str]:
    """Return what stands before a command so that all it starts and mounts ends with it.

    Namespaces of its own for mounts and processes; nothing where we may not make them.
    """
    unshare = find_tool("unshare")
    argv = [str(unshare), "--mount", "--pid", "--fork", "--kill-child", "--"]
    return argv if unshare and capture([*argv, "true"]).returncode == 0 else []


def check_stopping() -> None:
    """Leave a thread's work while everything is being stopped (see `stopped`).

    Raises:
        KeyboardInterrupt: It was.
    """
    if _stopping.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def stopped() -> Iterator[None]:
    """Stop every program that `run` waits for in any thread; none starts while the block runs.

    For whoever waits in the block until those threads have noticed.
    """
    _stopping.set()
    try:
        for child in list(_running):
            stop(child)
        yield
    finally:
        _stopping.clear()


def describe_failure(argv: Sequence[str], result: Result, log: Path | None) -> str:
    """Return what failed, how, and the last lines that it said."""
    code = result.returncode
    how = f"exit code {code}"
    if code < 0:
        known = -code in set(signal.Signals)
        how = f"signal {signal.Signals(-code).name if known else -code}"
    lines = [f"{Path(argv[0]).name} failed with {how}", f"  command: {format_argv(argv)}"]
    tail = result.output.rstrip().splitlines()[-15:]
    lines += [f"  | {line}" for line in tail]
    if log:
        lines.append(f"  log: {log}")
    return "\n".join(lines)


def _popen(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path | None, sink: int | IO[bytes]
) -> subprocess.Popen[bytes]:
    program = shutil.which(argv[0], path=env.get("PATH"))
    if program is None:
        msg = f"cannot run {argv[0]}: no such program"
        raise HostError(msg, hint="`tritonbuild doctor` says what this machine lacks")
    # setpriv (util-linux) makes the kernel kill the child when we die, even by SIGKILL.
    setpriv = find_tool("setpriv")
    guard = [str(setpriv), "--pdeathsig", "KILL", "--"] if setpriv else []
    # A session of its own, so that a whole tree of processes can be stopped at once.
    return subprocess.Popen(
        [*guard, program, *argv[1:]], env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL,
        stdout=sink, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def _tee(child: subprocess.Popen[bytes], sink: IO[bytes] | None) -> str:
    """Copy a child's output to the log; keep the last part of it (a step may print gigabytes)."""
    kept: list[bytes] = []
    size = 0
    assert child.stdout is not None
    for line in child.stdout:
        if sink:
            sink.write(line)
            sink.flush()
        kept.append(line)
        size += len(line)
        while size > _KEPT_BYTES and len(kept) > 1:
            size -= len(kept.pop(0))
    child.wait()
    return b"".join(kept).decode(errors="replace")


_KEPT_BYTES = 1 << 20


def _signal_group(pid: int, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)


def _write_twin(
    log: Path, argv: Sequence[str], env: Mapping[str, str], cwd: Path | None, result: Result
) -> None:
    from tritonbuild.paths import write_text

    # Only what was set for the child, not what the user's shell happened to hold: an index
    # address may carry a password.
    shown = {key: value for key, value in env.items() if os.environ.get(key) != value}
    twin = {
        "argv": list(argv),
        "cwd": str(cwd or Path.cwd()),
        "env": shown,
        "returncode": result.returncode,
        "seconds": round(result.seconds, 3),
    }
    write_text(log.with_suffix(".json"), json.dumps(twin, indent=2) + "\n")
