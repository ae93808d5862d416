"""A server that runs on a board and is asked from here, through ports of the connection."""

from __future__ import annotations

import contextlib
import random
import re
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.errors import HostError, UsageError
from tritonbuild.paths import data_dir, write_text
from tritonbuild.smoke.server import Ports, Route, pick_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tritonbuild.hosts.model import Host, Session
    from tritonbuild.smoke.server import Opened, Process

# Below the ports that the kernel gives to connections (32768 and up), above those of services.
_FIRST_PORT, _LAST_PORT = 20000, 32000

_MAKE_FOLDER = (
    "folder=$(mktemp -d /tmp/tritonbuild-smoke.XXXXXXXX) || exit; "
    'echo "$folder"; cat >/dev/null; rm -rf "$folder"'
)
_FOLDER_TIMEOUT = 30.0
# ssh's own exit code.
_SSH_FAILED = 255
# More than the limit that such a program has of its own.
_BESIDE_TIMEOUT = 150.0


@dataclass(frozen=True)
class OnBoard:
    """Servers are started on a board; see `tritonbuild.smoke.server.Place`.

    Attributes:
        host: The board.
        tree: The tree there.
        prefix: What stands before the server, such as `sudo -n`: root gives it shared memory of its
            own, so that another server may run meanwhile.
    """

    host: Host
    tree: PurePosixPath
    prefix: tuple[str, ...] = ()

    def check(self, tree: Path) -> None:  # noqa: ARG002
        """Make sure that there is a server."""
        program = self.tree / "bin" / "tritonserver"
        if self.host.run(["test", "-x", str(program)]).returncode != 0:
            msg = f"no server on {self.host.name}: {program} does not exist"
            raise UsageError(msg, hint=f"run `tritonbuild deploy {self.host.name}` first")

    @contextlib.contextmanager
    def open(self, tree: Path, models: Path, logs: Path) -> Iterator[Opened]:  # noqa: ARG002
        """Send the models to a temporary folder; the tree is there."""
        with open_folder(self.host) as folder:
            self.host.send(models, folder / "models")
            yield _OpenedBoard(self.host, str(self.tree), f"{folder}/models", self.prefix)


@contextlib.contextmanager
def open_folder(host: Host) -> Iterator[PurePosixPath]:
    """Have a temporary folder on a board for the length of the block.

    It goes when nobody holds it any more, so also when we die.

    Raises:
        HostError: There is no room for one.
    """
    with host.hold(["sh", "-c", _MAKE_FOLDER]) as session:
        folder = session.read_line("/tmp/", _FOLDER_TIMEOUT)
        if folder is None:
            session.release()
            msg = f"no temporary folder on {host.name}: {session.read_errors().strip()}"
            raise HostError(msg, hint="free some space in /tmp there")
        yield PurePosixPath(folder)


@dataclass(frozen=True)
class _OpenedBoard:
    host: Host
    tree: str
    models: str
    prefix: tuple[str, ...]
    # It could be written there, and not be read from here.
    trace = None
    keeps_apart = False

    def pick_ports(self, http_port: int | None) -> Route:
        here = pick_ports(http_port)
        table = self.host.run(["cat", "/proc/net/tcp", "/proc/net/tcp6"]).output
        used = find_used_ports(table) | {here.http, here.grpc, here.metrics}
        free = [port for port in range(_FIRST_PORT, _LAST_PORT) if port not in used]
        return Route(here, Ports(*random.sample(free, 3)))

    @contextlib.contextmanager
    def start(self, argv: Sequence[str], route: Route, log: Path) -> Iterator[Process]:
        script = (data_dir("templates") / "smoke" / "serve.sh").read_text(encoding="utf-8")
        command = [*self.prefix, "sh", "-c", script, "serve", *argv]
        pairs = ("http", "grpc", "metrics")
        with contextlib.ExitStack() as stack:
            for name in pairs:
                here, there = getattr(route.here, name), getattr(route.there, name)
                stack.enter_context(self.host.forward(here, there))
            yield _Held(self.host, stack.enter_context(self.host.hold(command, log=log)))

    def run(self, argv: Sequence[str], log: Path) -> proc.Result:
        began = time.monotonic()
        answer = self.host.run([*self.prefix, *argv], timeout=_BESIDE_TIMEOUT)
        output = answer.output + answer.errors
        write_text(log, output)
        return proc.Result(answer.returncode, output, time.monotonic() - began)


@dataclass(frozen=True)
class _Held:
    """A server that ends when it is not held any more."""

    host: Host
    session: Session
    pid = None

    def poll(self) -> int | None:
        code = self.session.poll()
        if code == _SSH_FAILED:
            # It may be the connection that ended, and not the server.
            self.host.check_alive()
        return code

    def ask_to_end(self) -> None:
        self.session.release()

    def find_folder(self, inside: str) -> Path | None:  # noqa: ARG002
        return None


def find_used_ports(table: str) -> set[int]:
    """Return the local ports in the kernel's tables of TCP sockets (/proc/net/tcp)."""
    return {
        int(port, 16)
        for port in re.findall(r"^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) ", table, re.MULTILINE)
    }
