"""One tritonserver on loopback: started, waited for, watched, and stopped whatever happens."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn, Protocol

from tritonbuild.errors import HostError, SmokeTestError
from tritonbuild.paths import data_dir, make_dir

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from contextlib import AbstractContextManager

    from tritonbuild import proc


LOOPBACK = "127.0.0.1"
TARGET_DIR = PurePosixPath("/opt/tritonserver")
TARGET_MODELS = PurePosixPath("/models")

# A program beside the server that hangs must not hang us.
_BESIDE_SECONDS = 120
# What templates/smoke/apart.sh ends with where it cannot part them.
_NOT_APART = 77
_PATHS = re.compile(r"\{(?:tree|models)\}")

# A free port may be taken by someone else before the server binds it; then others are tried.
_PORT_TRIES = 3
_POLL_SECONDS = 0.1
# tritonserver lets requests that it works on finish before it exits.
_EXIT_TIMEOUT = 30

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
class ServerFlags:
    """How a release's tritonserver is called.

    Attributes:
        model_repository: The option that names the models.
        lacks: Options that it does not know.
    """

    model_repository: str = "--model-repository"
    lacks: frozenset[str] = frozenset()


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

    @property
    def pid(self) -> int | None:
        """Its number where it runs on this machine, or that of what it runs in."""

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""

    def ask_to_end(self) -> None:
        """Tell the server itself to end in order."""

    def find_folder(self, inside: str) -> Path | None:
        """Return a folder of the server's, as it is seen from here; None where it cannot be."""


class Opened(Protocol):
    """A place with a tree and a model repository in it."""

    @property
    def tree(self) -> str:
        """Where the tree is there."""

    @property
    def models(self) -> str:
        """Where the models are there."""

    @property
    def trace(self) -> PurePosixPath | None:
        """What the names of trace files begin with there; None where they could not be read."""

    @property
    def keeps_apart(self) -> bool:
        """Whether each program there has shared memory of its own."""

    def pick_ports(self, http_port: int | None) -> Route:
        """Return ports that are free now.

        Raises:
            HostError: `http_port` is taken.
        """

    def start(
        self, argv: Sequence[str], route: Route, log: Path
    ) -> AbstractContextManager[Process]:
        """Run a server for the length of a block, what it says in `log`."""

    def run(self, argv: Sequence[str], log: Path) -> proc.Result:
        """Run another program there to its end, what it says in `log`; it is not judged."""


class Place(Protocol):
    """Where servers are started: in a sandbox here (`InSandbox`), or on a board."""

    def check(self, tree: Path) -> None:
        """Make sure that a server can be started there.

        Raises:
            UsageError: There is no server.
            HostError: Its programs do not run there.
        """

    def open(self, tree: Path, models: Path, logs: Path) -> AbstractContextManager[Opened]:
        """Bring a tree and a model repository there, for a block; what servers leave goes with it.

        Args:
            tree: The tree.
            models: The model repository.
            logs: Folder of the logs.

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
        has_cache: Whether it was started with a response cache.
    """

    ports: Ports
    log: Path
    started: float
    ready_seconds: float
    has_cache: bool
    _process: Process
    _opened: Opened
    _route: Route
    _is_traced: bool

    @property
    def pid(self) -> int | None:
        """The process that was started, in a sandbox the server is below it; None on a board."""
        return self._process.pid

    @property
    def http_url(self) -> str:
        """Where it answers HTTP."""
        return f"http://{LOOPBACK}:{self.ports.http}"

    @property
    def grpc_address(self) -> str:
        """Where it answers gRPC."""
        return f"{LOOPBACK}:{self.ports.grpc}"

    @property
    def addresses_there(self) -> tuple[str, str]:
        """Where it answers HTTP and gRPC for programs that run beside it."""
        return f"{LOOPBACK}:{self._route.there.http}", f"{LOOPBACK}:{self._route.there.grpc}"

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

    def wait(self) -> str:
        """Wait until the server ends by itself; return how."""
        while (code := self._process.poll()) is None:
            time.sleep(_POLL_SECONDS)
        return describe_exit(code)

    def find_shared_memory(self) -> Path | None:
        """Return the server's own /dev/shm as it is seen from here; None where it cannot be."""
        return self._process.find_folder("/dev/shm")

    def find_trace(self) -> Path | None:
        """Return what the names of trace files begin with, as seen from here.

        None where the server writes none, or where its folders cannot be seen.
        """
        trace = self._opened.trace
        if trace is None or not self._is_traced:
            return None
        folder = self._process.find_folder(str(trace.parent))
        return folder / trace.name if folder else None

    def run_apart(self, argv: Sequence[str], log: str) -> proc.Result | None:
        """Run another program as `run_beside` does, with shared memory of its own.

        Returns:
            How it ended; None where only root could give it that.
        """
        if self._opened.keeps_apart:
            return self.run_beside(argv, log)
        script = (data_dir("templates") / "smoke" / "apart.sh").read_text(encoding="utf-8")
        done = self.run_beside(["sh", "-c", script, "apart", *argv], log)
        return None if done.returncode == _NOT_APART else done

    def run_beside(self, argv: Sequence[str], log: str) -> proc.Result:
        """Run another program where the server's tree and models are, and return how it ended.

        Args:
            argv: Program and arguments; {tree} and {models} stand for the paths there.
            log: Name of the log beside the server's own.
        """
        paths = {"{tree}": self._opened.tree, "{models}": self._opened.models}
        limited = ["timeout", "--signal=KILL", str(_BESIDE_SECONDS), *argv]
        filled = [_PATHS.sub(lambda found: paths[found[0]], word) for word in limited]
        return self._opened.run(filled, self.log.with_name(log))


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
    load: Sequence[str] | None,
    log: Path,
    timeout: float,
    http_port: int | None = None,
    ports: Ports | None = None,
    without: Collection[str] = (),
    flags: ServerFlags = ServerFlags(),
) -> Iterator[Server]:
    """Run a server for the length of the block; it is stopped in whatever way the block ends.

    Args:
        place: Where it is started.
        tritonserver_dir: The assembled tree.
        models_dir: The model repository.
        load: Models to load before it counts as ready; None loads all, each of which must do.
        log: File for what it says.
        timeout: Seconds that it may take until it is ready.
        http_port: Port for HTTP; a free one where it is None.
        ports: The three ports, to be had as they are; free ones where it is None.
        without: `grpc` or `metrics` where the server was built without it: it then refuses the
            options.
        flags: What its command line is like.

    Raises:
        SmokeTestError: It died while starting or was not ready in time.
        HostError: A port that was asked for is taken, or there are no free ones; or see
            `Place.open`.
    """
    make_dir(log.parent)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(place.open(tritonserver_dir, models_dir, log.parent))
        options = _list_options(tritonserver_dir, opened)
        for attempt in range(_PORT_TRIES):
            route = Route(ports, ports) if ports else opened.pick_ports(http_port)
            argv = _server_argv(opened, options, route.there, load, without, flags)
            try:
                server = _start(stack, opened, argv, route, log, timeout)
                break
            except _PortTakenError as err:
                if ports:
                    raise _port_error(err.port, "it is taken", "choose others") from None
                if attempt == _PORT_TRIES - 1:
                    msg = f"free ports were taken by others {_PORT_TRIES} times in a row"
                    raise HostError(msg, hint="try again, or choose one with --http-port") from None
        yield server  # type: ignore[possibly-undefined]  # the loop's last round breaks or raises


