"""A build in a container: `docker_build`, the Dockerfiles that it builds, and its `cmake_build`.

Stages, packages and order are those of build.py (server, commit 35dc045f). What that has wrong is
put right: the dead address of Boost, and `docker cp` from a folder that --tmp-dir can change.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from tritonbuild.errors import RenderError, UsageError
from tritonbuild.plan.upstream import fetch_server
from tritonbuild.render.bash import (
    format_block,
    format_commands,
    format_functions,
    quote,
    quote_glob,
)
from tritonbuild.render.cmake_build import render_cmake_build
from tritonbuild.render.template import render_template

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tritonbuild.plan.model import Plan
    from tritonbuild.plan.options import SourceOptions
    from tritonbuild.recipe.load import RecipeBook

# Where the server's sources are in the container that builds.
WORKSPACE = PurePosixPath("/workspace")

CPU_IMAGE = "ubuntu:22.04"

# build.py downloads a script for each of these and runs it, to learn what its image needs.
_UNKNOWN_IMAGES = ("fastertransformer", "tensorrtllm")

_CI_BACKENDS = ("identity", "repeat", "square")
_CI_TEST_BACKENDS = (
    "query", "implicit_state", "sequence", "dyna_sequence", "distributed_addsub",
    "iterative_sequence",
)  # fmt: skip
_CI_REBUILT = ("identity", "python")


@dataclass(frozen=True)
class Container:
    """How a container build is made.

    Attributes:
        server_dir: The server's sources on the machine that runs Docker; the scripts and
            Dockerfiles are used from `build` below it.
        output_dir: Where the scripts and Dockerfiles are written.
        inner_dir: The build folder inside the container.
        build_id, build_sha: Labels of the image.
        pull: Look for a newer base image.
        interactive: Give `docker run` a terminal.
        prebuild_command: A line of shell that runs in the container before all others.
    """

    server_dir: PurePosixPath
    output_dir: PurePosixPath
    inner_dir: PurePosixPath
    build_id: str | None = None
    build_sha: str | None = None
    pull: bool = True
    interactive: bool = True
    prebuild_command: str | None = None

    @property
    def build_dir(self) -> PurePosixPath:
        """Where docker_build takes the scripts and Dockerfiles from."""
        return self.server_dir / "build"


def render_container(
    plan: Plan, book: RecipeBook, options: SourceOptions, container: Container
) -> dict[str, str]:
    """Return the files of a container build by their names.

    Raises:
        UsageError: What an image would need is not known.
        RenderError: A value cannot stand in a script or a Dockerfile.
    """
    values = _collect_values(plan, book, options, container)
    inner = container.inner_dir
    ready = [f"chmod -R a+rw {quote(str(inner / name))}" for name in ("install", "ci")]
    prebuild = container.prebuild_command
    return {
        "cmake_build": render_cmake_build(
            plan,
            book,
            verbose=options.verbose,
            first=[prebuild, ""] if prebuild else [],
            ci=list(_collect_ci(plan, container)),
            last=ready,
        ),
        "docker_build": _render_docker_build(plan, book, options, container),
        "Dockerfile.buildbase": render_template("docker/buildbase.j2", values),
        "Dockerfile": render_template("docker/final.j2", values),
        "Dockerfile.cibase": render_template("docker/cibase.j2", values),
    }


def quote_value(text: str) -> str:
    """Return text as a value in a Dockerfile's ARG, ENV or LABEL.

    Raises:
        RenderError: It is more than a line, or holds what cannot be printed.
    """
    if not text.isprintable():
        msg = f"{text!r} cannot stand in a Dockerfile"
        raise RenderError(msg, hint="one line of printable characters is wanted")
    escaped = "".join("\\" + char if char in '\\"$' else char for char in text)
    return f'"{escaped}"'


def _collect_values(
    plan: Plan, book: RecipeBook, options: SourceOptions, container: Container
) -> dict[str, object]:
    release = book.release(plan.selection.release)
    backends = [n for n in plan.selection.components if book.component(n).kind == "backend"]
    core = {flag.name: flag.value for flag in plan.flags["core"]}
    gpu = core["TRITON_ENABLE_GPU"] == "ON"
    machine = options.machine_for(plan.selection.arch)
    minimal = f"nvcr.io/nvidia/tritonserver:{release.upstream_container_version}-py3-min"
    _check_known(backends, options)
    conda_sha256 = {str(arch): sha for arch, sha in release.conda_sha256.items()}
    conda = release.conda_version if plan.selection.arch in conda_sha256 else None
    for what, needed_by, value in (
        ("DCGM", "--enable-gpu" if gpu else "", release.dcgm_version),
        ("vLLM", "vllm" if "vllm" in backends else "", release.vllm_version),
        ("Miniconda", "dali" if "dali" in backends else "", conda),
    ):
        if needed_by and value is None:
            msg = f"--container-build: {needed_by} needs {what}, whose version is not known for "
            msg += release.triton_version
            raise UsageError(msg, hint=f"give the release's recipe its {what.lower()}_version")
    return {
        "triton_version": release.triton_version,
        "container_version": release.container_version,
        "base_image": options.images.get("base", minimal if gpu else CPU_IMAGE),
        "gpu_base_image": options.images.get("gpu-base", minimal),
        "backends": backends,
        "gpu": gpu,
        "needs_stubs": not gpu and bool({"pytorch", "tensorflow"} & {*backends}),
        "machine": machine,
        "cuda_arch": "sbsa" if machine == "aarch64" else "x86_64",
        "dcgm_version": release.dcgm_version,
        "vllm_version": release.vllm_version,
        "conda_version": conda,
        "conda_sha256": conda_sha256.get(plan.selection.arch, ""),
        "packages": list(_list_packages(backends, machine)),
        "sagemaker": options.core_build and core["TRITON_ENABLE_SAGEMAKER"] == "ON",
        "build_id": quote_value(container.build_id or "<unknown>"),
        "build_sha": quote_value(container.build_sha or ""),
    }


def _check_known(backends: list[str], options: SourceOptions) -> None:
    for name in _UNKNOWN_IMAGES:
        if name in backends:
            msg = f"--container-build: what {name} needs in its image is not known here"
            raise UsageError(msg, hint="build.py runs a script that it downloads; leave it out")
    if options.platform != "linux" and "base" not in options.images:
        msg = f"--container-build --target-platform {options.platform}: which image is not known"
        raise UsageError(msg, hint="say it with --image base,IMAGE")


def _list_packages(backends: list[str], machine: str) -> Iterator[str]:
    """Yield the packages that an image needs for its backends."""
    if {"onnxruntime", "pytorch"} & {*backends}:
        yield "libgomp1"
    if "pytorch" in backends and machine == "aarch64":
        yield "libgfortran5"


# --- scripts ----------------------------------------------------------------------------------


def _collect_ci(plan: Plan, container: Container) -> Iterator[str]:
    """Yield the lines that put aside what upstream's tests need."""
    inner, ci = container.inner_dir, container.inner_dir / "ci"
    core = inner / "tritonserver" / "install"
    built = [job.component for job in plan.jobs]
    yield _line("mkdir", "-p", ci)
    yield _line("cp", "-r", WORKSPACE / "qa", ci)
    yield _line("cp", "-r", WORKSPACE / "deploy", ci)
    yield _line("mkdir", "-p", ci / "docs")
    yield _line("cp", "-r", WORKSPACE / "docs/examples", ci / "docs")
    yield _line("mkdir", "-p", ci / "src/test")
    yield _line("cp", "-r", WORKSPACE / "src/test/models", ci / "src/test")
    if "core" in built:
        yield _line("cp", "-r", core / "bin", ci)
        yield _line("mkdir", "-p", ci / "lib")
        yield _line("cp", core / "lib/libtritonrepoagent_relocation.so", ci / "lib")
        yield _line("cp", "-r", core / "python", ci)
    yield _line("mkdir", "-p", ci / "backends")
    for name in _CI_BACKENDS:
        yield from _copy_if_there(inner / name / "install/backends" / name, ci / "backends")
    tests = ci / "tritonbuild/tritonserver/backends"
    yield _line("mkdir", "-p", tests)
    for name in _CI_TEST_BACKENDS:
        yield from _copy_if_there(core / "backends" / name, tests)
    if "onnxruntime" in built:
        yield from _collect_ort(plan, inner, ci)
    yield _line("mkdir", "-p", ci / "tritonbuild")
    for name in _CI_REBUILT:
        if name in built:
            yield _line("rm", "-fr", inner / name / "build")
            yield _line("rm", "-fr", inner / name / "install")
            yield _line("cp", "-r", inner / name, ci / "tritonbuild")


