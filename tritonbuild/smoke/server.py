"""One tritonserver on loopback: started, waited for, watched, and stopped whatever happens."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn

from tritonbuild import proc
from tritonbuild.errors import HostError, SmokeTestError
from tritonbuild.paths import make_dir

if TYPE_CHECKING:
    import subprocess  # noqa: TID251  # for the name of a type only
    from collections.abc import Collection, Iterator, Sequence

    from tritonbuild.executors.sandbox import Sandbox

LOOPBACK = "127.0.0.1"
TARGET_DIR = PurePosixPath("/opt/tritonserver")
TARGET_MODELS = PurePosixPath("/models")

# A free port may be taken by someone else before the server binds it; then others are tried.
_PORT_TRIES = 3
_POLL_SECONDS = 0.1
# tritonserver lets requests that it works on finish before it exits.
_EXIT_TIMEOUT = 10

SHARED_MEMORY_DIR = Path("/dev/shm")
# triton_python_backend_shm_region_0, triton_onnxruntime_backend_shm_region_0, ...
_REGIONS = "triton_*_backend_shm_region_*"

# As the server says it: "failed to start HTTP service: Unavailable - Socket '127.0.0.1:8000'
# already in use", for gRPC and metrics likewise.
_PORT_TAKEN = re.compile(r"Socket '[^']*:(\d+)' already in use|Address already in use")


@dataclass(frozen=True)
class Ports:
    """The three ports of a server."""

    http: int
    grpc: int
    metrics: int


@dataclass
class Server:
    """A server that has answered that it is ready.

    Attributes:
        log: Everything that it says.
        started: `time.monotonic()` of its start.
        ready_seconds: Time from there until it was ready.
    """

    ports: Ports
    log: Path
    started: float
    ready_seconds: float
    _child: subprocess.Popen[bytes]
    _nested: bool

    @property
    def http_url(self) -> str:
        """Where it answers HTTP."""
        return f"http://{LOOPBACK}:{self.ports.http}"

    @property
    def grpc_address(self) -> str:
        """Where it answers gRPC."""
        return f"{LOOPBACK}:{self.ports.grpc}"

    @property
    def metrics_url(self) -> str:
        """Where its metrics are."""
        return f"http://{LOOPBACK}:{self.ports.metrics}/metrics"

    def find_death(self, *, wait: float = 0.0) -> str | None:
        """Return how the server ended, None while it runs.

        Args:
            wait: Seconds to watch it. A server that was killed stops answering at once, but its
                sandbox takes a moment to end.
        """
        deadline = time.monotonic() + wait
        while self._child.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        code = self._child.poll()
        return None if code is None else describe_exit(code)

    def ask_to_stop(self, timeout: float) -> int | None:
        """Send SIGTERM to the server itself; return its exit code, None if it goes on running.

        A sandbox's outer process would take the signal for itself and kill the server.
        """
        pid = _find_inner(self._child.pid) if self._nested else self._child.pid
        if pid is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while self._child.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return self._child.poll()


def describe_exit(code: int) -> str:
    """Return an exit code in words; a sandbox reports signal N as 128 + N."""
    number = -code if code < 0 else code - 128
    if number in set(signal.Signals):
        return f"signal {signal.Signals(number).name}"
    return f"exit code {code}"


@contextlib.contextmanager
def run_server(
    sandbox: Sandbox,
    tritonserver_dir: Path,
    models_dir: Path,
    *,
    load: Sequence[str],
    log: Path,
    timeout: float,
    http_port: int | None = None,
    without: Collection[str] = (),
) -> Iterator[Server]:
    """Run a server for the length of the block; it is stopped in whatever way the block ends.

    Args:
        sandbox: How the board's programs are started.
        tritonserver_dir: The assembled tree.
        models_dir: The model repository.
        load: Models to load before it counts as ready.
        log: File for what it says.
        timeout: Seconds that it may take until it is ready.
        http_port: Port for HTTP; a free one where it is None.
        without: `grpc` or `metrics` where the server was built without it: it then refuses the
            options.

    Raises:
        SmokeTestError: It died while starting or was not ready in time.
        HostError: `http_port` is taken, or there are no free ports.
    """
    make_dir(log.parent)
    with contextlib.ExitStack() as stack:
        if sandbox.root is None:
            stack.enter_context(_leave_no_traces(tritonserver_dir))
        inside = sandbox.with_bind(tritonserver_dir, TARGET_DIR)
        inside = inside.with_bind(models_dir, TARGET_MODELS)
        tree = sandbox.locate(tritonserver_dir, TARGET_DIR)
        models = sandbox.locate(models_dir, TARGET_MODELS)
        for attempt in range(_PORT_TRIES):
            ports = pick_ports(http_port)
            argv = inside.argv(_server_argv(tree, models, ports, load, without))
            try:
                server = _start(stack, argv, ports, log, timeout, nested=sandbox.root is not None)
                break
            except _PortTakenError:
                if attempt == _PORT_TRIES - 1:
                    msg = f"free ports were taken by others {_PORT_TRIES} times in a row"
                    raise HostError(msg, hint="try again, or choose one with --http-port") from None
        yield server  # type: ignore[possibly-undefined]  # the loop's last round breaks or raises


def _server_argv(
    tree: str, models: str, ports: Ports, load: Sequence[str], without: Collection[str]
) -> list[str]:
    argv = [f"{tree}/bin/tritonserver", f"--model-repository={models}"]
    argv += [f"--backend-directory={tree}/backends", f"--cache-directory={tree}/caches"]
    argv += ["--model-control-mode=explicit", *(f"--load-model={name}" for name in load)]
    # A model that cannot be loaded is a finding about that model; the others are still asked.
    argv += ["--exit-on-error=false", "--strict-readiness=false"]
    argv += [f"--exit-timeout-secs={_EXIT_TIMEOUT}"]
    for name, port in (("http", ports.http), ("grpc", ports.grpc), ("metrics", ports.metrics)):
        if name not in without:
            argv += [f"--{name}-address={LOOPBACK}", f"--{name}-port={port}"]
    return argv


def pick_ports(http_port: int | None = None) -> Ports:
    """Return three ports of the loopback interface that are free now.

    Raises:
        HostError: `http_port` is taken.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for index, sock in enumerate(sockets):
            # As the server does it; otherwise a connection that ended lately blocks the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            wanted = http_port if index == 0 and http_port is not None else 0
            try:
                sock.bind((LOOPBACK, wanted))
            except OSError as err:
                raise _port_error(wanted, str(err.strerror)) from err
            except OverflowError as err:
                raise _port_error(wanted, "a port is a number up to 65535") from err
        http, grpc, metrics = (sock.getsockname()[1] for sock in sockets)
    return Ports(http, grpc, metrics)


