"""Whether memory that grows is told from memory that does not."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from tritonbuild.smoke import soak as soak_module
from tritonbuild.smoke.soak import (
    MIB,
    Record,
    Soak,
    list_processes,
    measure_growth,
    read_memory,
    run_soak,
)
from tritonbuild.smoke.trial import CheckFailedError, CheckSkippedError, fail


def record_of(memory):
    record = Record()
    for at in range(200):
        record.note(int(memory(at / 200) * MIB), 10 * at, at / 10)
    return record


GROWTHS = {
    "leak": (True, lambda t: 200 + 40 * t),
    "slow-leak": (True, lambda t: 200 + 12 * t),
    "leak-in-steps": (True, lambda t: 200 + 8 * int(8 * t)),
    "noisy-leak": (True, lambda t: 200 + 40 * t + 2 * math.sin(500 * t)),
    "leak-after-warm-up": (True, lambda t: 200 + 60 * max(0.0, t - 0.4)),
    "flat": (False, lambda _: 200),
    "noise": (False, lambda t: 200 + 6 * math.sin(500 * t)),
    "warm-up": (False, lambda t: 200 + 100 * min(t, 0.3)),
    "levels-off": (False, lambda t: 200 + 60 * (1 - math.exp(-12 * t))),
    "fades": (False, lambda t: 50 + 100 * (1 - math.exp(-7 * t))),
    "up-and-down": (False, lambda t: 200 + 20 * (t > 0.5) - 10 * (t > 0.67) + 20 * (t > 0.84)),
    "little": (False, lambda t: 200 + 3 * t),
    "one-step": (False, lambda t: 200 + (30 if t > 0.6 else 0)),
    "shrinks": (False, lambda t: 200 - 40 * t),
}


@pytest.mark.parametrize(("is_leak", "memory"), GROWTHS.values(), ids=GROWTHS)
def test_only_growth_that_goes_on_is_a_leak(is_leak, memory):
    assert measure_growth(record_of(memory)).is_steady is is_leak


def test_numbers_say_how_fast_it_grows():
    # 40 MiB in 20 s and 2000 requests.
    growth = measure_growth(record_of(lambda t: 200 + 40 * t))
    grown = growth.after - growth.before
    assert grown / growth.seconds == pytest.approx(2 * MIB, rel=0.02)
    assert grown / growth.requests == pytest.approx(40 * MIB / 2000, rel=0.02)
    assert str(growth).startswith("216.4 to 236.5 MiB, +120.6 MiB a minute and +21076 bytes")


def test_a_long_soak_keeps_few_samples():
    record = Record()
    for at in range(50_000):
        record.note(MIB + at, at, at)
    assert len(record.memory) == len(record.requests) == len(record.seconds) < 2001
    assert record.requests == sorted(record.requests)


def test_memory_counts_children_and_their_children():
    inner = "import time; block = bytearray(60 << 20); time.sleep(60)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen([sys.executable, "-c", outer]) as child:
        try:
            deadline = time.monotonic() + 30
            while read_memory(child.pid) < 60 * MIB:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            processes = list_processes(child.pid)
            assert processes[0] == child.pid
            assert len(processes) == 2
        finally:
            for pid in reversed(list_processes(child.pid)):
                os.kill(pid, 9)
    assert read_memory(child.pid) == 0


def soak_with(monkeypatch, memory, soak, questions):
    values = iter(memory)
    monkeypatch.setattr(soak_module, "read_memory", lambda _: next(values))
    return run_soak(SimpleNamespace(server=SimpleNamespace(pid=1)), soak, questions)


def test_requests_are_asked_in_turn_until_enough(monkeypatch):
    asked = []
    questions = [lambda: asked.append("a"), lambda: asked.append("b")]
    said = soak_with(monkeypatch, [200 * MIB] * 30, Soak(requests=30), questions)
    assert asked == ["a", "b"] * 15
    assert said.startswith("30 requests in 0 s; memory 200.0 to 200.0 MiB")


def test_leak_fails_with_numbers(monkeypatch):
    memory = [(200 + at) * MIB for at in range(60)]
    with pytest.raises(CheckFailedError, match=r"expected memory that levels off, got .* MiB"):
        soak_with(monkeypatch, memory, Soak(requests=60), [lambda: None])


def test_too_short_a_soak_says_so(monkeypatch):
    with pytest.raises(CheckSkippedError, match="too short to tell"):
        soak_with(monkeypatch, [MIB] * 5, Soak(requests=5), [lambda: None])


def test_wrong_answer_ends_it(monkeypatch):
    def ask():
        fail("1", "2")

    with pytest.raises(CheckFailedError, match="expected 1, got 2"):
        soak_with(monkeypatch, [MIB] * 5, Soak(seconds=60), [ask])


def test_nothing_to_ask_is_told(monkeypatch):
    with pytest.raises(CheckSkippedError, match="no model"):
        soak_with(monkeypatch, [], Soak(seconds=1), [])
