"""deploy against a real sshd: what arrives, what is kept, and every way in which it can break off."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path, PurePosixPath

import pytest
from boards import FILES, SSHD, USER, make_build, run_board, set_host_key
from servers import answers, find_port, serve, wait_for

from tritonbuild.errors import HostError
from tritonbuild.hosts.ssh import connect
from tritonbuild.paths import hash_file
from tritonbuild.stage.manifest import write_manifest

# Enough to be in the middle of for a while, on a board that is slow.
BIG = {**FILES, **{f"lib/part-{n}.so": random.Random(n).randbytes(300_000) for n in range(10)}}


@pytest.fixture(scope="module", autouse=True)
def _tools(require_or_skip):
    require_or_skip(os.geteuid() == 0, "root, to make a board of namespaces")
    for program in (SSHD, "ssh", "rsync", "unshare"):
        require_or_skip(shutil.which(program), f"{program} is needed for a board here")
    done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], check=False)
    require_or_skip(done.returncode == 0, "namespaces, to make a board of")


@pytest.fixture
def board(tmp_path):
    with run_board(tmp_path / "board") as board:
        yield board


@pytest.fixture
def systemd_board(tmp_path):
    """A board with a systemctl that notes what it was told, and answers what the test says."""
    with run_board(tmp_path / "board", systemd=True) as board:
        board.put_program(
            "systemctl",
            """\
            #!/bin/sh
            case $1 in
                cat) cat "/etc/systemd/system/$2" 2>/dev/null || cat "/opt/vendor/$2"; exit ;;
                is-active) [ ! -e /opt/inactive ] || { echo inactive; exit 3; }; echo active; exit ;;
                show)
                    # shellcheck disable=SC1091
                    [ ! -e /opt/show.sh ] || { . /opt/show.sh; exit; }
                    printf 'ActiveState=%s\\nMainPID=1\\nNRestarts=0\\n' \
                        "$(cat /opt/active 2>/dev/null || echo active)"
                    exit
                    ;;
            esac
            echo "$*" >>/opt/systemctl.log
            [ "$1" != restart ] || [ ! -e /opt/refuse ] || { echo "Job failed" >&2; exit 1; }
            """,
        )
        # Each board is on this machine: its service's port must be its own.
        (board.folder / "default" / "tritonserver").write_text(
            f'TRITONSERVER_ARGS="--http-port={find_port()}"\n'
        )
        board.put_program("useradd", '#!/bin/sh\necho "$*" >>/opt/useradd.log\n')
        board.put_program("journalctl", "#!/bin/sh\necho the last words\n")
        yield board


@pytest.fixture
def deploy(run_cli, tmp_path):
    """Return a function that deploys a work directory to a board."""

    def run(board, work=None, *options, host="board", **more):
        where = ("--work-dir", work) if work else ()
        smoke = () if "--rollback" in options or "--smoke" in options else ("--no-smoke",)
        return run_cli("deploy", host, *where, *smoke, *options, env=board.env, **more)

    return run


def read(outcome) -> dict:
    assert outcome.code == 0, outcome.stderr
    return json.loads(outcome.stdout)


def start(board, work, *options) -> subprocess.Popen[str]:
    """Start a deploy, to be ended in the middle."""
    argv = [sys.executable, "-m", "tritonbuild", "deploy", "board", "--no-smoke", *options]
    return subprocess.Popen(
        [*argv, "--work-dir", str(work.root)], env={**os.environ, **board.env}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip


def wait_for_the_middle(board) -> None:
    incoming = board.versions / ".incoming" / "lib"
    wait_for(lambda: len(list(incoming.glob("part-*"))) >= 2, "nothing arrives")


# --- what arrives ---------------------------------------------------------------------------------


def test_first_deploy_is_the_tree_behind_a_link(board, deploy, tmp_path):
    ws = make_build(tmp_path / "work")
    (ws.tritonserver_dir / "lib" / "__pycache__").mkdir()
    (ws.tritonserver_dir / "lib" / "__pycache__" / "x.pyc").write_bytes(b"left by Python")
    found = read(deploy(board, ws.root, "--json"))
    assert found["version"] == board.current()
    assert found["previous"] is None
    assert found["files"] == len(FILES)
    assert str(board.link.readlink()) == f"tritonserver.versions/{found['version']}"
    there = board.versions / found["version"]
    names = {str(path.relative_to(there)) for path in there.rglob("*") if not path.is_dir()}
    assert names == {*FILES, "lib/libtiny.so", "manifest.json"}
    for name, content in FILES.items():
        assert (there / name).read_bytes() == content
        mode = (there / name).stat().st_mode & 0o7777
        assert mode == (0o755 if name.startswith("bin/") else 0o644), name
    assert str((there / "lib/libtiny.so").readlink()) == "libtiny.so.1"
    assert (there / "manifest.json").read_bytes() == ws.manifest_path.read_bytes()
    assert not (board.versions / ".incoming").exists()


def test_second_deploy_sends_what_changed_and_links_the_rest(board, deploy, tmp_path):
    first = read(deploy(board, make_build(tmp_path / "work", BIG).root, "--json"))
    changed = {**BIG, "LICENSE": b"another licence\n"}
    # Made anew: all times differ.
    second = read(deploy(board, make_build(tmp_path / "work", changed).root, "--json"))
    assert first["size"] > 3_000_000
    assert second["files"] == 1
    assert second["size"] < 20_000
    assert second["previous"] == first["version"]
    assert board.read("LICENSE") == b"another licence\n"
    before, after = (board.versions / name for name in (first["version"], second["version"]))
    assert (before / "LICENSE").read_bytes() == FILES["LICENSE"]
    assert (before / "lib/part-1.so").stat().st_ino == (after / "lib/part-1.so").stat().st_ino


def test_same_tree_again_sends_nothing(board, deploy, tmp_path):
    ws = make_build(tmp_path / "work")
    first = read(deploy(board, ws.root, "--json"))
    again = read(deploy(board, ws.root, "--json"))
    assert (again["files"], again["size"]) == (0, 0)
    assert again["version"] == first["version"] == board.current()
    assert "before it was" not in deploy(board, ws.root).stderr


def test_damaged_version_is_sent_again_beside_itself(board, deploy, tmp_path):
    ws = make_build(tmp_path / "work", BIG)
    first = read(deploy(board, ws.root, "--json"))
    (board.versions / first["version"] / "lib/part-3.so").write_bytes(b"a bad card")
    again = deploy(board, ws.root, "--json")
    assert "is damaged" in again.stderr
    found = read(again)
    assert found["version"] == f"{first['version']}.1" == board.current()
    assert found["files"] == 1
    assert board.read("lib/part-3.so") == BIG["lib/part-3.so"]


def test_version_that_runs_is_not_replaced_in_its_place(board, deploy, tmp_path):
    ws = make_build(tmp_path / "work")
    first = read(deploy(board, ws.root, "--json"))["version"]
    (board.versions / first / "manifest.json").unlink()
    assert read(deploy(board, ws.root, "--json"))["version"] == f"{first}.1" == board.current()


def test_what_arrives_wrong_is_not_switched_to(board, deploy, tmp_path):
    first = read(deploy(board, make_build(tmp_path / "work").root, "--json"))
    board.put_program(
        "rsync",
        """\
        #!/bin/sh
        /usr/bin/rsync "$@" || exit
        echo bad >>/opt/tritonserver.versions/.incoming/lib/libtiny.so.1
        """,
    )
    ws = make_build(tmp_path / "work", {**FILES, "more": b"more", "lib/libtiny.so.1": b"new"})
    outcome = deploy(board, ws.root)
    assert outcome.code == 9
    assert "./lib/libtiny.so.1: FAILED" in outcome.stderr
    assert board.current() == first["version"]


# --- the way back -----------------------------------------------------------------------------------


def deploy_versions(board, deploy, work, *texts, options=()) -> list[str]:
    names = []
    for text in texts:
        ws = make_build(work, {**FILES, "LICENSE": text.encode()})
        names.append(read(deploy(board, ws.root, "--json", *options))["version"])
    return names


def test_rollback_goes_back_step_by_step_and_forward_by_deploy(board, deploy, tmp_path):
    one, two, three = deploy_versions(board, deploy, tmp_path / "work", "1", "2", "3")
    for expected in (two, one):
        found = read(deploy(board, None, "--rollback", "--json"))
        assert found["version"] == expected == board.current()
    outcome = deploy(board, None, "--rollback")
    assert outcome.code == 3
    assert f"no version from before {one}" in outcome.stderr
    # The last work directory is the third's, which is on the board already.
    again = read(deploy(board, tmp_path / "work", "--json"))
    assert (again["version"], again["files"]) == (three, 0)
    assert read(deploy(board, None, "--rollback", "--json"))["version"] == one


def test_a_bad_version_that_was_left_is_not_come_back_to(board, deploy, tmp_path):
    _, good, _bad = deploy_versions(board, deploy, tmp_path / "work", "1", "2", "3")
    read(deploy(board, None, "--rollback", "--json"))
    deploy_versions(board, deploy, tmp_path / "work", "4")
    assert read(deploy(board, None, "--rollback", "--json"))["version"] == good


def test_rollback_to_a_damaged_version_is_refused(board, deploy, tmp_path):
    one, two = deploy_versions(board, deploy, tmp_path / "work", "1", "2")
    there = board.versions / one / "LICENSE"
    there.unlink()
    there.write_text("a bad card")
    outcome = deploy(board, None, "--rollback")
    assert outcome.code == 9
    assert f"{one} on board is damaged" in outcome.stderr
    assert "./LICENSE: FAILED" in outcome.stderr
    assert board.current() == two
    (board.versions / one / "manifest.json").write_text("{}")
    assert "no manifest" in deploy(board, None, "--rollback").stderr
    (board.versions / one / "manifest.json").unlink()
    assert deploy(board, None, "--rollback").code == 3


def test_rollback_with_nothing_deployed(board, deploy):
    outcome = deploy(board, None, "--rollback")
    assert outcome.code == 3
    assert "nothing was deployed" in outcome.stderr


def test_old_versions_go(board, deploy, tmp_path):
    names = deploy_versions(
        board, deploy, tmp_path / "work", "1", "2", "3", "4", options=("--keep", "2")
    )
    there = {path.name for path in board.versions.iterdir() if path.is_dir()}
    assert there == set(names[-2:])
    assert board.current() == names[-1]


# --- broken off -------------------------------------------------------------------------------------


def prepare_slow(board, deploy, tmp_path):
    """Deploy a first version; make the board slow; return that version and a build to send."""
    first = read(deploy(board, make_build(tmp_path / "work").root, "--json"))["version"]
    (board.opt / "slow").touch()
    return first, make_build(tmp_path / "work", BIG)


def finish(board, deploy, ws) -> dict:
    (board.opt / "slow").unlink(missing_ok=True)
    found = read(deploy(board, ws.root, "--json"))
    assert board.current() == found["version"]
    assert board.read("lib/part-9.so") == BIG["lib/part-9.so"]
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill-9", "ctrl-c"])
def test_killed_in_the_middle_goes_on_later(board, deploy, tmp_path, number):
    first, ws = prepare_slow(board, deploy, tmp_path)
    child = start(board, ws)
    wait_for_the_middle(board)
    child.send_signal(number)
    child.communicate(timeout=30)
    assert child.returncode == (-number if number == signal.SIGKILL else 130)
    assert board.current() == first
    found = finish(board, deploy, ws)
    # What had arrived is not sent again.
    assert found["files"] < len(BIG)
    assert len([p for p in board.versions.iterdir() if p.is_dir()]) == 2


def test_board_that_crashes_in_the_middle(board, deploy, tmp_path):
    first, ws = prepare_slow(board, deploy, tmp_path)
    child = start(board, ws)
    wait_for_the_middle(board)
    began = time.monotonic()
    board.crash()
    said = child.communicate(timeout=30)[0]
    assert time.monotonic() - began < 10
    assert child.returncode == 4
    assert "the connection to board was lost" in said
    assert "hint: the version that ran there before still does" in said
    assert board.current() == first
    board.boot()
    assert finish(board, deploy, ws)["files"] < len(BIG)


@pytest.mark.parametrize("verb", ["finish", "switch", "prune"])
def test_board_that_crashes_at_a_step(board, deploy, tmp_path, verb):
    """The next deploy ends well, whatever the last one had come to."""
    first = read(deploy(board, make_build(tmp_path / "work").root, "--json"))["version"]
    ws = make_build(tmp_path / "work", BIG)
    # The board's shell dies where a step moves or removes something.
    tool = {"finish": "sync", "switch": "ln", "prune": "rm"}[verb]
    board.put_program(tool, "#!/bin/sh\nkill -9 $PPID\n")
    outcome = deploy(board, ws.root, *(["--keep", "1"] if verb == "prune" else []))
    assert outcome.code != 0 or verb == "prune"
    (board.folder / "bin" / tool).unlink()
    if verb != "prune":
        assert board.current() == first
    assert finish(board, deploy, ws)["files"] == 0 if verb != "finish" else True


def test_two_at_once_exclude_each_other(board, deploy, tmp_path):
    _, ws = prepare_slow(board, deploy, tmp_path)
    other = make_build(tmp_path / "other")
    child = start(board, ws)
    try:
        wait_for_the_middle(board)
        outcome = deploy(board, other.root)
        assert outcome.code == 4
        assert f"is held by root@" in outcome.stderr  # noqa: F541
        assert f"process {child.pid}" in outcome.stderr
        (board.opt / "slow").unlink()
        assert child.wait(30) == 0, child.communicate()[0]
    finally:
        child.kill()
        child.communicate()
    assert read(deploy(board, other.root, "--json"))["files"] >= 0


# --- a full board -----------------------------------------------------------------------------------


@pytest.fixture
def small_board(board, require_or_skip):
    """A board whose /opt has 8 MiB."""
    board.crash()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(board.opt)], check=False
    )
    require_or_skip(done.returncode == 0, "a small file system can be mounted")
    board.boot()
    try:
        yield board
    finally:
        board.crash()
        subprocess.run(["umount", "-l", str(board.opt)], check=True)


def fill(board, left: int) -> Path:
    path = board.opt / "fill"
    free = shutil.disk_usage(board.opt).free
    path.write_bytes(bytes(free - left))
    return path


def test_too_little_room_is_told_before_anything_is_sent(small_board, deploy, tmp_path):
    ws = make_build(tmp_path / "work", BIG)
    filling = fill(small_board, 20 << 20)
    outcome = deploy(small_board, ws.root)
    assert outcome.code == 4
    assert "are needed" in outcome.stderr
    assert not small_board.versions.exists()
    filling.unlink()
    finish(small_board, deploy, ws)


def test_room_of_what_has_arrived_is_not_wanted_again(small_board, deploy, tmp_path):
    ws = make_build(tmp_path / "work", BIG)
    incoming = small_board.versions / ".incoming"
    shutil.copytree(ws.tritonserver_dir, incoming, symlinks=True)
    (small_board.versions / ".tritonbuild").touch()
    # What the tree has besides, and the margin.
    filling = fill(small_board, 34 << 20)
    assert read(deploy(small_board, ws.root, "--json"))["files"] == 0
    filling.unlink()


def test_board_that_fills_up_meanwhile_gets_its_room_back(small_board, deploy, tmp_path):
    first = read(deploy(small_board, make_build(tmp_path / "work").root, "--json"))["version"]
    small_board.put_program(
        "rsync",
        """\
        #!/bin/sh
        head -c 100M /dev/zero >/opt/fill 2>/dev/null
        truncate -s -1M /opt/fill
        exec /usr/bin/rsync "$@"
        """,
    )
    ws = make_build(tmp_path / "work", BIG)
    outcome = deploy(small_board, ws.root)
    assert outcome.code == 4
    assert "no room on board" in outcome.stderr
    assert small_board.current() == first
    assert not (small_board.versions / ".incoming").exists()
    (small_board.opt / "fill").unlink()
    (small_board.folder / "bin" / "rsync").unlink()
    finish(small_board, deploy, ws)


# --- who may, and where -----------------------------------------------------------------------------


def test_user_without_rights_is_told_before_anything_is_sent(board, deploy, tmp_path):
    ws = make_build(tmp_path / "work")
    outcome = deploy(board, ws.root, host=f"ssh://{USER}@127.0.0.1:{board.port}")
    assert outcome.code == 4
    assert f"{USER} may not write to /opt" in outcome.stderr
    assert "hint: deploy as root, let the user use sudo without a password" in outcome.stderr
    assert list(board.opt.iterdir()) == []


def test_user_without_rights_may_use_a_folder_of_theirs(board, deploy, tmp_path):
    ws = make_build(tmp_path / "work")
    to = board.folder / "home" / "triton"
    host = f"ssh://{USER}@127.0.0.1:{board.port}"
    found = read(deploy(board, ws.root, "--to", str(to), "--json", host=host))
    assert (to / "LICENSE").read_bytes() == FILES["LICENSE"]
    assert to.lstat().st_uid == 54321
    assert found["link"] == str(to)


def test_user_with_sudo(board, deploy, tmp_path, require_or_skip):
    require_or_skip(shutil.which("sudo"), "sudo")
    rule = board.folder / "sudoers.d" / "pi"
    rule.write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
    rule.chmod(0o440)
    host = f"ssh://{USER}@127.0.0.1:{board.port}"
    first, second = (
        read(deploy(board, make_build(tmp_path / "w", files).root, "--json", host=host))
        for files in (FILES, {**FILES, "LICENSE": b"2"})
    )
    assert (first["files"], second["files"]) == (len(FILES), 1)
    assert board.read("LICENSE") == b"2"
    assert (board.versions / second["version"] / "LICENSE").stat().st_uid == 0


@pytest.mark.parametrize("kind", ["folder", "link", "store", "next", "next-link", "empty-store"])
def test_what_is_not_ours_is_left_alone(board, deploy, tmp_path, kind):
    if kind == "link":
        board.link.symlink_to("/somewhere/else")
    elif kind == "next-link":
        (board.opt / "tritonserver.next").symlink_to("/somewhere/else")
    elif kind == "next":
        (board.opt / "tritonserver.next").mkdir()
    elif kind == "empty-store":
        board.versions.mkdir()
        os.chown(board.versions, 54321, 54321)
    else:
        folder = board.link if kind == "folder" else board.versions
        folder.mkdir()
        (folder / "file").write_text("of somebody's")
    before = sorted(str(path) for path in board.opt.rglob("*"))
    outcome = deploy(board, make_build(tmp_path / "work").root)
    assert outcome.code == 4
    assert "deploy" in outcome.stderr
    assert "hint: " in outcome.stderr
    assert sorted(str(path) for path in board.opt.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"arch": "arm64"}, "this tree is for arm64, and board is amd64", id="arch"),
        pytest.param({"glibc": "2.99"}, "needs glibc 2.99, and board has 2.", id="glibc"),
        pytest.param(
            {"to_install": {"libnone.so.1": "libnone1"}}, "lacks packages that the tree needs: libnone1",
            id="packages",
        ),
    ],
)  # fmt: skip
def test_board_that_cannot_run_it(board, deploy, tmp_path, options, expected):
    outcome = deploy(board, make_build(tmp_path / "work", **options).root)
    assert outcome.code == 4
    assert expected in outcome.stderr
    assert not board.versions.exists()


def test_packages_are_installed_when_asked(board, deploy, tmp_path):
    board.put_program(
        "apt-get",
        """\
        #!/bin/sh
        echo "$*" >>/opt/apt.log
        [ "$1" = update ] || [ "$(wc -l </opt/apt.log)" -gt 1 ] || exit 100
        """,
    )
    ws = make_build(tmp_path / "work", to_install={"libnone.so.1": "libnone1"})
    found = read(deploy(board, ws.root, "--install-packages", "--json"))
    assert found["installed"] == ["libnone1"]
    asked = (board.opt / "apt.log").read_text().splitlines()
    assert [line.split()[0] for line in asked] == ["install", "update", "install"]


# --- the connection -----------------------------------------------------------------------------------


@pytest.fixture
def ssh(board, monkeypatch):
    """A connection to a board."""
    for name, value in board.env.items():
        monkeypatch.setenv(name, value)
    with connect("board") as host:
        yield host


def test_commands_arrive_as_they_are(ssh):
    odd = ["$(id)", "a b", "'", '"', "*", "", "\\", "-n", "~", "é", "a\nb", "; exit 3"]
    answer = ssh.run(["printf", "%s|", *odd])
    assert answer.output == "".join(f"{part}|" for part in odd)
    answer = ssh.run(["sh", "-c", 'cat; echo "$X" >&2; exit 255'], given="in", env={"X": "$(id) '"})
    # It is the command that says 255, and not ssh.
    assert (answer.returncode, answer.output, answer.errors) == (255, "in", "$(id) '\n")


def test_command_that_hangs_on_a_board_is_told(ssh):
    with pytest.raises(HostError, match="board: sleep took longer than 0 s"):
        ssh.run(["sleep", "100"], timeout=0.3)
    assert ssh.run(["true"]).returncode == 0


def test_ports_lead_to_the_board(ssh, tmp_path):
    port, there = find_port(), find_port()
    with serve([sys.executable, "-m", "http.server", str(there), "-d", str(tmp_path)], there,
               tmp_path / "log"), ssh.forward(port, there):  # fmt: skip
        assert answers(port)
        # The board is on this machine: that port is taken.
        with pytest.raises(HostError, match=f"port {there} cannot lead to board"):
            ssh.forward(there, port).__enter__()
    wait_for(lambda: not answers(port), "it still leads there")


@pytest.mark.parametrize("kind", ["LocalForward", "RemoteForward"])
def test_forwardings_of_the_users_settings_are_left_out(board, monkeypatch, tmp_path, kind):
    taken, port, there = find_port(), find_port(), find_port()
    settings = board.folder / "ssh_config"
    settings.write_text(
        f"Host board\n  {kind} 127.0.0.1:{taken} 127.0.0.1:9\n{settings.read_text()}"
    )
    for name, value in board.env.items():
        monkeypatch.setenv(name, value)
    # As by a login of the user's, in another window.
    with serve([sys.executable, "-m", "http.server", str(taken), "-d", str(tmp_path)], taken,
               tmp_path / "log"), connect("board") as host:  # fmt: skip
        answer = host.run(["echo", "arrived"])
        assert (answer.returncode, answer.output, answer.errors) == (0, "arrived\n", "")
        with host.forward(port, there):
            pass


def test_nothing_is_left_of_a_connection(board, monkeypatch):
    for name, value in board.env.items():
        monkeypatch.setenv(name, value)
    with connect("board") as host:
        assert list(board.runtime.iterdir())
        board.crash()
        with pytest.raises(HostError, match="connection to board was lost"):
            host.run(["true"])
        with pytest.raises(HostError, match="connection to board was lost"):
            host.send(board.folder / "bin", PurePosixPath("/opt/x"))
    assert list(board.runtime.iterdir()) == []


@pytest.mark.parametrize("case", ["changed", "unknown", "key", "refused", "name"])
def test_failure_to_connect_is_named(board, deploy, tmp_path, case):
    host, expected = "board", ""
    if case in ("changed", "unknown"):
        board.crash()
        set_host_key(board, known=False)
        if case == "unknown":
            (board.folder / "known_hosts").unlink()
        board.boot()
        expected = "its host key has changed" if case == "changed" else "is not known yet"
    elif case == "key":
        (board.folder / "authorized_keys").write_text("")
        expected = "board does not let us in"
    elif case == "refused":
        board.crash()
        expected = "board refuses the connection"
    else:
        host, expected = "no-such-board.invalid", "no such host name"
    outcome = deploy(board, make_build(tmp_path / "work").root, host=host)
    assert outcome.code == 4
    assert expected in outcome.stderr
    assert outcome.stderr.count("hint: ") == 1
    if case == "changed":
        assert f"ssh-keygen -f" in outcome.stderr  # noqa: F541


def test_login_shell_that_talks_is_told(board, deploy, tmp_path):
    passwd = board.folder / "passwd"
    board.crash()
    passwd.write_text(passwd.read_text().replace("/root:/bin/sh", "/root:/bin/bash"))
    (board.folder / "root" / ".bashrc").write_text("echo Welcome to your board\n")
    board.boot()
    outcome = deploy(board, make_build(tmp_path / "work").root)
    assert outcome.code == 4
    assert "the login shell says something" in outcome.stderr
    assert "~/.bashrc" in outcome.stderr


def test_jump_hosts_of_the_users_settings_hold(board, deploy, tmp_path):
    settings = board.folder / "ssh_config"
    inner = (
        f"Host inner\n  HostName 127.0.0.1\n  Port {board.port}\n  User root\n  ProxyJump board\n"
    )
    settings.write_text(inner + settings.read_text())
    found = read(deploy(board, make_build(tmp_path / "work").root, "--json", host="inner"))
    assert found["host"] == "inner"
    log = (board.folder / "sshd.log").read_text()
    assert log.count("Accepted publickey") == 2


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "a b", "root@-x", "x;y", "ssh://x:0"])
def test_names_that_are_none_are_refused(board, deploy, tmp_path, host):
    outcome = deploy(board, make_build(tmp_path / "work").root, "--", host=host)
    assert outcome.code == 2


# --- the service --------------------------------------------------------------------------------------


@pytest.fixture
def server_port(systemd_board, tmp_path):
    """The port of a server that says that it is ready, where the service is to listen."""
    port = find_port()
    settings = f'# --http-port=1\nTRITONSERVER_ARGS="--log-verbose=1 --http-port={port}"\n'
    (systemd_board.folder / "default" / "tritonserver").write_text(settings)
    ready = tmp_path / "server" / "v2" / "health" / "ready"
    ready.parent.mkdir(parents=True)
    ready.touch()
    argv = [sys.executable, "-m", "http.server", str(port), "-d", str(tmp_path / "server")]
    with serve(argv, port, tmp_path / "server.log"):
        yield port


def deploy_in_a_hurry(board, work, *options):
    """Deploy, and do not wait long for the service."""
    argv = ["deploy", "board", "--work-dir", str(work), "--no-smoke", "--json", *options]
    hurry = "from tritonbuild.deploy import service; service._READY_TIMEOUT = 4.0"
    code = f"import sys; {hurry}; sys.argv[1:] = {argv}; from tritonbuild.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **board.env}, capture_output=True,
        text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.usefixtures("server_port")
def test_service_is_made_and_started_anew(systemd_board, deploy, tmp_path):
    board = systemd_board
    found = read(deploy(board, make_build(tmp_path / "work").root, "--json"))
    assert found["service"] == "ready"
    unit = (board.folder / "units" / "tritonserver.service").read_text()
    assert "ExecStart=/opt/tritonserver/bin/tritonserver " in unit
    assert "User=tritonserver" in unit
    told = (board.opt / "systemctl.log").read_text().splitlines()
    assert told[:3] == [
        "daemon-reload",
        "enable tritonserver.service",
        "restart tritonserver.service",
    ]
    assert "--system" in (board.opt / "useradd.log").read_text()


def test_service_that_says_nothing_runs(systemd_board, tmp_path):
    done = deploy_in_a_hurry(systemd_board, make_build(tmp_path / "work").root)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["service"] == "running"


# Each time that it is asked, it has been started again; it is up at that moment.
CRASHES = """\
echo >>/opt/asked
count=$(wc -l </opt/asked)
echo ActiveState=active
"""


@pytest.mark.usefixtures("server_port")
@pytest.mark.parametrize(
    "sign",
    [
        'echo "MainPID=100$count"; echo NRestarts=0',
        'echo "MainPID=100"; echo "NRestarts=$count"',
    ],
    ids=["pid", "count"],
)
def test_service_that_crashes_again_and_again_is_not_ready(systemd_board, deploy, tmp_path, sign):
    board = systemd_board
    first = read(
        deploy(board, make_build(tmp_path / "work").root, "--no-service", "--json")
    )["version"]  # fmt: skip
    (board.opt / "show.sh").write_text(CRASHES + sign)
    outcome = deploy(board, make_build(tmp_path / "work", {**FILES, "LICENSE": b"2"}).root)
    assert outcome.code == 10
    assert "does not stay up: it ends and is started again" in outcome.stderr
    assert board.current() == first


def test_port_of_another_server_is_told_before_anything_is_sent(systemd_board, tmp_path):
    board = systemd_board
    settings = board.folder / "default" / "tritonserver"
    settings.write_text('# TRITONSERVER_ARGS="--http-port=9000"\n')
    (board.opt / "inactive").touch()
    ws = make_build(tmp_path / "work")
    with contextlib.ExitStack() as stack:
        # Whoever has it already will do.
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.1", 8000)))
        outcome = deploy_in_a_hurry(board, ws.root)
    assert outcome.returncode == 4
    assert "port 8000 of board is taken" in outcome.stderr
    assert 'TRITONSERVER_ARGS="--http-port=' in outcome.stderr
    assert not board.versions.exists()


def test_service_that_does_not_start_brings_the_old_version_back(systemd_board, deploy, tmp_path):
    board = systemd_board
    first = read(
        deploy(board, make_build(tmp_path / "work").root, "--no-service", "--json")
    )["version"]  # fmt: skip
    (board.opt / "active").write_text("failed\n")
    ws = make_build(tmp_path / "work", {**FILES, "LICENSE": b"2"})
    outcome = deploy(board, ws.root)
    assert outcome.code == 10
    assert "does not stay up: failed" in outcome.stderr
    assert "  | the last words" in outcome.stderr
    assert f"/opt/tritonserver is {first} again" in outcome.stderr
    assert board.current() == first
    # That one had no service before.
    told = (board.opt / "systemctl.log").read_text().splitlines()
    assert told[-1] == "disable --now tritonserver.service"


@pytest.mark.usefixtures("server_port")
def test_service_that_ran_before_runs_again(systemd_board, deploy, tmp_path):
    board = systemd_board
    first = read(deploy(board, make_build(tmp_path / "work").root, "--json"))["version"]
    (board.opt / "active").write_text("failed\n")
    outcome = deploy(board, make_build(tmp_path / "work", {**FILES, "LICENSE": b"2"}).root)
    assert outcome.code == 10
    assert board.current() == first
    told = (board.opt / "systemctl.log").read_text().splitlines()
    assert told[-1] == "restart tritonserver.service"


def test_unit_of_somebody_else_stays(systemd_board, deploy, tmp_path):
    board = systemd_board
    unit = board.folder / "units" / "tritonserver.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    outcome = deploy(board, make_build(tmp_path / "work").root)
    assert outcome.code == 4
    assert "--no-service" in outcome.stderr
    assert unit.read_text() == "[Service]\nExecStart=/bin/true\n"


def test_unit_of_the_boards_system_is_not_overridden(systemd_board, deploy, tmp_path):
    board = systemd_board
    (board.opt / "vendor").mkdir()
    (board.opt / "vendor" / "ssh.service").write_text("[Service]\nExecStart=/usr/sbin/sshd\n")
    outcome = deploy(board, make_build(tmp_path / "work").root, "--to", "/opt/ssh")
    assert outcome.code == 4
    assert "ssh.service on board is there, and deploy did not make it" in outcome.stderr
    assert list((board.folder / "units").iterdir()) == []
    assert not (board.opt / "ssh.versions").exists()


def test_state_of_another_program_is_not_taken_over(systemd_board, deploy, tmp_path):
    board = systemd_board
    (board.folder / "state" / "dpkg").mkdir()
    outcome = deploy(board, make_build(tmp_path / "work").root, "--to", "/opt/dpkg")
    assert outcome.code == 4
    assert "/var/lib/dpkg on board is there, and not the service's" in outcome.stderr
    assert not (board.opt / "dpkg.versions").exists()


def test_service_that_is_left_alone_is_told_of(systemd_board, deploy, tmp_path):
    board = systemd_board
    unit = board.folder / "units" / "tritonserver.service"
    unit.write_text("# made by tritonbuild\n")
    outcome = deploy(board, make_build(tmp_path / "work").root, "--no-service")
    assert outcome.code == 0
    assert "tritonserver.service runs what it ran until it is started anew" in outcome.stderr
    assert unit.read_text() == "# made by tritonbuild\n"


def test_rollback_starts_our_service_anew_and_no_other(systemd_board, deploy, tmp_path):
    board = systemd_board
    deploy_versions(board, deploy, tmp_path / "work", "1", "2", "3", options=("--no-service",))
    unit = board.folder / "units" / "tritonserver.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    assert read(deploy(board, None, "--rollback", "--json"))["service"] == "none"
    assert not (board.opt / "systemctl.log").exists()
    unit.write_text("# made by tritonbuild\n")
    (board.opt / "active").write_text("failed\n")
    outcome = deploy(board, None, "--rollback")
    assert outcome.code == 10
    assert "restart tritonserver.service" in (board.opt / "systemctl.log").read_text()


@pytest.mark.parametrize("folder", ["/home/pi", "/root", "/tmp", "/var/tmp", "/run/user/0"])
def test_folders_that_the_service_cannot_see_are_refused(systemd_board, deploy, tmp_path, folder):
    outcome = deploy(systemd_board, make_build(tmp_path / "work").root, "--to", f"{folder}/triton")
    assert outcome.code == 4
    assert f"the service cannot see {folder}/triton" in outcome.stderr
    assert "--no-service" in outcome.stderr


def test_first_service_that_fails_is_stopped_for_good(systemd_board, deploy, tmp_path):
    board = systemd_board
    (board.opt / "active").write_text("failed\n")
    outcome = deploy(board, make_build(tmp_path / "work").root)
    assert outcome.code == 10
    assert f"/opt/tritonserver leads to {board.current()}" in outcome.stderr
    assert "tritonserver.service is switched off" in outcome.stderr
    told = (board.opt / "systemctl.log").read_text().splitlines()
    assert told[-1] == "disable --now tritonserver.service"


def test_service_without_systemd_is_refused(board, deploy, tmp_path):
    outcome = deploy(board, make_build(tmp_path / "work").root, "--service")
    assert outcome.code == 4
    assert "not run by systemd" in outcome.stderr
    assert not board.versions.exists()


# --- doctor and smoke there -------------------------------------------------------------------------


def test_doctor_looks_at_a_board(board, run_cli):
    outcome = run_cli("doctor", "--board", "orangepi5b", "--host", "board", "--json", env=board.env)
    found = {finding["tool"]: finding for finding in json.loads(outcome.stdout)}
    assert found["machine"]["found"] == "amd64"
    assert found["machine"]["status"] == "missing"
    assert found["NPU driver"]["status"] == "missing"
    assert found["rights"]["found"] == "root"
    assert outcome.code == 4
    assert "board lacks: machine" in outcome.stderr


def test_doctor_mends_no_board(board, run_cli):
    outcome = run_cli("doctor", "--host", "board", "--fix", env=board.env)
    assert outcome.code == 2


# --- a real server there ----------------------------------------------------------------------------


def find_servers() -> list[int]:
    """The servers of smoke tests on boards."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            program, *arguments = path.read_bytes().split(b"\0")
            wanted = b"--model-repository=/tmp/tritonbuild-smoke."
            if program.endswith(b"/bin/tritonserver") and arguments[0].startswith(wanted):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def list_smoke_folders() -> list[Path]:
    return list(Path("/tmp").glob("tritonbuild-smoke.*"))


