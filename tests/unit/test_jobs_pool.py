"""The pool of job tokens: never more compilers than tokens, none lost, and none left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tritonbuild import proc
from tritonbuild.engine.jobs import JobPool, write_make
from tritonbuild.executors.machine import find_program
from tritonbuild.plan.model import Command
from tritonbuild.render.bash import format_command, format_functions

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def ninja(require_or_skip) -> Path:
    program = find_program("ninja")
    require_or_skip(program, "needs ninja")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    major, minor = version.stdout.split(".")[:2]
    require_or_skip((int(major), int(minor)) >= (1, 13), "needs ninja 1.13 (pip install ninja)")
    return program


class Work:
    """A folder to build in whose commands note when they start and end."""

    def __init__(self, folder: Path, count: int, seconds: float, journal: Path) -> None:
        self.folder = folder
        folder.mkdir()
        command = f"echo 1 >>{journal}; sleep {seconds}; echo -1 >>{journal}"
        lines = ["rule work", f"  command = {command}"]
        lines += [f"build out{number}: work" for number in range(count)]
        (folder / "build.ninja").write_text("\n".join(lines) + "\n")
        targets = " ".join(f"out{number}" for number in range(count))
        makefile = f".PHONY: all {targets}\nall: {targets}\n{targets}:\n\t@{command}\n"
        (folder / "Makefile").write_text(makefile)

    def start(self, pool: JobPool, *argv: str | Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            argv, cwd=self.folder, env={**os.environ, **pool.environment()},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


class Journal:
    """What all commands of a test noted, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def levels(self) -> list[int]:
        """Return how many ran after each change."""
        level, found = 0, []
        for line in self.path.read_text().split():
            level += int(line)
            found.append(level)
        return found

    def clear(self) -> None:
        self.path.write_text("")


@pytest.fixture
def journal(tmp_path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def work(tmp_path, journal):
    def make(name: str, count: int = 12, seconds: float = 0.1) -> Work:
        return Work(tmp_path / name, count, seconds, journal.path)

    return make


@pytest.fixture
def kill(processes):
    """Kill a program, and then what it started: ninja gives each command a group of its own."""
    list_descendants, _, _ = processes

    def kill_tree(child: subprocess.Popen[bytes]) -> None:
        below = list_descendants(child.pid)
        for pid in (child.pid, *below):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        child.wait()

    return kill_tree


@pytest.fixture
def running(kill):
    @contextlib.contextmanager
    def run(child: subprocess.Popen[bytes]):
        try:
            yield child
        finally:
            if child.poll() is None:
                kill(child)

    return run


def test_ninja_runs_as_many_as_there_are_tokens(tmp_path, ninja, work, journal, running):
    with JobPool(3, tmp_path) as pool, pool.implicit():
        with running(work("a").start(pool, ninja)) as child:
            assert child.wait(30) == 0
        assert max(journal.levels()) == 3
        assert pool.free == 2


def test_two_builds_share_the_tokens(tmp_path, ninja, work, journal, running):
    with JobPool(4, tmp_path) as pool, pool.implicit(), pool.implicit():
        assert pool.free == 2
        first, second = work("a").start(pool, ninja), work("b").start(pool, ninja)
        with running(first), running(second):
            assert (first.wait(30), second.wait(30)) == (0, 0)
    assert max(journal.levels()) == 4


def test_ninja_inside_of_ninja_shares_them_too(tmp_path, ninja, work, journal, running):
    inner = work("inner")
    outer = tmp_path / "outer"
    outer.mkdir()
    rules = f"rule nested\n  command = cd {inner.folder} && {ninja}\nbuild a: nested\n"
    (outer / "build.ninja").write_text(rules)
    with JobPool(3, tmp_path) as pool, pool.implicit():
        inner.folder, folder = outer, inner.folder
        with running(inner.start(pool, ninja)) as child:
            assert child.wait(30) == 0
    assert folder.is_dir()
    assert max(journal.levels()) == 3


def test_tokens_of_a_killed_ninja_come_back(
    tmp_path, ninja, work, journal, processes, running, kill
):
    _, wait_until, _ = processes
    with JobPool(3, tmp_path) as pool:
        with pool.implicit(), running(work("a", seconds=30).start(pool, ninja)) as child:
            wait_until(lambda: len(journal.levels()) == 3)
            kill(child)
            assert pool.free == 0, "a killed ninja gives nothing back"
        journal.clear()
        with pool.implicit(), running(work("b").start(pool, ninja)) as child:
            assert child.wait(30) == 0
        assert max(journal.levels()) == 3
        assert pool.free == 3


def test_while_another_runs_a_killed_ninja_can_only_make_it_slower(
    tmp_path, ninja, work, journal, processes, running, kill
):
    _, wait_until, _ = processes
    with JobPool(3, tmp_path) as pool:
        with pool.implicit():
            with pool.implicit(), running(work("a", seconds=30).start(pool, ninja)) as child:
                wait_until(lambda: len(journal.levels()) == 2)
                kill(child)
            journal.clear()
            with pool.implicit(), running(work("b").start(pool, ninja)) as child:
                assert child.wait(30) == 0
            assert max(journal.levels()) <= 2
        with pool.implicit():
            assert pool.free == 2


def test_tokens_that_nobody_took_are_put_right(tmp_path):
    with JobPool(2, tmp_path) as pool:
        pipe = os.open(pool.fifo, os.O_WRONLY)
        os.write(pipe, b"+++")
        os.close(pipe)
        with pool.implicit():
            assert pool.free == 1


def test_step_waits_for_its_token(tmp_path):
    order = []

    def second() -> None:
        with pool.implicit(lambda: order.append("waits")):
            order.append("second")

    with JobPool(1, tmp_path) as pool:
        with pool.implicit():
            thread = threading.Thread(target=second)
            thread.start()
            time.sleep(0.3)
            order.append("first")
        thread.join(10)
    assert order == ["waits", "first", "second"]


def test_step_that_fails_gives_its_token_back(tmp_path):
    with JobPool(1, tmp_path) as pool:
        with pytest.raises(ZeroDivisionError), pool.implicit():
            _ = 1 / 0
        assert pool.free == 1


def test_waiting_ends_when_all_is_stopped(tmp_path):
    ended = []

    def wait() -> None:
        try:
            with pool.implicit():
                pass
        except KeyboardInterrupt:
            ended.append("stopped")

    with JobPool(1, tmp_path) as pool, pool.implicit():
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)
        with proc.stopped():
            thread.join(5)
    assert ended == ["stopped"]


