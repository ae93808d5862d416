"""What options of build.py change that are neither recipes nor single CMake values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# What build.py calls a machine, and Debian's name of it.
MACHINES = {"aarch64": "arm64", "x86_64": "amd64"}


@dataclass(frozen=True)
class SourceOptions:
    """How a source build is written, beyond what is built.

    Attributes:
        build_type: CMAKE_BUILD_TYPE.
        images: Container images by what they are for: base, gpu-base, pytorch, tensorflow.
        library_paths: Folder of a backend's ready-made libraries and headers, by component.
        platform: build.py's --target-platform.
        machine: build.py's name of the machine; the board's where it is None.
        board_switches: Take the CMake values that the board's recipe asks for.
        core_build: Build the core, too; its values are there for the backends anyway.
        force_clone: Fetch sources anew that are there already.
        verbose: Show every command, also those of make.
        collect_sources: Put the third parties' sources beside the core (for container images).
    """

    build_type: str = "Release"
    images: Mapping[str, str] = field(default_factory=dict)
    library_paths: Mapping[str, str] = field(default_factory=dict)
    platform: str = "linux"
    machine: str | None = None
    board_switches: bool = True
    core_build: bool = True
    force_clone: bool = True
    verbose: bool = True
    collect_sources: bool = False

    def machine_for(self, arch: str) -> str:
        """Return build.py's name of the machine, from Debian's name of its architecture."""
        names = {debian: name for name, debian in MACHINES.items()}
        return self.machine or names.get(arch, arch)
