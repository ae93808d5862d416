"""What other machines take off a build: a cache that machines share, and helpers that compile.

All servers run on this machine, on loopback. So the seconds of a build with a helper would say nothing: it
has no more processors than without. What is measured instead is what a helper takes away: the
processor time that the build itself takes here, and the share of files.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from figures import Row, Table, median, spread
from source import SourceBench

from tritonbuild import proc
from tritonbuild.errors import BuildError, HostError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Options

_COMPONENTS = ("--component", "rknn")
_PATIENCE = 10.0
_PROGRAMS = {"ccache": "ccache", "distcc": "distcc", "distccd": "distcc",
             "redis-server": "redis-server"}  # fmt: skip


@dataclass(frozen=True)
class _Build:
    """How a build went.

    Attributes:
        seconds: Wall time.
        processor: Seconds of processor time that it took on this machine, its servers' left out.
        found: What it said of other machines.
    """

    seconds: float
    processor: float
    found: str


def measure_machines(options: Options) -> Table:
    """Measure builds from empty: alone, with a shared cache, and with a helper.

    Raises:
        HostError: A program is missing.
        BuildError: A build failed.
    """
    for program, package in _PROGRAMS.items():
        if proc.find_tool(program) is None:
            msg = f"{program} is missing"
            raise HostError(msg, hint=f"apt-get install {package}")
    with tempfile.TemporaryDirectory(prefix="tritonbuild-bench-") as name:
        bench = SourceBench(Path(name), options)
        with _serve_redis(bench.folder) as cache, _serve_distccd(bench.folder) as helper:
            return _measure(bench, options, cache, helper)


def _measure(bench: SourceBench, options: Options, cache: str, helper: str) -> Table:
    ways = {
        "alone, without ccache": ("--no-ccache",),
        "with a helper, without ccache": ("--no-ccache", "--distcc", f"{helper}/4"),
        "with a shared cache that is empty": ("--ccache-remote", cache),
        "with a shared cache that another machine filled": ("--ccache-remote", cache),
    }
    runs: dict[str, list[_Build]] = {way: [] for way in ways}
    for number in range(1 if options.quick else options.repeat_for(3)):
        _empty(cache)
        for way, more in ways.items():
            runs[way].append(_build(bench, more, number))
    alone = runs["alone, without ccache"]
    rows = [_row(way, builds, alone) for way, builds in runs.items()]
    return Table(
        "machines",
        f"build of the stand-ins' core and rknn with other machines, -j{bench.jobs}",
        rows,
        notes=["Helper and cache server run on this machine, too: see the columns' meaning."],
    )


def _build(bench: SourceBench, more: tuple[str, ...], number: int) -> _Build:
    """Build from empty, with a ccache of its own that is empty, too."""
    # The same folder each time: results are found again only under the same paths.
    work, local = bench.folder / "work", bench.folder / f"ccache-{number}"
    for folder in (work, local):
        shutil.rmtree(folder, ignore_errors=True)
    argv = [
        part for part in bench.build_argv(work, *_COMPONENTS) if part not in ("--no-ccache", "-q")
    ]
    env = {**os.environ, **bench.env, "CCACHE_DIR": str(local)}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [*argv, *more], cwd=bench.folder, env={k: v for k, v in env.items() if v is not None},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        msg = f"a build failed with {done.returncode}: {done.stderr[-2000:]}"
        raise BuildError(msg)
    said = re.search(r"helpers compiled (\d+ of \d+) files|: (\d+ of \d+) results", done.stderr)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _Build(seconds, used, (said[1] or said[2]) if said else "")


def _row(way: str, builds: list[_Build], alone: list[_Build]) -> Row:
    used = median([one.processor for one in builds])
    return {
        "way": way,
        "median_s": round(median([one.seconds for one in builds]), 2),
        "spread_s": spread([one.seconds for one in builds], digits=2),
        "processor_s": round(used, 2),
        "x_alone": round(used / median([one.processor for one in alone]), 3),
        "elsewhere": builds[-1].found,
    }


# --- servers ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _serve_redis(folder: Path) -> Iterator[str]:
    port = _find_port()
    argv = [
        "redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "",
        "--dir", str(folder),
    ]  # fmt: skip
    with proc.background(argv, log=folder / "redis.log"):
        _wait_for(port)
        yield f"redis://127.0.0.1:{port}"


@contextlib.contextmanager
def _serve_distccd(folder: Path) -> Iterator[str]:
    port = _find_port()
    argv = [
        "distccd", "--daemon", "--no-detach", "--listen", "127.0.0.1", "--port", str(port),
        "--allow", "127.0.0.1", "--user", "nobody", "--log-stderr",
    ]  # fmt: skip
    with proc.background(argv, log=folder / "distccd.log"):
        _wait_for(port)
        yield f"127.0.0.1:{port}"


def _empty(cache: str) -> None:
    host, port = cache.removeprefix("redis://").split(":")
    with socket.create_connection((host, int(port)), timeout=_PATIENCE) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        connection.recv(64)


def _find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    limit = time.monotonic() + _PATIENCE
    while time.monotonic() < limit:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    msg = f"a server on port {port} does not answer"
    raise HostError(msg, hint="run it by hand to see why")
