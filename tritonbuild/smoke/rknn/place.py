"""Where the demo runs: in a root or on this machine, or on a board over ssh."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from tritonbuild import proc
from tritonbuild.errors import SmokeTestError
from tritonbuild.paths import make_dir, write_text
from tritonbuild.smoke.board import open_folder
from tritonbuild.smoke.server import describe_exit

if TYPE_CHECKING:
    from tritonbuild.executors.sandbox import Sandbox
    from tritonbuild.hosts.model import Host
    from tritonbuild.plan.npu import BoardNpu
    from tritonbuild.smoke.rknn.demo import BuiltDemo

_INSIDE = PurePosixPath("/demo")
_INSIDE_RUN = PurePosixPath("/run-demo")

# Ten runs on the slowest NPU, and the model's way onto it.
_TIMEOUT = 300.0

# `env -C` is not there on every board.
_IN_FOLDER = 'cd "$1" && shift && exec "$@"'


class DemoPlace(Protocol):
    """Where the demo runs."""

    def run(self, npu: BoardNpu, demo: BuiltDemo, log: Path) -> str:
        """Run the demo and return what it printed.

        It runs in a folder of its own: it writes pictures there, and reads the classes' names from
        it.

        Args:
            npu: The board's NPU.
            demo: The demo.
            log: For what it prints.

        Raises:
            SmokeTestError: A signal ended it.
            HostError: It cannot be started.
        """


@dataclass(frozen=True)
class InPlace:
    """On this machine, in a root where programs of the board need one.

    Attributes:
        sandbox: How the board's programs are started.
        folder: Where the demo writes; it is made anew.
    """

    sandbox: Sandbox
    folder: Path

    def run(self, npu: BoardNpu, demo: BuiltDemo, log: Path) -> str:
        """Run it with the demo's folder mounted read-only."""
        shutil.rmtree(self.folder, ignore_errors=True)
        # Not a link: in a root the demo's folder is elsewhere.
        labels = self.folder / npu.family.demo.labels
        make_dir(labels.parent)
        shutil.copyfile(demo.folder / npu.family.demo.labels, labels)
        inside = self.sandbox.with_bind(demo.folder, _INSIDE)
        inside = inside.with_bind(self.folder, _INSIDE_RUN, writable=True)

        def locate(path: Path) -> str:
            return self.sandbox.locate(path, _INSIDE / path.relative_to(demo.folder))

        environment = _make_environment(locate(demo.folder / npu.family.demo.libraries))
        argv = inside.with_folder(_INSIDE_RUN).argv(
            [locate(demo.program), locate(demo.model), locate(demo.image)], environment
        )
        env = environment if self.sandbox.root is None else None
        done = proc.run(argv, log=log, check=False, cwd=self.folder, env=env)
        _check_end(done.returncode, done.output, log)
        return done.output


@dataclass(frozen=True)
class OnHost:
    """On a board over ssh, in a temporary folder there.

    Attributes:
        host: The board.
    """

    host: Host

    def run(self, npu: BoardNpu, demo: BuiltDemo, log: Path) -> str:
        """Send it, run it, and leave nothing there."""
        with open_folder(self.host) as folder:
            there = folder / "demo"
            self.host.send(demo.folder, there)

            def locate(path: Path) -> str:
                return str(there / path.relative_to(demo.folder))

            answer = self.host.run(
                ["sh", "-c", _IN_FOLDER, "demo", str(there),
                 locate(demo.program), locate(demo.model), locate(demo.image)],
                env=_make_environment(str(there / npu.family.demo.libraries)), timeout=_TIMEOUT,
            )  # fmt: skip
        text = answer.output + answer.errors
        write_text(log, text)
        _check_end(answer.returncode, text, log)
        return text


def _make_environment(libraries: str) -> dict[str, str]:
    # The numbers are read back: no other language's commas.
    return {"LC_ALL": "C", "LD_LIBRARY_PATH": libraries}


def _check_end(code: int, output: str, log: Path) -> None:
    """Raise where a signal ended the demo; what it printed tells all other failures.

    Raises:
        SmokeTestError: One did.
    """
    if code < 0 or (code > 128 and "error" not in output and "loop count" not in output):
        msg = f"rknn_yolov5_demo ended with {describe_exit(code)}\n  log: {log}"
        raise SmokeTestError(msg, hint="run it by hand: docs/npu.md says how")
