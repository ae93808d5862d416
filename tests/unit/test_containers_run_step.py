"""What runs a script in a container: its share of the jobs, and what BuildKit is given to show."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import io
import os
import signal
import subprocess
import sys
import time

import pytest

from tritonbuild.paths import data_dir

PROGRAM = data_dir("templates") / "containers" / "run_step.py"


def load():
    spec = importlib.util.spec_from_file_location("run_step", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def module():
    return load()


# --- exit codes -----------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path):
    def write(text: str):
        path = tmp_path / "script.sh"
        path.write_text(text)
        return path

    return write


def run_step(script, *more, **options):
    return subprocess.run(
        [sys.executable, "-B", PROGRAM, script, *more], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=60, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)],
)
def test_exit_code_is_that_of_the_script(script, text, code):
    done = run_step(script(f"echo out; echo err >&2; {text}"))
    assert done.returncode == code
    assert done.stdout == b"out\nerr\n"


def test_what_a_script_leaves_running_holds_nobody_up(script):
    started = time.monotonic()
    done = run_step(script("sleep 60 & echo $!; printf 'no end'"))
    number, text = done.stdout.split(b"\n")
    os.kill(int(number), signal.SIGKILL)
    assert time.monotonic() - started < 20
    assert (done.returncode, text) == (0, b"no end")


# --- what is shown --------------------------------------------------------------------------------


class Clock:
    """Time that passes as the test says; sleeping takes none of ours."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class BuildKit(io.BytesIO):
    """Takes what is shown, as BuildKit 0.8 counts it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.size = 0
        self.clipped = 0

    def write(self, text: bytes) -> int:
        self.size += len(text)
        most = min(1 << 20, (int(self._clock.now) + 1) * (100 << 10))
        self.clipped += self.size > most
        return super().write(text)


@pytest.fixture
def clock(module, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def show(module, clock, lines, pause=0.01):
    out = BuildKit(clock)
    shown = module.Shown(out)
    for line in lines:
        shown.add(line)
        clock.now += pause
    shown.finish()
    assert not out.clipped, "BuildKit shows all of it"
    return out.getvalue()


def test_short_output_is_shown_whole_and_at_once(module, clock):
    lines = [b"line %d\n" % number for number in range(2000)]
    assert show(module, clock, lines, pause=0) == b"".join(lines)
    assert clock.now == 0


@pytest.mark.parametrize("pause", [0, 0.001, 0.1])
def test_long_output_keeps_its_head_and_its_end(module, clock, pause):
    lines = [b"line %d %s\n" % (number, b"x" * 90) for number in range(50_000)]
    text = show(module, clock, [*lines, b"error: at the end\n"], pause)
    assert text.startswith(b"".join(lines[:900]))
    assert text.endswith(lines[-1] + b"error: at the end\n")
    _head, note, end = text.partition(b"--- tritonbuild: ")
    assert note
    left_out = int(end.split()[0])
    assert text.count(b"are left out here\n") >= 1
    notes = sum(len(one) for one in text.splitlines(keepends=True) if b"are left out" in one)
    if pause != 0.001:  # there may be several gaps where it is printed too fast for a while
        gaps = text.count(b"are left out here\n")
        assert left_out + len(text) - notes - gaps == sum(map(len, lines)) + 18


def test_error_before_ninjas_last_lines_is_not_lost(module, clock):
    lines = [b"a warning of many %s\n" % (b"x" * 80) for _ in range(30_000)]
    progress = [b"[%d/900] Building\n" % number for number in range(700, 800)]
    text = show(module, clock, [*lines, b"error: that one\n", *progress], 0.005)
    assert b"error: that one\n" in text
    assert text.endswith(b"".join(progress))


def test_progress_is_a_sign_of_life_within_bounds(module, clock):
    lines = [b"a warning of many %s\n" % (b"x" * 80) for _ in range(20_000)]
    progress = [b"[%d/9000] Building\n" % number for number in range(9000)]
    out = BuildKit(clock)
    shown = module.Shown(out)
    for line in [*lines, *progress[:200]]:
        shown.add(line)
        clock.now += 0.01
    assert b"[190/9000]" in out.getvalue()
    assert b"[191/9000]" not in out.getvalue()


def test_line_without_an_end_is_shown_in_pieces(script):
    done = run_step(script("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo 'error: the end'"))
    assert done.stdout.startswith(b"x" * 1000)
    assert done.stdout.endswith(b"\nerror: the end\n")
    assert len(done.stdout) < 1 << 20


# --- jobs -----------------------------------------------------------------------------------------

_STARTER = """\
import importlib.util, sys
spec = importlib.util.spec_from_file_location("run_step", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.POOL = sys.argv[2]
sys.exit(module.main(*sys.argv[3:]))
"""

# Takes and gives back tokens as ninja does: it may run one job without asking.
_CLIENT = """\
import os, re, sys, time
fifo = re.search("--jobserver-auth=fifo:(\\\\S+)", os.environ["MAKEFLAGS"])[1]
tokens = os.open(fifo, os.O_RDWR)
for _ in range(int(sys.argv[1])):
    token = os.read(tokens, 1)
    print("+", flush=True)
    time.sleep(0.01)
    print("-", flush=True)
    os.write(tokens, token)
"""


@pytest.fixture
def pool(tmp_path):
    folder = tmp_path / "pool"
    folder.mkdir()
    return folder


@pytest.fixture
def ninja(tmp_path):
    """Return what puts a ninja of some version first on PATH."""

    def install(version: str) -> dict[str, str]:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "ninja").write_text(f"#!/bin/sh\necho {version}\n")
        (folder / "ninja").chmod(0o755)
        return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}

    return install


@pytest.fixture
def start(pool, tmp_path):
    """Start a script that compiles, as a container does; each is ended with the test."""
    with contextlib.ExitStack() as stack:

        def begin(name: str, text: str, jobs: int, env):
            path = tmp_path / f"{name}.sh"
            path.write_text(text)
            child = subprocess.Popen(
                [sys.executable, "-B", "-c", _STARTER, PROGRAM, pool, path, str(jobs)],
                env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                start_new_session=True,
            )  # fmt: skip
            stack.callback(end, child)
            return child

        yield begin


def end(child) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()


def count_tokens(pool) -> int:
    """Return how many lie in the pipe now."""
    pipe = os.open(pool / "tokens", os.O_RDWR | os.O_NONBLOCK)
    try:
        tokens = os.read(pipe, 100)
        os.write(pipe, tokens)
    except BlockingIOError:
        tokens = b""
    finally:
        os.close(pipe)
    return len(tokens)


def test_two_containers_never_run_more_jobs_than_there_are_tokens(start, pool, ninja, tmp_path):
    (tmp_path / "client.py").write_text(_CLIENT)
    # Each says of itself when a job begins and ends; the first job of each needs no token of its own.
    work = f"""\
log={tmp_path}/events
job() {{ echo + >> $log; sleep 0.0$((RANDOM % 5 + 1)); echo - >> $log; }}
for _ in 1 2 3 4 5 6 7 8; do job; done &
for _ in 1 2 3; do
    {sys.executable} {tmp_path}/client.py 8 >> $log &
done
wait
"""
    env = ninja("1.13.0")
    children = [start(name, work, 3, env) for name in ("one", "two")]
    assert [child.wait(60) for child in children] == [0, 0]
    running = most = 0
    for event in (tmp_path / "events").read_text().split():
        running += 1 if event == "+" else -1
        most = max(most, running)
    assert running == 0
    assert most == 3


def test_pool_is_full_again_after_a_container_was_killed(start, pool, ninja):
    env = ninja("1.13.1")
    taker = 'echo "$MAKEFLAGS"; head -c 1 ${MAKEFLAGS#*fifo:} > /dev/null; echo took; sleep 60'
    first = start("first", taker, 3, env)
    assert first.stdout.readline().startswith("-j3 --jobserver-auth=fifo:")
    assert first.stdout.readline() == "took\n"
    second = start("second", "echo up; sleep 60", 3, env)
    assert second.stdout.readline() == "up\n"
    assert count_tokens(pool) == 0, "one that the first took, and one for each to begin with"
    end(first)
    third = start("third", "echo up", 3, env)
    with pytest.raises(subprocess.TimeoutExpired):
        third.wait(1)  # the killed one's two are missing while somebody else compiles
    end(second)
    end(third)
    last = start("last", "echo up; sleep 60", 3, env)
    assert last.stdout.readline() == "up\n"
    assert count_tokens(pool) == 2


@pytest.mark.parametrize("version", ["1.11.1", "1.12.9", "no ninja at all"])
def test_containers_with_an_old_ninja_compile_one_after_the_other(start, ninja, tmp_path, version):
    env = ninja(version)
    text = (
        f"echo + ${{MAKEFLAGS-none}} >> {tmp_path}/events; sleep 0.3; echo - >> {tmp_path}/events"
    )
    env.pop("MAKEFLAGS", None)
    children = [start(name, text, 4, env) for name in ("one", "two", "three")]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    events = (tmp_path / "events").read_text().splitlines()
    assert events == ["+ none", "-"] * 3


def test_lock_of_the_pool_ends_with_its_process(start, pool, ninja):
    env = ninja("1.11.1")
    first = start("first", "echo up; sleep 60", 2, env)
    assert first.stdout.readline() == "up\n"
    with (pool / "alone").open("r+") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        end(first)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