def _port_error(port: int, why: str) -> HostError:
    msg = f"port {port} of {LOOPBACK} cannot be used: {why}"
    return HostError(msg, hint="choose another --http-port, or leave it out to get a free one")


class _PortTakenError(Exception):
    """The server found one of its ports taken."""


def _start(
    stack: contextlib.ExitStack,
    argv: Sequence[str],
    ports: Ports,
    log: Path,
    timeout: float,
    *,
    nested: bool,
) -> Server:
    """Start a server and wait until it is ready; `stack` gets what stops it."""
    started = time.monotonic()
    with contextlib.ExitStack() as starting:
        child = starting.enter_context(proc.background(argv, log=log))
        _wait_until_ready(child, ports, log, started + timeout, timeout)
        stack.push(starting.pop_all())
    return Server(ports, log, started, time.monotonic() - started, child, nested)


def _wait_until_ready(
    child: subprocess.Popen[bytes], ports: Ports, log: Path, deadline: float, timeout: float
) -> None:
    import requests

    url = f"http://{LOOPBACK}:{ports.http}/v2/health/ready"
    with requests.Session() as session:
        session.trust_env = False  # a proxy knows nothing of our loopback
        while time.monotonic() < deadline:
            code = child.poll()
            taken = _PORT_TAKEN.search(_read_log(log))
            if taken:
                raise _PortTakenError
            if code is not None:
                _fail(f"the server died while starting: {describe_exit(code)}", log)
            with contextlib.suppress(requests.RequestException):
                if session.get(url, timeout=2).status_code == 200:
                    return
            time.sleep(_POLL_SECONDS)
    _fail(f"the server was not ready after {timeout:.0f} s", log, hint=_SLOW)


_SLOW = "an emulated server on a busy machine may need longer: raise --timeout"


def _fail(what: str, log: Path, hint: str | None = None) -> NoReturn:
    msg = "\n".join([what, *(f"  | {line}" for line in tail_log(log)), f"  log: {log}"])
    raise SmokeTestError(msg, hint=hint or "the log says which file or library it was")


def _read_log(log: Path) -> str:
    try:
        return log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def tail_log(log: Path, count: int = 15) -> list[str]:
    """Return a server log's last lines, with error lines that stand before them in front."""
    lines = [line for line in _read_log(log).splitlines() if line.strip()]
    earlier = [line for line in lines[:-count] if re.match(r"E\d{4} |error:", line)]
    return earlier[-5:] + lines[-count:]


def _find_inner(pid: int) -> int | None:
    """Return the process that a sandbox runs: the first descendant that is not bubblewrap."""
    while True:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
            if not children:
                return None
            pid = int(children[0])
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
        except OSError:
            return None
        if name != "bwrap":
            return pid


@contextlib.contextmanager
def _leave_no_traces(tritonserver_dir: Path) -> Iterator[None]:
    """Remove what a server that runs without a sandbox leaves: shared memory and bytecode.

    A sandbox's /dev/shm goes with it, and its tree is mounted read-only. Here another server with
    Python models would meet ours: both count their regions from 0. The server's own remedy,
    `--backend-config=python,shm-region-prefix-name=`, gives all Python-based backends of 2.41.0
    one name, so that two models of one server share a region and crash.

    Raises:
        HostError: There are such regions.
    """
    regions = sorted(SHARED_MEMORY_DIR.glob(_REGIONS))
    if regions:
        msg = f"another Triton server with Python models runs here, or left {regions[0]}"
        raise HostError(msg, hint=f"stop it, or remove {SHARED_MEMORY_DIR / _REGIONS}")
    before = set(tritonserver_dir.rglob("__pycache__"))
    try:
        yield
    finally:
        for region in SHARED_MEMORY_DIR.glob(_REGIONS):
            region.unlink(missing_ok=True)
        for folder in set(tritonserver_dir.rglob("__pycache__")) - before:
            shutil.rmtree(folder, ignore_errors=True)
