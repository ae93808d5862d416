"""The onnxruntime backend against ONNX Runtime itself: same root, model, threads, emulation."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, NamedTuple

from figures import Row, Table, median, percentile, ratio, run_command, spread
from models import INSTANCES, MODELS, Model, write_repository
from start import STARTS_TIMEOUT, TARGET, open_build

from tritonbuild import proc
from tritonbuild.errors import SmokeTestError
from tritonbuild.executors.place import find_place
from tritonbuild.paths import Workspace, cache_dir
from tritonbuild.smoke.client import HEADER_LENGTH, Client, Tensor, encode_binary
from tritonbuild.smoke.here import InSandbox
from tritonbuild.smoke.server import LOOPBACK, TARGET_DIR, run_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from figures import Options

    from tritonbuild.executors.sandbox import Sandbox
    from tritonbuild.smoke.server import Server

    Ask = Callable[[], object]

# (instances, clients): how the server is asked.
_LOADS = ((1, 1), (2, 2), (2, 4))
_ANSWER_TIMEOUT = 120
_BENCH = PurePosixPath("/tmp/bench")


@dataclass(frozen=True)
class Way:
    """One way to have a model computed.

    Attributes:
        how: `direct`, `http` or `grpc`.
        instances: Processes that compute.
        clients: Requests under way at once; as many as processes where it is direct.
    """

    how: str
    instances: int
    clients: int


@dataclass
class Sample:
    """What a way took, over all rounds."""

    ms: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)

    def add(self, ms: list[float], seconds: float) -> None:
        """Note one round."""
        self.ms += ms
        self.per_second.append(len(ms) / seconds)


WAYS = (
    *(Way("direct", count, count) for count in INSTANCES),
    *(Way(how, *load) for load in _LOADS for how in ("http", "grpc")),
)


def measure_inference(options: Options) -> Table:
    """Measure every way in turn, round after round; the processes live through all of it."""
    rounds, seconds = options.repeat_for(5), 0.3 if options.quick else 2.0
    chosen = MODELS[:1] if options.quick else MODELS
    with tempfile.TemporaryDirectory(prefix="tritonbuild-bench-") as folder, \
            open_bench(Path(folder), chosen, options) as bench:  # fmt: skip
        for model in chosen:
            bench.check_answers(model)
        samples: dict[tuple[str, Way], Sample] = {}
        for _ in range(rounds):
            for model in chosen:
                for way in WAYS:
                    sample = samples.setdefault((model.name, way), Sample())
                    sample.add(*bench.measure(model, way, seconds))
    rows = [
        row
        for model in chosen
        for row in _rows_of(model, {w: samples[model.name, w] for w in WAYS})
    ]
    return Table(
        name="inference",
        title="the onnxruntime backend against onnxruntime called directly in the same root",
        rows=rows,
        notes=[
            f"{rounds} rounds of {seconds:g} s, all ways in turn; one thread for each session.",
            "per_s: the rounds' median; p50 and p99: of all answers.",
            "over_direct: p50 less the direct calls' p50, for as many processes.",
            "x_direct: answers per second over the direct calls', for as many processes.",
            "Clients run on this machine too, outside of the emulation, and share its cores.",
        ],
    )


def _rows_of(model: Model, samples: dict[Way, Sample]) -> list[Row]:
    rows: list[Row] = []
    for way, sample in samples.items():
        base = samples[Way("direct", way.instances, way.instances)]
        rows.append(
            {
                "model": model.title,
                "way": way.how,
                "processes": way.instances,
                "clients": way.clients if way.how != "direct" else None,
                "p50_ms": round(median(sample.ms), 3),
                "p99_ms": round(percentile(sample.ms, 99), 3),
                "over_direct_ms": round(median(sample.ms) - median(base.ms), 3),
                "p50_x_direct": ratio(median(sample.ms), median(base.ms)),
                "per_s": round(median(sample.per_second), 1),
                "spread_per_s": spread(sample.per_second),
                "per_s_x_direct": ratio(median(sample.per_second), median(base.per_second)),
            }
        )
    return rows


@contextlib.contextmanager
def open_bench(folder: Path, models: Sequence[Model], options: Options) -> Iterator[Bench]:
    """Build (from the user's cache), start a server and two direct processes; stop all at the end.

    Raises:
        TritonBuildError: This machine cannot run the board's programs, or the server did not start.
    """
    ws = Workspace(folder / "work")
    env = {"TRITONBUILD_STATE_DIR": str(folder / "state")}
    command = [*options.tritonbuild, "--quiet", "build", *TARGET, "--work-dir", str(ws.root)]
    run_command(command, env=env)
    place = find_place(open_build(ws), cache_dir(), packages=(), log=folder / "root.log")
    repository = folder / "models"
    load = write_repository(repository, models)
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(_Worker(place, ws, repository, models, folder / f"direct-{n}.log"))
            for n in range(max(INSTANCES))
        ]
        server = stack.enter_context(
            run_server(
                InSandbox(place), ws.tritonserver_dir, repository, load=load, log=folder / "server.log",
                timeout=STARTS_TIMEOUT,
            )
        )  # fmt: skip
        yield Bench(server, workers)


class Bench:
    """A server and direct processes, ready to be measured."""

    def __init__(self, server: Server, workers: list[_Worker]) -> None:
        self._server = server
        self._workers = workers
        self._makers = {
            "http": partial(_open_http, server.ports.http),
            "grpc": partial(_open_grpc, server.grpc_address),
        }

    def check_answers(self, model: Model) -> None:
        """Compare the server's answer with the direct one; this also warms everything up.

        Raises:
            SmokeTestError: They differ.
        """
        answers = []
        for worker in self._workers:
            worker.order(model, 0.2)
            answers.append(worker.collect().values)
        client = Client(self._server.http_url)
        for instances in INSTANCES:
            name = f"{model.name}-{instances}"
            asked = {"X": Tensor("FP32", model.shape, model.values())}
            answers.append(list(client.infer_binary(name, asked)["Y"].data))
            for maker in self._makers.values():
                drive(partial(maker, model, name), 2 * instances, 0.2)
        for answer in answers[1:]:
            if any(abs(a - b) > 1e-5 for a, b in zip(answers[0], answer, strict=True)):
                msg = f"{model.name}: the server's answer {answer} is not {answers[0]}"
                raise SmokeTestError(msg, hint="figures of wrong answers mean nothing")

    def measure(self, model: Model, way: Way, seconds: float) -> tuple[list[float], float]:
        """Return each answer's milliseconds, and the seconds that all took together."""
        if way.how != "direct":
            name = f"{model.name}-{way.instances}"
            return drive(partial(self._makers[way.how], model, name), way.clients, seconds)
        workers = self._workers[: way.instances]
        for worker in workers:
            worker.order(model, seconds)
        found = [worker.collect() for worker in workers]
        ms = [value for answer in found for value in answer.ms]
        return ms, max(answer.seconds for answer in found)


class Answer(NamedTuple):
    """What `direct.py` measured: each call's milliseconds, all seconds, and the model's output."""

    ms: list[float]
    seconds: float
    values: list[float]


class _Worker:
    """`direct.py` in the board's root."""

    def __init__(
        self, place: Sandbox, ws: Workspace, repository: Path, models: Sequence[Model], log: Path
    ) -> None:
        place = place.with_bind(ws.tritonserver_dir, TARGET_DIR)
        backends = place.locate(ws.tritonserver_dir, TARGET_DIR) + "/backends"
        script = Path(__file__).with_name("direct.py")
        binds = {script: _BENCH / "direct.py"}
        binds |= {
            repository / f"{model.name}-1" / "1" / "model.onnx": _BENCH / f"{model.name}.onnx"
            for model in models
        }
        for host, target in binds.items():
            place = place.with_bind(host, target)
        sessions = [
            f"{target.stem}={place.locate(host, target)}"
            for host, target in binds.items() if target.suffix == ".onnx"
        ]  # fmt: skip
        python_path = f"PYTHONPATH={backends}/onnxruntime:{backends}/python"
        command = ["/usr/bin/env", python_path, "PYTHONDONTWRITEBYTECODE=1", "/usr/bin/python3"]
        self._argv = place.argv([*command, place.locate(script, binds[script]), *sessions])
        self._log = log

    def __enter__(self) -> _Worker:  # noqa: PYI034  # typing.Self came with Python 3.11
        with self._log.open("wb") as sink:
            self._child = subprocess.Popen(
                self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink,
                start_new_session=True,
            )  # fmt: skip
        try:
            self._read()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams():
            with contextlib.suppress(OSError):
                stream.close()
        proc.stop(self._child)

    def order(self, model: Model, seconds: float) -> None:
        """Let it measure; others may be told to meanwhile."""
        stdin, _ = self._streams()
        stdin.write(f"{model.name} {seconds}\n".encode())
        stdin.flush()

    def collect(self) -> Answer:
        """Return what it measured."""
        found = json.loads(self._read())
        return Answer(found["ms"], found["seconds"], found["answer"])

    def _streams(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        return self._child.stdin, self._child.stdout

    def _read(self) -> str:
        line = self._streams()[1].readline().decode()
        if not line:
            said = self._log.read_text(encoding="utf-8", errors="replace").strip()
            msg = f"onnxruntime cannot be called directly in the root:\n{said}"
            raise SmokeTestError(msg, hint="`tritonbuild smoke` says whether the build works")
        return line


def drive(
    maker: Callable[[], contextlib.AbstractContextManager[Ask]], clients: int, seconds: float
) -> tuple[list[float], float]:
    """Ask from several threads for some seconds, each one request after the other.

    Returns:
        Each answer's milliseconds, and the seconds from the first request to the last answer.
    """
    gate = threading.Barrier(clients)
    results: list[list[float]] = []
    errors: list[BaseException] = []

    def ask_on() -> None:
        taken: list[float] = []
        try:
            with maker() as ask:
                gate.wait(_ANSWER_TIMEOUT)
                deadline = time.perf_counter() + seconds
                while (started := time.perf_counter()) < deadline:
                    ask()
                    taken.append((time.perf_counter() - started) * 1e3)
        except BaseException as err:  # noqa: BLE001  # raised again by the thread that waits
            errors.append(err)
            gate.abort()
        results.append(taken)

    threads = [threading.Thread(target=ask_on) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    taken = [ms for result in results for ms in result]
    # Connections are made before the gate opens; what counts is the time of asking.
    busiest = max(sum(result) for result in results) / 1e3
    return taken, min(busiest, time.perf_counter() - began)


@contextlib.contextmanager
def _open_http(port: int, model: Model, name: str) -> Iterator[Ask]:
    """Yield a function that asks over one HTTP connection, with binary tensors both ways."""
    header, body = encode_binary({"X": Tensor("FP32", model.shape, model.values())})
    headers = {HEADER_LENGTH: str(len(header))}
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_ANSWER_TIMEOUT)

    def ask() -> None:
        connection.request("POST", f"/v2/models/{name}/infer", header + body, headers)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise SmokeTestError(answer.decode(errors="replace"))

    with contextlib.closing(connection):
        yield ask


@contextlib.contextmanager
def _open_grpc(address: str, model: Model, name: str) -> Iterator[Ask]:
    """Yield a function that asks over one gRPC channel, through NVIDIA's client."""
    import numpy as np
    from tritonclient import grpc

    array = np.array(model.values(), dtype=np.float32).reshape(model.shape)
    asked = grpc.InferInput("X", array.shape, "FP32")
    asked.set_data_from_numpy(array)
    with grpc.InferenceServerClient(address) as client:
        yield lambda: client.infer(name, [asked]).as_numpy("Y")
