"""Scripts on this machine: what is kept of them, what ends with them, and a second try."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path, PurePosixPath

import pytest

from tritonbuild import proc
from tritonbuild.engine.jobs import JobPool
from tritonbuild.errors import HostError
from tritonbuild.executors import native
from tritonbuild.executors.cgroup import count_oom_kills
from tritonbuild.executors.native import MARK, MemorySigns, run_build_script, run_script
from tritonbuild.executors.sandbox import Sandbox, check_sandbox

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path):
    """Run lines as a script; return its result and the lines that were watched."""

    def call(text: str, *, env=None, **options):
        script = tmp_path / "a script.sh"
        script.write_text(text)
        lines: list[str] = []
        result = run_script(
            script, log=tmp_path / "a.log", environment=env or {}, watch=lines.append, **options
        )
        return result, lines

    return call


def test_everything_is_in_the_log_and_lines_are_seen(run, tmp_path):
    result, lines = run("echo one; echo two >&2; printf 'three\\r4\\n\\nfive'; exit 7")
    assert result.returncode == 7
    assert (tmp_path / "a.log").read_bytes() == b"one\ntwo\nthree\r4\n\nfive"
    assert lines == ["one", "two", "three", "4", "five"]
    assert result.tail == "one\ntwo\nthree\r4\n\nfive".replace("\r", "\r")
    assert not result.killed_for_memory
    assert 0 < result.seconds < 5


def test_log_has_a_twin(run, tmp_path):
    run("exit 3", env={"MINE": "a b"}, cwd=tmp_path)
    twin = json.loads((tmp_path / "a.json").read_text())
    assert twin["argv"] == ["bash", str(tmp_path / "a script.sh")]
    assert twin["cwd"] == str(tmp_path)
    assert twin["env"]["MINE"] == "a b"
    assert twin["returncode"] == 3
    assert twin["seconds"] >= 0


def test_script_runs_apart_and_gives_way_when_memory_runs_out(run, tmp_path):
    said = (
        "read -r line || echo no input; pwd; cat /proc/self/oom_score_adj; echo $VALUE; kill -9 $$"
    )
    result, lines = run(said, env={"VALUE": "$(id)"}, cwd=tmp_path)
    assert lines[:2] == ["no input", str(tmp_path)]
    if proc.find_tool("choom"):
        assert lines[2] == "500"
    assert lines[3] == "$(id)"
    assert result.returncode in (137, -9)


@pytest.mark.parametrize(("status", "code"), [("0", 0), ("1", 1), ("255", 255)])
def test_exit_code_is_the_scripts(run, status, code):
    assert run(f"exit {status}")[0].returncode == code


def test_lines_are_cut_and_the_end_is_kept(run, tmp_path):
    result, lines = run("head -c 10000 /dev/zero | tr '\\0' a; echo; seq 100000; printf é; echo x")
    assert lines[0] == "a" * 4096
    assert lines[1:3] == ["1", "2"]
    assert lines[-1] == "éx"
    assert len(lines) == 100_002
    assert result.tail.endswith("\n100000\néx\n")
    assert len(result.tail.encode()) == 256 << 10
    log = (tmp_path / "a.log").read_text()
    assert log.endswith(result.tail)
    assert len(log) > 500_000


def test_output_that_is_no_text_is_kept_as_it_is(run, tmp_path):
    _, lines = run(r"printf '\xff\xfe\0ok\n'")
    assert (tmp_path / "a.log").read_bytes() == b"\xff\xfe\0ok\n"
    assert lines == ["��\0ok"]


_PRINTER = """
import os, sys
from pathlib import Path
from tritonbuild.executors.native import run_script
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])
folder = Path(sys.argv[1])
def go(text):
    (folder / "s.sh").write_text(text)
    return run_script(folder / "s.sh", log=folder / "s.log", environment={}, watch=len)
go("seq 10000")
before = peak()
for text in sys.argv[2:]:
    result = go(text)
    assert result.returncode == 0, result
    print((folder / "s.log").stat().st_size, file=sys.stderr)
