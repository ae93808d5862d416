"""The bash functions that scripts carry: exact edits, and sources fetched where there are none."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tritonbuild.plan.model import Command
from tritonbuild.render.bash import format_command, format_functions

if TYPE_CHECKING:
    from pathlib import Path


def run_function(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = Command(tuple(argv))
    script = "\n".join(["set -e", *format_functions([command]), format_command(command), ""])
    env = {
        "PATH": f"/usr/bin:/bin:{os.environ['PATH']}", "HOME": str(cwd), "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull,
    }  # fmt: skip
    return subprocess.run(
        ["bash", "-c", script], check=False, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, errors="surrogateescape",
    )  # fmt: skip


# --- tritonbuild_edit -------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "a b.txt"
    path.write_bytes(b"one\r\ntwo $X\none\n\xff\n")
    path.chmod(0o751)
    return path


def edit(source: Path, count: int, old: str, new: str) -> subprocess.CompletedProcess[str]:
    return run_function("tritonbuild_edit", str(source), str(count), old, new, cwd=source.parent)


@pytest.mark.parametrize(
    ("count", "old", "new", "after"),
    [
        pytest.param(2, "one", "1", b"1\r\ntwo $X\n1\n\xff\n", id="twice"),
        pytest.param(
            1, "two $X", "`$(a)` '\"\\", b"one\r\n`$(a)` '\"\\\none\n\xff\n", id="hostile"
        ),
        pytest.param(
            1, "two", "two two", b"one\r\ntwo two $X\none\n\xff\n", id="old inside of new"
        ),
        pytest.param(1, "two $X", "two", b"one\r\ntwo\none\n\xff\n", id="new inside of old"),
        pytest.param(1, "$X\none", "a\nb", b"one\r\ntwo a\nb\n\xff\n", id="lines"),
        pytest.param(1, "\udcff", "é", b"one\r\ntwo $X\none\n\xc3\xa9\n", id="bytes"),
    ],
)
def test_edit_applies_once_and_only_once(source, count, old, new, after):
    done = edit(source, count, old, new)
    assert done.returncode == 0, done.stderr
    assert f"edited {count} x" in done.stderr
    assert source.read_bytes() == after
    assert source.stat().st_mode & 0o777 == 0o751

    again = edit(source, count, old, new)
    assert (again.returncode, again.stdout) == (0, "")
    assert "edited before" in again.stderr
    assert source.read_bytes() == after
    assert [path.name for path in source.parent.iterdir()] == [source.name]


@pytest.mark.parametrize(
    ("count", "old", "new", "said"),
    [
        pytest.param(1, "one", "1", "there 2 times, the new one 0 times", id="too often"),
        pytest.param(3, "one", "1", "there 2 times", id="too seldom"),
        pytest.param(1, "absent", "1", "there 0 times", id="absent"),
        pytest.param(1, "absent", "one", "the new one 2 times", id="new there, but too often"),
        pytest.param(1, "absent", "", "there 0 times", id="deleted or never there: cannot be told"),
    ],
)
def test_edit_that_does_not_fit_changes_nothing(source, count, old, new, said):
    before = source.read_bytes()
    done = edit(source, count, old, new)
    assert done.returncode == 1
    assert f"tritonbuild_edit: {source}: " in done.stderr
    assert said in done.stderr
    assert f"wanted {count} x {old!r}" in done.stderr
    assert source.read_bytes() == before
    assert [path.name for path in source.parent.iterdir()] == [source.name]


def test_edit_refuses_what_would_fit_again_afterwards(source):
    source.write_text("abb")
    done = edit(source, 1, "ab", "a")
    assert done.returncode == 1
    assert "would still be there afterwards" in done.stderr
    assert source.read_text() == "abb"


def test_edit_of_missing_file_says_so(tmp_path):
    done = edit(tmp_path / "absent", 1, "a", "b")
    assert done.returncode == 1
    assert f"{tmp_path}/absent: No such file or directory" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_edit_is_not_misled_by_modules_in_the_working_folder(source):
    (source.parent / "tempfile.py").write_text("raise SystemExit('the wrong one')\n")
    done = edit(source, 1, "two", "2")
    assert done.returncode == 0, done.stderr


# --- tritonbuild_fetch ------------------------------------------------------------------------


@pytest.fixture
def upstream(tmp_path) -> Path:
    """A stand-in for the server's repository, with one tagged commit."""
    folder = tmp_path / "upstream"
    folder.mkdir()
    for name, text in (("TRITON_VERSION", "2.41.0\n"), ("CMakeLists.txt", "x"), ("README.md", "x")):
        (folder / name).write_text(text)
    for argv in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "a"],
        ["tag", "r23.12"],
    ):
        subprocess.run(["git", "-C", folder, *argv], check=True, capture_output=True)
    return folder


