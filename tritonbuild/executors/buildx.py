"""Docker's BuildKit as users have it: the builder that is chosen, a context's, or a remote one.

`docker buildx` is called, and nothing else: what it knows of builders, contexts and logins holds.
https://docs.docker.com/build/builders/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.errors import HostError, UsageError
from tritonbuild.executors.sandbox import find_binfmt

if TYPE_CHECKING:
    from pathlib import Path

    from tritonbuild.arch import Arch

_INSTALL_DOCKER = "apt-get install docker.io, and start its service"
_INSTALL_BUILDX = (
    "apt-get install docker-buildx (Debian 13, Ubuntu 24.04) or docker-buildx-plugin (Docker's own "
    "packages); on Debian 12 the program of Debian 13's package does as a CLI plugin"
)
_NO_ENGINE = re.compile(
    r"Cannot connect to the Docker daemon|no such host|connection refused|dial "
)


@dataclass(frozen=True)
class BuildxOptions:
    """How BuildKit is used.

    Attributes:
        builder: Name of a builder or a Docker context; None takes Docker's usual one.
        tag: Name of the image; None makes one up.
        push: Push the image to its registry instead of handing it to the engine here.
        image: Make one at all.
        cache_from, cache_to: As `docker buildx build` takes them.
    """

    builder: str | None = None
    tag: str | None = None
    push: bool = False
    image: bool = True
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class Builder:
    """A builder that can build for the board.

    Attributes:
        name: As `--builder` takes it; None for the one that Docker uses if nothing is said.
        driver: Such as `docker`, which keeps images in its engine, `docker-container` or `remote`.
        native: Whether one of its machines runs the board's programs itself.
        is_context: The name is that of a Docker context. Its builder has the same name, but buildx
            takes that from nobody who is not in that context.
    """

    name: str | None
    driver: str
    native: bool
    is_context: bool = False

    @property
    def docker(self) -> list[str]:
        """The client of the engine that gets its images."""
        return ["docker", *(["--context", str(self.name)] if self.is_context else [])]

    @property
    def network(self) -> str:
        """The network of what has to reach something outside.

        An engine's builder may use its machine's own, where a proxy may listen on loopback; another
        one would have to be allowed to (`--allow network.host`).
        """
        return "host" if self.driver == "docker" else "default"

    def build(self, arch: Arch, context: Path, *more: str) -> list[str]:
        """Return the command that builds from a context, for an architecture.

        Args:
            arch: The architecture.
            context: The context.
            more: More arguments.
        """
        named = ["--builder", self.name] if self.name else []
        return [
            *self.docker, "buildx", "build", *named, f"--platform=linux/{arch}", "--progress=plain",
            "--provenance=false", *more, str(context),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"builder {self.name}" if self.name else "Docker's usual builder"


# Keys of the caches s3, azblob and gha whose values are secrets.
_SECRET = re.compile(r"(?:^|,)\s*\"?(\w*(?:secret|token|password|access_key)\w*)=", re.IGNORECASE)


def check_cache_spec(spec: str) -> None:
    """Refuse a secret in what scripts and logs show.

    Raises:
        UsageError: There is one in it.
    """
    if found := _SECRET.search(spec):
        msg = f"--cache-from and --cache-to: {found[1]} would stand in scripts and logs"
        hint = "let BuildKit read it from the environment or from files such as ~/.aws/credentials"
        raise UsageError(msg, hint=hint)


def find_builder(name: str | None, arch: Arch) -> Builder:
    """Return a builder that can build for an architecture.

    Args:
        name: Of a builder or a Docker context; None for the one that is in use.
        arch: The board's architecture.

    Raises:
        HostError: Docker or its plugin is missing, no engine answers, or it cannot run programs of
            that architecture.
    """
    proc.require_tool("docker", reason="to build in containers", hint=_INSTALL_DOCKER)
    version = proc.capture(["docker", "buildx", "version"])
    if version.returncode != 0:
        msg = "docker has no buildx here, which it needs to use BuildKit"
        raise HostError(msg, hint=_INSTALL_BUILDX)
    asked = proc.capture(["docker", "buildx", "inspect", "--bootstrap", *([name] if name else [])])
    if asked.returncode != 0:
        raise _explain(name, asked.output)
    driver, nodes = _parse(asked.output)
    if not nodes:
        raise _explain(name, asked.output)
    wanted = f"linux/{arch}"
    native = any(_runs_itself(node, arch) for node in nodes)
    nodes = [[platform.rstrip("*") for platform in node] for node in nodes]
    builder = Builder(name, driver, native, is_context=_is_context(name))
    if not any(wanted in node for node in nodes):
        known = ", ".join(dict.fromkeys(platform for node in nodes for platform in node))
        msg = f"{builder} cannot run programs for {wanted}; it knows {known}"
        hint = (
            "on its machine: apt-get install qemu-user-static binfmt-support, then restart the "
            "engine; or name another with --builder (`docker buildx ls` lists them)"
        )
        raise HostError(msg, hint=hint)
    if not builder.native:
        _check_binfmt(builder, arch)
    return builder


def _parse(text: str) -> tuple[str, list[list[str]]]:
    """Return the driver and the platforms of each machine, its own first.

    `*` marks those that were named when the machine was added; these come before its own.
    """
    driver = re.search(r"^Driver: +(\S+)", text, re.MULTILINE)
    nodes = [
        [platform.strip() for platform in line.split(",")]
        for line in re.findall(r"^Platforms: +(.+)$", text, re.MULTILINE)
    ]
    return driver[1] if driver else "", nodes


def _runs_itself(node: list[str], arch: Arch) -> bool:
    """Return whether a machine needs no QEMU for an architecture."""
    found = [platform for platform in node if not platform.endswith("*")] or node
    first = found[0].rstrip("*")
    # What was named is not said again: after linux/arm64* comes what such a machine can do besides.
    related = f"linux/{arch}*" in node and first.startswith("linux/arm/")
    return first == f"linux/{arch}" or related


def _explain(name: str | None, output: str) -> HostError:
    told = re.search(r"^(?:Error|ERROR): *(.+)$", output, re.MULTILINE)
    said = told[1] if told else "no answer"
    if name and re.search(r"no builder .* found|context .* not found", output):
        return HostError(f"there is no builder {name}", hint="`docker buildx ls` lists them")
    if _NO_ENGINE.search(output):
        hint = "start Docker, or name a builder that runs (`docker buildx ls`) with --builder"
        return HostError(f"no Docker engine answers: {said}", hint=hint)
    return HostError(
        f"docker buildx cannot use {'builder ' + name if name else 'its builder'}: {said}",
        hint="`docker buildx inspect --bootstrap` says more",
    )


def _check_binfmt(builder: Builder, arch: Arch) -> None:
    """Refuse what BuildKit would only see when a program starts: QEMU outside of the container.

    Only where the engine is this machine's: of another one's kernel nothing is known.

    Raises:
        HostError: The kernel looks for QEMU inside of containers.
    """
    if builder.driver != "docker" or not _is_local(builder.name):
        return
    rule = find_binfmt(arch)
    if rule is not None and not rule.works_in_root:
        msg = (
            f"{arch} programs cannot run in a container: {rule.path} has flags "
            f"{rule.flags or 'none'}, and without F the kernel looks for QEMU inside of it"
        )
        hint = "apt-get install qemu-user-static binfmt-support, or `tritonbuild doctor --fix`"
        raise HostError(msg, hint=hint)


def _is_context(name: str | None) -> bool:
    return bool(name) and proc.capture(["docker", "context", "inspect", str(name)]).returncode == 0


def _is_local(context: str | None) -> bool:
    """Return whether a context's engine is on this machine: its builder has the context's name."""
    named = [context] if context else []
    said = proc.capture(
        ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}", *named]
    )
    return said.returncode == 0 and said.output.startswith("unix://")
