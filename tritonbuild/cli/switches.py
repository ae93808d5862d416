"""The options of Triton's build.py, under the same names."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tritonbuild.plan.switches import Switches

# typer reads these annotations at run time on Python 3.10 too, hence Optional.
LikeUpstream = Annotated[
    bool,
    typer.Option(
        "--like-upstream",
        help="What is not said is as in build.py: all off, no backends, nothing of the board's.",
    ),
]
EnableAll = Annotated[bool, typer.Option("--enable-all", help="All that build.py calls all.")]
Logging = Annotated[
    Optional[bool], typer.Option("--enable-logging/--no-enable-logging", help="Log.")  # noqa: UP045
]
Stats = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option("--enable-stats/--no-enable-stats", help="Collect statistics."),
]
Metrics = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option("--enable-metrics/--no-enable-metrics", help="Report metrics; needs stats."),
]
GpuMetrics = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option(
        "--enable-gpu-metrics/--no-enable-gpu-metrics", help="With the GPU's; needs both."
    ),
]
CpuMetrics = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option(
        "--enable-cpu-metrics/--no-enable-cpu-metrics", help="With the CPU's; needs metrics."
    ),
]
Tracing = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option("--enable-tracing/--no-enable-tracing", help="Trace requests; needs stats."),
]
Nvtx = Annotated[
    Optional[bool], typer.Option("--enable-nvtx/--no-enable-nvtx", help="NVTX marks.")  # noqa: UP045
]
Gpu = Annotated[
    Optional[bool], typer.Option("--enable-gpu/--no-enable-gpu", help="CUDA.")  # noqa: UP045
]
MaliGpu = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option(
        "--enable-mali-gpu/--no-enable-mali-gpu", help="KIND_GPU without CUDA: NPUs, Mali."
    ),
]
MinComputeCapability = Annotated[
    Optional[str], typer.Option(metavar="N.N", help="Lowest CUDA compute capability.")  # noqa: UP045
]
Endpoints = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--endpoint", help="grpc, http, vertex-ai or sagemaker; repeatable."),
]
Filesystems = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--filesystem", help="gcs, s3 or azure_storage; repeatable."),
]
BuildType = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Release, Debug, RelWithDebInfo or MinSizeRel [Release]."),
]
Backends = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--backend", metavar="NAME[:TAG]",
        help="Backend, at a tag, branch or pull/N/head; repeatable.",
    ),
]  # fmt: skip
RepoAgents = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--repoagent", metavar="NAME[:TAG]", help="Repository agent; repeatable."),
]
Caches = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--cache", metavar="NAME[:TAG]", help="Response cache; repeatable."),
]
RepoTags = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--repo-tag", metavar="NAME:TAG",
        help="Tag of common, core, backend or thirdparty; repeatable.",
    ),
]  # fmt: skip
Images = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--image", metavar="NAME,IMAGE",
        help="Image for base, gpu-base, pytorch or tensorflow; repeatable.",
    ),
]  # fmt: skip
LibraryPaths = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--library-paths", metavar="BACKEND:PATH",
        help="Folder with a backend's ready-made include and lib; repeatable.",
    ),
]  # fmt: skip
ExtraCore = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--extra-core-cmake-arg", metavar="NAME=VALUE",
        help="One more argument of the core, after all others; repeatable.",
    ),
]  # fmt: skip
OverrideCore = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--override-core-cmake-arg", metavar="NAME=VALUE",
        help="Another value for the core alone; repeatable.",
    ),
]  # fmt: skip
ExtraBackend = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--extra-backend-cmake-arg", metavar="BACKEND:NAME=VALUE",
        help="One more argument of a backend, after all others; repeatable.",
    ),
]  # fmt: skip
OverrideBackend = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--override-backend-cmake-arg", metavar="BACKEND:NAME=VALUE",
        help="Another value for a backend alone; repeatable.",
    ),
]  # fmt: skip
NoCoreBuild = Annotated[bool, typer.Option("--no-core-build", help="Leave the core out.")]
NoForceClone = Annotated[
    bool, typer.Option("--no-force-clone", help="Keep sources that are there already.")
]
Organization = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--github-organization", metavar="URL", help="Where backends are cloned from."),
]
Version = Annotated[
    Optional[str], typer.Option("--version", help="Triton's version [the release's].")  # noqa: UP045
]
ContainerVersion = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Version of Triton's container; the tags follow from it."),
]
UpstreamContainerVersion = Annotated[
    Optional[str], typer.Option(help="Version of NVIDIA's base images.")  # noqa: UP045
]
TargetPlatform = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--target-platform", help="linux or igpu (Jetson) [the board's]."),
]
TargetMachine = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--target-machine", help="aarch64 or x86_64 [the board's]."),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="The script shows every command [it does].")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="The script shows less.")]


def _switch_options(
    like_upstream: LikeUpstream = False,
    enable_all: EnableAll = False,
    enable_logging: Logging = None,
    enable_stats: Stats = None,
    enable_metrics: Metrics = None,
    enable_gpu_metrics: GpuMetrics = None,
    enable_cpu_metrics: CpuMetrics = None,
    enable_tracing: Tracing = None,
    enable_nvtx: Nvtx = None,
    enable_gpu: Gpu = None,
    enable_mali_gpu: MaliGpu = None,
    min_compute_capability: MinComputeCapability = None,
    endpoints: Endpoints = None,
    filesystems: Filesystems = None,
    build_type: BuildType = None,
    backends: Backends = None,
    repoagents: RepoAgents = None,
    caches: Caches = None,
    repo_tags: RepoTags = None,
    images: Images = None,
    library_paths: LibraryPaths = None,
    extra_core: ExtraCore = None,
    override_core: OverrideCore = None,
    extra_backend: ExtraBackend = None,
    override_backend: OverrideBackend = None,
    no_core_build: NoCoreBuild = False,
    no_force_clone: NoForceClone = False,
    organization: Organization = None,
    version: Version = None,
    container_version: ContainerVersion = None,
    upstream_container_version: UpstreamContainerVersion = None,
    platform: TargetPlatform = None,
    machine: TargetMachine = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Only the signature counts: it is what `takes_switches` gives to a verb."""


