"""A server to test the backends on: the real one, in the board's root."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
import urllib.request
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tritonbuild import proc
from tritonbuild.arch import Arch
from tritonbuild.executors.sandbox import Sandbox, find_binfmt
from tritonbuild.smoke.server import LOOPBACK, Ports, pick_ports

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from tritonbuild.paths import Workspace

# The modules beside the tests; pytest's importlib mode does not look there.
sys.path.insert(0, str(Path(__file__).parent))

TREE = PurePosixPath("/opt/tritonserver")


class Server(NamedTuple):
    """A running server."""

    ports: Ports
    logfile: Path

    @property
    def http(self) -> str:
        return f"http://{LOOPBACK}:{self.ports.http}"

    @property
    def grpc(self) -> str:
        return f"{LOOPBACK}:{self.ports.grpc}"

    @property
    def metrics(self) -> str:
        return f"http://{LOOPBACK}:{self.ports.metrics}"

    def log(self) -> str:
        return self.logfile.read_text(errors="replace")


def _wait_live(server: Server, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and child.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{server.http}/v2/health/live", timeout=2).close()
            return
        time.sleep(0.1)
    pytest.fail(f"the server did not start:\n{server.log()[-4000:]}")


@pytest.fixture(scope="session")
def serve(
    wheel_build: Workspace,
    wheel_build_root: Path,
    require_or_skip: Callable[[object, str], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., contextlib.AbstractContextManager[Server]]:
    """Return `serve(model_repository, *options, binds=[...], root=...)`, which runs a server.

    `binds` are further arguments of bwrap, placed after its own mounts; `root` is another root
    than the build's.
    """
    require_or_skip(shutil.which("bwrap"), "bubblewrap runs the server in a sandbox")
    require_or_skip(find_binfmt(Arch.ARM64), "binfmt_misc hands arm64 programs to QEMU")
    logs = tmp_path_factory.mktemp("logs")

    @contextlib.contextmanager
    def run(
        models: Path, *extra: str, binds: list[str] | None = None, root: Path | None = None
    ) -> Iterator[Server]:
        server = Server(pick_ports(), logs / f"{time.monotonic_ns()}.log")
        sandbox = Sandbox(root or wheel_build_root, qemu_cpu="cortex-a76")
        sandbox = sandbox.with_bind(wheel_build.tritonserver_dir, TREE)
        sandbox = sandbox.with_bind(models, PurePosixPath("/models"))
        argv = sandbox.argv(
            [
                f"{TREE}/bin/tritonserver",
                "--model-repository=/models",
                f"--http-port={server.ports.http}",
                f"--grpc-port={server.ports.grpc}",
                f"--metrics-port={server.ports.metrics}",
                f"--http-address={LOOPBACK}",
                f"--grpc-address={LOOPBACK}",
                *extra,
            ]
        )
        end = argv.index("--")
        argv[end:end] = binds or []
        with proc.background(argv, log=server.logfile) as child:
            _wait_live(server, child)
            yield server

    return run
