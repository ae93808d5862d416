"""What keeps a server on a board: it ends with whoever holds it, and disturbs no other."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tritonbuild.errors import HostError
from tritonbuild.hosts.failures import explain_loss
from tritonbuild.hosts.here import Here
from tritonbuild.paths import data_dir
from tritonbuild.smoke.board import _Held, find_used_ports

SMOKE = data_dir("templates") / "smoke"
SCRIPT = (SMOKE / "serve.sh").read_text(encoding="utf-8")
APART = (SMOKE / "apart.sh").read_text(encoding="utf-8")


def hold(tmp_path: Path, server: str):
    argv = ["sh", "-c", SCRIPT, "serve", "sh", "-c", server, "sh", str(tmp_path)]
    return Here().hold(argv, log=tmp_path / "log")


def wait_until(condition) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def is_alive(pid: str) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_server_is_asked_to_end_when_it_is_released(tmp_path):
    server = 'trap "echo bye; exit 7" TERM; touch "$1/up"; while :; do sleep 0.05; done'
    with hold(tmp_path, server) as session:
        wait_until((tmp_path / "up").exists)
        assert session.poll() is None
        session.release()
        wait_until(lambda: session.poll() is not None)
        assert session.poll() == 7
    assert (tmp_path / "log").read_text() == "bye\n"


def test_server_that_ends_by_itself_takes_what_it_started_along(tmp_path):
    server = 'sleep 1000 & echo $! >"$1/pid"; touch "$1/up"; while [ ! -e "$1/go" ]; do sleep 0.05; done; exit 5'
    with hold(tmp_path, server) as session:
        wait_until((tmp_path / "up").exists)
        stub = (tmp_path / "pid").read_text().strip()
        (tmp_path / "go").touch()
        wait_until(lambda: session.poll() is not None)
        assert session.poll() == 5
        wait_until(lambda: not is_alive(stub))


class _Gone(Here):
    """A board that is not there any more when it is asked."""

    def check_alive(self) -> None:
        raise explain_loss(self.name, "Timeout, server board not responding.")


@pytest.mark.parametrize(("code", "lost"), [(255, True), (3, False)])
def test_server_whose_board_is_gone_did_not_end_by_itself(tmp_path, code, lost):
    with hold(tmp_path, f"exit {code}") as session:
        wait_until(lambda: session.poll() is not None)
        if lost:
            with pytest.raises(HostError, match="the connection to this machine was lost"):
                _Held(_Gone(), session).poll()
        else:
            assert _Held(_Gone(), session).poll() == code
        # It is the server's own.
        assert _Held(Here(), session).poll() == code


def test_signal_is_told_as_shells_tell_it(tmp_path):
    with hold(tmp_path, "kill -SEGV $$") as session:
        wait_until(lambda: session.poll() is not None)
        assert session.poll() == 128 + 11


REGION = "/dev/shm/triton_python_backend_shm_region_0"
# A /dev/shm of the test's own with a region in it: other tests run servers meanwhile.
BESIDE = "mount -t tmpfs tmpfs /dev/shm && {} && "


@pytest.fixture
def beside_another(tmp_path, require_or_skip):
    """Return a function that holds a server where another one has, or had, a region."""
    require_or_skip(os.geteuid() == 0, "root, to mount")
    unshare = shutil.which("unshare")

    def enter(before: str) -> list[str]:
        return [unshare, "--mount", "sh", "-c", BESIDE.format(before) + '"$@"; code=$?; '
                f'[ ! -e {REGION} ] || echo left; exit "$code"', "sh"]  # fmt: skip

    entered = subprocess.run([*enter("true"), "true"], check=False).returncode == 0
    require_or_skip(entered, "mount namespaces")

    def run(server: str, before: str = f"touch {REGION}") -> int:
        argv = [*enter(before), "sh", "-c", SCRIPT, "serve", "sh", "-c", server]
        with Here().hold(argv, log=tmp_path / "log") as session:
            wait_until(lambda: session.poll() is not None)
        return session.poll()

    return run


def test_root_has_shared_memory_for_each_server(beside_another, tmp_path):
    assert beside_another("ls -A /dev/shm; echo none") == 0
    assert (tmp_path / "log").read_text() == "none\nleft\n"


@pytest.fixture
def no_unshare(tmp_path, monkeypatch):
    """The server's script finds no unshare that works: as for a user who is not root."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "unshare").write_text("#!/bin/sh\nexit 1\n")
    (folder / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_others_are_told_of_a_server_that_runs(beside_another, no_unshare, tmp_path):
    assert beside_another("true") == 4
    said = (tmp_path / "log").read_text()
    assert f"another Triton server with Python models runs here, or left {REGION}" in said
    assert said.endswith("\nleft\n")


def test_what_others_leave_is_removed(beside_another, no_unshare, tmp_path):
    assert beside_another(f"touch {REGION}; exit 3", before="true") == 3
    assert (tmp_path / "log").read_text() == ""


def test_program_beside_a_server_has_other_shared_memory(beside_another, tmp_path):
    beside = ["sh", "-c", APART, "apart", "sh", "-c", "ls -A /dev/shm; echo none; exit 5"]
    assert beside_another(shlex.join(beside)) == 5
    assert (tmp_path / "log").read_text() == "none\nleft\n"


def test_program_that_cannot_be_parted_from_a_server_is_not_run(
    beside_another, no_unshare, tmp_path
):
    beside = ["sh", "-c", APART, "apart", "echo", "was run"]
    assert beside_another(shlex.join(beside), before="true") == 77
    assert (tmp_path / "log").read_text() == ""


def test_used_ports_are_read_from_the_kernels_table():
    table = (
        "  sl  local_address\n   0: 0100007F:4E20 00000000:0000 0A 0\n  12: 00:4E21 00:1F40 01 0\n"
    )
    assert find_used_ports(table) == {20000, 20001}
