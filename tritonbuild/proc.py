"""The one door through which tritonbuild starts other programs.

Programs get an argument list (never a shell line), a closed stdin and an environment that was made
for them. The kernel kills them when tritonbuild dies; what they start in turn is theirs to keep in
order, or is kept in namespaces that end with them (`contain`). What ran is kept beside its output (`Log`), so that it can be
run again by hand.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
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
from tritonbuild.record import describe_failure, write_twin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import IO

# What a child may inherit. Proxies, certificates and pip's own settings are the user's wishes for
# every program that goes out to the network, and where ccache keeps what it keeps; everything else
# is made up by the caller.
INHERITED = frozenset(
    {
        "PATH", "HOME", "TMPDIR", "TERM", "USER", "LOGNAME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
        "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE", "SOURCE_DATE_EPOCH", "NETRC", "APT_CONFIG", "CCACHE_DIR",
    }
)  # fmt: skip
INHERITED_PREFIXES = ("PIP_", "DOCKER_", "BUILDX_", "BUILDKIT_")
# What BuildKit needs to use GitHub's cache (`type=gha`); secrets, so for `docker buildx` alone.
# https://docs.docker.com/build/cache/backends/gha/
GITHUB_CACHE = (
    "ACTIONS_CACHE_SERVICE_V2", "ACTIONS_CACHE_URL", "ACTIONS_RESULTS_URL", "ACTIONS_RUNTIME_TOKEN",
)  # fmt: skip
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "ftp_proxy")

# Names a step in the environment of all its processes, whatever session they make themselves.
STEP_MARK = "TRITONBUILD_STEP"

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
        errors: stderr where it was kept apart (see `exchange`).
    """

    returncode: int
    output: str
    seconds: float
    errors: str = ""


@dataclass(frozen=True)
class Ended:
    """How a program ended whose output went elsewhere (see `stream`).

    Attributes:
        returncode: Exit code; negative is the signal that ended it.
        seconds: Wall time.
    """

    returncode: int
    seconds: float


