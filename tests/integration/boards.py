"""A board for tests: a real sshd on loopback, in namespaces where /opt and the like are its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from servers import answers, find_port, wait_for

from tritonbuild.paths import Workspace
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Request
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import RecipeBook
from tritonbuild.stage.manifest import make_manifest, write_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SSHD = "/usr/sbin/sshd"
USER = "pi"

# What a board is to its sshd: each of these is a folder or file of the test's.
_ENTER = """\
set -eu
folder=$1
mount --bind "$folder/opt" /opt
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd
[ ! -e "$folder/has-systemd" ] || mkdir -p /run/systemd/system
mkdir -p /etc/systemd/system
mount --bind "$folder/units" /etc/systemd/system
mount --bind "$folder/bin" /usr/local/bin
mount --bind "$folder/passwd" /etc/passwd
mount --bind "$folder/shadow" /etc/shadow
[ ! -e "$folder/has-systemd" ] || mount --bind "$folder/state" /var/lib
mount --bind "$folder/default" /etc/default
[ ! -d /etc/sudoers.d ] || mount --bind "$folder/sudoers.d" /etc/sudoers.d
mount -t proc proc /proc
exec "$2" -D -e -f "$folder/sshd_config"
"""

# Passes on what comes in, slowly, as long as the test says so: then there is a middle to end in.
_SLOW_RSYNC = """\
#!/usr/bin/python3
import os, subprocess, sys, threading, time
child = subprocess.Popen(["/usr/bin/rsync", *sys.argv[1:]], stdin=subprocess.PIPE)
def pump():
    try:
        while block := os.read(0, 8192):
            child.stdin.write(block)
            child.stdin.flush()
            if os.path.exists("/opt/slow"):
                time.sleep(0.02)
        child.stdin.close()
    except OSError:
        pass
threading.Thread(target=pump, daemon=True).start()
code = child.wait()
sys.stdout.flush()
os._exit(code)
"""


@dataclass
class TestBoard:
    """A board.

    Attributes:
        folder: What it is made of.
        port: Where its sshd listens.
        runtime: Where tritonbuild's sockets are; `kill -9` leaves some.
    """

    __test__ = False

    folder: Path
    port: int
    runtime: Path
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def opt(self) -> Path:
        """Its /opt, seen from here."""
        return self.folder / "opt"

    @property
    def link(self) -> Path:
        return self.opt / "tritonserver"

    @property
    def versions(self) -> Path:
        return self.opt / "tritonserver.versions"

    @property
    def env(self) -> dict[str, str]:
        """What tritonbuild is to be told."""
        return {
            "TRITONBUILD_SSH_CONFIG": str(self.folder / "ssh_config"),
            "XDG_RUNTIME_DIR": str(self.runtime),
        }

    def current(self) -> str | None:
        """The version that runs."""
        return self.link.readlink().name if self.link.is_symlink() else None

    def read(self, path: str) -> bytes:
        """A file of the version that runs; the link is the board's own, so it is followed here."""
        current = self.current()
        assert current is not None
        return (self.versions / current / path).read_bytes()

    def put_program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        path.chmod(0o755)

    def boot(self) -> None:
        """Start its sshd."""
        log = (self.folder / "sshd.log").open("ab")
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "sh"]
        child = subprocess.Popen(
            [*argv, str(self.folder), SSHD], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        log.close()
        self.stack.callback(end, child)
        wait_for(lambda: answers(self.port), (self.folder / "sshd.log").read_text())

    def crash(self) -> None:
        """End everything that runs there, at once."""
        self.stack.close()
        # What ends with its namespace ends a moment later, and its port is wanted again.
        wait_for(lambda: not answers(self.port), "the board's sshd is gone")


def end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait(10)


def make_key(path: Path) -> str:
    """Make a key pair; return its public half."""
    path.unlink(missing_ok=True)
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return path.with_suffix(".pub").read_text(encoding="utf-8").strip()


@contextlib.contextmanager
def run_board(folder: Path, *, systemd: bool = False) -> Iterator[TestBoard]:
    """Run a board for the length of the block."""
    port = find_port()
    for name in ("opt", "units", "bin", "sudoers.d", "state", "default"):
        (folder / name).mkdir(parents=True)
        (folder / name).chmod(0o755)
    if systemd:
        (folder / "has-systemd").touch()
    home, root_home = folder / "home", folder / "root"
    home.mkdir()
    root_home.mkdir()
    # Homes and shells of the board's own: what this machine's shells do when they start is not tested.
    others = Path("/etc/passwd").read_text(encoding="utf-8").splitlines()[1:]
    users = [f"root:x:0:0:root:{root_home}:/bin/sh", *others]
    users.append(f"{USER}:x:54321:54321::{home}:/bin/sh")
    (folder / "passwd").write_text("\n".join(users) + "\n", encoding="utf-8")
    (folder / "passwd").chmod(0o644)
    # sudo lets nobody work whose account is not known there.
    lines = (f"{name}:*:19000:0:99999:7:::\n" for name in ("root", USER))
    (folder / "shadow").write_text("".join(lines), encoding="utf-8")
    (folder / "shadow").chmod(0o600)
    os.chown(home, 54321, 54321)
    open_way(folder)
    (folder / "authorized_keys").write_text(make_key(folder / "id") + "\n", encoding="utf-8")
    # A socket's path has to be short.
    runtime = Path(tempfile.mkdtemp(prefix="tb-", dir="/tmp"))
    board = TestBoard(folder, port, runtime)
    set_host_key(board)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nUsePAM no\nStrictModes no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        "LogLevel VERBOSE\nMaxStartups 100\n",
        encoding="utf-8",
    )
    (folder / "ssh_config").write_text(
        f"Host board pi\n  HostName 127.0.0.1\n  Port {port}\n  User root\n"
        f"Host *\n  IdentityFile {folder}/id\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
        "  StrictHostKeyChecking ask\n",
        encoding="utf-8",
    )
    board.put_program("rsync", _SLOW_RSYNC)
    try:
        with board.stack:
            board.boot()
            yield board
    finally:
        shutil.rmtree(runtime)