def fetch(server: Path, upstream: Path, version: str = "2.41.0"):
    return run_function(
        "tritonbuild_fetch", str(server), upstream.as_uri(), "r23.12", version, cwd=upstream.parent
    )


def test_fetch_fills_a_folder_that_holds_the_build_folder(tmp_path, upstream):
    server = tmp_path / "s $(x)"
    (server / "build").mkdir(parents=True)
    (server / "build" / "mine").write_text("mine")
    done = fetch(server, upstream)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in server.iterdir()) == [
        ".git", "CMakeLists.txt", "README.md", "TRITON_VERSION", "build",
    ]  # fmt: skip
    assert not (server / ".git" / "tritonbuild-unfinished").exists()
    (server / "README.md").write_text("edited by hand")
    (upstream / ".git").rename(upstream / "gone")
    again = fetch(server, upstream)
    assert again.returncode == 0, again.stderr
    assert (server / "README.md").read_text() == "edited by hand"


@pytest.mark.parametrize("stage", ["before init", "before checkout", "in checkout"])
def test_fetch_completes_what_an_interrupted_run_left(tmp_path, upstream, stage):
    server = tmp_path / "server"
    (server / ".git").mkdir(parents=True)
    marker = server / ".git" / "tritonbuild-unfinished"
    marker.write_text("checkout began\n" if stage == "in checkout" else "")
    if stage != "before init":
        subprocess.run(["git", "init", "-q", server], check=True, capture_output=True)
    if stage == "in checkout":
        (server / "CMakeLists.txt").write_text("hal")
        (server / "TRITON_VERSION").write_text("2.41.0\n")
        (server / ".git" / "index.lock").write_text("")
    done = fetch(server, upstream)
    assert done.returncode == 0, done.stderr
    assert (server / "CMakeLists.txt").read_text() == "x"
    assert (server / "README.md").is_file()
    assert not marker.exists()


def test_fetch_leaves_files_in_the_way_alone_each_time(tmp_path, upstream):
    server = tmp_path / "server"
    server.mkdir()
    (server / "README.md").write_text("mine")
    for _ in range(2):
        done = fetch(server, upstream)
        assert done.returncode != 0
        assert "would be overwritten by checkout" in done.stderr
        assert (server / "README.md").read_text() == "mine"
        assert not (server / "TRITON_VERSION").exists()
    (server / "README.md").unlink()
    assert fetch(server, upstream).returncode == 0


def test_fetch_leaves_another_repository_alone(tmp_path, upstream):
    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", other], check=True, capture_output=True)
    before = sorted(other.rglob("*"))
    done = fetch(other, upstream)
    assert done.returncode == 1
    assert "a git repository, but not of Triton's server" in done.stderr
    assert sorted(other.rglob("*")) == before


@pytest.mark.parametrize("text", ["2.42.0\n", "2.42.0", ""])
def test_fetch_refuses_sources_of_another_version(tmp_path, upstream, text):
    server = tmp_path / "server"
    server.mkdir()
    (server / "TRITON_VERSION").write_text(text)
    done = fetch(server, upstream)
    assert done.returncode == 1
    if text:
        assert "TRITON_VERSION is 2.42.0, not 2.41.0" in done.stderr


def test_fetch_that_cannot_reach_the_repository_can_be_run_again(tmp_path, upstream):
    server = tmp_path / "server"
    assert fetch(server, tmp_path / "absent").returncode != 0
    done = fetch(server, upstream)
    assert done.returncode == 0, done.stderr