def make_env(extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Return a child's environment: an allow-list of ours, a fixed locale, and `extra`.

    A value of None in `extra` takes the variable away.
    """
    env = {
        name: value
        for name, value in os.environ.items()
        if name in INHERITED or name.startswith(INHERITED_PREFIXES) or name.lower() in PROXIES
    }
    env.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    env["LC_ALL"] = "C.UTF-8"
    for name, value in (extra or {}).items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    return env


def read_environment(names: Iterable[str]) -> dict[str, str]:
    """Return those of the user's variables that are set."""
    return {name: os.environ[name] for name in names if name in os.environ}


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
        write_twin(
            log, argv, env=child_env, cwd=cwd, returncode=result.returncode, seconds=result.seconds
        )
    if check and result.returncode != 0:
        msg = describe_failure(argv, result, log)
        if "No space left on device" in result.output:
            raise HostError(msg, hint="free some space, then run the same command again")
        raise BuildError(msg, hint="mend what it says, then run the same command again")
    return result


def stream(
    argv: Sequence[str],
    *,
    feed: Callable[[bytes], None],
    env: Mapping[str, str | None] | None = None,
    cwd: Path | None = None,
    started: Callable[[int], None] | None = None,
) -> Ended:
    """Run a program to its end; hand over its joined output in blocks as it comes, keep none.

    What it leaves running in its session's process group is killed when it has ended.

    Args:
        argv: Program and arguments.
        feed: Gets blocks of at most 64 KiB, in this thread; what it raises stops the program.
        env: Additions to the environment (see `make_env`).
        cwd: Working folder.
        started: Gets the process id.

    Raises:
        HostError: The program does not exist.
        KeyboardInterrupt: Everything is being stopped (see `stopped`).
    """
    check_stopping()
    terminal.detail(f"+ {format_argv(argv)}")
    began = time.monotonic()
    with _popen(argv, make_env(env), cwd, subprocess.PIPE) as child:
        _running.add(child)
        try:
            check_stopping()
            if started:
                started(child.pid)
            _pump(child, feed)
            child.wait()
        except BaseException:
            stop(child)
            raise
        finally:
            _running.discard(child)
    check_stopping()
    return Ended(child.returncode, time.monotonic() - began)


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


def run_visible(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    as_data: bool = False,
) -> int:
    """Run a program with the user's own terminal (doctor --fix, shell); return its exit code.

    Args:
        argv: Program and arguments.
        env: Its whole environment; the user's where none is given.
        cwd: Working folder.
        as_data: What it says is what the user asked for, and goes to stdout; else it is talk.
    """
    if not as_data:
        terminal.info(f"+ {format_argv(argv)}")
    with _leave_ctrl_c_to_child() if as_data else contextlib.nullcontext():
        try:
            return subprocess.run(
                list(argv), env=env, cwd=cwd, stdout=None if as_data else 2, check=False
            ).returncode
        except OSError as err:
            msg = f"cannot run {argv[0]}: {err.strerror}"
            raise HostError(msg) from err


@contextlib.contextmanager
def _leave_ctrl_c_to_child() -> Iterator[None]:
    """Let Ctrl-C be the business of whoever has the terminal: a debugger does not end by it.

    For the main thread, which signals reach.
    """
    # A function, unlike SIG_IGN, is not what the child inherits.
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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


@contextlib.contextmanager
def attached(
    argv: Sequence[str],
    *,
    env: Mapping[str, str | None] | None = None,
    shown: str | None = None,  # what -v says in place of the command
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program beside us with pipes to stdin, stdout and stderr; stop it after the block."""
    terminal.detail(f"+ {shown or format_argv(argv)}")
    with _popen(argv, make_env(env), None, subprocess.PIPE, pipes=True) as child:
        try:
            yield child
        finally:
            stop(child)


def exchange(
    argv: Sequence[str],
    *,
    given: bytes = b"",
    timeout: float,
    env: Mapping[str, str | None] | None = None,
    shown: str | None = None,
) -> Result:
    """Give a program its stdin and return what it answered, stderr apart; it is not judged.

    Raises:
        HostError: The program does not exist.
        TimeoutError: It took longer than `timeout` seconds, and was stopped.
    """
    began = time.monotonic()
    with attached(argv, env=env, shown=shown) as child:
        try:
            output, errors = child.communicate(given, timeout)
        except subprocess.TimeoutExpired as err:
            raise TimeoutError from err
    said = (output.decode(errors="replace"), errors.decode(errors="replace"))
    return Result(child.returncode, said[0], time.monotonic() - began, said[1])


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
    argv = [str(unshare), *_NAMESPACES, "--"]
    return argv if unshare and capture([*argv, "true"]).returncode == 0 else []


@functools.cache
def contain_processes() -> list[str]:
    """Return what stands before a command so that all it starts ends with it, for any user.

    As `contain`, with a /proc that shows its processes alone where that can be mounted. Users
    other than root get a user namespace in which they are who they are, so that files are theirs;
    root does not, because there it could give files to nobody else.
    """
    unshare = find_tool("unshare")
    user = [] if os.geteuid() == 0 else ["--user", "--map-current-user"]
    for own_proc in (["--mount-proc"], []):
        argv = [str(unshare), *user, *_NAMESPACES, *own_proc, "--"]
        if unshare and capture([*argv, "true"]).returncode == 0:
            return [*argv, *_FIRST_PROCESS]
    return []


_NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child")
# The first process of a namespace does not hear SIGTERM unless it asks to: the second one does.
_FIRST_PROCESS = ("/bin/sh", "-c", '"$@"; exit "$?"', "sh")


def offer_to_oom_killer() -> list[str]:
    """Return what stands before a command so that the kernel kills it sooner than others.

    When memory runs out, a compiler is to die and not the user's shell. Any user may raise the
    value; children inherit it.
    """
    choom = find_tool("choom")
    return [str(choom), "-n", "500", "--"] if choom else []


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


def _popen(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path | None, sink: int | IO[bytes],
    *, pipes: bool = False,
) -> subprocess.Popen[bytes]:  # fmt: skip
    program = shutil.which(argv[0], path=env.get("PATH"))
    if program is None:
        msg = f"cannot run {argv[0]}: no such program"
        raise HostError(msg, hint="`tritonbuild doctor` says what this machine lacks")
    # setpriv (util-linux) makes the kernel kill the child when we die, even by SIGKILL.
    setpriv = find_tool("setpriv")
    guard = [str(setpriv), "--pdeathsig", "KILL", "--"] if setpriv else []
    # A session of its own, so that a whole tree of processes can be stopped at once.
    return subprocess.Popen(
        [*guard, program, *argv[1:]], env=dict(env), cwd=cwd, start_new_session=True,
        stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
        stdout=sink, stderr=subprocess.PIPE if pipes else subprocess.STDOUT,
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


def _pump(child: subprocess.Popen[bytes], feed: Callable[[bytes], None]) -> None:
    """Hand over a child's output until it ends, then end what it left behind."""
    assert child.stdout is not None
    fd = child.stdout.fileno()
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while True:
        if poll.poll(1000):
            block = os.read(fd, 1 << 16)
            if not block:
                break
            feed(block)
        elif _has_ended(child, os.WNOHANG):  # a process that it left keeps the pipe open
            break
    _has_ended(child, 0)
    # Before its id is free for others.
    _signal_group(child.pid, signal.SIGKILL)


def _has_ended(child: subprocess.Popen[bytes], options: int) -> bool:
    """Return whether a child has ended, and leave it there to be reaped."""
    try:
        return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | options) is not None
    except ChildProcessError:  # `stopped` was faster, in another thread
        return True


def _signal_group(pid: int, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)