print(peak() - before)
"""


def test_our_memory_stays_flat_however_much_is_printed(tmp_path):
    lines = "yes 'a line of a compiler, with some length to it' | head -c 200000000"
    one_line = "head -c 100000000 /dev/zero"
    done = subprocess.run(
        [sys.executable, "-c", _PRINTER, tmp_path, lines, one_line], cwd=CHECKOUT,
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stderr.split() == ["200000000", "100000000"]
    assert int(done.stdout) < 10 * 1024, "KiB"


def test_log_that_cannot_be_written_stops_the_script(run, tmp_path):
    (tmp_path / "a.log").symlink_to("/dev/full")
    started = time.monotonic()
    with pytest.raises(HostError, match="No space left on device") as raised:
        run("echo something; sleep 60")
    assert "free some space" in (raised.value.hint or "")
    assert time.monotonic() - started < 30
    (tmp_path / "a.log").unlink()
    (tmp_path / "a.log").mkdir()
    with pytest.raises(HostError, match="Is a directory"):
        run("echo something")


def test_what_a_script_leaves_running_ends_with_it(run, tmp_path):
    text = f"sleep 300 & echo $! >{tmp_path}/inner; setsid sleep 301 >/dev/null 2>&1 & sleep 0.2"
    started = time.monotonic()
    result, _ = run(text)
    assert result.returncode == 0
    assert time.monotonic() - started < 10
    assert native._find_marked(str(tmp_path / "a.log")) == []


@pytest.mark.parametrize("text", ["exit 3", "sleep 60"])
def test_without_namespaces_other_process_groups_end_too(tmp_path, monkeypatch, text):
    """Each of ninja's commands is in a group of its own."""
    monkeypatch.setattr(proc, "contain_processes", list)
    script = tmp_path / "s.sh"
    script.write_text(f"set -m\nsleep 300 >/dev/null 2>&1 &\necho up\n{text}")

    def watch(_: str) -> None:
        if text != "exit 3":
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        assert (
            run_script(script, log=tmp_path / "a.log", environment={}, watch=watch).returncode == 3
        )
    assert native._find_marked(str(tmp_path / "a.log")) == []


def test_step_of_ours_that_waits_is_stopped_at_once(run, tmp_path):
    """Ctrl-C reaches the main thread only; steps run in others."""
    ended: list[object] = []

    def work() -> None:
        try:
            ended.append(run("set -e; touch running; sleep 60; sleep 60", cwd=tmp_path))
        except KeyboardInterrupt:
            ended.append("stopped")

    thread = threading.Thread(target=work)
    thread.start()
    while not (tmp_path / "running").exists():
        time.sleep(0.01)
    started = time.monotonic()
    with proc.stopped():
        thread.join(20)
    assert ended == ["stopped"]
    assert time.monotonic() - started < 3
    assert native._find_marked(str(tmp_path / "a.log")) == []


# --- containment ------------------------------------------------------------------------------

# What a build is: a shell, what it starts, something with a session of its own, and a process
# that ignores polite signals.
_TREE = """
trap '' TERM INT HUP
bash -c 'sleep 300; true' &
setsid bash -c 'sleep 301; true' >/dev/null 2>&1 &
env -i sleep 302 &
echo up
wait
"""

_BUILDER = """
import sys
from pathlib import Path
from tritonbuild import proc
from tritonbuild.executors import native
if sys.argv[2] == "bare":
    native.proc.contain_processes = lambda: []
folder = Path(sys.argv[1])
def watch(line):
    (folder / line).touch()
native.run_script(
    folder / "s.sh", log=folder / "s.log", environment={}, watch=watch,
    started=lambda pid: (folder / "pid").write_text(str(pid)),
)
(folder / "ended").touch()
"""


