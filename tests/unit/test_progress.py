"""Where a step is: counts, estimates, and what a silent step does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tritonbuild.engine.progress import (
    Counter,
    StepProgress,
    clean_line,
    describe_processes,
    format_estimate,
)


class Shown:
    """Takes the place of a step on the terminal."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def progress(self, text: str, detail: str = "") -> None:
        self.said.append((text, detail))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def make_progress(clock, expected=None) -> StepProgress:
    return StepProgress(Shown(), expected_seconds=expected, clock=clock)


# --- counts -----------------------------------------------------------------------------------


def count(*lines: str) -> str:
    counter = Counter()
    for line in lines:
        counter.feed(line)
    return str(counter)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(["-- Configuring done", "no [1/2] count"], "", id="none"),
        pytest.param(["[1/9] a", "[2/9] b", "output of b"], "[2/9]", id="ninja"),
        pytest.param(["[ 12%] a", "[ 13%] b", "[13%] c"], "13 %", id="make"),
        pytest.param(["[100%] a", "[ 50%] b"], "100 %", id="make again"),
        pytest.param(["[1/2] a", "[2/2] b", "[1/30] c"], "[1/30]", id="ninja after ninja"),
        pytest.param(["[0/2] Re-running CMake...", "[1/7] a"], "[1/7]", id="cmake first"),
        pytest.param(["[3/9] a", "[4/6] b"], "[4/6]", id="some were up to date"),
        pytest.param(["[5/9] a", "[ 50%] b"], "[5/9]", id="make in ninja"),
        pytest.param(["[1/9] a", "[2/9] b", "[3/nine] c", "[x]"], "[2/9]", id="not a count"),
    ],
)
def test_counts(lines, expected):
    assert count(*lines) == expected


def test_builds_inside_of_a_build_do_not_count():
    inner = [f"[{number}/20] Building CXX object {number}.o" for number in range(1, 21)]
    outer = ["[1/10] Creating directories", "[2/10] Performing build step for 'x'"]
    assert count(*outer, *inner) == "[2/10]"
    assert count(*outer, *inner, "[3/10] Performing install step") == "[3/10]"
    smaller = ["[1/3] a", "[2/3] b", "[3/3] c"]
    assert count(*outer, *smaller, "[3/10] next", *inner, "[4/10] next") == "[4/10]"


def test_real_ninja_is_understood(tmp_path, require_or_skip):
    from tritonbuild.executors.machine import find_program

    ninja = find_program("ninja")
    require_or_skip(ninja, "needs ninja")
    inner = tmp_path / "inner"
    inner.mkdir()
    steps = "".join(f"build in{number}: r\n" for number in range(15))
    (inner / "build.ninja").write_text(f"rule r\n  command = true\n{steps}")
    outer = f"rule r\n  command = true\nrule n\n  command = cd {inner} && {ninja}\n"
    outer += "".join(f"build a{number}: r\n" for number in range(4))
    outer += "build x: n | a0 a1 a2 a3\nbuild y: r | x\n"
    (tmp_path / "build.ninja").write_text(outer)
    done = subprocess.run(
        [ninja, "-j1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/bin"},
    )
    counter = Counter()
    seen = [str(counter) for line in done.stdout.splitlines() if counter.feed(line)]
    assert "[15/15]" in done.stdout
    assert seen == [f"[{number}/6]" for number in range(1, 7)]


# --- what is shown ----------------------------------------------------------------------------


def test_line_and_count_are_shown(clock):
    progress = make_progress(clock)
    assert progress.describe() == ("", "")
    progress.feed("-- Looking for pthread.h")
    assert progress.describe() == ("", "Looking for pthread.h")
    progress.feed("[1/300] Building CXX object src/a.cc.o")
    assert progress.describe() == ("[1/300]", "Building CXX object src/a.cc.o")


def test_estimate_comes_from_the_last_time_until_the_pace_is_known(clock):
    progress = make_progress(clock, expected=600)
    assert progress.describe()[0] == "about 10 min left"
    for number in range(1, 10):
        clock.now += 10
        progress.feed(f"[{number}/100] x")
    assert progress.describe()[0] == "[9/100], about 8 min left", "600 s less 90"
    for number in range(10, 51):
        clock.now += 1
        progress.feed(f"[{number}/100] x")
    # 49 in 121 s: 50 more take 123.
    assert progress.describe()[0] == "[50/100], about 2 min left"
    clock.now += 60
    assert progress.describe()[0] == "[50/100], about 60 s left"


def test_without_an_earlier_run_there_is_no_guess(clock):
    progress = make_progress(clock)
    clock.now += 5
    progress.feed("[1/100] x")
    assert progress.describe()[0] == "[1/100]"


def test_step_that_takes_longer_than_the_last_time_says_no_number(clock):
    progress = make_progress(clock, expected=60)
    clock.now += 61
    assert progress.describe()[0] == ""