@pytest.fixture(scope="module")
def server_board(source_build, tmp_path_factory, session_cli):
    """A board to which a server of the stand-ins was deployed, which was asked there before."""
    with run_board(tmp_path_factory.mktemp("server") / "board") as board:
        where = tmp_path_factory.mktemp("cwd")
        outcome = session_cli(
            "deploy", "board", "--work-dir", source_build.root, "--json", cwd=where, env=board.env
        )
        yield board, outcome


def test_server_is_asked_on_the_board_before_it_is_switched_to(server_board):
    board, outcome = server_board
    found = read(outcome)
    assert found["smoke"] is True
    assert board.current() == found["version"]
    assert find_servers() == []
    assert list_smoke_folders() == []


def test_smoke_on_a_board(server_board, source_build, run_cli, copy_build):
    board, _ = server_board
    ws = copy_build(source_build)
    outcome = run_cli("smoke", "--host", "board", "--json", "--work-dir", ws.root, env=board.env)
    assert outcome.code == 0, outcome.stderr
    results = {one["name"]: one for one in json.loads(outcome.stdout)["results"]}
    assert results["http-json"]["status"] == "pass"
    assert results["stop"]["status"] == "pass"
    assert find_servers() == []
    assert list_smoke_folders() == []


def test_smoke_wants_the_same_build_there(server_board, run_cli, tmp_path):
    board, _ = server_board
    ws = make_build(tmp_path / "work")
    outcome = run_cli("smoke", "--host", "board", "--work-dir", ws.root, env=board.env)
    assert outcome.code == 2
    assert "has another build" in outcome.stderr


