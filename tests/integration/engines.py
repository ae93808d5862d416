"""Docker engines of our own, which know nothing of the machine's and leave nothing to it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def run(*argv: object, check: bool = True, **options) -> subprocess.CompletedProcess[str]:
    usual = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "timeout": 120}
    done = subprocess.run(
        [str(word) for word in argv], text=True, check=False, **{**usual, **options}
    )
    assert not check or done.returncode == 0, done.stdout
    return done


class Docker:
    """An engine, and the client that talks to it."""

    def __init__(
        self, folder: Path, *, dockerd: str = "dockerd", env: Mapping[str, str] | None = None
    ) -> None:
        self._folder = folder
        self.socket = folder / "docker.sock"
        self.data = folder / "data"
        self._log = (folder / "dockerd.log").open("wb")
        # None of its own networks: the tests want none, and iptables is the machine's.
        argv = [
            dockerd, "--data-root", self.data, "--exec-root", folder / "exec",
            "--pidfile", folder / "pid", "--host", self.host, "--bridge=none",
            "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
        ]  # fmt: skip
        self._daemon = subprocess.Popen(
            [str(word) for word in argv], stdout=self._log, stderr=self._log, env=env
        )

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
        self._daemon.terminate()
        try:
            self._daemon.wait(30)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
        self._log.close()


@contextmanager
def start_docker(require_or_skip, data: Path | None = None, **options) -> Iterator[Docker]:
    """Start an engine, and take it away with all that it has; `data` is where it keeps that."""
    # A socket's path may have 107 bytes only, which pytest's folders use up.
    folder = Path(tempfile.mkdtemp(prefix="tb-docker-"))
    if data:
        (folder / "data").symlink_to(data)
    daemon = Docker(folder, **options)
    try:
        require_or_skip(daemon.wait(), f"a dockerd that starts:\n{daemon.read_log()}")
        yield daemon
    finally:
        daemon.stop()
        for mount in reversed(Path("/proc/mounts").read_text().splitlines()):
            if mount.split()[1].startswith(f"{folder}/"):
                subprocess.run(["umount", "-l", mount.split()[1]], check=False)
        shutil.rmtree(folder)