def list_session(marker: str) -> list[str]:
    """Return the command lines of processes that stem from a test's builder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if marker.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.fixture
def build(tmp_path_factory, processes):
    """Start a builder in a process of its own; return it, its folder and what is below it."""
    list_descendants, wait_until, _ = processes
    started: list[subprocess.Popen[bytes]] = []
    folders: list[Path] = []

    def start(how: str = "contained", prefix: tuple[str, ...] = ()):
        folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
        folders.append(folder)
        folder.chmod(0o777)
        (folder / "s.sh").write_text(_TREE)
        child = subprocess.Popen(
            [*prefix, sys.executable, "-c", _BUILDER, str(folder), how],
            cwd="/", env={**os.environ, "PYTHONPATH": str(CHECKOUT), "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        started.append(child)
        wait_until((folder / "up").exists)
        # Of the script three shells and three sleeps; what contains them stands above.
        wait_until(lambda: len(list_descendants(child.pid)) >= (8 if how == "contained" else 6))
        below = list_descendants(child.pid)
        return child, folder, below

    yield start
    for child in started:
        child.kill()
        child.wait()
    for folder in folders:
        with contextlib.suppress(HostError):
            native.kill_marked(str(folder / "s.log"))
        shutil.rmtree(folder, ignore_errors=True)


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


AS_NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--")


@pytest.mark.parametrize("prefix", [(), AS_NOBODY], ids=["me", "nobody"])
def test_nothing_survives_our_sudden_end(build, processes, require_or_skip, prefix):
    if prefix:
        require_or_skip(os.geteuid() == 0, "needs root, to become somebody else")
    probe = "from tritonbuild import proc; import sys; sys.exit(not proc.contain_processes())"
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    allowed = subprocess.run([*prefix, sys.executable, "-c", probe], env=env, cwd="/", check=False)
    require_or_skip(allowed.returncode == 0, "needs namespaces of processes")
    _, wait_until, _ = processes
    child, folder, below = build(prefix=prefix)
    child.send_signal(signal.SIGKILL)
    child.wait()
    wait_until(lambda: not any(map(is_alive, below)), timeout=2)
    assert not (folder / "ended").exists()


def test_without_namespaces_the_next_run_ends_what_is_left(build):
    child, folder, below = build("bare")
    child.send_signal(signal.SIGKILL)
    child.wait()
    marked = list_session(f"{MARK}={folder}/s.log")
    assert any("sleep 301" in line for line in marked), "its session is its own"
    (folder / "s.sh").write_text("echo again")
    run_script(folder / "s.sh", log=folder / "s.log", environment={}, watch=len)
    # All but the one that was started with an empty environment.
    alive = [pid for pid in below if is_alive(pid)]
    lines = [Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in alive]
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    assert [line[:2] for line in lines] == [["sleep", "302"]]


def test_files_of_an_ordinary_user_are_that_users(tmp_path, require_or_skip):
    require_or_skip(os.geteuid() == 0, "needs root, to become somebody else")
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    try:
        folder.chmod(0o777)
        (folder / "s.sh").write_text(
            f"id -u; touch {folder}/file; echo up; echo $$ /proc/[0-9]* >{folder}/shown"
        )
        env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "HOME": str(folder)}
        argv = [*AS_NOBODY, sys.executable, "-c", _BUILDER, str(folder), "contained"]
        subprocess.run(argv, cwd="/", env=env, check=True, timeout=60)
        assert (folder / "file").stat().st_uid == 65534
        assert (folder / "s.log").read_text() == "65534\nup\n"
        pid, *shown = (folder / "shown").read_text().split()
        assert f"/proc/{pid}" in shown, "/proc is that of its own processes"
    finally:
        shutil.rmtree(folder)


# --- memory -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "c++: fatal error: Killed signal terminated program cc1plus",
        "g++: internal compiler error: Killed (program cc1plus)",
        "gcc: fatal error: Killed",
        "cc1plus: out of memory allocating 65536 bytes after a total of 1073741824 bytes",
        "virtual memory exhausted: Cannot allocate memory",
        "/usr/bin/ld: final link failed: memory exhausted",
        "collect2: fatal error: ld terminated with signal 9 [Killed]",
        "clang: error: unable to execute command: Killed",
        "LLVM ERROR: out of memory",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "FAILED: [code=137] CMakeFiles/a.dir/a.cc.o",
        "make[2]: *** [a.make:76: a.o] Error 137",
        "build.sh: line 12:  4242 Killed                  c++ -c a.cc",
    ],
)
def test_lines_that_tell_of_too_little_memory(line):
    signs = MemorySigns()
    signs.feed("[1/2] Building CXX object a.cc.o")
    signs.feed(line)
    signs.feed("ninja: build stopped: subcommand failed.")
    assert signs.found


@pytest.mark.parametrize(
    "line",
    [
        "a.cc:3:10: fatal error: b.h: No such file or directory",
        "FAILED: [code=1] CMakeFiles/a.dir/a.cc.o",
        "make: *** [a.o] Error 1",
        "[3/9] Building CXX object KilledTest.cc.o",
        "-- Looking for Killed",
        "internal compiler error: Segmentation fault",
        "ninja: build stopped: subcommand failed.",
        "[137/345] Building CXX object a.cc.o",
    ],
)
def test_lines_that_do_not(line):
    signs = MemorySigns()
    signs.feed(line)
    assert not signs.found


class Notes:
    """Notes what the progress of a step would be told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.pids: list[int] = []
        self.notes: list[str] = []

    def feed(self, line: str) -> None:
        self.lines.append(line)

    def follow(self, pid: int) -> None:
        self.pids.append(pid)

    def note(self, text: str) -> None:
        self.notes.append(text)


_GREEDY = """
echo "flags $MAKEFLAGS"
echo run >>runs
if [ "$(wc -l <runs)" -le @failures@ ]; then
  echo "c++: fatal error: Killed signal terminated program cc1plus"
  exit 1
fi
echo fine
"""