def test_second_build_of_a_step_has_its_own_pace(clock):
    progress = make_progress(clock)
    for number in range(1, 101):
        clock.now += 1
        progress.feed(f"[{number}/100] x")
    for number in range(1, 11):
        clock.now += 10
        progress.feed(f"[{number}/40] y")
    assert progress.describe()[0] == "[10/40], about 5 min left"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, ""), (0, ""), (3, "about 10 s left"), (34, "about 30 s left"),
        (89, "about 90 s left"), (90, "about 2 min left"), (600, "about 10 min left"),
        (5400, "about 1 h 30 min left"), (90_000, "about 25 h 0 min left"),
    ],
)  # fmt: skip
def test_estimates_are_as_rough_as_they_are(seconds, expected):
    assert format_estimate(seconds) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[12/345] Building CXX object a.cc.o", "Building CXX object a.cc.o"),
        ("[ 12%] Building", "Building"),
        ("-- Found Boost", "Found Boost"),
        ("\x1b[1;32mgreen\x1b[0m \x1b[Kand\tmore\x07", "green and more"),
        ("\x1b]0;title\x07text \x1b[2J\x9b31m", "text 31m"),
        ("[/usr/lib] is text", "[/usr/lib] is text"),
        ("", ""),
    ],
)
def test_line_is_shown_without_what_could_upset_a_terminal(line, expected):
    assert clean_line(line) == expected


def test_note_is_shown_until_the_process_runs(clock):
    progress = make_progress(clock)
    progress.note("waits for a free job")
    assert progress.describe() == ("waits for a free job", "")
    progress.follow(os.getpid())
    assert progress.describe() == ("", "")


# --- a silent step ----------------------------------------------------------------------------


@pytest.fixture
def tree(processes):
    """Start a shell that runs lines; stop it and all below it afterwards."""
    list_descendants, wait_until, _ = processes
    started: list[subprocess.Popen[bytes]] = []

    def start(text: str, count: int) -> int:
        child = subprocess.Popen(["bash", "-c", text], stdin=subprocess.DEVNULL)
        started.append(child)
        wait_until(lambda: len(list_descendants(child.pid)) == count)
        return child.pid

    yield start
    for child in started:
        for pid in list_descendants(child.pid):
            os.kill(pid, 9)
        child.kill()
        child.wait()


def test_silent_step_says_what_its_newest_process_does(tree, clock, tmp_path, processes):
    _, wait_until, _ = processes
    source = tmp_path / "secret word" / "foo.cc"
    source.parent.mkdir()
    source.write_text("import time; time.sleep(60)")
    pid = tree(f"sleep 60 & read -t 0.1 <> <(:); '{sys.executable}' '{source}' --secret & wait", 2)
    wait_until(lambda: "foo.cc" in describe_processes(pid))
    progress = make_progress(clock)
    progress.follow(pid)
    progress.feed("[3/9] Building foo")
    progress.describe()
    clock.now += 4.9
    assert progress.describe() == ("[3/9]", "Building foo")
    clock.now += 0.2
    text, detail = progress.describe()
    name = Path(sys.executable).name
    assert re.fullmatch(rf"\[3/9\], {re.escape(name)} foo\.cc \(0:00:0\d\) and 1 more", text), text
    assert detail == ""


def test_it_says_how_much_was_written_and_never_an_address(tree, processes):
    _, wait_until, _ = processes
    script = (
        "import sys,time; sys.stdout.write('x' * 3_000_000); sys.stdout.flush(); time.sleep(60)"
    )
    url = "https://me:password@example.invalid/x.git"
    pid = tree(f"'{sys.executable}' -c \"{script}\" '{url}' >/dev/null & wait", 1)
    wait_until(lambda: "written" in describe_processes(pid))
    said = describe_processes(pid)
    assert re.search(r" \(0:00:0\d, 2 MiB written\)$", said), said
    assert "password" not in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/usr/lib/gcc/x/12/cc1plus", "-quiet", "-I", "x", "/w/src/foo.cc", "-o", "/tmp/c.s"],
         "cc1plus foo.cc"),
        (["/usr/bin/ld", "-shared", "-o", "/w/libfoo.so", "a.o"], "ld libfoo.so"),
        (["git", "fetch", "https://u:p@h/x"], "git fetch"),
        (["git", "-C", "/w", "fetch"], "git"),
        (["/usr/lib/git-core/git-remote-https", "origin", "https://u:p@h/x"],
         "git-remote-https origin"),
        (["cmake", "-P", "/w/fetch-it.cmake"], "cmake fetch-it.cmake"),
        (["curl", "https://u:p@h/x"], "curl"),
        ([], "a process that ends"),
    ],
)  # fmt: skip
def test_processes_are_named_by_what_they_work_on(tmp_path, words, expected):
    stat = "{} (a ) b) S {} 0 0" + " 0" * 15 + " {} 0"
    for pid, parent, begun in ((7, 1, 100), (9, 7, 500)):
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "stat").write_text(stat.format(pid, parent, begun))
        (folder / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
    (tmp_path / "uptime").write_text(f"{5 + 125} 0\n")
    assert describe_processes(7, tmp_path) == f"{expected} (0:02:05)"
    assert describe_processes(9, tmp_path) == ""


def test_step_is_asked_while_it_runs():
    shown = Shown()
    with StepProgress(shown) as progress:
        progress.feed("[1/2] one")
        limit = time.monotonic() + 10
        while not shown.said and time.monotonic() < limit:
            time.sleep(0.01)
    assert shown.said[0] == ("[1/2]", "one")
