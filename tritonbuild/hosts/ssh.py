"""A board over ssh: the system's own client, so that what the user has set up for it holds.

One connection is made and kept; commands, files and ports go through it. It is a child of ours
(`-M -N`), so it ends with us, even by `kill -9`, and its end is how a lost connection shows. What
runs on the board at that moment sees its stdin end.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import time
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.errors import HostError
from tritonbuild.hosts.address import check_address
from tritonbuild.hosts.failures import explain_connect, explain_loss
from tritonbuild.hosts.model import DEFAULT_TIMEOUT, Answer, Sent
from tritonbuild.hosts.rsync import explain_rsync, read_sent, rsync_argv, run_rsync
from tritonbuild.hosts.session import hold_child
from tritonbuild.paths import find_ssh_config, make_short_dir, write_text

if TYPE_CHECKING:
    import subprocess  # noqa: TID251  # for the name of a type only
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path, PurePosixPath

    from tritonbuild.hosts.model import Session

# Seconds until a board must have answered at all, and until it must have let us in: keys in
# hardware want to be touched.
_CONNECT_TIMEOUT = 10
_LOGIN_TIMEOUT = 60.0

# A board that says nothing for three times this many seconds is gone.
_ALIVE_SECONDS = 10

# ssh's own exit code, when what it says is about the connection.
_SSH_FAILED = 255

_HINT = "apt-get install openssh-client"

# What the user's settings may not change: who is asked, and that a command is all that runs.
_FIXED = (
    "BatchMode=yes", "RemoteCommand=none", "RequestTTY=no", "PermitLocalCommand=no",
    "ForwardAgent=no", "ForwardX11=no",
)  # fmt: skip


class Ssh:
    """A board; made by `connect`. See `tritonbuild.hosts.model.Host`.

    Attributes:
        name: How the user named it.
    """

    is_remote = True

    def __init__(self, name: str, folder: Path, master: subprocess.Popen[bytes]) -> None:
        self.name = name
        self._folder = folder
        self._master = master

    def run(
        self,
        argv: Sequence[str],
        *,
        given: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Answer:
        """Run a command there to its end."""
        try:
            result = proc.exchange(
                self._argv(argv, env or {}), given=given.encode(), timeout=timeout,
                shown=self._show(argv),
            )  # fmt: skip
        except TimeoutError as err:
            self.check_alive()
            msg = f"{self.name}: {argv[0]} took longer than {timeout:.0f} s"
            raise HostError(msg, hint="the board is busy, or something hangs there") from err
        if result.returncode == _SSH_FAILED:
            self.check_alive()
        return Answer(result.returncode, result.output, result.errors)

    def hold(
        self, argv: Sequence[str], *, log: Path | None = None
    ) -> AbstractContextManager[Session]:
        """Run a command there for the length of the block."""
        return hold_child(self._argv(argv, {}), log=log, shown=self._show(argv))

    def send(
        self,
        source: Path,
        target: PurePosixPath,
        *,
        prefix: Sequence[str] = (),
        base: PurePosixPath | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Sent:
        """Make a folder there what a folder here is."""
        # rsync splits this at blanks itself; a folder of ours has none.
        through = ["--rsh", f"sh {self._write_rsh()}"]
        through += ["--rsync-path", shlex.join([*prefix, "rsync"])]
        code, said = run_rsync(
            rsync_argv(source, f"board:{target}", base=base, remote=through), progress
        )
        if code != 0:
            self.check_alive()
            raise explain_rsync(self.name, code, said)
        return read_sent(said)

    @contextlib.contextmanager
    def forward(self, port: int, there: int) -> Iterator[None]:
        """Make a port of this machine's loopback lead to one of the board's, for a block."""
        route = ["-L", f"127.0.0.1:{port}:127.0.0.1:{there}"]
        made = proc.exchange(self._control("forward", *route), timeout=DEFAULT_TIMEOUT)
        if made.returncode != 0:
            self.check_alive()
            msg = f"port {port} cannot lead to {self.name}: {made.errors.strip()}"
            raise HostError(msg, hint="choose another port, or leave it out to get a free one")
        try:
            yield
        finally:
            with contextlib.suppress(TimeoutError):
                proc.exchange(self._control("cancel", *route), timeout=DEFAULT_TIMEOUT)

    def _show(self, argv: Sequence[str]) -> str:
        """Return a command for people: scripts of ours that it carries are left out."""
        parts = ["..." if "\n" in part else part for part in argv]
        return f"{self.name}: {shlex.join(parts)}"

    def _argv(self, argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
        """Return what runs a command there; a shell over there reads it as it was meant."""
        command = [*(["env", *(f"{k}={v}" for k, v in env.items())] if env else []), *argv]
        return [*self._through(), shlex.join(command)]

    def _through(self) -> list[str]:
        """Return what stands before a command that goes through the connection, and only there."""
        # Where the connection is gone, ssh would make one of its own: that must not come about.
        return [
            *_ssh_argv(), "-o", "ControlMaster=no", "-o", "ProxyCommand=false",
            # The user's LocalForward would be asked for by each command; its port may be taken.
            "-o", "ClearAllForwardings=yes", "-S", str(self._folder / "s"), "-T", "--", self.name,
        ]  # fmt: skip

    def _control(self, order: str, *options: str) -> list[str]:
        # Without settings: it forwards what stands there, too, and ours goes with what
        # ClearAllForwardings clears. Nobody is asked but the socket.
        socket = str(self._folder / "s")
        return ["ssh", "-F", "none", "-S", socket, "-O", order, *options, "--", self.name]

    def _write_rsh(self) -> Path:
        """Write what rsync calls in the place of ssh; it gets a host's name first."""
        path = self._folder / "rsh"
        write_text(path, f'shift\nexec {shlex.join(self._through())} "$@"\n')
        return path

    def check_alive(self) -> None:
        """Raise when the connection is gone; the command may have noticed a moment earlier.

        Raises:
            HostError: It is.
        """
        deadline = time.monotonic() + 1.0
        while self._master.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._master.poll() is not None:
            raise explain_loss(self.name, _read(self._folder / "log"))


