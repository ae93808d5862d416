"""Programs whose output is handed over as it comes, and what contains them."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tritonbuild import proc
from tritonbuild.errors import HostError


def stream(text: str, **options) -> tuple[proc.Ended, bytes]:
    blocks: list[bytes] = []
    ended = proc.stream(["bash", "-c", text], feed=blocks.append, **options)
    assert all(0 < len(block) <= 1 << 16 for block in blocks)
    return ended, b"".join(blocks)


def is_alive(pid: str) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_output_comes_in_blocks(tmp_path):
    ended, output = stream("echo out; echo err >&2; pwd; echo $X", cwd=tmp_path, env={"X": "1"})
    assert output.decode() == f"out\nerr\n{tmp_path}\n1\n"
    assert ended.returncode == 0
    assert ended.seconds > 0


def test_output_comes_while_the_program_runs():
    seen: list[float] = []
    proc.stream(["bash", "-c", "echo a; sleep 0.5"], feed=lambda _: seen.append(time.monotonic()))
    assert time.monotonic() - seen[0] > 0.4


@pytest.mark.parametrize(("text", "code"), [("exit 9", 9), ("kill -9 $$", -9), ("kill $$", -15)])
def test_way_that_it_ended(text, code):
    assert stream(text)[0].returncode == code


def test_output_may_end_long_before_the_program():
    started = time.monotonic()
    ended, output = stream("echo a; exec >&- 2>&-; sleep 0.5; exit 4")
    assert (ended.returncode, output) == (4, b"a\n")
    assert time.monotonic() - started > 0.4


def test_program_may_end_long_before_its_output(tmp_path, processes):
    """A server that a script leaves behind has its output; nobody waits for that."""
    started = time.monotonic()
    ended, output = stream(f"sleep 300 & echo $! >{tmp_path}/pid; echo a")
    assert (ended.returncode, output) == (0, b"a\n")
    assert time.monotonic() - started < 5
    _, wait_until, _ = processes
    wait_until(lambda: not is_alive((tmp_path / "pid").read_text().strip()), timeout=5)


def test_process_is_known_as_soon_as_it_runs():
    pids: list[int] = []
    _, output = stream("echo $$", started=pids.append)
    assert output == f"{pids[0]}\n".encode()


def test_what_the_reader_raises_ends_the_program():
    def refuse(_: bytes) -> None:
        msg = "no"
        raise ValueError(msg)

    started = time.monotonic()
    with pytest.raises(ValueError, match="no"):
        proc.stream(["bash", "-c", "echo a; sleep 300"], feed=refuse)
    assert time.monotonic() - started < 4


def test_program_that_is_not_there():
    with pytest.raises(HostError, match="cannot run no-such-program"):
        proc.stream(["no-such-program"], feed=len)


def test_all_that_stream_in_threads_are_stopped(tmp_path):
    said: list[str] = []

    def work(name: str) -> None:
        try:
            stream(f"touch {tmp_path}/{name}; sleep 300")
        except KeyboardInterrupt:
            said.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    while len(list(tmp_path.iterdir())) < 3:
        time.sleep(0.01)
    with proc.stopped():
        for thread in threads:
            thread.join(10)
        with pytest.raises(KeyboardInterrupt):
            stream("touch never")
    assert sorted(said) == ["a", "b", "c"]
    assert not (tmp_path / "never").exists()


def test_ordinary_user_is_who_they_are_inside(require_or_skip, tmp_path: Path):
    require_or_skip(proc.contain_processes(), "needs namespaces of processes")
    argv = [*proc.contain_processes(), "bash", "-c", "id -u; id -g; echo $$"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(os.geteuid()), str(os.getegid()), "2"]


def test_contained_program_hears_that_it_shall_end(require_or_skip, tmp_path, processes):
    require_or_skip(proc.contain_processes(), "needs namespaces of processes")
    _, wait_until, _ = processes
    said: list[str] = []
    argv = [*proc.contain_processes(), "bash", "-c", f"touch {tmp_path}/up; while :; do :; done"]

    def work() -> None:
        try:
            proc.stream(argv, feed=len)
        except KeyboardInterrupt:
            said.append("stopped")

    thread = threading.Thread(target=work)
    thread.start()
    wait_until((tmp_path / "up").exists)
    started = time.monotonic()
    with proc.stopped():
        thread.join(20)
    assert said == ["stopped"]
    assert time.monotonic() - started < proc.STOP_GRACE - 1


def test_children_are_offered_to_the_kernel_first(require_or_skip):
    require_or_skip(proc.find_tool("choom"), "needs choom (util-linux)")
    argv = [*proc.offer_to_oom_killer(), "bash", "-c", "bash -c 'cat /proc/self/oom_score_adj'"]
    assert subprocess.check_output(argv, text=True) == "500\n"
