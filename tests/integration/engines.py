"""Docker engines of our own, which know nothing of the machine's and leave nothing to it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO


def run(*argv: object, check: bool = True, **options) -> subprocess.CompletedProcess[str]:
    usual = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "timeout": 120}
    done = subprocess.run(
        [str(word) for word in argv], text=True, check=False, **{**usual, **options}
    )
    assert not check or done.returncode == 0, done.stdout
    return done


class Docker:
    """An engine, and the client that talks to it."""

    def __init__(self, folder: Path, *, newer: Path | None = None) -> None:
        """Start one.

        Args:
            folder: What is its own; `data` in it is where images and layers are.
            newer: A root with another version of it, which then keeps its images in containerd
                as Docker's own packages do from version 29 on; the system's where none is given.
        """
        self._folder = folder
        self.socket = folder / "docker.sock"
        self.data = folder / "data"
        self._programs: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        # None of its own networks: the tests want none, and iptables is the machine's.
        argv = [
            "dockerd", "--data-root", self.data / "docker", "--exec-root", folder / "exec",
            "--pidfile", folder / "pid", "--host", self.host, "--bridge=none",
            "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
        ]  # fmt: skip
        env = dict(os.environ)
        if newer:
            # Its runc wants a newer C library than the system may have, and the system's does.
            programs = folder / "bin"
            programs.mkdir()
            for name in ("sbin/dockerd", "bin/containerd", "bin/containerd-shim-runc-v2"):
                (programs / Path(name).name).symlink_to(newer / "usr" / name)
            env["PATH"] = f"{programs}:{env['PATH']}"
            argv += self._start_containerd(env)
        self._daemon = self._start(argv, env)

    def _start_containerd(self, env: Mapping[str, str]) -> list[object]:
        """Start what a newer engine keeps its images in, and return its options for that."""
        folder, socket = self._folder, self._folder / "containerd.sock"
        (folder / "containerd.toml").write_text(
            f'version = 2\nroot = "{self.data}/containerd"\nstate = "{folder}/containerd"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
            f'[grpc]\naddress = "{socket}"\n'
        )
        (folder / "daemon.json").write_text('{"features": {"containerd-snapshotter": true}}')
        self._start(["containerd", "--config", folder / "containerd.toml"], env)
        return ["--containerd", socket, "--config-file", folder / "daemon.json"]

    def _start(self, argv: Sequence[object], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        log = (self._folder / f"{argv[0]}.log").open("wb")
        program = shutil.which(str(argv[0]), path=env["PATH"])
        daemon = subprocess.Popen(
            [str(program), *(str(word) for word in argv[1:])], stdout=log, stderr=log, env=env
        )
        self._programs.append((daemon, log))
        return daemon

    @property
    def pid(self) -> int:
        """Of the engine: what it runs is below it."""
        return self._daemon.pid

    @property
    def host(self) -> str:
        """What DOCKER_HOST says."""
        return f"unix://{self.socket}"

    def wait(self) -> bool:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._daemon.poll() is None:
            if self("version", check=False).returncode == 0:
                return True
            time.sleep(0.2)
        return False

    def read_log(self) -> str:
        return (self._folder / "dockerd.log").read_text(errors="replace")[-2000:]

    def __call__(self, *argv: object, **options) -> subprocess.CompletedProcess[str]:
        return run("docker", "--host", self.host, *argv, **options)

    def stop(self) -> None:
        for program, log in reversed(self._programs):
            end(program)
            log.close()


def end(program: subprocess.Popen[bytes]) -> None:
    program.terminate()
    try:
        program.wait(30)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()


@contextmanager
def mount_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """Have a disk of its own at a folder: what thousands of files are in is gone at once.

    Its space is taken as it is used; where nothing can be mounted it is an ordinary folder.
    """
    folder.mkdir()
    image = folder.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    # No journal: nobody reads it after a crash.
    run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E",
        "lazy_itable_init=1,nodiscard", image)  # fmt: skip
    run("mount", "-o", "loop,noatime", image, folder, check=False)
    try:
        yield
    finally:
        run("umount", "-l", folder, check=False)
        image.unlink()


@contextmanager
def start_docker(
    require_or_skip, *, newer: Path | None = None, megabytes: int = 20 << 10
) -> Iterator[Docker]:
    """Start an engine with a disk of some size, and take it away with all that it has."""
    # A socket's path may have 107 bytes only, which pytest's folders use up.
    folder = Path(tempfile.mkdtemp(prefix="tb-docker-"))
    with mount_disk(folder / "data", megabytes):
        daemon = Docker(folder, newer=newer)
        try:
            require_or_skip(daemon.wait(), f"a dockerd that starts:\n{daemon.read_log()}")
            yield daemon
        finally:
            daemon.stop()
            for mount in reversed(Path("/proc/mounts").read_text().splitlines()):
                if (
                    mount.split()[1].startswith(f"{folder}/")
                    and mount.split()[1] != f"{folder}/data"
                ):
                    run("umount", "-l", mount.split()[1], check=False)
    shutil.rmtree(folder)


# --- a registry -----------------------------------------------------------------------------------


@contextmanager
def start_registry(folder: Path) -> Iterator[str]:
    """Start Debian's registry on loopback; yield its HOST:PORT."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    config = {
        "version": "0.1",
        "log": {"accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "config.json").write_text(json.dumps(config))  # JSON is YAML, too
    with (folder / "registry.log").open("wb") as log:
        program = subprocess.Popen(
            ["docker-registry", "serve", folder / "config.json"], stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5):
                    break
            except OSError:
                assert time.monotonic() < deadline, (folder / "registry.log").read_text()
                time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        end(program)