# --- held back --------------------------------------------------------------------------------


def test_tokens_are_held_back_as_compilers_end_and_come_back(
    tmp_path, ninja, work, journal, processes, running
):
    _, wait_until, _ = processes
    with JobPool(3, tmp_path) as pool, pool.implicit():
        with running(work("a", 3000).start(pool, ninja)):
            wait_until(lambda: 3 in journal.levels())
            pool.hold(3)
            wait_until(lambda: pool.held == 2)
            # A command that has just ended may not have been noted yet.
            held = len(journal.levels()) + 3
            wait_until(lambda: len(journal.levels()) > held + 8)
            pool.hold(0)
            assert max(journal.levels()[held : held + 8]) == 1, "one goes on"
            wait_until(lambda: 3 in journal.levels()[held + 8 :])
        assert pool.held == 0


def test_a_step_can_start_while_all_but_one_are_held_back(tmp_path):
    with JobPool(4, tmp_path) as pool:
        pool.hold(9)
        assert (pool.held, pool.free) == (3, 1)
        with pool.implicit():
            assert (pool.held, pool.free) == (3, 0)
        pool.hold(1)
        assert (pool.held, pool.free) == (1, 3)


def test_two_running_steps_keep_a_token_each(tmp_path):
    with JobPool(4, tmp_path) as pool, pool.implicit():
        with pool.implicit():
            pool.hold(3)
            assert (pool.held, pool.free) == (2, 0)
        deadline = time.monotonic() + 5
        while pool.held < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (pool.held, pool.free) == (3, 0)


def test_limit_bounds_what_runs(tmp_path, ninja, work, journal, running):
    with JobPool(4, tmp_path) as pool, pool.implicit(), pool.limited(2):
        with running(work("a").start(pool, ninja)) as child:
            assert child.wait(30) == 0
        assert max(journal.levels()) == 2
    assert pool.held == 0


def test_the_lower_limit_counts_and_ends_with_its_block(tmp_path):
    with JobPool(8, tmp_path) as pool:
        with pool.limited(4):
            with pool.limited(6):
                assert pool.held == 4
            with pool.limited(2):
                assert pool.held == 6
                pool.hold(5)
                assert pool.held == 6
            assert pool.held == 5
        pool.hold(0)
        assert (pool.held, pool.free) == (0, 8)


def test_pool_can_be_closed_at_any_moment(tmp_path):
    for _ in range(300):
        with JobPool(2, tmp_path) as pool:
            pool.hold(1)
        assert not pool.fifo.exists()


# --- where it lives ---------------------------------------------------------------------------


