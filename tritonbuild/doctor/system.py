"""Needs that are the machine's own: kernel, sandbox, keys, room, memory."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.doctor.model import Finding, Status, apt_argv
from tritonbuild.executors.sandbox import BINFMT_DIR, find_binfmt
from tritonbuild.plan.jobs import format_size

if TYPE_CHECKING:
    from tritonbuild.arch import Arch

# File, the value that forbids, and what allows it until the next start of the machine.
_NAMESPACE_SWITCHES = (
    (
        Path("/proc/sys/kernel/unprivileged_userns_clone"), "0",
        ("sysctl", "-w", "kernel.unprivileged_userns_clone=1"),
    ),
    (
        Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"), "1",
        ("sysctl", "-w", "kernel.apparmor_restrict_unprivileged_userns=0"),
    ),
    (
        Path("/proc/sys/user/max_user_namespaces"), "0",
        ("sysctl", "-w", "user.max_user_namespaces=10000"),
    ),
)  # fmt: skip


def _reads(path: Path, value: str) -> bool:
    """Whether a kernel setting exists and has a value."""
    return path.is_file() and path.read_text(encoding="utf-8").strip() == value


def _is_ubuntu() -> bool:
    release = Path("/etc/os-release")
    return release.is_file() and bool(re.search(r"^ID=ubuntu$", release.read_text(), re.MULTILINE))


@dataclass(frozen=True)
class Machine:
    """The machine itself, for builds that run on the board."""

    arch: Arch
    native: Arch | None
    tool: str = "machine"

    def examine(self) -> Finding:
        """Compare the two architectures."""
        found = str(self.native or os.uname().machine)
        status = Status.OK if self.native is self.arch else Status.MISSING
        why = "the native executor compiles for the machine that it runs on"
        return Finding(self.tool, status, found, str(self.arch), why)


@dataclass(frozen=True)
class Keyring:
    """The keys that sign a distribution's archive."""

    distribution: str
    folder: Path = Path("/usr/share/keyrings")

    @property
    def tool(self) -> str:
        """Named for its distribution."""
        return f"{self.distribution} keyring"

    def examine(self) -> Finding:
        """Look for the file.

        Debian's archive does not always have Ubuntu's keys, and a tree can be built without: it
        is then checked against the recipe's list of libraries. So theirs are only warned about.
        """
        path = self.folder / f"{self.distribution}-archive-keyring.gpg"
        why = f"proves that {self.distribution}'s packages are the real ones"
        if path.is_file():
            return Finding(self.tool, Status.OK, str(path), path.name, why)
        if self.distribution == "debian":
            fix = apt_argv("debian-archive-keyring")
            return Finding(self.tool, Status.MISSING, "", path.name, why, fix)
        fix = apt_argv("ubuntu-keyring" if _is_ubuntu() else "ubuntu-archive-keyring")
        return Finding(self.tool, Status.WARN, "", path.name, why, fix)


@dataclass(frozen=True)
class Binfmt:
    """The kernel's rule that programs of another architecture go through QEMU."""

    arch: Arch
    proc_dir: Path = BINFMT_DIR

    @property
    def tool(self) -> str:
        """Named as the kernel names it."""
        return f"binfmt qemu-{self.arch.to_qemu()}"

    def examine(self) -> Finding:
        """Read the rule; flag F lets it work in a sandbox that has no QEMU inside."""
        needed, why = "enabled, with flag F", f"the kernel starts {self.arch} programs with QEMU"
        rule = find_binfmt(self.arch, self.proc_dir)
        if rule and rule.works_in_root:
            found = f"{rule.interpreter}, flags {rule.flags}"
            return Finding(self.tool, Status.OK, found, needed, why)
        if rule:
            found = f"flags {rule.flags or 'none'}" if rule.enabled else "disabled"
        elif (self.proc_dir / "register").exists():
            found = "no such rule"
        else:
            found = "binfmt_misc is not mounted"
        return Finding(self.tool, Status.MISSING, found, needed, why, self._find_fix())

    def _find_fix(self) -> tuple[str, ...]:
        """Return the next command on the way: packages, then the mount, then the rule."""
        name = f"qemu-{self.arch.to_qemu()}"
        if proc.find_tool("update-binfmts") is None:
            return apt_argv("qemu-user-static", "binfmt-support")
        if not (self.proc_dir / "register").exists():
            if proc.find_tool("mount") is None:  # images of Debian leave it out
                return apt_argv("mount")
            return ("mount", "-t", "binfmt_misc", "binfmt_misc", str(self.proc_dir))
        if proc.capture(["update-binfmts", "--display", name]).returncode != 0:
            return apt_argv("qemu-user-static", "binfmt-support")
        return ("update-binfmts", "--enable", name)