def takes_switches(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb build.py's options; it gets them as its second argument."""
    parameters = inspect.signature(_switch_options, eval_str=True).parameters
    own = list(inspect.signature(verb, eval_str=True).parameters.values())

    @functools.wraps(verb)
    def call(choice: object, **values: object) -> None:
        given = {name: values.pop(name) for name in list(values) if name in parameters}
        verb(choice, GivenSwitches(given), **values)

    keyword = inspect.Parameter.KEYWORD_ONLY
    names = [own[0], *(p.replace(kind=keyword) for p in (*own[2:], *parameters.values()))]
    call.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in names}
    return call


@dataclass(frozen=True)
class GivenSwitches:
    """What the options of `_switch_options` were given, by name."""

    values: dict[str, object]

    def read(self) -> Switches:
        """Return what they come to.

        Raises:
            UsageError: --verbose and --quiet.
        """
        return _make_switches(dict(self.values))


def _make_switches(given: dict[str, object]) -> Switches:
    from tritonbuild.errors import UsageError
    from tritonbuild.plan.switches import FEATURES, Switches

    verbose, quiet = given.pop("verbose"), given.pop("quiet")
    if verbose and quiet:
        msg = "--verbose does not go with --quiet"
        raise UsageError(msg, hint="leave one of them out")
    features = {name: given.pop(f"enable_{name.replace('-', '_')}") for name in FEATURES}
    plain = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None
    }
    return Switches(
        features={name: bool(value) for name, value in features.items() if value is not None},
        core_build=not plain.pop("no_core_build"),
        force_clone=not plain.pop("no_force_clone"),
        verbose=bool(verbose or not (quiet or given["like_upstream"])),
        **plain,  # type: ignore[arg-type]
    )