def test_pipe_is_ours_alone_and_gone_afterwards(tmp_path):
    with JobPool(2, tmp_path) as pool:
        folder = pool.fifo.parent
        assert folder.parent == tmp_path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(pool.fifo.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed(tmp_path):
    stale = tmp_path / ".jobs-old"
    stale.mkdir()
    os.mkfifo(stale / "fifo")
    with JobPool(2, tmp_path) as pool:
        assert list(tmp_path.iterdir()) == [pool.fifo.parent]


@pytest.mark.parametrize("name", ["a b", "a'b", 'a"b', "a\\b", "a$b", "ü", "a\nb"])
def test_folder_that_makeflags_cannot_hold_is_not_used(
    tmp_path, ninja, work, journal, name, running
):
    odd = tmp_path / name
    odd.mkdir()
    with JobPool(2, odd) as pool, pool.implicit():
        assert odd not in pool.fifo.parents
        folder = pool.fifo.parent
        with running(work("x", 4).start(pool, ninja)) as child:
            assert child.wait(30) == 0
    assert max(journal.levels()) == 2
    assert not folder.exists()


# --- make -------------------------------------------------------------------------------------


def test_make_of_this_system_takes_part(tmp_path, work, journal, require_or_skip, running):
    require_or_skip(find_program("make"), "needs make")
    tools = tmp_path / "tools and more"
    tools.mkdir()
    program = find_program("make")
    said = subprocess.check_output([program, "--version"], text=True)
    write_make(tools, program, said.split()[2])
    make = next((path for path in (tools / "make",) if path.exists()), find_program("make"))
    with JobPool(3, tmp_path) as pool, pool.implicit():
        with running(work("a").start(pool, make)) as child:
            assert child.wait(30) == 0
        assert pool.free == 2
    assert max(journal.levels()) == 3


@pytest.mark.parametrize(
    ("version", "expected"),
    [("3.81", True), ("4.3", True), ("4.3-4.1", True), ("4.4", False), ("4.4.1", False),
     ("5.0", False), ("", False)],
)  # fmt: skip
def test_only_a_make_that_is_too_old_gets_help(tmp_path, version, expected):
    make = tmp_path / "its make"
    make.write_text('#!/bin/sh\necho "$MAKEFLAGS" "$@"\n')
    make.chmod(0o755)
    (tmp_path / "make").write_text("of another system")
    write_make(tmp_path, make, version)
    assert (tmp_path / "make").exists() == expected
    if expected:
        ran = [tmp_path / "make", "a b"]
        without = subprocess.run(ran, capture_output=True, text=True, check=True, env={})
        assert without.stdout == " a b\n", "without tokens it is make, and nothing else"


# --- tritonbuild_ninja ------------------------------------------------------------------------

_FAKE = """\
#!/bin/sh
if [ "$1" = --version ]; then echo @version@; exit; fi
echo "$* level=$CMAKE_BUILD_PARALLEL_LEVEL flags=$MAKEFLAGS"
exit 3
"""


def call_ninja(folder: Path, environment: dict[str, str], version: str) -> tuple[int, str]:
    fake = folder / "bin" / "ninja"
    fake.parent.mkdir(exist_ok=True)
    fake.write_text(_FAKE.replace("@version@", version))
    fake.chmod(0o755)
    command = Command(("tritonbuild_ninja", "5", "a target", "install"))
    script = "\n".join(["set -eu", *format_functions([command]), format_command(command), ""])
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": f"{fake.parent}:/usr/bin:/bin", **environment}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout.rstrip("\n")


@pytest.mark.parametrize(
    "version", ["1.13.2.git.kitware.jobserver-pipe-1", "1.13.0", "1.20", "2.0"]
)
def test_ninja_gets_no_number_where_there_are_tokens(tmp_path, version):
    with JobPool(4, tmp_path) as pool:
        flags = pool.environment()["MAKEFLAGS"]
        found = call_ninja(
            tmp_path, {"MAKEFLAGS": flags, "CMAKE_BUILD_PARALLEL_LEVEL": "9"}, version
        )
    assert found == (3, f"a target install level= flags={flags}")


@pytest.mark.parametrize(
    ("flags", "version"),
    [
        pytest.param(None, "1.13.2", id="by hand"),
        pytest.param("-j8", "1.13.2", id="no tokens"),
        pytest.param("-j8 --jobserver-auth=3,4", "1.13.2", id="files"),
        pytest.param("-j8 --jobserver-auth=fifo:/nowhere/fifo", "1.13.2", id="gone"),
        pytest.param("-j8 --jobserver-auth=fifo:@fifo@ -k", "1.12.1", id="old ninja"),
        pytest.param("-j8 --jobserver-auth=fifo:@fifo@", "0.9", id="very old ninja"),
        pytest.param("-j8 --jobserver-auth=fifo:@fifo@", "what", id="odd ninja"),
    ],
)
def test_ninja_gets_a_number_everywhere_else(tmp_path, flags, version):
    with JobPool(4, tmp_path) as pool:
        env = {"MAKEFLAGS": flags.replace("@fifo@", str(pool.fifo))} if flags else {}
        found = call_ninja(tmp_path, env, version)
    assert found == (3, "-j5 a target install level=5 flags=")
