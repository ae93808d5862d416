"""The packages of the machine that builds: whose the libraries are that a native build links to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.paths import write_text
from tritonbuild.stage.libraries import SystemLibraries

if TYPE_CHECKING:
    from tritonbuild.arch import Arch

# dpkg's own lists: NAME.list or NAME:ARCH.list, a path a line.
_DPKG_INFO = Path("/var/lib/dpkg/info")


def read_host_libraries(arch: Arch, record: Path) -> SystemLibraries:
    """Return what this machine has for programs to load.

    Args:
        arch: Its architecture.
        record: File that notes each package's libraries and version, for later questions.

    Raises:
        AssembleError: It has no C library of that architecture.
    """
    versions = _read_versions()
    packages = {
        name: {"version": versions.get(name, ""), "files": files}
        for name, files in sorted(_list_libraries().items())
    }
    write_text(record, json.dumps({"packages": packages}, indent=2) + "\n")
    return SystemLibraries.from_root(Path("/"), record, arch)


def _list_libraries() -> dict[str, list[str]]:
    """Return the shared libraries of each package; nothing where there is no dpkg."""
    found: dict[str, list[str]] = {}
    for path in _DPKG_INFO.glob("*.list"):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        files = [line for line in lines if ".so" in line.rpartition("/")[2]]
        if files:
            found[path.stem.partition(":")[0]] = files
    return found


def _read_versions() -> dict[str, str]:
    if proc.find_tool("dpkg-query") is None:
        return {}
    said = proc.capture(["dpkg-query", "-W", "-f", "${Package} ${Version}\\n"])
    lines = said.output.splitlines() if said.returncode == 0 else []
    return {name: version for name, _, version in (line.partition(" ") for line in lines)}
