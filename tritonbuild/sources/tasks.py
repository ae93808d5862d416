"""Tasks that run side by side and may start further tasks; the first error ends them all."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from tritonbuild import proc

if TYPE_CHECKING:
    from collections.abc import Callable

# They wait for the network, and for each other's disk.
_WORKERS = 4


class Tasks:
    """A pool of threads; `run` returns when nothing is left to do."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_WORKERS)
        self._guard = threading.Lock()
        self._running: set[Future[None]] = set()

    def submit(self, task: Callable[..., None], *arguments: object) -> None:
        """Start a task as soon as a thread is free; tasks may call this too."""
        with self._guard:
            self._running.add(self._pool.submit(task, *arguments))

    def run(self) -> None:
        """Wait for all tasks, also those that tasks start.

        Raises:
            TritonBuildError: What a task raised; those that run beside it are waited for.
            KeyboardInterrupt: Everything is being stopped.
        """
        try:
            while running := self._list():
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                with self._guard:
                    self._running -= finished
                for future in finished:
                    future.result()
        except BaseException as err:
            self._pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(err, Exception):  # Ctrl-C
                with proc.stopped():
                    self._pool.shutdown(wait=True)
            raise
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _list(self) -> set[Future[None]]:
        with self._guard:
            return set(self._running)