def build_greedily(folder: Path, failures: int, *, count: int = 4, jobs: int = 4, helpers: int = 0):
    script = folder / "07-build-core.sh"
    script.write_text(_GREEDY.replace("@failures@", str(failures)))
    held: list[int] = []
    with JobPool(count, folder) as pool:
        notes = Notes()
        notes.follow = lambda _: held.append(pool.held)  # type: ignore[method-assign]
        result = run_build_script(
            script, log=folder / "b.log", pool=pool, jobs=jobs, progress=notes, cwd=folder,
            helpers=helpers,
        )  # fmt: skip
        assert (pool.held, pool.free) == (0, count)
    return result, held, (folder / "b.log").read_text()


def test_compiler_that_was_killed_gets_a_second_try_with_half_the_jobs(tmp_path, capsys):
    result, held, log = build_greedily(tmp_path, failures=1)
    assert result.returncode == 0
    assert held == [0, 2]
    said = "07-build-core: a compiler found too little memory with 4 jobs; again with 2"
    assert f"warning: {said}" in capsys.readouterr().err
    assert re.search(
        f"terminated program cc1plus\n\n--- tritonbuild: {said}\n\nflags .*\nfine\n$", log
    )


def test_second_failure_is_the_failure(tmp_path):
    result, held, log = build_greedily(tmp_path, failures=2, jobs=3)
    assert result.returncode == 1
    assert result.killed_for_memory
    assert held == [1, 3]
    assert log.count("Killed signal") == 2


def test_component_that_needs_more_memory_gets_fewer_jobs(tmp_path):
    assert build_greedily(tmp_path, failures=0, count=8, jobs=2)[1] == [6]


def test_jobs_of_helpers_come_on_top_until_memory_is_short(tmp_path):
    """The second try is bounded by what this machine may run, wherever its jobs run then."""
    held = build_greedily(tmp_path, failures=1, count=12, jobs=4, helpers=6)[1]
    assert held == [12 - 10, 12 - 2]


def test_other_failures_are_not_tried_again(tmp_path):
    script = tmp_path / "s.sh"
    script.write_text("echo run >>runs; echo 'error: no'; exit 2")
    with JobPool(2, tmp_path) as pool:
        result = run_build_script(
            script, log=tmp_path / "b.log", pool=pool, jobs=2, progress=Notes(), cwd=tmp_path
        )
    assert (result.returncode, result.killed_for_memory) == (2, False)
    assert (tmp_path / "runs").read_text() == "run\n"


def test_tokens_reach_a_root_wherever_their_pipe_is(tmp_path, require_or_skip):
    """With a letter that MAKEFLAGS cannot hold it is in /tmp, which a root has of its own."""
    require_or_skip(shutil.which("bwrap"), "bubblewrap makes sandboxes")
    work = tmp_path / "ü"
    work.mkdir()
    script = work / "s.sh"
    script.write_text('pipe=${MAKEFLAGS##*fifo:}; [ -p "$pipe" ] && [ -w "$pipe" ]')
    place = Sandbox(Path("/")).with_bind(work, PurePosixPath(work), writable=True)
    check_sandbox(place)
    with JobPool(2, work) as pool:
        assert work not in pool.fifo.parents
        result = run_build_script(
            script, log=work / "b.log", pool=pool, jobs=2, progress=Notes(), sandbox=place
        )
    assert result.returncode == 0, result.tail


def test_success_is_a_success_whatever_was_printed(run):
    assert not run("echo 'cc1plus: fatal error: Killed'")[0].killed_for_memory


def test_process_killed_by_the_kernel_is_seen_without_a_word(run, monkeypatch):
    counts = iter([3, 4])
    monkeypatch.setattr(native, "count_oom_kills", lambda: next(counts))
    assert run("exit 1")[0].killed_for_memory


def write_files(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return root


def test_kills_are_counted_in_our_control_group_else_in_the_machine(tmp_path):
    assert count_oom_kills(tmp_path) == 0
    write_files(tmp_path, proc__vmstat="pgfault 3\noom_kill 7\n")
    assert count_oom_kills(tmp_path) == 7
    write_files(
        tmp_path,
        proc__self__cgroup="0::/user/me\n",
        sys__fs__cgroup__user__me__memory_DOT_events="low 0\noom 9\noom_kill 2\n",
    )
    assert count_oom_kills(tmp_path) == 2


def test_kills_are_counted_in_version_1_too(tmp_path):
    write_files(
        tmp_path,
        proc__self__cgroup="4:memory:/docker/abc\n0::/\n",
        sys__fs__cgroup__memory__memory_DOT_oom_control="oom_kill_disable 0\noom_kill 5\n",
    )
    assert count_oom_kills(tmp_path) == 5
