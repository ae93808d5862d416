"""The order of steps, what is kept, and what happens to the others when one fails."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from tritonbuild import proc
from tritonbuild.engine.run import run_plan
from tritonbuild.errors import SourceError
from tritonbuild.paths import Workspace
from tritonbuild.plan.model import Plan, Selection, Step, StepKind
from tritonbuild.recipe.fields import ProviderKind

SELECTION = Selection(
    "b", "arm64", "o", "r", ProviderKind.WHEEL, None, ("core",), {}, "upstream", ()
)  # fmt: skip


class Runner:
    """Notes what ran; fails where it is told to."""

    def __init__(self, *, fails=(), slow=(), extra=(), incomplete=()):
        self.ran: list[str] = []
        self.needed: dict[str, dict] = {}
        self.fails, self.slow, self.extra, self.incomplete = fails, slow, extra, incomplete
        self.lock = threading.Lock()

    def inputs(self, step):  # noqa: ARG002
        return {f"extra {one}": one for one in self.extra}

    def is_intact(self, step, outputs):  # noqa: ARG002
        return outputs.get("gone") is None

    def run(self, step, name, needed, shown):  # noqa: ARG002
        with self.lock:
            self.ran.append(step.id)
            self.needed[step.id] = dict(needed)
        if step.id in self.slow:
            time.sleep(0.2)
        if step.id in self.fails:
            msg = f"{step.id} failed"
            raise SourceError(msg)
        outputs = {"name": name}
        if step.id in self.incomplete:
            outputs["incomplete"] = "half of it"
        return outputs


def make_plan(*steps: tuple[str, tuple[str, ...]], details=None) -> Plan:
    made = tuple(
        Step(name, StepKind.FETCH, name, "w", needs=needs, details=(details or {}).get(name, {}))
        for name, needs in steps
    )
    return Plan("0", SELECTION, made, {}, (), (), ())


@pytest.fixture
def ws(tmp_path):
    workspace = Workspace(tmp_path / "w")
    workspace.make()
    return workspace


CHAIN = (("a", ()), ("b", ("a",)), ("c", ("a",)), ("d", ("b", "c")))


def test_steps_run_after_what_they_need_and_get_its_outputs(ws):
    runner = Runner()
    results = run_plan(make_plan(*CHAIN), ws, runner)
    assert [result.name for result in results] == ["01-a", "02-b", "03-c", "04-d"]
    assert runner.ran[0] == "a"
    assert runner.ran[-1] == "d"
    assert runner.needed["d"] == {"b": {"name": "02-b"}, "c": {"name": "03-c"}}


def statuses(results):
    return {result.name[3:]: result.status for result in results}


def test_second_run_keeps_all(ws):
    run_plan(make_plan(*CHAIN), ws, Runner())
    runner = Runner()
    assert set(statuses(run_plan(make_plan(*CHAIN), ws, runner)).values()) == {"kept"}
    assert runner.ran == []


def test_changed_step_is_done_again_with_all_that_need_it(ws):
    run_plan(make_plan(*CHAIN), ws, Runner())
    changed = make_plan(*CHAIN, details={"b": {"x": 1}})
    assert statuses(run_plan(changed, ws, Runner())) == {
        "a": "kept", "b": "done", "c": "kept", "d": "done",
    }  # fmt: skip


def test_files_that_decide_a_result_belong_to_the_key(ws):
    run_plan(make_plan(*CHAIN), ws, Runner(extra=["1"]))
    runner = Runner(extra=["2"])
    run_plan(make_plan(*CHAIN), ws, runner)
    assert len(runner.ran) == 4


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 1}', "null"])
def test_broken_state_is_as_good_as_none(ws, content):
    run_plan(make_plan(*CHAIN), ws, Runner())
    (ws.state_dir / "02-b.json").write_text(content)
    runner = Runner()
    run_plan(make_plan(*CHAIN), ws, runner)
    assert "b" in runner.ran
    assert "a" not in runner.ran


def test_incomplete_step_is_used_now_and_done_again_next_time(ws):
    run_plan(make_plan(*CHAIN), ws, Runner(incomplete=["b"]))
    runner = Runner()
    run_plan(make_plan(*CHAIN), ws, runner)
    assert "b" in runner.ran
    assert "a" not in runner.ran


def test_failure_stops_what_has_not_started_and_keeps_what_is_done(ws):
    many = [(f"f{i}", ()) for i in range(12)]
    runner = Runner(fails=["f0"], slow=[f"f{i}" for i in range(1, 12)])
    with pytest.raises(SourceError, match="f0 failed"):
        run_plan(make_plan(*many, ("last", ("f1",))), ws, runner)
    assert len(runner.ran) < 8, "those that were waiting for a place did not start"
    assert "last" not in runner.ran
    assert not (ws.state_dir / "01-f0.json").exists()
    again = Runner()
    results = statuses(run_plan(make_plan(*many, ("last", ("f1",))), ws, again))
    assert results["f1"] == "kept"
    assert results["f0"] == "done"


def test_ctrl_c_starts_nothing_more(ws):
    many = [(f"f{i}", ()) for i in range(12)]

    class Interrupting(Runner):
        def run(self, step, name, needed, shown):
            if step.id == "f0":
                self.ran.append("f0")
                raise KeyboardInterrupt
            return super().run(step, name, needed, shown)

    runner = Interrupting(slow=[f"f{i}" for i in range(12)])
    with pytest.raises(KeyboardInterrupt):
        run_plan(make_plan(*many), ws, runner)
    assert len(runner.ran) < 8


def test_step_made_anew_by_a_run_that_stopped_there_is_not_taken_for_the_old_one(ws):
    """What b made of the first a went away with it: a clone that was patched, and is cloned again."""
    plan = make_plan(*CHAIN)
    run_plan(plan, ws, Runner())

    class Stopped(Runner):
        def is_intact(self, step, outputs):  # noqa: ARG002
            return step.id != "a"

        def inputs(self, step):
            if step.id != "a":
                raise KeyboardInterrupt
            return super().inputs(step)

    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, ws, Stopped())
    results = run_plan(plan, ws, Runner())
    assert statuses(results) == {"a": "kept", "b": "done", "c": "done", "d": "done"}
    assert results[1].why == "made anew: a"


BESIDE = (("bad", ()), ("beside", ()), ("after", ("beside",)))


class SideBySide(Runner):
    """`bad` fails while `beside` runs, and not before."""

    def __init__(self, beside, **more):
        super().__init__(fails=["bad"], **more)
        self.beside, self.started = beside, threading.Event()

    def run(self, step, name, needed, shown):
        if step.id == "beside":
            self.started.set()
            self.beside()
        else:
            self.started.wait(10)
        return super().run(step, name, needed, shown)


def test_all_that_failed_beside_the_first_is_told(ws):
    def fail():
        time.sleep(0.3)
        msg = "beside failed"
        raise SourceError(msg)

    with pytest.raises(SourceError, match="bad failed") as caught:
        run_plan(make_plan(*BESIDE), ws, SideBySide(fail))
    assert "failed as well: beside" in caught.value.message
    assert "after" not in caught.value.message


def test_ctrl_c_stops_what_runs_beside_a_step_that_failed(ws):
    argv = ["sleep", "61.4321"]

    def sleep():
        threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
        proc.run(argv)

    with pytest.raises(KeyboardInterrupt):
        run_plan(make_plan(*BESIDE), ws, SideBySide(sleep))
    deadline = time.monotonic() + 5  # a busy machine takes a moment to reap it
    find = ["pgrep", "-f", " ".join(argv) + "$"]
    while proc.capture(find).output and time.monotonic() < deadline:
        time.sleep(0.05)
    assert proc.capture(find).output == ""
