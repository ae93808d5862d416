"""Where the demo runs: in a root or on this machine, or on a board over ssh."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from tritonbuild import proc
from tritonbuild.errors import SmokeTestError
from tritonbuild.paths import make_dir, write_text
from tritonbuild.smoke.board import open_folder
from tritonbuild.smoke.rknn.output import find_complaint
from tritonbuild.smoke.server import describe_exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tritonbuild.executors.sandbox import Sandbox
    from tritonbuild.hosts.model import Host
    from tritonbuild.plan.npu import BoardNpu
    from tritonbuild.smoke.rknn.demo import BuiltDemo

_INSIDE = PurePosixPath("/demo")
_INSIDE_RUN = PurePosixPath("/run-demo")

# Seconds for ten runs on the slowest NPU, and the model's way onto it; a driver that hangs keeps the
# demo for ever.
_LIMIT = 300
_KILLED = 128 + signal.SIGKILL
_CRASHED = 128 + signal.SIGSEGV

# `env -C` is not there on every board.
_IN_FOLDER = 'cd "$1" && shift && exec "$@"'
# A program that writes into a pipe keeps what it printed to itself for a while, and with it goes the
# reason when a signal ends it.
_LINE_BY_LINE = 'if command -v stdbuf >/dev/null; then set -- stdbuf -oL "$@"; fi; exec "$@"'


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
        argv = inside.with_folder(_INSIDE_RUN).argv(_make_argv(demo, locate), environment)
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
                ["sh", "-c", _IN_FOLDER, "demo", str(there), *_make_argv(demo, locate)],
                env=_make_environment(str(there / npu.family.demo.libraries)),
                timeout=_LIMIT + 30,
            )
        text = answer.output + answer.errors
        write_text(log, text)
        _check_end(answer.returncode, text, log)
        return text


def _make_argv(demo: BuiltDemo, locate: Callable[[Path], str]) -> list[str]:
    """Return what runs the demo, for a while."""
    run = ["sh", "-c", _LINE_BY_LINE, "demo", "timeout", "-s", "KILL", str(_LIMIT)]
    return [*run, locate(demo.program), locate(demo.model), locate(demo.image)]


def _make_environment(libraries: str) -> dict[str, str]:
    # The numbers are read back: no other language's commas.
    return {"LC_ALL": "C", "LD_LIBRARY_PATH": libraries}


def _check_end(code: int, text: str, log: Path) -> None:
    """Raise where a signal ended the demo; what it printed tells all other failures.

    It answers 255 where it fails, and a root's outer process and a shell 128 and the signal's number.
    It does not look at what rknn_run and rknn_outputs_get answer (src/main.cc): where they fail it
    reads outputs that are not there.

    Raises:
        SmokeTestError: One did.
    """
    if 0 <= code <= 128 or code == 255:
        return
    how = describe_exit(code)
    if code in (_KILLED, -signal.SIGKILL):
        how = f"{how}, as it may after {_LIMIT} s without an end"
    elif code in (_CRASHED, -signal.SIGSEGV):
        how = f"{how}, as it does where the NPU does not run the model"
    printed = [line.strip() for line in text.splitlines() if line.strip()]
    said = find_complaint(printed)
    lines = [f"rknn_yolov5_demo ended with {how}"]
    lines += [f"  librknnrt.so says: {said}"] if said else []
    lines += [f"  the last that it printed: {printed[-1]}"] if printed and not said else []
    msg = "\n".join([*lines, f"  log: {log}"])
    raise SmokeTestError(msg, hint="look at the kernel's log on the board: dmesg | grep -i rknpu")
