"""One installation on a board: what is there, and each step that changes it.

The steps are verbs of one script (templates/deploy/board.sh), run by the board's own shell.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild.console import terminal
from tritonbuild.errors import AssembleError, HostError
from tritonbuild.paths import data_dir

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tritonbuild.deploy.layout import Build, Contents, Layout
    from tritonbuild.hosts.model import Answer, Host, Sent, Session

# Checksums of a large tree on a slow card, or a sync after it was written.
_LONG = 900.0

# Seconds within which the lock is there or held.
_LOCK_TIMEOUT = 30.0

# Seconds until one that still sends has noticed that nobody sends any more.
_WRITER_WAIT = 60
_STILL_WRITES = "another one still writes here"

_NO_ROOM = "No space left on device"


@dataclass(frozen=True)
class State:
    """What is there.

    Attributes:
        link: `none`, `ours`, `folder` (something that is no link) or `foreign` (a link elsewhere).
        next_link: The same of LINK.next, which becomes the link in a switch: `none`, `ours` or
            `foreign`.
        store: `none`, `ours` or `foreign`: the folder for versions.
        current: The version that the link leads to; None where there is none.
        previous: What ran before it, where that is still there.
        versions: Those that ran, the one that was switched to last first.
        complete: All that arrived as a whole.
        arrived: Bytes of what arrived in part, for the next deploy to go on with; what is linked to a
            version is left out.
    """

    link: str
    next_link: str
    store: str
    current: str | None
    previous: str | None
    versions: tuple[str, ...]
    complete: frozenset[str]
    arrived: int


class Board:
    """An installation on a board.

    Attributes:
        host: The board.
        layout: Where it is there.
        prefix: What stands before a command that changes it, such as `sudo -n`.
    """

    def __init__(self, host: Host, layout: Layout, prefix: Sequence[str] = ()) -> None:
        self.host = host
        self.layout = layout
        self.prefix = tuple(prefix)
        self._lock: Session | None = None
        self._script = (data_dir("templates") / "deploy" / "board.sh").read_text(encoding="utf-8")

    def read_state(self) -> State:
        """Return what is there; needs no rights.

        Raises:
            HostError: It cannot be found out.
        """
        answer = self.host.run(self._argv("state", prefix=()))
        lines = [line.partition("=") for line in answer.output.splitlines()]
        found = {key: value for key, _, value in lines}
        if answer.returncode != 0 or "end" not in found:
            msg = (
                f"cannot find out what is at {self.layout.link} on {self.host.name}: {answer.said}"
            )
            raise HostError(msg, hint="the board's /bin/sh must be a POSIX shell")
        return State(
            found["link"],
            found.get("next", "none"),
            found["store"],
            found["current"] or None,
            found.get("previous") or None,
            tuple(value for key, _, value in lines if key == "version"),
            frozenset(value for key, _, value in lines if key == "complete"),
            int(found["arrived"]) * 1024,
        )

    def check_programs(self) -> None:
        """Make sure that the board's programs can do what they are asked for; needs no rights.

        Raises:
            HostError: One cannot: busybox's may be built without it.
        """
        answer = self.host.run(self._argv("probe", prefix=()))
        lacks = [
            line.partition("=")[2]
            for line in answer.output.splitlines()
            if line.startswith("lacks=")
        ]
        if lacks:
            msg = f"{self.host.name} has no {', no '.join(lacks)}"
            hint = "install those packages there; busybox's programs may be built without it"
            raise HostError(msg, hint=hint)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the installation for a block; the board lets go when the connection ends.

        Raises:
            HostError: Another deploy holds it.
        """
        self._run("prepare")
        who = {
            "by": f"{_user_name()}@{socket.gethostname()}", "pid": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }  # fmt: skip
        keep = 'printf "%s\\n" "$1" >"$2"; echo "held $$"; cat >/dev/null; rm -f "$2"'
        argv = [
            *self.prefix, "flock", "-n", str(self.layout.lock_path),
            "sh", "-c", keep, "sh", json.dumps(who), str(self.layout.holder_path),
        ]  # fmt: skip
        with self.host.hold(argv) as session:
            if session.read_line("held", _LOCK_TIMEOUT) is None:
                session.release()
                raise self._explain_lock(session.read_errors().strip())
            self._lock = session
            yield

    def _explain_lock(self, said: str) -> HostError:
        """Return why the lock was not given; flock says nothing where another has it."""
        if said:
            msg = f"cannot lock {self.layout.versions_dir} on {self.host.name}: {said}"
            return HostError(msg, hint="mend what it says, then run the same command again")
        note = self.host.run(["cat", str(self.layout.holder_path)]).output
        try:
            who = json.loads(note)
            by = f"{who['by']} (process {who['pid']}, since {who['since']})"
        except (ValueError, KeyError, TypeError):
            by = "another tritonbuild"
        msg = f"{self.layout.versions_dir} on {self.host.name} is held by {by}"
        return HostError(
            msg,
            hint="wait until it is done; where its machine lost the network, the board notices "
            f"within hours: `fuser -k {self.layout.lock_path}` there is quicker",
        )

    def send(self, build: Build, base: str | None) -> Sent:
        """Bring a tree to the incoming folder; what is the same in `base` is linked.

        Raises:
            HostError: It did not arrive; where that was for want of room, what did is removed.
        """
        # A lock of its own for as long as anything writes there: what a deploy that died had
        # started on the board may need a moment to notice.
        try:
            return self.host.send(
                build.tree, self.layout.incoming_dir,
                prefix=self._argv("receive", str(_WRITER_WAIT)),
                base=self.layout.versions_dir / base if base else None,
                progress=lambda shown: terminal.progress(f"send: {shown}"),
            )  # fmt: skip
        except HostError as err:
            if err.message.startswith("no room"):
                self._run("discard")
            if _STILL_WRITES in err.message:
                lock = self.layout.incoming_dir.with_name(".incoming.lock")
                msg = f"a deploy that ended here still writes to {lock.parent} on {self.host.name}"
                hint = f"wait until it notices, or end it there: fuser -k {lock}"
                raise HostError(msg, hint=hint) from err
            raise

    def verify(self, contents: Contents, folder: str) -> str | None:
        """Compare what is in a folder of the versions with the manifest; return what differs."""
        answer = self.host.run(
            self._argv("verify", folder, str(contents.files), str(contents.links)),
            given=contents.format(),
            timeout=_LONG,
        )
        if answer.returncode == 0:
            return None
        lines = (answer.errors.strip() or f"exit code {answer.returncode}").splitlines()
        return "\n".join(f"  | {line}" for line in lines[:6])

    def finish(self, build: Build, name: str) -> None:
        """Make what arrived a version of that name.

        Raises:
            AssembleError: It is not what the manifest says.
            HostError: The board cannot do it.
        """
        differences = self.verify(build.contents, self.layout.incoming_dir.name)
        if differences:
            msg = f"what arrived on {self.host.name} is not what was sent:\n{differences}"
            raise AssembleError(
                msg, hint="run the same command again; if it stays so, its card or memory is bad"
            )
        self._run("finish", name, given=build.text)

    def switch(self, name: str, *, back: bool = False) -> None:
        """Let the link lead to a version.

        Args:
            name: The version.
            back: It is what ran before: what it followed stays as it was noted.

        Raises:
            HostError: The board cannot do it, or the lock is not held any more.
        """
        if self._lock is None or self._lock.poll() is not None:
            msg = f"the lock of {self.layout.versions_dir} on {self.host.name} was lost"
            raise HostError(msg, hint="somebody ended what holds it there; run the command again")
        self._run("switch", name, *(["back"] if back else []))

    def prune(self, keep: int) -> tuple[str, ...]:
        """Remove all but so many versions, the one that runs among them; return those removed."""
        answer = self._run("prune", str(keep))
        lines = answer.output.splitlines()
        return tuple(line.partition("=")[2] for line in lines if line.startswith("removed="))

    def _argv(self, verb: str, *arguments: str, prefix: Sequence[str] | None = None) -> list[str]:
        before = self.prefix if prefix is None else prefix
        return [*before, "sh", "-c", self._script, "board", verb, str(self.layout.link), *arguments]

    def _run(self, verb: str, *arguments: str, given: str = "") -> Answer:
        answer = self.host.run(self._argv(verb, *arguments), given=given, timeout=_LONG)
        if answer.returncode != 0:
            msg = f"{self.host.name}: {verb} failed: {answer.said}"
            hint = "mend what it says, then run the same command again; what ran before still does"
            if _NO_ROOM in answer.errors:
                msg, hint = f"no room on {self.host.name}: {answer.said}", "free some space there"
            raise HostError(msg, hint=hint)
        return answer


def _user_name() -> str:
    """Return who runs this; in a container that was given a number only, the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
