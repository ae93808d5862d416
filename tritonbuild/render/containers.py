"""A build in containers as text: the Dockerfile, and `docker-bake.json` for `docker buildx bake`.

https://docs.docker.com/reference/dockerfile/ and https://docs.docker.com/build/bake/reference/
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tritonbuild.arch import Arch
from tritonbuild.plan.containers import CONTAINERS
from tritonbuild.plan.layout import HOME, HOST_PROGRAMS
from tritonbuild.plan.model import StepKind
from tritonbuild.render.container import quote_value
from tritonbuild.render.template import render_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import PurePosixPath

    from tritonbuild.plan.model import Plan, Step

# What all components install, each in a folder of its name.
TREES = "trees"
RUNTIME = "runtime"
_ROOT = "build-root"

# One client, no body: what `tritonserver` answers on /v2/health/ready.
# https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
_HEALTH = (
    "exec 3<>/dev/tcp/127.0.0.1/8000; "
    r"printf 'GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3; "
    'read -r _ code _ <&3; [ "$code" = 200 ]'
)

_COMPILING = (StepKind.CONFIGURE, StepKind.BUILD)


@dataclass(frozen=True)
class ImageFacts:
    """What the image that serves says of itself, and how it starts.

    Attributes:
        version: Triton's version.
        user: Number of the user and the group that it runs as.
        ports: Where it listens.
        path: Value of PATH.
        entrypoint, command: Program and arguments.
        labels: Labels.
    """

    version: str
    user: int
    ports: tuple[int, ...]
    path: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Base:
    """An image that a build begins with, and what is installed in it.

    Attributes:
        image: Its name; it was checked.
        distribution, suite: What it has to be of.
        mirror: Address of the distribution's archive; None keeps the image's own.
        compilers_mirror: The same for the machine that builds.
        build_packages: Debian packages of the build.
        runtime_packages: Debian packages that the server needs besides its libraries.
        gcc: Major version of the system's GCC.
    """

    image: str
    distribution: str
    suite: str
    mirror: str | None
    compilers_mirror: str | None
    build_packages: tuple[str, ...]
    runtime_packages: tuple[str, ...]
    gcc: str


def _describe_base(base: Base, arch: Arch, *, accelerated: bool) -> dict[str, str]:
    """Return the instructions that make systems of an image."""
    tools = "/run/tritonbuild"
    packages = "/packages"
    system = (base.distribution, base.suite, base.mirror or "-")
    install = ("bash", f"{tools}/system.sh", arch.to_uname(), *system, "-")
    bring: tuple[str, ...] = ("mkdir", "-p", f"{HOST_PROGRAMS}/compilers")
    if accelerated:
        triplet = arch.to_multiarch()
        said = (arch.value, triplet, base.gcc, base.compilers_mirror or "-", tools)
        bring = ("bash", f"{tools}/compilers.sh", *said)
    return {
        "image": base.image,
        "install": _json(*install, *base.build_packages),
        "bring_compilers": _json(*bring),
        "check_compilers": _json("bash", f"{tools}/check_compilers.sh", tools),
        "find_packages": _json(
            "bash", f"{tools}/find_packages.sh", "/trees", packages, *base.runtime_packages
        ),
        "install_runtime": _json(*install, f"@{tools}-packages"),
    }


def stage_of(component: str) -> str:
    """Return the stage that a component is built in."""
    return f"build-{component}"


def render_dockerfile(
    plan: Plan,
    *,
    accelerated: bool,
    ccache_dir: PurePosixPath | None,
    facts: ImageFacts,
    base: Base | None = None,
) -> str:
    """Return the Dockerfile of a build.

    Args:
        plan: The plan.
        accelerated: Whether there are compilers of an amd64 machine in the context's `native`.
        ccache_dir: Where ccache keeps what it keeps; None where it is not used.
        facts: What the image says of itself.
        base: The image that everything stands on; None takes systems from the context.
    """
    chosen = plan.selection
    arch = Arch(chosen.arch)
    # The least of all: a compiler of any component may take any of the tokens.
    jobs = min(job.count for job in plan.jobs)
    step = plan.find_step(CONTAINERS)
    trees: Any = step.details["trees"]
    libraries: Any = step.details.get("libraries", {})
    return render_template(
        "containers/Dockerfile.j2",
        {
            "about": f"Triton {chosen.release} for {chosen.board}, {chosen.os}.",
            "system": chosen.os,
            "platform": f"linux/{arch}",
            "arch": arch,
            "root_stage": _ROOT,
            "accelerated": accelerated,
            "host_programs": HOST_PROGRAMS,
            "base": _describe_base(base, arch, accelerated=accelerated) if base else None,
            "qemu_cpu": quote_value(chosen.qemu_cpu) if chosen.qemu_cpu else None,
            "check": _json("bash", "-c", f'test "$(uname -m)" = {arch.to_uname()}'),
            "home": HOME,
            "ccache_dir": ccache_dir,
            "parts": [
                {
                    "name": name,
                    "stage": stage_of(name),
                    "tree": tree,
                    "libraries": [
                        {"stage": stage_of(one), "tree": trees[one]}
                        for one in libraries.get(name, ())
                    ],
                    "scripts": [
                        _describe_script(one, jobs) for one in step.scripts if one.component == name
                    ],
                }
                for name, tree in trees.items()
            ],
            "trees": TREES,
            "runtime": RUNTIME,
            "path": facts.path,
            "version": quote_value(facts.version),
            "labels": {name: quote_value(value) for name, value in facts.labels.items()},
            "user": facts.user,
            "ports": facts.ports,
            "health": _json("bash", "-c", _HEALTH),
            "entrypoint": _json(*facts.entrypoint),
            "command": _json(*facts.command),
        },
    )


def _describe_script(step: Step, jobs: int) -> dict[str, object]:
    script = f"/run/tritonbuild/{step.id}.sh"
    if step.kind not in _COMPILING:
        fetches = step.kind is StepKind.FETCH
        return {"id": step.id, "fetches": fetches, "compiles": False, "argv": _json("bash", script)}
    argv = ["python3", "-B", f"{HOME}/tools/run_step.py", script]
    if step.kind is StepKind.BUILD:
        argv.append(str(jobs))
    return {"id": step.id, "fetches": False, "compiles": True, "argv": _json(*argv)}


def _json(*words: str) -> str:
    """Return a program and its arguments as Dockerfiles want them: no shell reads them."""
    return json.dumps(words)


def render_bake(plan: Plan, *, tag: str, network: str) -> str:
    """Return `docker-bake.json`: `docker buildx bake` builds what the components install.

    Args:
        plan: The plan.
        tag: Name of the image.
        network: What containers see of a network while components are built: `none` or `default`.
    """
    common = {
        "context": ".",
        "dockerfile": "Dockerfile",
        "platforms": [f"linux/{plan.selection.arch}"],
    }
    targets = {
        TREES: {
            **common,
            "target": TREES,
            "network": network,
            "output": [f"type=local,dest={TREES}"],
        },
        RUNTIME: {**common, "target": RUNTIME, "network": "none", "tags": [tag]},
    }
    group = {"default": {"targets": [TREES]}}
    return json.dumps({"group": group, "target": targets}, indent=2) + "\n"


# What an image's system is made with; from templates/containers/.
SYSTEM_SCRIPTS = ("system.sh", "prepare_apt.sh")


def render_system(
    image: str,
    arch: Arch,
    *,
    distribution: str,
    suite: str,
    mirror: str | None,
    listing: str,
    packages: Iterable[str],
) -> str:
    """Return a Dockerfile of the board's system as an image has it, with some packages more.

    Args:
        image: The image; its name was checked.
        arch, distribution, suite: What it has to be for, and of.
        mirror: Address of the distribution's archive; None keeps the image's own.
        listing: File that gets all packages and their files.
        packages: What has to be installed; `SYSTEM_SCRIPTS`, which lie beside it, do so.
    """
    install = ("/run/tritonbuild/system.sh", arch.to_uname(), distribution, suite, mirror or "-")
    return render_template(
        "containers/system.j2",
        {
            "image": image,
            "key": arch,
            "install": _json("bash", *install, listing, *packages),
        },
    )