def open_way(folder: Path) -> None:
    """Let an ordinary user reach a folder below pytest's, which are for their owner alone."""
    for part in (folder, *folder.parents):
        if (
            part.stat().st_uid == os.geteuid()
            and part.is_relative_to("/tmp")
            and part != Path("/tmp")
        ):
            part.chmod(part.stat().st_mode | 0o011)


def set_host_key(board: TestBoard, *, known: bool = True) -> None:
    """Give a board a new host key; say whether the user has seen it."""
    public = make_key(board.folder / "host_key")
    if known:
        line = f"[127.0.0.1]:{board.port} {public}\n"
        (board.folder / "known_hosts").write_text(line, encoding="utf-8")


FILES = {
    "bin/tritonserver": b"#!/bin/sh\necho tiny\n",
    "lib/libtiny.so.1": b"library" * 1000,
    "backends/python/model.py": b"x = 1\n",
    "backends/naïve/two words.txt": b"text",
    "LICENSE": b"a licence\n",
}


def make_build(
    folder: Path,
    files: Mapping[str, bytes] = FILES,
    *,
    arch: str = "amd64",
    glibc: str = "2.17",
    to_install: Mapping[str, str] | None = None,
    board: str = "generic-arm64",
) -> Workspace:
    """Make a work directory with a finished tree that is not really one of Triton's."""
    if folder.exists():
        shutil.rmtree(folder)
    ws = Workspace(folder)
    ws.make()
    for name, content in files.items():
        path = ws.tritonserver_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o700 if name.startswith("bin/") else 0o600)
    (ws.tritonserver_dir / "lib").mkdir(exist_ok=True)
    (ws.tritonserver_dir / "lib/libtiny.so").symlink_to("libtiny.so.1")
    plan = make_plan(RecipeBook.open(), Request(board, os="debian-12", provider=ProviderKind.WHEEL))
    ws.plan_path.write_text(plan.to_json(), encoding="utf-8")
    verified = {
        "arch": arch, "highest": {"GLIBC": {"version": f"GLIBC_{glibc}", "file": "lib/x"}},
        "to_install": dict(to_install or {}), "system_libraries": {},
    }  # fmt: skip
    ws.verify_path.write_text(json.dumps(verified), encoding="utf-8")
    manifest = make_manifest(ws.tritonserver_dir, plan=plan, origins={}, tools={}, system={})
    write_manifest(ws.manifest_path, manifest)
    return ws
