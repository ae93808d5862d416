"""What people see of running steps: live lines on a terminal, lines that stay elsewhere."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from tritonbuild import console
from tritonbuild.console import Terminal, format_duration, format_seconds

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("seconds", "duration", "short"),
    [
        (0, "0:00:00", "0.0 s"),
        (3.14, "0:00:03", "3.1 s"),
        (59.94, "0:00:59", "59.9 s"),
        (60, "0:01:00", "0:01:00"),
        (192.9, "0:03:12", "0:03:12"),
        (3600 * 30 + 61, "30:01:01", "30:01:01"),
    ],
)
def test_durations(seconds, duration, short):
    assert format_duration(seconds) == duration
    assert format_seconds(seconds) == short


# --- lines that stay --------------------------------------------------------------------------


def test_step_says_when_it_begins_and_ends(capsys):
    terminal = Terminal()
    with terminal.step("build core") as running:
        running.progress("[1/9]", "Building a.cc.o")
    begun, ended = capsys.readouterr().err.splitlines()
    assert begun == "… build core"
    assert re.fullmatch(r"✓ build core \(\d\.\d s\)", ended)


def test_step_that_takes_long_says_so_now_and_then(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with Terminal().step("build core") as running:
        for number in range(1, 131):
            now[0] += 1
            running.progress(f"[{number}/345]", "Building a.cc.o")
    assert capsys.readouterr().err.splitlines() == [
        "… build core",
        "… build core: [30/345], 0:00:30",
        "… build core: [60/345], 0:01:00",
        "… build core: [90/345], 0:01:30",
        "… build core: [120/345], 0:02:00",
        "✓ build core (0:02:10)",
    ]


def test_step_without_a_count_says_how_long_it_runs(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with Terminal().step("fetch") as running:
        now[0] += 31
        running.progress("", "Cloning")
    assert "… fetch: Cloning, 0:00:31" in capsys.readouterr().err


def test_steps_of_one_name_do_not_get_in_each_others_way(capsys):
    terminal = Terminal()
    with terminal.step("same") as first, terminal.step("same") as second:
        first.failed = True
        assert first is not second
    marks = [line[0] for line in capsys.readouterr().err.splitlines()]
    assert marks == ["…", "…", "✓", "✗"]


def test_nothing_is_said_to_those_who_want_quiet(capsys):
    terminal = Terminal()
    terminal.configure(verbosity=-1)
    with terminal.step("build") as running:
        running.progress("[1/2]")
        terminal.progress("text")
    assert capsys.readouterr().err == ""


def test_lines_of_threads_stay_whole(capsys):
    terminal = Terminal()
    lines = [f"{number} " + "x" * 200 for number in range(8)]

    def say(line: str) -> None:
        for _ in range(50):
            terminal.info(line)

    threads = [threading.Thread(target=say, args=(line,)) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = capsys.readouterr().err.splitlines()
    assert sorted(said) == sorted(line for line in lines for _ in range(50))


# --- a terminal -------------------------------------------------------------------------------

_STEPS = """
import threading, time
from tritonbuild.console import terminal
def work(name, seconds):
    with terminal.step(name) as running:
        for number in range(1, 9):
            running.progress(f"[{number}/8]", "Building [/usr/lib] " + "very " * 40 + "long")
            time.sleep(seconds / 8)
        if name == "two":
            running.failed = True
threads = [threading.Thread(target=work, args=job) for job in (("one", 0.6), ("two", 1.0))]
for thread in threads:
    thread.start()
time.sleep(0.4)
terminal.warning("mind this")
for thread in threads:
    thread.join()
"""


def run_on_terminal(**env: str) -> str:
    """Return all that the steps write to a terminal of 60 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))
    base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    child = subprocess.Popen(
        [sys.executable, "-c", _STEPS], cwd=CHECKOUT, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**base, "LC_ALL": "C.UTF-8", **env},
    )  # fmt: skip
    os.close(theirs)
    said = b""
    while True:
        try:
            block = os.read(ours, 1 << 16)
        except OSError:  # the other side was closed
            break
        if not block:
            break
        said += block
    os.close(ours)
    assert child.wait(30) == 0, said
    return said.decode()


def paint(said: str) -> list[str]:
    """Return what stands on the terminal in the end, without colours."""
    lines = [""]
    row = 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", said):
        if token == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif token == "\r":
            continue
        elif token.startswith("\x1b"):
            row = max(0, row - int(token[2:-1] or 1)) if token.endswith("A") else row
            if token.endswith("K"):
                lines[row] = ""
        else:
            lines[row] += token
    return [line for line in lines if line.strip()]


def test_live_lines_show_each_step_and_vanish():
    said = run_on_terminal(TERM="xterm-256color")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    assert re.search(r"0:00:00 one: \[\d/8\] Building \[/usr/lib\] very", plain)
    assert re.search(r"0:00:00 two: \[\d/8\] Building \[/usr/lib\] very", plain)
    shown = [line for line in re.split(r"[\r\n]+", plain) if line]
    assert all(len(line) <= 60 for line in shown), "a line that wraps cannot be painted over"
    assert all("Building" in line for line in shown if "very" in line), "one line a step"
    left = paint(said)
    assert [line for line in left if "Building" in line] == []
    assert any("mind this" in line for line in left)
    assert [line[:5] for line in left if line[0] in "✓✗"] == ["✓ one", "✗ two"]
    assert "\x1b[32m" in said, "in colour"


def test_live_lines_have_no_colour_for_those_who_want_none():
    said = run_on_terminal(TERM="xterm-256color", NO_COLOR="1")
    assert re.search(r"0:00:00 two: \[\d/8\]", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said))
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", said)


@pytest.mark.parametrize("term", ["dumb", "unknown", ""])
def test_terminal_that_cannot_paint_over_gets_lines_that_stay(term):
    said = run_on_terminal(TERM=term)
    assert not re.search(r"\x1b\[[0-9;?]*[A-KJ]", said)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in said.split("\r\n") if line]
    assert sorted(lines[:2]) == ["… one", "… two"]
    assert re.fullmatch(r"✓ one \(\d\.\d s\)", lines[3])
    assert re.fullmatch(r"✗ two \(\d\.\d s\)", lines[4])
