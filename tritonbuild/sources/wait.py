"""Waiting that ends when everything is being stopped."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from tritonbuild import proc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pause(seconds: float) -> None:
    """Let some time go by.

    Raises:
        KeyboardInterrupt: Everything is being stopped.
    """
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        proc.check_stopping()
        time.sleep(0.05)


@contextlib.contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold a lock that other processes respect, too, for as long as it takes to get it.

    Raises:
        KeyboardInterrupt: Everything is being stopped.
    """
    from filelock import FileLock

    lock = FileLock(path)
    while True:
        proc.check_stopping()
        with contextlib.suppress(TimeoutError):
            lock.acquire(timeout=1)
            break
    try:
        yield
    finally:
        lock.release()
