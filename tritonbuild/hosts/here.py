"""This machine, as a host like any other."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.errors import HostError
from tritonbuild.hosts.model import DEFAULT_TIMEOUT, Answer, Sent
from tritonbuild.hosts.rsync import explain_rsync, read_sent, rsync_argv, run_rsync
from tritonbuild.hosts.session import hold_child

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path, PurePosixPath

    from tritonbuild.hosts.model import Session


class Here:
    """The machine that tritonbuild runs on; see `tritonbuild.hosts.model.Host`."""

    name = "this machine"
    is_remote = False

    def run(
        self,
        argv: Sequence[str],
        *,
        given: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Answer:
        """Run a command to its end."""
        try:
            result = proc.exchange(argv, given=given.encode(), env=env, timeout=timeout)
        except TimeoutError as err:
            msg = f"{argv[0]} took longer than {timeout:.0f} s"
            raise HostError(msg, hint="this machine is busy, or something hangs") from err
        return Answer(result.returncode, result.output, result.errors)

    def hold(
        self, argv: Sequence[str], *, log: Path | None = None
    ) -> AbstractContextManager[Session]:
        """Run a command for the length of the block."""
        return hold_child(argv, log=log)

    def send(
        self,
        source: Path,
        target: PurePosixPath,
        *,
        prefix: Sequence[str] = (),
        base: PurePosixPath | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Sent:
        """Make a folder what another one is."""
        argv = [*prefix, *rsync_argv(source, str(target), base=base)]
        code, said = run_rsync(argv, progress)
        if code != 0:
            raise explain_rsync(self.name, code, said)
        return read_sent(said)

    def forward(self, port: int, there: int) -> AbstractContextManager[None]:
        """Do nothing: a port of this machine is reached as it is.

        Raises:
            ValueError: The two ports are not the same one.
        """
        if port != there:
            msg = "a port of this machine leads to itself only"
            raise ValueError(msg)
        return contextlib.nullcontext()

    def check_alive(self) -> None:
        """Do nothing: we are here."""
