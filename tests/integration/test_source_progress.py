"""What a terminal shows while a source build runs."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Says nothing for longer than a step may before it is asked what it does.
SILENT = "\nexecute_process(COMMAND sleep 7)\n"


def build_on_terminal(world, work: Path, *options: str) -> str:
    """Build, and return all that was painted, a line each, without control codes."""
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "tritonbuild", "build", *world.options, *options]
    child = subprocess.Popen(
        [*argv, "--work-dir", str(work)], cwd=work.parent, stdin=subprocess.DEVNULL,
        stdout=theirs, stderr=theirs,
        env={**os.environ, **world.env, "TERM": "xterm", "COLUMNS": "160"},
    )  # fmt: skip
    os.close(theirs)
    painted = b""
    try:
        while block := os.read(ours, 1 << 16):
            painted += block
    except OSError:  # Linux's way to say that nobody writes any more
        pass
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", painted.decode(errors="replace"))
    assert child.wait() == 0, text[-3000:]
    return text


def test_terminal_shows_counts_silent_programs_and_estimates(own_world, tmp_path):
    folder = tmp_path / "mine"
    bare = own_world.repository("zjd1988/rknn_backend")
    subprocess.run(["git", "clone", "-q", "-b", "r23.12", bare, folder], check=True)
    lists = folder / "CMakeLists.txt"
    lists.write_text(lists.read_text() + SILENT)
    choice = ("--component", "rknn", "--source", f"rknn={folder}", "--allow-dirty")
    first = build_on_terminal(own_world, tmp_path / "work", *choice)
    assert re.search(r"build core with \d+ jobs: \[\d+/\d+\]", first), "ninja's own counts"
    assert re.search(r"configure rknn: sleep \(0:00:0\d\)", first), "what a silent step does"
    assert not re.search(r"configure rknn: about", first), "nobody knows yet"
    second = build_on_terminal(own_world, tmp_path / "work", *choice, "--set", "rknn.AGAIN=1")
    assert re.search(r"configure rknn: about \d+ s left", second), "as long as the last time"