def test_server_on_a_board_ends_with_us(server_board, source_build, copy_build):
    board, _ = server_board
    ws = copy_build(source_build)
    argv = [sys.executable, "-m", "tritonbuild", "smoke", "--host", "board"]
    child = subprocess.Popen(
        [*argv, "--work-dir", str(ws.root)], env={**os.environ, **board.env},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(find_servers, "no server is started")
    finally:
        child.kill()
        child.wait(10)
    wait_for(lambda: not find_servers(), "the server lives on")
    wait_for(lambda: not list_smoke_folders(), "its folder stays")


def test_server_that_does_not_work_there_is_not_switched_to(
    server_board, source_build, run_cli, copy_build
):
    board, _ = server_board
    before = board.current()
    ws = copy_build(source_build)
    program = ws.tritonserver_dir / "bin" / "tritonserver"
    program.write_text("#!/bin/sh\necho it is broken >&2\nexit 3\n")
    manifest = json.loads(ws.manifest_path.read_text())
    for entry in manifest["files"]:
        if entry["path"] == "bin/tritonserver":
            entry["sha256"] = hash_file(program)
            entry["size"] = program.stat().st_size
    write_manifest(ws.manifest_path, manifest)
    outcome = run_cli("deploy", "board", "--work-dir", ws.root, env=board.env)
    assert outcome.code == 10, outcome.stderr
    assert "it is broken" in outcome.stderr
    assert board.current() == before
