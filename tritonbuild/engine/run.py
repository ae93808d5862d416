"""Do what a plan says: each step once, independent ones side by side, resumable at any moment."""

from __future__ import annotations

import secrets
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, Protocol

from tritonbuild import proc
from tritonbuild.console import terminal
from tritonbuild.engine.state import Done, describe_change, note_duration, read_done, write_done
from tritonbuild.errors import TritonBuildError
from tritonbuild.plan.model import key_of, key_parts_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonbuild.console import RunningStep
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan, Step

# Fetches wait for the network and roots for a disk: more at once than cores, but not many. Steps
# that compile share one pool of job tokens, however many they are.
_WORKERS = 6


class StepRunner(Protocol):
    """What does the steps of one kind of plan."""

    def inputs(self, step: Step) -> dict[str, str]:
        """Return what decides a step's result but is not in the plan, by what it is called.

        Asked once the steps that come before it are done.
        """

    def is_intact(self, step: Step, outputs: dict[str, Any]) -> bool:
        """Return whether what a step left is still there."""

    def run(
        self,
        step: Step,
        name: str,
        needed: Mapping[str, dict[str, Any]],
        shown: RunningStep,
    ) -> dict[str, Any]:
        """Do a step; return what later steps need to know.

        A result with a key `incomplete` is used now but not taken as done the next time.

        Args:
            step: The step.
            name: `NN-<step>`, for its log and script.
            needed: What the steps that it needs returned.
            shown: The step as the terminal shows it, for its progress.
        """


@dataclass(frozen=True)
class StepResult:
    """How a step went.

    Attributes:
        name: `NN-<step>`.
        status: `done`, `kept` where an earlier run had done it, or `incomplete` where it was left
            out for a reason that was said, and is tried again the next time.
        seconds: Wall time; of the earlier run where it was kept.
        why: Why it was done although it was done before; empty where it was not.
    """

    name: str
    title: str
    status: str
    seconds: float
    why: str = ""


def run_plan(
    plan: Plan, ws: Workspace, runner: StepRunner, *, keep_going: bool = False
) -> list[StepResult]:
    """Run a plan's steps to the end.

    Args:
        plan: The plan.
        ws: Where it is built.
        runner: What does the steps.
        keep_going: After a failure, do all the steps that do not need the one that failed.

    Raises:
        TritonBuildError: A step failed; those that run beside it are waited for. With
            `keep_going` it is the first failure, and the message names all.
    """
    return _Run(plan, ws, runner, keep_going=keep_going).run()


class _Run:
    """One run of a plan: the results so far, by step id."""

    def __init__(self, plan: Plan, ws: Workspace, runner: StepRunner, *, keep_going: bool) -> None:
        self._plan = plan
        self._ws = ws
        self._runner = runner
        self._keep_going = keep_going
        self._done: dict[str, Done] = {}
        self._results: dict[str, StepResult] = {}
        self._failures: dict[str, TritonBuildError] = {}
        self._lock = threading.Lock()

    def run(self) -> list[StepResult]:
        with ThreadPoolExecutor(_WORKERS) as pool:
            running: dict[Future[None], str] = {}
            try:
                self._run_all(pool, running)
            except BaseException:  # Ctrl-C, or a signal to end, also while others are waited for
                pool.shutdown(wait=False, cancel_futures=True)
                with proc.stopped():
                    pool.shutdown(wait=True)
                raise
        if self._failures:
            raise self._summarise()
        return [self._results[step.id] for step in self._plan.steps]

    def _run_all(self, pool: ThreadPoolExecutor, running: dict[Future[None], str]) -> None:
        sorter = TopologicalSorter(
            {step.id: (*step.needs, *step.after) for step in self._plan.steps}
        )
        sorter.prepare()
        while sorter.is_active():
            for step_id in sorter.get_ready():
                step = self._plan.find_step(step_id)
                if self._is_lost(step):
                    sorter.done(step_id)
                else:
                    running[pool.submit(self._do, step)] = step_id
            if not running:
                continue
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                step_id = running.pop(future)
                self._take(future, step_id)
                sorter.done(step_id)
            if self._failures and not self._keep_going:
                self._end_with(pool, running)
                return

    def _end_with(self, pool: ThreadPoolExecutor, running: dict[Future[None], str]) -> None:
        """Start nothing more, and let what runs beside a step that failed come to its end."""
        pool.shutdown(wait=False, cancel_futures=True)
        going = [step_id for future, step_id in running.items() if not future.done()]
        if going:
            failed = ", ".join(self._failures)
            text = f"{failed} failed; what runs beside it is finished first: {', '.join(going)}"
            terminal.info(f"{text} (Ctrl-C stops that, too)")
        for future, step_id in running.items():
            if not future.cancelled():
                self._take(future, step_id)

    def _is_lost(self, step: Step) -> bool:
        """Return whether a step cannot be done, because one that it comes after failed."""
        return any(other not in self._results for other in (*step.needs, *step.after))

    def _take(self, future: Future[None], step_id: str) -> None:
        try:
            future.result()
        except TritonBuildError as err:
            self._failures[step_id] = err

    def _summarise(self) -> TritonBuildError:
        """Return the first failure; where there are more, its message names them all."""
        first = next(iter(self._failures.values()))
        left_out = [s.id for s in self._plan.steps if s.id not in self._results]
        waiting = [name for name in left_out if name not in self._failures]
        others = list(self._failures)[1:]
        lines = [first.message]
        if others:
            lines.append(f"  failed as well: {', '.join(others)}")
        if waiting and self._keep_going:
            lines.append(f"  not done, because they need what failed: {', '.join(waiting)}")
        first.message = "\n".join(lines)
        return first

    def _do(self, step: Step) -> None:
        name = self._plan.name_of(step)
        needed_keys = {other: self._done[other].key or "" for other in step.needs}
        parts = key_parts_of(step, needed_keys, self._runner.inputs(step))
        key = key_of(parts)
        state = self._ws.state_dir / f"{name}.json"
        before = read_done(state)
        # What was made anew may have come out differently (a newer package in the root), or has
        # taken away what was made of it. Runs are compared, not only this run's results: it may
        # have been made anew by a run that was stopped before it came here.
        made_from = {other: self._done[other].run for other in step.needs}
        same = before is not None and before.key == key and before.made_from == made_from
        if before and same and self._runner.is_intact(step, before.outputs):
            terminal.detail(f"= {step.title} (done before)")
            self._done[step.id] = before
            self._results[step.id] = StepResult(name, step.title, "kept", before.seconds)
            return
        why = ""
        if before and before.key:
            anew = [one for one, run in made_from.items() if before.made_from.get(one) != run]
            why = describe_change(before.parts, parts, made_anew=anew)
        if why:
            terminal.detail(f"{name} again: {why}")
        state.unlink(missing_ok=True)
        started = time.monotonic()
        needed = {other: self._done[other].outputs for other in step.needs}
        with terminal.step(step.title) as shown:
            outputs = self._runner.run(step, name, needed, shown)
        seconds = time.monotonic() - started
        done = Done(
            None if "incomplete" in outputs else key, outputs, seconds, parts,
            secrets.token_hex(8), made_from,
        )  # fmt: skip
        write_done(state, done)
        with self._lock:
            note_duration(self._ws.durations_path, step.id, seconds)
        self._done[step.id] = done
        status = "incomplete" if done.key is None else "done"
        self._results[step.id] = StepResult(name, step.title, status, done.seconds, why)