def _collect_ort(plan: Plan, inner: PurePosixPath, ci: PurePosixPath) -> Iterator[str]:
    """Yield the lines for onnxruntime; with ready-made libraries there are no tests of its own."""
    folder = ci / "qa/L0_custom_ops"
    names = [flag.name for flag in plan.flags["onnxruntime"]]
    if "TRITON_ONNXRUNTIME_LIB_PATHS" not in names:
        tests = inner / "onnxruntime/install/test"
        yield _line("mkdir", "-p", folder)
        yield _line("cp", tests / "libcustom_op_library.so", folder)
        yield _line("cp", tests / "custom_op_test.onnx", folder)
    pattern = quote_glob(str(inner / "onnxruntime/test/*"))
    yield f"cp -r {pattern} {quote(str(ci / 'qa'))}"


def _line(*words: object) -> str:
    return " ".join(quote(str(word)) for word in words)


def _copy_if_there(source: PurePosixPath, folder: PurePosixPath) -> Iterator[str]:
    yield f"if [[ -e {quote(str(source))} ]]; then"
    yield _line("cp", "-r", source, folder)
    yield "fi"


def _render_docker_build(
    plan: Plan, book: RecipeBook, options: SourceOptions, container: Container
) -> str:
    server, build = container.server_dir, container.build_dir
    fetch = fetch_server(book.release(plan.selection.release), server)
    first = format_commands(fetch)
    dockerfiles = ("Dockerfile.buildbase", "Dockerfile", "Dockerfile.cibase")
    if container.output_dir != build:
        written = [container.output_dir / name for name in ("cmake_build", *dockerfiles)]
        files = " ".join(quote(str(path)) for path in written)
        lines = [_line("mkdir", "-p", build), f"cp {files} {quote(str(build))}"]
        first += format_block("images are built from the server's folder", lines)
    stale = [_line("rm", "-fr", build / name) for name in ("install", "ci")]
    return render_template(
        "docker/docker_build.j2",
        {
            "about": format_block(
                f"for {plan.selection.board}, {plan.selection.release}",
                ["# Blocks like this one are tritonbuild's own."],
            ),
            "verbose": options.verbose,
            "functions": format_block("what the blocks below call", format_functions(fetch)),
            "first": first,
            "before_copy": format_block("files of an earlier run would stay", stale),
            "server_dir": quote(str(server)),
            "build_dir": quote(str(build)),
            "dockerfiles": {name: quote(str(build / name)) for name in dockerfiles},
            "copies": [
                quote(f"tritonserver_builder:{container.inner_dir / name}")
                for name in ("install", "ci")
            ],
            "pull": container.pull,
            "interactive": container.interactive,
        },
    )