@contextlib.contextmanager
def connect(address: str) -> Iterator[Ssh]:
    """Connect to a board for the length of the block.

    Args:
        address: `user@board`, a name of ssh's settings, or `ssh://user@board:port`.

    Raises:
        UsageError: The address is none.
        HostError: The board cannot be reached, does not let us in, or is another one than it was;
            the hint says what helps.
    """
    name = check_address(address)
    proc.require_tool("ssh", reason="to reach a board", hint=_HINT)
    folder = make_short_dir()
    try:
        argv = [
            *_ssh_argv(), "-M", "-N", "-S", str(folder / "s"), "-o", "ControlPersist=no",
            "-o", "ClearAllForwardings=yes",
            "-o", f"ConnectTimeout={_CONNECT_TIMEOUT}", "-o", "LogLevel=INFO",
            "-o", f"ServerAliveInterval={_ALIVE_SECONDS}", "-o", "ServerAliveCountMax=3",
            "--", name,
        ]  # fmt: skip
        with proc.background(argv, log=folder / "log") as master:
            _wait_for_login(name, folder, master)
            yield Ssh(name, folder, master)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ssh_argv() -> list[str]:
    """Return the client with what holds for each of its calls."""
    settings = find_ssh_config()
    argv = ["ssh", *(["-F", str(settings)] if settings else [])]
    return [*argv, *(part for option in _FIXED for part in ("-o", option))]


def _wait_for_login(name: str, folder: Path, master: subprocess.Popen[bytes]) -> None:
    """Wait until the connection's socket is there: ssh makes it when it has been let in."""
    deadline = time.monotonic() + _LOGIN_TIMEOUT
    while not (folder / "s").exists():
        if master.poll() is not None:
            raise explain_connect(name, _read(folder / "log"))
        if time.monotonic() > deadline:
            raise explain_connect(name, f"timed out after {_LOGIN_TIMEOUT:.0f} s")
        time.sleep(0.02)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
