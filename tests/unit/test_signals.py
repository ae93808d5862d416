"""Ctrl-C and its like: what was begun is cleared away, also where people press twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

# Something that takes its time to clear away after itself.
_SLOW = """
import sys, time
from tritonbuild import cli
cli._unwind_on_signals()
try:
    print("up", flush=True)
    time.sleep(60)
finally:
    print("clearing", flush=True)
    time.sleep(float(sys.argv[1]))
    print("cleared", flush=True)
"""


def start(seconds: float) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", _SLOW, str(seconds)], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
        # Tests may run under nohup, which has children ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    return child


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_second_signal_at_once_does_not_break_off_the_clearing(signum):
    child = start(0.5)
    child.send_signal(signum)
    assert child.stdout.readline() == "clearing\n"
    child.send_signal(signum)
    assert child.communicate(timeout=20)[0] == "cleared\n"
    assert child.returncode in (128 + signum, -signum), "Python itself says the latter of Ctrl-C"


def test_second_signal_after_a_while_ends_at_once():
    child = start(60)
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == "clearing\n"
    time.sleep(1.2)
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=20)[0] == ""
    assert child.returncode == 130
