"""Do what a plan says: each step once, independent ones side by side, resumable at any moment."""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, Protocol

from tritonbuild import proc
from tritonbuild.console import terminal
from tritonbuild.engine.state import Done, read_done, write_done
from tritonbuild.plan.model import key_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan, Step

# Fetches wait for the network and roots for a disk: more at once than cores, but not many.
_WORKERS = 4


class StepRunner(Protocol):
    """What does the steps of one kind of plan."""

    def inputs(self, step: Step) -> list[str]:
        """Return checksums of files that decide a step's result but are not in the plan."""

    def is_intact(self, step: Step, outputs: dict[str, Any]) -> bool:
        """Return whether what a step left is still there."""

    def run(self, step: Step, name: str, needed: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """Do a step; return what later steps need to know.

        A result with a key `incomplete` is used now but not taken as done the next time.

        Args:
            step: The step.
            name: `NN-<step>`, for its log and script.
            needed: What the steps that it needs returned.
        """


@dataclass(frozen=True)
class StepResult:
    """How a step went.

    Attributes:
        name: `NN-<step>`.
        status: `done`, `kept` where an earlier run had done it, or `incomplete` where it was left
            out for a reason that was said, and is tried again the next time.
        seconds: Wall time; of the earlier run where it was kept.
    """

    name: str
    title: str
    status: str
    seconds: float


def run_plan(plan: Plan, ws: Workspace, runner: StepRunner) -> list[StepResult]:
    """Run a plan's steps to the end.

    Raises:
        TritonBuildError: A step failed; those that run beside it are waited for, no new one starts.
    """
    return _Run(plan, ws, runner).run()


class _Run:
    """One run of a plan: the results so far, by step id."""

    def __init__(self, plan: Plan, ws: Workspace, runner: StepRunner) -> None:
        self._plan = plan
        self._ws = ws
        self._runner = runner
        self._done: dict[str, Done] = {}
        self._results: dict[str, StepResult] = {}

    def run(self) -> list[StepResult]:
        sorter = TopologicalSorter({step.id: step.needs for step in self._plan.steps})
        sorter.prepare()
        with ThreadPoolExecutor(_WORKERS) as pool:
            running: dict[Future[None], str] = {}
            try:
                while sorter.is_active():
                    for step_id in sorter.get_ready():
                        running[pool.submit(self._do, self._plan.find_step(step_id))] = step_id
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        step_id = running.pop(future)
                        future.result()
                        sorter.done(step_id)
            except BaseException as err:
                # Before the pool waits for its threads: what is queued must not start any more.
                pool.shutdown(wait=False, cancel_futures=True)
                if not isinstance(err, Exception):  # Ctrl-C, or a signal to end
                    with proc.stopped():
                        pool.shutdown(wait=True)
                raise
        return [self._results[step.id] for step in self._plan.steps]

    def _do(self, step: Step) -> None:
        name = self._plan.name_of(step)
        needed_keys = [self._done[other].key or "" for other in step.needs]
        key = key_of(step, needed_keys + self._runner.inputs(step))
        state = self._ws.state_dir / f"{name}.json"
        before = read_done(state)
        # What was made anew may have come out differently (a newer package in the root).
        kept = all(self._results[other].status == "kept" for other in step.needs)
        if kept and before and before.key == key and self._runner.is_intact(step, before.outputs):
            terminal.detail(f"= {step.title} (done before)")
            self._done[step.id] = before
            self._results[step.id] = StepResult(name, step.title, "kept", before.seconds)
            return
        state.unlink(missing_ok=True)
        started = time.monotonic()
        with terminal.step(step.title):
            needed = {other: self._done[other].outputs for other in step.needs}
            outputs = self._runner.run(step, name, needed)
        done = Done(None if "incomplete" in outputs else key, outputs, time.monotonic() - started)
        write_done(state, done)
        self._done[step.id] = done
        status = "incomplete" if done.key is None else "done"
        self._results[step.id] = StepResult(name, step.title, status, done.seconds)
