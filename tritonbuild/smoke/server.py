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
from typing import TYPE_CHECKING, NoReturn, Protocol

from tritonbuild import proc
from tritonbuild.errors import HostError, SmokeTestError, UsageError
from tritonbuild.executors.sandbox import check_sandbox
from tritonbuild.paths import make_dir

if TYPE_CHECKING:
    import subprocess  # noqa: TID251  # for the name of a type only
    from collections.abc import Collection, Iterator, Sequence
    from contextlib import AbstractContextManager

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


@dataclass(frozen=True)
class Route:
    """Ports of a server's machine, and those of this one that lead to them.

    Attributes:
        here: What clients on this machine use.
        there: What the server listens on.
    """

    here: Ports
    there: Ports


class Process(Protocol):
    """A server's process, wherever it runs."""

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""

    def ask_to_end(self) -> None:
        """Tell the server itself to end in order."""


class Opened(Protocol):
    """A place with a tree and a model repository in it."""

    @property
    def tree(self) -> str:
        """Where the tree is there."""

    @property
    def models(self) -> str:
        """Where the models are there."""

    def pick_ports(self, http_port: int | None) -> Route:
        """Return ports that are free now.

        Raises:
            HostError: `http_port` is taken.
        """

    def start(
        self, argv: Sequence[str], route: Route, log: Path
    ) -> AbstractContextManager[Process]:
        """Run a server for the length of a block, what it says in `log`."""


class Place(Protocol):
    """Where servers are started: in a sandbox here (`InSandbox`), or on a board."""

    def check(self, tree: Path) -> None:
        """Make sure that a server can be started there.

        Raises:
            UsageError: There is no server.
            HostError: Its programs do not run there.
        """

    def open(self, tree: Path, models: Path) -> AbstractContextManager[Opened]:
        """Bring a tree and a model repository there, for a block; what servers leave goes with it.

        Raises:
            HostError: They cannot be brought, or another server is in the way.
        """


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
    _process: Process

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
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        code = self._process.poll()
        return None if code is None else describe_exit(code)

    def ask_to_stop(self, timeout: float) -> int | None:
        """Tell the server to end in order; return its exit code, None if it goes on running."""
        self._process.ask_to_end()
        deadline = time.monotonic() + timeout
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return self._process.poll()


def describe_exit(code: int) -> str:
    """Return an exit code in words; a sandbox reports signal N as 128 + N."""
    number = -code if code < 0 else code - 128
    if number in set(signal.Signals):
        return f"signal {signal.Signals(number).name}"
    return f"exit code {code}"


@contextlib.contextmanager
def run_server(
    place: Place,
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
        place: Where it is started.
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
        HostError: `http_port` is taken, or there are no free ports; or see `Place.open`.
    """
    make_dir(log.parent)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(place.open(tritonserver_dir, models_dir))
        for attempt in range(_PORT_TRIES):
            route = opened.pick_ports(http_port)
            argv = _server_argv(opened.tree, opened.models, route.there, load, without)
            try:
                server = _start(stack, opened, argv, route, log, timeout)
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
    opened: Opened,
    argv: Sequence[str],
    route: Route,
    log: Path,
    timeout: float,
) -> Server:
    """Start a server and wait until it is ready; `stack` gets what stops it."""
    started = time.monotonic()
    with contextlib.ExitStack() as starting:
        process = starting.enter_context(opened.start(argv, route, log))
        _wait_until_ready(process, route.here, log, started + timeout, timeout)
        stack.push(starting.pop_all())
    return Server(route.here, log, started, time.monotonic() - started, process)


def _wait_until_ready(
    process: Process, ports: Ports, log: Path, deadline: float, timeout: float
) -> None:
    import requests

    url = f"http://{LOOPBACK}:{ports.http}/v2/health/ready"
    with requests.Session() as session:
        session.trust_env = False  # a proxy knows nothing of our loopback
        while time.monotonic() < deadline:
            code = process.poll()
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


@dataclass(frozen=True)
class InSandbox:
    """Servers are started here, in a sandbox; see `Place`."""

    sandbox: Sandbox

    def check(self, tree: Path) -> None:
        """Make sure that there is a server, and that the sandbox can be entered."""
        program = tree / "bin" / "tritonserver"
        if not program.is_file():
            msg = f"no assembled server: {program} does not exist"
            raise UsageError(msg, hint="run `tritonbuild build` first")
        check_sandbox(self.sandbox)

    @contextlib.contextmanager
    def open(self, tree: Path, models: Path) -> Iterator[Opened]:
        """Mount both."""
        with contextlib.ExitStack() as stack:
            if self.sandbox.root is None:
                stack.enter_context(_leave_no_traces(tree))
            inside = self.sandbox.with_bind(tree, TARGET_DIR).with_bind(models, TARGET_MODELS)
            yield _OpenedSandbox(
                inside,
                self.sandbox.locate(tree, TARGET_DIR),
                self.sandbox.locate(models, TARGET_MODELS),
            )


@dataclass(frozen=True)
class _OpenedSandbox:
    sandbox: Sandbox
    tree: str
    models: str

    def pick_ports(self, http_port: int | None) -> Route:
        ports = pick_ports(http_port)
        return Route(ports, ports)

    @contextlib.contextmanager
    def start(self, argv: Sequence[str], route: Route, log: Path) -> Iterator[Process]:  # noqa: ARG002
        with proc.background(self.sandbox.argv(argv), log=log) as child:
            yield _Child(child, nested=self.sandbox.root is not None)


@dataclass(frozen=True)
class _Child:
    """A server that is a child of ours, or inside one."""

    child: subprocess.Popen[bytes]
    nested: bool

    def poll(self) -> int | None:
        return self.child.poll()

    def ask_to_end(self) -> None:
        """Send it SIGTERM: a sandbox's outer process would take that for itself and kill it."""
        pid = _find_inner(self.child.pid) if self.nested else self.child.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


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
