"""Needs that are software: programs, Debian packages, Python distributions, Docker."""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.doctor.model import Finding, Status, apt_argv, format_version, parse_version
from tritonbuild.errors import HostError
from tritonbuild.executors.buildx import find_builder
from tritonbuild.executors.bundled import find_bundled

if TYPE_CHECKING:
    from tritonbuild.arch import Arch


@dataclass(frozen=True)
class Program:
    """A program with a lowest version, from a Debian package.

    Attributes:
        programs: Names that it may have; the first that is there counts.
        minimum: Lowest version; None where any will do.
        below: First version that is known to make trouble; a warning only.
    """

    tool: str
    programs: tuple[str, ...]
    minimum: tuple[int, ...] | None
    package: str
    why: str
    below: tuple[int, ...] | None = None

    def examine(self) -> Finding:
        """Ask the program for its version."""
        needed = f"≥ {format_version(self.minimum)}" if self.minimum else "any"
        if self.below:
            needed += f" and < {format_version(self.below)}"
        fix = apt_argv(self.package)
        path = next(filter(None, map(proc.find_tool, self.programs)), None)
        if path is None:
            return Finding(self.tool, Status.MISSING, "", needed, self.why, fix)
        if self.minimum is None:
            return Finding(self.tool, Status.OK, str(path), needed, self.why)
        version = parse_version(proc.capture([str(path), "--version"]).output)
        if not version:
            found = f"{path} does not tell its version"
            return Finding(self.tool, Status.MISSING, found, needed, self.why, fix)
        found = format_version(version)
        if version < self.minimum:
            return Finding(self.tool, Status.OLD, found, needed, self.why, fix)
        if self.below and version >= self.below:
            argv = (sys.executable, "-m", "pip", "install", f"{self.package}<{self.below[0]}")
            return Finding(self.tool, Status.WARN, found, needed, self.why, argv, by_hand=True)
        return Finding(self.tool, Status.OK, found, needed, self.why)


@dataclass(frozen=True)
class Pip:
    """The pip that fetches wheels for the board."""

    tool: str = "pip"

    def examine(self) -> Finding:
        """Ask the pip of the Python that runs tritonbuild."""
        needed, why = "≥ 22", "downloads the wheels for the board"
        answer = proc.capture([sys.executable, "-m", "pip", "--version"])
        version = parse_version(answer.output) if answer.returncode == 0 else ()
        if version >= (22,):
            return Finding(self.tool, Status.OK, format_version(version), needed, why)
        module = ("pip", "install") if version else ("ensurepip",)
        fix = (sys.executable, "-m", *module, "--upgrade", *(["pip"] if version else []))
        status = Status.OLD if version else Status.MISSING
        return Finding(self.tool, status, format_version(version), needed, why, fix)


@dataclass(frozen=True)
class Bundled:
    """A program that comes with tritonbuild's own dependencies.

    Attributes:
        minimum: Lowest version.
    """

    tool: str
    minimum: tuple[int, ...]
    why: str

    def examine(self) -> Finding:
        """Ask it for its version."""
        needed = f"≥ {format_version(self.minimum)}"
        path = find_bundled(self.tool)
        version = parse_version(proc.capture([str(path), "--version"]).output) if path else ()
        if version >= self.minimum:
            return Finding(self.tool, Status.OK, format_version(version), needed, self.why)
        fix = (sys.executable, "-m", "pip", "install", "--upgrade", self.tool)
        status = Status.OLD if version else Status.MISSING
        return Finding(self.tool, status, format_version(version), needed, self.why, fix)


@dataclass(frozen=True)
class CMake:
    """The CMake of a native build: one that came beside tritonbuild goes before the system's.

    Attributes:
        minimum: Lowest version.
        archive: Version in the archive of the board's system.
    """

    minimum: tuple[int, ...]
    archive: str
    tool: str = "cmake"

    def examine(self) -> Finding:
        """Ask it for its version."""
        needed, why = f"≥ {format_version(self.minimum)}", "configures each component"
        fix = apt_argv("cmake")
        if parse_version(self.archive) < self.minimum:
            # Not 4, which refuses projects of this age; and what Triton's guide for Jetson names.
            fix = (sys.executable, "-m", "pip", "install", "cmake>=3.25.2,<4")
        path = find_bundled("cmake")
        version = parse_version(proc.capture([str(path), "--version"]).output) if path else ()
        if version >= self.minimum:
            return Finding(self.tool, Status.OK, format_version(version), needed, why)
        status = Status.OLD if version else Status.MISSING
        return Finding(self.tool, status, format_version(version), needed, why, fix)