# Only models that ask for it use the cache; nothing is traced before the level is raised.
_CACHE = "--cache-config=local,size=1048576"


def _list_options(tritonserver_dir: Path, opened: Opened) -> list[str]:
    """Return options of a tree's server: with a cache and traces, where it can have them."""
    tree = opened.tree
    # A server that was built without a feature refuses the feature's options, and `--help` takes
    # a second under QEMU: so they are looked up where the program has them.
    program = (tritonserver_dir / "bin" / "tritonserver").read_bytes()
    options = [f"--backend-directory={tree}/backends", f"--cache-directory={tree}/caches"]
    if (tritonserver_dir / "repoagents").is_dir():
        options.append(f"--repoagent-directory={tree}/repoagents")
    if b"cache-config" in program and (tritonserver_dir / "caches" / "local").is_dir():
        options.append(_CACHE)
    if b"trace-config" in program and opened.trace:
        options.append(f"--trace-config=triton,file={opened.trace}")
    return options


def _server_argv(
    opened: Opened,
    options: Sequence[str],
    ports: Ports,
    load: Sequence[str] | None,
    without: Collection[str],
    flags: ServerFlags,
) -> list[str]:
    models = f"{flags.model_repository}={opened.models}"
    argv = [f"{opened.tree}/bin/tritonserver", models, *options]
    if load is not None:
        argv += ["--model-control-mode=explicit", *(f"--load-model={name}" for name in load)]
        # A model that cannot be loaded is a finding about that model; the others are still asked.
        argv += ["--exit-on-error=false", "--strict-readiness=false"]
    argv += [f"--exit-timeout-secs={_EXIT_TIMEOUT}"]
    for name, port in (("http", ports.http), ("grpc", ports.grpc), ("metrics", ports.metrics)):
        if name not in without:
            argv += [f"--{name}-address={LOOPBACK}", f"--{name}-port={port}"]
    return [word for word in argv if word.partition("=")[0] not in flags.lacks]


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


def check_ports(ports: Ports) -> None:
    """Make sure that ports of the loopback interface are free now.

    Raises:
        HostError: One is taken, or named twice.
    """
    wanted = {"--http-port": ports.http, "--grpc-port": ports.grpc, "--metrics-port": ports.metrics}
    with contextlib.ExitStack() as stack:
        for option, port in wanted.items():
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((LOOPBACK, port))
                sock.listen()  # two sockets may have one address until one of them listens
            except OSError as err:
                raise _port_error(port, str(err.strerror), f"choose another {option}") from err


_FREE_PORT_HINT = "choose another --http-port, or leave it out to get a free one"


def _port_error(port: int, why: str, hint: str = _FREE_PORT_HINT) -> HostError:
    msg = f"port {port} of {LOOPBACK} cannot be used: {why}"
    return HostError(msg, hint=hint)


class _PortTakenError(Exception):
    """The server found one of its ports taken."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.port = port


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
    seconds = time.monotonic() - started
    traced = any(option.startswith("--trace-config") for option in argv)
    return Server(
        route.here, log, started, seconds, _CACHE in argv, process, opened, route, traced
    )  # fmt: skip


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
                raise _PortTakenError(int(taken[1] or 0))
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