_SANDBOX = (
    "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp",
    "--unshare-pid", "--unshare-ipc", "--unshare-uts",
)  # fmt: skip


@dataclass(frozen=True)
class Sandbox:
    """A sandbox by bubblewrap, really made."""

    tool: str = "sandbox"

    def examine(self) -> Finding:
        """Make one that does nothing, of the parts that smoke's has.

        A container often allows a plain one and refuses a /proc of its own.
        """
        needed, why = "bwrap can make one", "keeps the server away from this machine's files"
        bwrap = proc.find_tool("bwrap")
        if bwrap is None:
            return Finding(self.tool, Status.MISSING, "", needed, why, apt_argv("bubblewrap"))
        answer = proc.capture([str(bwrap), *_SANDBOX, "true"])
        if answer.returncode == 0:
            return Finding(self.tool, Status.OK, "made one", needed, why)
        said = (answer.output.strip().splitlines() or ["it says nothing"])[-1]
        fix = next((fix for path, bad, fix in _NAMESPACE_SWITCHES if _reads(path, bad)), None)
        return Finding(self.tool, Status.MISSING, said, needed, why, fix, by_hand=fix is not None)


@dataclass(frozen=True)
class SubordinateIds:
    """User and group numbers that mmdebstrap may hand out without root."""

    tool: str = "subuid, subgid"
    folder: Path = Path("/etc")

    def examine(self) -> Finding:
        """Look for the user's line in both files."""
        needed, why = "a range of this user's in each", "mmdebstrap without root"
        user = _user_name()
        lines = {kind: self._find_line(kind, user) for kind in ("subuid", "subgid")}
        lacking = [kind for kind, line in lines.items() if line is None]
        if not lacking:
            return Finding(self.tool, Status.OK, str(lines["subuid"]), needed, why)
        options = [part for kind in lacking for part in (f"--add-{kind}s", "100000-165535")]
        fix = ("usermod", *options, user)
        found = f"none in {' and '.join(str(self.folder / kind) for kind in lacking)}"
        return Finding(self.tool, Status.MISSING, found, needed, why, fix, by_hand=True)

    def _find_line(self, kind: str, user: str) -> str | None:
        path, names = self.folder / kind, {user, str(os.getuid())}
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return next((line for line in lines if line.split(":")[0] in names), None)


def _user_name() -> str:
    """Return the user's name; in a container that was given a number only, the number."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@dataclass(frozen=True)
class Room:
    """Free space where something will be written, in bytes."""

    tool: str
    folder: Path
    size: int

    def examine(self) -> Finding:
        """Ask the file system of the nearest folder that exists.

        What an earlier build left there need not be written again, and how much that is depends
        on what has changed since: too little room then only warns. A build looks for itself.
        """
        folder = self.folder.absolute()
        while not folder.is_dir():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        found = f"{format_size(free)} free"
        status = Status.OK
        if free < self.size:
            status = Status.WARN if self._is_in_use() else Status.MISSING
        return Finding(self.tool, status, found, format_size(self.size), str(self.folder))

    def _is_in_use(self) -> bool:
        """Whether an earlier build wrote there."""
        with contextlib.suppress(OSError):
            return any(self.folder.iterdir())
        return False


@dataclass(frozen=True)
class Memory:
    """Memory that is not in use, in bytes; a warning only, for it changes by the minute."""

    size: int
    tool: str = "memory"
    meminfo: Path = Path("/proc/meminfo")

    def examine(self) -> Finding:
        """Read what the kernel calls available."""
        needed, why = format_size(self.size), "the server, or a compiler, runs here"
        found = re.search(r"^MemAvailable:\s+(\d+) kB", self.meminfo.read_text(), re.MULTILINE)
        if found is None:
            return Finding(self.tool, Status.WARN, "the kernel does not say", needed, why)
        available = int(found[1]) * 1024
        status = Status.OK if available >= self.size else Status.WARN
        return Finding(self.tool, status, f"{format_size(available)} available", needed, why)
