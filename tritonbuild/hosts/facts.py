"""What a machine is: one script that is run there tells all of it, and what it cannot tell is None."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from tritonbuild.arch import Arch
from tritonbuild.errors import HostError
from tritonbuild.paths import data_dir

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import PurePosixPath

    from tritonbuild.hosts.model import Host

# The ports that a server listens on where nothing else is said: HTTP, gRPC, metrics.
SERVER_PORTS = (8000, 8001, 8002)

# A checksum of a library on a slow card is the longest part.
_TIMEOUT = 60.0

_MACHINES = {"aarch64": Arch.ARM64, "arm64": Arch.ARM64, "x86_64": Arch.AMD64}


@dataclass(frozen=True)
class Device:
    """A device file.

    Attributes:
        path: Where it is.
        readable: Whether the user who asked may read it.
        writable: Whether they may write it.
    """

    path: str
    readable: bool
    writable: bool


@dataclass(frozen=True)
class NpuFacts:
    """Rockchip's NPU.

    Attributes:
        soc: What the device tree calls the machine (/proc/device-tree/compatible), by blanks.
        driver: Version of the kernel's driver, such as `0.8.2`.
        driver_from: The file, or `dmesg`, that told it.
        library: The librknnrt.so that the loader would take.
        library_version: Version that stands in it.
        devices: /dev/dri/renderD*, where udev does not tell them apart the GPU's too, and /dev/rknpu*.
        load: What the driver says about the load of its cores.
    """

    soc: str | None = None
    driver: str | None = None
    driver_from: str | None = None
    library: str | None = None
    library_version: str | None = None
    devices: tuple[Device, ...] = ()
    load: str | None = None


@dataclass(frozen=True)
class GpuFacts:
    """NVIDIA's GPU.

    Attributes:
        l4t: Version of Jetson Linux, such as `35.4.1` (/etc/nv_tegra_release).
        jetpack: Version of the package nvidia-jetpack.
        libcuda: The libcuda.so.1 that the loader would take.
        tensorrt: Version in the name of libnvinfer's file.
    """

    l4t: str | None = None
    jetpack: str | None = None
    libcuda: str | None = None
    tensorrt: str | None = None

    def has_l4t(self, major: str) -> bool:
        """Return whether its Jetson Linux is of a major version."""
        return self.l4t is not None and self.l4t.partition(".")[0] == major


@dataclass(frozen=True)
class Facts:
    """What a machine is; what is not known is None.

    Attributes:
        machine: The kernel's name of the architecture.
        arch: The architecture that its programs have, where it is one of ours.
        os: Its system as the os recipes name it, such as `debian-12`.
        os_name: The system's own name for people.
        kernel: Version of the kernel.
        glibc: Version of the C library.
        cores: Cores that are switched on.
        memory: Bytes in all.
        available: Bytes that are not in use.
        swap: Bytes of swap space, in all.
        free: Bytes free where the folder is that was asked for.
        writable: Whether the user may write there.
        governors: How the clocks are governed, each once.
        uptime: Seconds since the start.
        uid: Number of the user who asked.
        user: Their name.
        groups: Their groups.
        sudo: Whether they are root by `sudo -n`.
        python: Version of python3.
        systemd: Whether systemd runs the machine.
        ports: Those of the server's usual ports that somebody listens on.
        programs: Where programs are, by name.
        npu: Rockchip's NPU.
        gpu: NVIDIA's GPU.
    """

    machine: str | None = None
    arch: Arch | None = None
    os: str | None = None
    os_name: str | None = None
    kernel: str | None = None
    glibc: str | None = None
    cores: int | None = None
    memory: int | None = None
    available: int | None = None
    swap: int | None = None
    free: int | None = None
    writable: bool | None = None
    governors: tuple[str, ...] = ()
    uptime: int | None = None
    uid: int | None = None
    user: str | None = None
    groups: tuple[str, ...] = ()
    sudo: bool | None = None
    python: str | None = None
    systemd: bool | None = None
    ports: tuple[int, ...] | None = None
    programs: Mapping[str, str] = field(default_factory=dict)
    npu: NpuFacts = NpuFacts()
    gpu: GpuFacts = GpuFacts()

    @property
    def is_root(self) -> bool:
        """Whether the user is root."""
        return self.uid == 0

    @property
    def root_prefix(self) -> tuple[str, ...] | None:
        """What stands before a command that needs root; None where nothing helps."""
        if self.is_root:
            return ()
        return ("sudo", "-n") if self.sudo else None


def read_facts(
    host: Host, folder: PurePosixPath | None = None, *, root: str | None = None
) -> Facts:
    """Return what a machine is.

    Args:
        host: The machine.
        folder: The folder whose room is asked for; it need not exist; / where it is None.
        root: What stands before every path that is read, in tests.

    Raises:
        HostError: It cannot be reached, or has no shell.
    """
    script = (data_dir("templates") / "host" / "facts.sh").read_text(encoding="utf-8")
    env = {"ROOT": root} if root else {}
    answer = host.run(
        ["sh", "-s", "--", str(folder or "/")], given=script, env=env, timeout=_TIMEOUT
    )  # fmt: skip
    if "end=yes" not in answer.output:
        msg = f"{host.name} does not run what it is told: {answer.said}"
        raise HostError(msg, hint="the login shell there must run `sh` and stay silent otherwise")
    return parse_facts(answer.output)


def parse_facts(text: str) -> Facts:
    """Return what the script's lines say; lines that are none (a greeting, say) are left out."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            found[key].append(value.strip())

    one = partial(_last_of, found)
    machine = one("machine")
    return Facts(
        machine=machine,
        arch=None if one("bits") == "32" else _MACHINES.get(machine or ""),
        os=_name_system(one("os_ID"), one("os_VERSION_ID")),
        os_name=one("os_PRETTY_NAME"),
        kernel=one("kernel"),
        glibc=_search(r"(\d+\.\d+)\s*$", one("glibc")),
        cores=_number(one("cores")),
        memory=_kibibytes(one("MemTotal")),
        available=_kibibytes(one("MemAvailable")),
        swap=_kibibytes(one("SwapTotal")),
        free=_kibibytes(one("free")),
        writable=_boolean(one("writable")),
        governors=tuple(dict.fromkeys(found["governor"])),
        uptime=_number(one("uptime")),
        uid=_number(one("uid")),
        user=one("user"),
        groups=tuple(found["group"]),
        sudo=_boolean(one("sudo")),
        python=one("python"),
        systemd=_boolean(one("systemd")),
        ports=tuple(sorted({int(port) for port in found["port"]})) if found["ports"] else None,
        programs=dict(_pair(line) for line in found["program"]),
        npu=_read_npu(found),
        gpu=GpuFacts(
            _read_l4t(one("tegra")), one("jetpack"), one("libcuda"), one("tensorrt")
        ),
    )  # fmt: skip


