"""A board's programs run here: directly, or in the board's root under bubblewrap and QEMU.

Nothing needs more rights than an ordinary user has: bubblewrap makes the user namespace itself,
and the kernel hands arm64 programs to QEMU through binfmt_misc, which root sets up once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.arch import Arch
from tritonbuild.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

BINFMT_DIR = Path("/proc/sys/fs/binfmt_misc")

Bind = tuple[Path, PurePosixPath, bool]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Private in every sandbox. The python backend names its shared memory after a counter, so two
# servers with one /dev/shm would meet there.
_TMPFS = ("/tmp", "/dev/shm", "/run")
_SPECIAL = ("/dev", "/proc", "/sys")
_TOP = PurePosixPath("/")

_DOCTOR = "`tritonbuild doctor --fix` sets it up"


@dataclass(frozen=True)
class Sandbox:
    """How a program of the board is started on this machine.

    Attributes:
        root: Root of the board's system, mounted read-only as /; None runs programs directly.
        binds: (host path, path inside, writable); without a root nothing is mounted and programs
            are given host paths. A path inside need not be there in the root.
        qemu_cpu: Value of QEMU_CPU, such as `cortex-a76`; only meant for a root.
        folder: Where programs start; only meant for a root.
        path: Folders that come first in PATH; only meant for a root.
        network: Whether programs in a root see the host's network; if not, they have a loopback
            device of their own.
    """

    root: Path | None
    binds: tuple[Bind, ...] = ()
    qemu_cpu: str | None = None
    folder: PurePosixPath = _TOP
    path: tuple[PurePosixPath, ...] = ()
    network: bool = True

    def with_bind(self, host: Path, target: PurePosixPath, *, writable: bool = False) -> Sandbox:
        """Return the same sandbox with one more mount."""
        return replace(self, binds=(*self.binds, (host, target, writable)))

    def with_folder(self, folder: PurePosixPath) -> Sandbox:
        """Return the same sandbox with another folder to start in."""
        return replace(self, folder=folder)

    def with_path(self, *folders: PurePosixPath) -> Sandbox:
        """Return the same sandbox with more folders at the head of PATH."""
        return replace(self, path=(*folders, *self.path))

    def locate(self, host: Path, target: PurePosixPath) -> str:
        """Return the path by which a program inside reaches what is bound on `target`."""
        return str(host if self.root is None else target)

    def argv(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> list[str]:
        """Return the command line that runs `command`; with `proc` it dies with its starter.

        Args:
            command: Program and arguments.
            environment: More variables for a program in a root, which gets none of ours.
        """
        if self.root is None:
            return list(command)
        return [*self._bwrap_argv(self.root, environment or {}), "--", *command]

    def _bwrap_argv(self, root: Path, environment: Mapping[str, str]) -> list[str]:
        argv = ["bwrap", *self._mount_argv(root)]
        argv += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
        argv += [] if self.network else ["--unshare-net"]
        # In the process group of who starts it: a bubblewrap that is killed before it has set up
        # --die-with-parent inside would leave what it starts, and the group is killed as a whole.
        # There is no terminal that --new-session would keep from it: `proc` starts sessions.
        argv += ["--die-with-parent", "--chdir", str(self.folder), "--clearenv"]
        for name, value in {**self._environment(), **environment}.items():
            argv += ["--setenv", name, value]
        return argv

    def _mount_argv(self, root: Path) -> list[str]:
        points = {PurePosixPath(path) for path in (*_SPECIAL, *_TMPFS)}
        points |= {target for _, target, _ in self.binds}
        argv = ["--tmpfs", "/", *_mount_folder(root, _TOP, points)]
        # onnxruntime reads the list of CPU cores in /sys.
        argv += ["--dev", "/dev", "--proc", "/proc", "--ro-bind", "/sys", "/sys"]
        for folder in _TMPFS:
            argv += ["--tmpfs", folder]
        for host, target, writable in self.binds:
            argv += ["--bind" if writable else "--ro-bind", str(host), str(target)]
        # Nothing but what is mounted writable can be written, / neither.
        return [*argv, "--remount-ro", "/"]

    def _environment(self) -> dict[str, str]:
        path = ":".join([*map(str, self.path), _PATH])
        target_env = {"PATH": path, "LANG": "C.UTF-8", "HOME": "/tmp"}
        if self.qemu_cpu:
            target_env["QEMU_CPU"] = self.qemu_cpu
        return target_env


# Programs run as they are.
DIRECT = Sandbox(root=None)


def _mount_folder(
    root: Path, inside: PurePosixPath, points: Collection[PurePosixPath]
) -> list[str]:
    """Return bubblewrap's arguments for what is in a folder of a root.

    A folder is mounted as a whole, unless something else is mounted below it that the root has no
    folder for: bubblewrap cannot make one in a root that is read-only, nor should it in another.
    """
    argv: list[str] = []
    for entry in sorted((root / inside.relative_to("/")).iterdir()):
        path = inside / entry.name
        below = [point for point in points if point != path and point.is_relative_to(path)]
        if path in points:
            continue  # something else comes there
        if entry.is_symlink():
            argv += ["--symlink", str(entry.readlink()), str(path)]
        elif all((root / point.relative_to("/")).exists() for point in below):
            argv += ["--ro-bind", str(entry), str(path)]
        else:
            argv += ["--dir", str(path), *_mount_folder(root, path, points)]
    return argv


def needs_root(arch: Arch) -> bool:
    """Return whether programs of an architecture need a root (and QEMU) on this machine."""
    return Arch.native() is not arch


@dataclass(frozen=True)
class Binfmt:
    """The kernel's rule for programs of another architecture.

    Attributes:
        path: Its file in binfmt_misc.
        enabled: Whether it is in force (the rule itself and binfmt_misc as a whole).
        interpreter: The emulator.
        flags: `F` means that the emulator was opened when the rule was made, so that it need not
            exist in a root. https://docs.kernel.org/admin-guide/binfmt-misc.html
    """

    path: Path
    enabled: bool
    interpreter: str
    flags: str

    @property
    def works_in_root(self) -> bool:
        """Whether the rule holds in a root that has no emulator in it."""
        return self.enabled and "F" in self.flags


def find_binfmt(arch: Arch, proc_dir: Path = BINFMT_DIR) -> Binfmt | None:
    """Return the rule that takes programs of an architecture, whatever its name is.

    A rule that works is preferred to one that does not; None where there is none, or where
    binfmt_misc is not mounted.
    """
    status = _read(proc_dir / "status")
    found = []
    for path in sorted(proc_dir.glob("*")):
        if path.name in ("register", "status"):
            continue
        rule = _parse_rule(path, _read(path), arch)
        if rule:
            found.append(replace(rule, enabled=rule.enabled and status.strip() != "disabled"))
    return next((rule for rule in found if rule.works_in_root), found[0] if found else None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _parse_rule(path: Path, text: str, arch: Arch) -> Binfmt | None:
    fields = dict(re.findall(r"^(interpreter|flags:|offset|magic|mask) (.*)$", text, re.MULTILINE))
    magic = bytes.fromhex(fields.get("magic", ""))
    mask = bytes.fromhex(fields.get("mask", "")) or b"\xff" * len(magic)
    offset = int(fields.get("offset", "0"))
    sample = _elf_header(arch)[offset : offset + len(magic)]
    if not magic or len(sample) != len(magic):
        return None
    if any((a ^ b) & m for a, b, m in zip(sample, magic, mask, strict=False)):
        return None
    enabled = text.startswith("enabled")
    return Binfmt(path, enabled, fields.get("interpreter", ""), fields.get("flags:", ""))


def _elf_header(arch: Arch) -> bytes:
    """Return the start of an executable: ELF64, little endian, ET_EXEC, e_machine."""
    machine = {Arch.AMD64: 62, Arch.ARM64: 183}[arch]
    ident = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    header = ident + (2).to_bytes(2, "little") + machine.to_bytes(2, "little")
    return header.ljust(128, b"\0")


def check_emulation(arch: Arch, proc_dir: Path = BINFMT_DIR) -> None:
    """Make sure that programs of an architecture run in a root on this machine.

    Raises:
        HostError: bubblewrap or QEMU is missing, or binfmt_misc is not set up; the message says
            which, the hint what mends it.
    """
    proc.require_tool(
        "bwrap",
        reason=f"to run {arch} programs in the board's root",
        hint=f"apt-get install bubblewrap, or {_DOCTOR}",
    )
    if not needs_root(arch):
        return
    rule = find_binfmt(arch, proc_dir)
    if rule is None:
        raise _missing_rule(arch, proc_dir)
    if not rule.enabled:
        msg = f"{arch} programs cannot run here: {rule.path} is disabled"
        raise HostError(
            msg, hint=f"as root: update-binfmts --enable {rule.path.name}, or {_DOCTOR}"
        )
    if not rule.works_in_root:
        msg = (
            f"{arch} programs cannot run in a root: {rule.path} has flags {rule.flags or 'none'}, "
            "and without F the kernel looks for QEMU inside the root"
        )
        raise HostError(msg, hint=f"apt-get install qemu-user-static binfmt-support, or {_DOCTOR}")


def _missing_rule(arch: Arch, proc_dir: Path) -> HostError:
    name = f"qemu-{arch.to_qemu()}"
    if not (proc_dir / "status").exists():
        msg = f"{arch} programs cannot run here: {proc_dir} is not mounted"
        hint = f"as root: mount -t binfmt_misc binfmt_misc {proc_dir}, or {_DOCTOR}"
    elif proc.find_tool(f"{name}-static") or proc.find_tool(name):
        msg = f"{arch} programs cannot run here: the kernel has no binfmt rule for them"
        hint = f"as root: update-binfmts --import {name} --enable {name}, or {_DOCTOR}"
    else:
        msg = f"{arch} programs cannot run here: QEMU is not installed"
        hint = f"apt-get install qemu-user-static binfmt-support, or {_DOCTOR}"
    return HostError(msg, hint=hint)


def check_sandbox(sandbox: Sandbox) -> None:
    """Run `true` in a root, to know before anything starts that it can be entered at all.

    Raises:
        HostError: bubblewrap may not make namespaces here, or QEMU cannot run the root's
            programs; the message holds what was said.
    """
    if sandbox.root is None:
        return
    if not sandbox.root.is_dir():
        msg = f"{sandbox.root}: the board's root is not there"
        raise HostError(msg, hint="run `tritonbuild build` again; it makes the root in seconds")
    done = proc.capture(sandbox.argv(["/bin/true"]))
    if done.returncode != 0:
        said = done.output.strip() or f"exit code {done.returncode}"
        msg = f"cannot run a program of {sandbox.root} in a sandbox: {said}"
        hint = (
            "bubblewrap needs user namespaces (sysctl kernel.unprivileged_userns_clone=1, or an "
            "AppArmor profile on Ubuntu 24.04), and a container must be allowed to make them"
        )
        raise HostError(msg, hint=hint)
