"""What a machine is to those who want something done there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path, PurePosixPath

# Seconds that a short command may take.
DEFAULT_TIMEOUT = 60.0


@dataclass(frozen=True)
class Answer:
    """How a command ended.

    Attributes:
        returncode: Exit code.
        output: stdout.
        errors: stderr.
    """

    returncode: int
    output: str
    errors: str

    @property
    def said(self) -> str:
        """The last line of what it complained about; of what it said where it did not complain."""
        lines = (self.errors.strip() or self.output.strip()).splitlines()
        return lines[-1].strip() if lines else f"exit code {self.returncode}"


@dataclass(frozen=True)
class Sent:
    """What `Host.send` brought to a machine.

    Attributes:
        files: Files whose content travelled; the others were there.
        size: Bytes that travelled, with what the protocol adds.
    """

    files: int
    size: int


class Session(Protocol):
    """A command that runs there until it ends, or until nobody holds it any more.

    It has to end when its stdin does: that is how it notices that we, or the way to us, are gone.
    """

    def read_line(self, start: str, timeout: float) -> str | None:
        """Return its next line that begins so, None where it ended or said none in time.

        What a login shell says before is passed over.
        """

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""

    def release(self) -> None:
        """End its stdin."""

    def read_errors(self) -> str:
        """Return what it wrote to stderr, once it has ended."""


class Host(Protocol):
    """A machine.

    Commands are argument lists there, too: nothing in them is taken for shell code.
    """

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def is_remote(self) -> bool:
        """Whether it is another machine than this one."""

    def run(
        self,
        argv: Sequence[str],
        *,
        given: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Answer:
        """Run a command to its end; its failure is the caller's to judge.

        Args:
            argv: Program and arguments.
            given: Its stdin.
            env: Variables for it, besides those of the machine.
            timeout: Seconds.

        Raises:
            HostError: The machine cannot be reached, or the command took too long.
        """

    def hold(
        self, argv: Sequence[str], *, log: Path | None = None
    ) -> AbstractContextManager[Session]:
        """Run a command for the length of the block (see `Session`).

        Args:
            argv: Program and arguments.
            log: File for stdout and stderr, as they come; without one stdout is read by line.
        """

    def send(
        self,
        source: Path,
        target: PurePosixPath,
        *,
        prefix: Sequence[str] = (),
        base: PurePosixPath | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Sent:
        """Make a folder there what a folder here is: its folders, files and links, nothing else.

        Files are compared by their checksums, and what is there already is not sent. Owner and time
        stamps are those of who writes there; modes are 0755 for folders and programs, else 0644.

        Args:
            source: The folder; `__pycache__` in it is left out.
            target: Its place there; its parent must exist.
            prefix: What stands before the program that writes there, such as `sudo -n`.
            base: A folder there of the same kind; files that are the same in it become hard links.
            progress: Gets how far it is, in words.

        Raises:
            HostError: It did not arrive as a whole: the next call goes on where this one stopped.
        """

    def forward(self, port: int, there: int) -> AbstractContextManager[None]:
        """Make a port of this machine's loopback lead to one of that machine's, for a block.

        Raises:
            HostError: The port is taken, or that machine forbids it.
        """

    def check_alive(self) -> None:
        """Make sure that the machine can still be reached, after a command that ended oddly.

        Raises:
            HostError: It cannot.
        """
