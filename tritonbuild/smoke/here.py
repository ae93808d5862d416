"""A server that runs on this machine: directly, or in a sandbox under QEMU."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.errors import HostError, UsageError
from tritonbuild.executors.sandbox import check_sandbox
from tritonbuild.smoke.server import TARGET_DIR, TARGET_MODELS, Route, pick_ports

if TYPE_CHECKING:
    import subprocess  # noqa: TID251  # for the name of a type only
    from collections.abc import Iterator, Sequence

    from tritonbuild.executors.sandbox import Sandbox
    from tritonbuild.smoke.server import Opened, Process

SHARED_MEMORY_DIR = Path("/dev/shm")
# triton_python_backend_shm_region_0, triton_onnxruntime_backend_shm_region_0, ...
_REGIONS = "triton_*_backend_shm_region_*"
_TRACE = PurePosixPath("/tmp/smoke-trace")


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
    def open(self, tree: Path, models: Path, logs: Path) -> Iterator[Opened]:
        """Mount both."""
        for old in logs.glob(f"{_TRACE.name}*"):  # written there where there is no sandbox
            old.unlink()
        with contextlib.ExitStack() as stack:
            if self.sandbox.root is None:
                stack.enter_context(_leave_no_traces(tree))
            inside = self.sandbox.with_bind(tree, TARGET_DIR).with_bind(models, TARGET_MODELS)
            yield _OpenedSandbox(
                inside,
                self.sandbox.locate(tree, TARGET_DIR),
                self.sandbox.locate(models, TARGET_MODELS),
                PurePosixPath(self.sandbox.locate(logs / _TRACE.name, _TRACE)),
            )


@dataclass(frozen=True)
class _OpenedSandbox:
    sandbox: Sandbox
    tree: str
    models: str
    trace: PurePosixPath

    @property
    def keeps_apart(self) -> bool:
        return self.sandbox.root is not None

    def pick_ports(self, http_port: int | None) -> Route:
        ports = pick_ports(http_port)
        return Route(ports, ports)

    @contextlib.contextmanager
    def start(self, argv: Sequence[str], route: Route, log: Path) -> Iterator[Process]:  # noqa: ARG002
        with proc.background(self.sandbox.argv(argv), log=log) as child:
            yield _Child(child, nested=self.sandbox.root is not None)

    def run(self, argv: Sequence[str], log: Path) -> proc.Result:
        return proc.run(self.sandbox.argv(argv), log=log, check=False)


@dataclass(frozen=True)
class _Child:
    """A server that is a child of ours, or inside one."""

    child: subprocess.Popen[bytes]
    nested: bool

    @property
    def pid(self) -> int:
        return self.child.pid

    def poll(self) -> int | None:
        return self.child.poll()

    def ask_to_end(self) -> None:
        """Send it SIGTERM: a sandbox's outer process would take that for itself and kill it."""
        pid = self._find_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def find_folder(self, inside: str) -> Path | None:
        """Look through the server's root, which may be a mount namespace of its own."""
        folder = Path(f"/proc/{self._find_pid()}/root") / inside.lstrip("/")
        return folder if os.access(folder, os.R_OK | os.W_OK | os.X_OK) else None

    def _find_pid(self) -> int | None:
        return _find_inner(self.child.pid) if self.nested else self.child.pid


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