@dataclass(frozen=True)
class Ccache:
    """The optional compiler cache."""

    tool: str = "ccache"

    def examine(self) -> Finding:
        """Look for it."""
        needed, why = "any", "makes building the same sources again quick; used where it is there"
        path = proc.find_tool("ccache")
        if path is None:
            return Finding(self.tool, Status.WARN, "", needed, why, apt_argv("ccache"))
        version = parse_version(proc.capture([str(path), "--version"]).output)
        return Finding(self.tool, Status.OK, format_version(version), needed, why)


@dataclass(frozen=True)
class ForDeploy:
    """A program that deploy needs, and no build."""

    tool: str
    package: str
    why: str

    def examine(self) -> Finding:
        """Look for it."""
        path = proc.find_tool(self.tool)
        if path is None:
            return Finding(self.tool, Status.WARN, "", "any", self.why, apt_argv(self.package))
        return Finding(self.tool, Status.OK, str(path), "any", self.why)


@dataclass(frozen=True)
class Packages:
    """The Debian packages that the recipes name."""

    packages: tuple[str, ...]
    tool: str = "Debian packages"

    def examine(self) -> Finding:
        """Ask dpkg for all of them at once."""
        needed, why = f"{len(set(self.packages))} packages", "libraries and headers of the build"
        argv = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\\n", *self.packages]
        lines = proc.capture(argv).output.splitlines()
        there = {line.split(" ", 1)[1] for line in lines if line.startswith("installed ")}
        missing = [name for name in dict.fromkeys(self.packages) if name not in there]
        if not missing:
            return Finding(self.tool, Status.OK, "all", needed, why)
        found = f"missing: {' '.join(missing)}"
        return Finding(self.tool, Status.MISSING, found, needed, why, apt_argv(*missing))


@dataclass(frozen=True)
class GrpcClient:
    """The optional gRPC client of the smoke test."""

    tool: str = "tritonclient"

    def examine(self) -> Finding:
        """Ask Python's list of distributions; importing it would take a second."""
        needed, why = "any", "asks the server over gRPC too; without it smoke uses HTTP only"
        try:
            versions = [importlib.metadata.version(name) for name in ("tritonclient", "grpcio")]
        except importlib.metadata.PackageNotFoundError:
            fix = (sys.executable, "-m", "pip", "install", "tritonclient[grpc]")
            return Finding(self.tool, Status.WARN, "", needed, why, fix, by_hand=True)
        return Finding(self.tool, Status.OK, versions[0], needed, why)


@dataclass(frozen=True)
class Docker:
    """Docker with a daemon that answers."""

    why: str
    tool: str = "docker"

    def examine(self) -> Finding:
        """Ask the daemon, not the client, for its version."""
        needed, why = "≥ 20.10", self.why
        if proc.find_tool("docker") is None:
            return Finding(self.tool, Status.MISSING, "", needed, why, apt_argv("docker.io"))
        answer = proc.capture(["docker", "version", "--format", "{{.Server.Version}}"])
        version = parse_version(answer.output) if answer.returncode == 0 else ()
        if not version:
            found, start = "the daemon does not answer", ("systemctl", "start", "docker")
            return Finding(self.tool, Status.MISSING, found, needed, why, start)
        found = format_version(version)
        if version < (20, 10):
            return Finding(self.tool, Status.OLD, found, needed, why, apt_argv("docker.io"))
        return Finding(self.tool, Status.OK, found, needed, why)


@dataclass(frozen=True)
class Buildx:
    """BuildKit's client, and a builder that can build for the board."""

    arch: Arch
    tool: str = "docker buildx"

    def examine(self) -> Finding:
        """Ask the builder that is in use what it can run."""
        needed, why = f"a builder for linux/{self.arch}", "builds in containers"
        if proc.capture(["docker", "buildx", "version"]).returncode != 0:
            return Finding(self.tool, Status.MISSING, "", needed, why, apt_argv("docker-buildx"))
        try:
            builder = find_builder(None, self.arch)
        except HostError as err:
            return Finding(self.tool, Status.MISSING, err.message, needed, why)
        found = "has such a machine" if builder.native else "runs it under QEMU"
        return Finding(self.tool, Status.OK, f"{builder} {found}", needed, why)
