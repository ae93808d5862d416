"""One build a work directory: the second one stops and says who holds it."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tritonbuild.errors import HostError
from tritonbuild.paths import write_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tritonbuild.paths import Workspace


@contextmanager
def hold(ws: Workspace, verb: str) -> Iterator[None]:
    """Hold a work directory while the block runs; the kernel lets go when we die, however.

    Raises:
        HostError: Another process holds it.
    """
    from filelock import FileLock, Timeout

    note = ws.root / ".lock.holder"
    lock = FileLock(ws.lock_path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        msg = f"{ws.root} is held by {_read_holder(ws)}"
        raise HostError(msg, hint="wait until it is done, or choose another --work-dir") from None
    try:
        holder = {"pid": os.getpid(), "verb": verb, "since": time.strftime("%H:%M:%S")}
        write_text(note, json.dumps(holder) + "\n")
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def _read_holder(ws: Workspace) -> str:
    try:
        holder = json.loads((ws.root / ".lock.holder").read_text(encoding="utf-8"))
        return f"process {holder['pid']} (tritonbuild {holder['verb']}, since {holder['since']})"
    except (OSError, ValueError, KeyError):
        return "another tritonbuild"