def _read_npu(found: Mapping[str, Sequence[str]]) -> NpuFacts:
    one = partial(_last_of, found)
    told_by, version = _pair(one("npu_driver") or "")
    driver = _search(r"(\d+\.\d+\.\d+)", version)
    return NpuFacts(
        soc=one("compatible"),
        driver=driver,
        driver_from=told_by if driver else None,
        library=one("npu_library"),
        library_version=one("npu_library_version"),
        devices=tuple(
            Device(path, "r" in rights, "w" in rights)
            for path, rights in map(_pair, found.get("device", ()))
        ),
        load=one("npu_load"),
    )


def _last_of(found: Mapping[str, Sequence[str]], key: str) -> str | None:
    return found[key][-1] if found.get(key) else None


def _read_l4t(line: str | None) -> str | None:
    """Return `35.4.1` of `# R35 (release), REVISION: 4.1, ...`."""
    found = re.search(r"R(\d+)\b.*REVISION: ([\d.]+)", line or "")
    return f"{found[1]}.{found[2]}" if found else None


def _name_system(name: str | None, version: str | None) -> str | None:
    return f"{name}-{version}" if name and version else name


def _pair(line: str) -> tuple[str, str]:
    first, _, rest = line.partition(" ")
    return first, rest


def _search(pattern: str, text: str | None) -> str | None:
    found = re.search(pattern, text or "")
    return found[1] if found else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _kibibytes(text: str | None) -> int | None:
    number = _number(text)
    return None if number is None else number * 1024


def _boolean(text: str | None) -> bool | None:
    return {"yes": True, "no": False}.get(text or "")
