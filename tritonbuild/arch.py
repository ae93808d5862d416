"""The one place that knows how each tool spells a CPU architecture."""

from __future__ import annotations

import platform
from enum import Enum


class Arch(str, Enum):
    """A CPU architecture; the value is Debian's (and the recipes') spelling."""

    AMD64 = "amd64"
    ARM64 = "arm64"

    def __str__(self) -> str:
        return self.value

    def to_uname(self) -> str:
        """Return what `uname -m` says on Linux."""
        return {Arch.AMD64: "x86_64", Arch.ARM64: "aarch64"}[self]

    def to_qemu(self) -> str:
        """Return the name in `qemu-<name>` and in binfmt_misc."""
        return self.to_uname()

    def to_elf_machine(self) -> str:
        """Return pyelftools' name for the ELF header's e_machine."""
        return {Arch.AMD64: "EM_X86_64", Arch.ARM64: "EM_AARCH64"}[self]

    def to_multiarch(self) -> str:
        """Return Debian's multiarch triplet, as in /usr/lib/<triplet>."""
        return f"{self.to_uname()}-linux-gnu"

    def to_loader(self) -> str:
        """Return the file name of glibc's dynamic loader."""
        return {Arch.AMD64: "ld-linux-x86-64.so.2", Arch.ARM64: "ld-linux-aarch64.so.1"}[self]

    @classmethod
    def native(cls) -> Arch | None:
        """Return this machine's architecture, None where tritonbuild does not know it."""
        machine = platform.machine()
        return next((arch for arch in cls if machine in (arch.to_uname(), arch.value)), None)
