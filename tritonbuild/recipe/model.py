"""What a recipe may say: one model a kind, in the field's own words.

YAML gives strings only (`tritonbuild.recipe.load`), so the type of a field decides what a value
means: `23.10` stays a version, `ON` stays a CMake value, `8` becomes a number where a number is
wanted. Field descriptions are the reference: `tritonbuild schema` and editors show them.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Debian policy 5.6.1: lower case letters, digits, plus, minus and full stop.
Package = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
CMakeName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
PythonVersion = Annotated[str, Field(pattern=r"^3\.\d+$")]
# PEP 427; the build tag after the version is rare.
WheelName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.]*-[0-9][A-Za-z0-9_.+!]*(-[0-9][A-Za-z0-9_.]*)?"
               r"(-[A-Za-z0-9_.]+){3}\.whl$")
]  # fmt: skip
# Addresses end in the command lines of mmdebstrap, pip and git, where a text that begins with a
# dash is an option: `--setup-hook=...` would run a command.
AptAddress = Annotated[str, Field(pattern=r"^(https?|file|copy)://\S+$")]
IndexAddress = Annotated[str, Field(pattern=r"^(https?|file)://\S+$")]
AddressPrefix = Annotated[str, Field(pattern=r"^(https?|git|ssh|file)://\S+$")]
ImagePrefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9]\S*$")]
# A URL, scp's git@host:path, or an absolute path.
GitAddress = Annotated[
    str, Field(pattern=r"^((https?|ssh|git|file)://[^-\s]\S*|/.+"
               r"|[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^-\s]\S*)$")
]  # fmt: skip


def _parse_size(text: object) -> object:
    """Turn `8GiB` into bytes; anything else is left for pydantic to refuse."""
    if not isinstance(text, str):
        return text
    for suffix, factor in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        number = text.removesuffix(suffix)
        if number != text and re.fullmatch(r"\s*[0-9]{1,6}(\.[0-9]{1,3})?\s*", number):
            return int(float(number) * factor)
    msg = "a size such as 2GiB or 512MiB is wanted"
    raise ValueError(msg)


def _format_size(size: int) -> str:
    """Return bytes as a recipe would write them."""
    if size % (1 << 30) == 0:
        return f"{size >> 30}GiB"
    return f"{round(size / (1 << 20), 3):g}MiB"


def _check_relative(text: str) -> str:
    """Refuse a path that could leave the folder that it is taken from."""
    parts = text.split("/")
    if (
        text.startswith(("/", "-"))
        or "\\" in text
        or any(part in ("", ".", "..") for part in parts)
    ):
        msg = "a path inside the folder is wanted: no leading /, no . or .. and no empty part"
        raise ValueError(msg)
    return text


Size = Annotated[
    int,
    BeforeValidator(_parse_size, json_schema_input_type=str),
    PlainSerializer(_format_size, return_type=str, when_used="json"),
    Field(description="a size in GiB or MiB, such as 2GiB", gt=0),
]
RelativePath = Annotated[str, AfterValidator(_check_relative)]


class ProviderKind(str, Enum):
    """Where a component comes from."""

    SOURCE = "source"
    WHEEL = "wheel"

    def __str__(self) -> str:
        return self.value


class Strict(BaseModel):
    """A part of a recipe: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True
    )


class Recipe(Strict):
    """What every recipe file has."""

    version: Annotated[int, Field(alias="schema", ge=1, le=1)] = 1
    """Version of the recipe format; 1 is the only one so far."""
    name: Name
    """The file's name without .yaml; what options such as --board take."""
    summary: str
    """One line for `tritonbuild list`."""
    notes: tuple[str, ...] = ()
    """Facts that `show` and `plan` repeat to whoever uses this recipe."""


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


class RepoTags(Strict):
    """git tags of the four repositories that every Triton build is made of."""

    common: str
    """Tag of the repository `common`."""
    core: str
    """Tag of the repository `core`."""
    backend: str
    """Tag of the repository `backend`."""
    third_party: str
    """Tag of the repository `third_party`."""


class Release(Recipe):
    """A Triton release: the versions that belong together."""

    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    """The day it came out; the time stamp of every file in a package."""
    tag: str
    """git tag of the server and of each backend."""
    triton_version: str
    """Version of the server, as `/v2` reports it."""
    container_version: str
    """Version of NVIDIA's container of the same release."""
    upstream_container_version: str
    """Version of the NVIDIA base images that this release is made from."""
    onnxruntime_version: str | None = None
    """Version of ONNX Runtime that the onnxruntime backend is built for."""
    repo_tags: RepoTags
    """Tags of the repositories that CMake fetches by itself."""
    server_repository: GitAddress
    """git address of the server."""
    pythons: Annotated[tuple[PythonVersion, ...], Field(min_length=1)]
    """Python minor versions for which the wheels hold a python backend stub."""
    wheels: dict[Name, WheelPin] = {}
    """The wheels that `--from wheel` takes, by distribution name."""


# --- components -----------------------------------------------------------------------------

CMakeType = Literal["BOOL", "STRING", "PATH", "FILEPATH", "INTERNAL"]


class CMakeArg(Strict):
    """One `-DNAME:TYPE=VALUE`; the value is given, or taken from somewhere by name."""

    name: CMakeName
    """The CMake variable."""
    type: CMakeType | None = None
    """Its type; left out where Triton's build.py leaves it out."""
    value: str | None = None
    """The value as text."""
    from_: Annotated[str | None, Field(alias="from")] = None
    """Where the value comes from: release.FIELD, build.FIELD, selected.COMPONENT (ON or OFF) or
    COMPONENT.VARIABLE (what that component got)."""
    why: str | None = None
    """What it does, where the name does not say."""

    @model_validator(mode="after")
    def _check_one_origin(self) -> CMakeArg:
        if (self.value is None) == (self.from_ is None):
            msg = "say either value or from"
            raise ValueError(msg)
        return self


class GitClone(Strict):
    """How a repository is fetched."""

    repository: GitAddress
    """git address: a URL, git@host:path, or an absolute path."""
    tag: str | None = None
    """Tag or branch; the release's own tag where this is left out."""
    directory: RelativePath
    """Folder below the build folder."""
    options: tuple[str, ...] = ("--recursive", "--single-branch", "--depth=1")
    """Options of `git clone`, before `-b TAG`."""


class Copy(Strict):
    """One copy from a component's install prefix into the Triton tree."""

    source: str
    """Path below the install prefix; a glob may stand in its last part."""
    to: str
    """Folder of the tree that it goes to."""
    recursive: bool = False
    """Copy a folder with all that is in it."""


class SourceProvider(Strict):
    """How to build a component from source."""

    clone: GitClone | None = None
    """The repository; core is built from the server's own."""
    cmake_args: tuple[CMakeArg, ...] = ()
    """Arguments in the order that Triton's build.py gives them."""
    patches: tuple[RelativePath, ...] = ()
    """Files below patches/ that are applied to the fetched sources."""
    apt_packages: dict[Name, tuple[Package, ...]] = {}
    """Packages that the build needs, for each operating system."""
    memory_per_job: Size = 2 << 30
    """Memory that one compiler may take."""
    origin_rpath: tuple[str, ...] = ()
    """Files in the tree whose run path has to become $ORIGIN after the copy."""


class WheelProvider(Strict):
    """How to assemble a component from Python wheels."""

    wheels: tuple[Name, ...]
    """Distributions, as the release pins them."""
    requires: tuple[Name, ...] = ()
    """Components that it needs besides those that every provider needs."""
    layout: tuple[WheelPart, ...] = ()
    """Which files of which wheel go where in the tree; later parts may not overwrite earlier."""
    templates: tuple[RelativePath, ...] = ()
    """Folders below templates/ whose files go to backends/<component>."""
    limits: tuple[str, ...] = ()
    """What this provider cannot do; `plan` says so."""


class WheelPart(Strict):
    """Files of one wheel, by glob, and the folder of the tree that they go to."""

    wheel: Name
    """The distribution."""
    files: str
    """Glob over the wheel's file names; `**` spans folders, {python} is the board's version."""
    to: RelativePath
    """Folder of the tree, such as `bin` or `backends/python`."""
    strip: Annotated[int, Field(ge=0)] = 0
    """How many leading folders are dropped from the names."""
    executable: bool = False
    """Give the files their run bit (a wheel may have lost it)."""


class Component(Recipe):
    """Something that gets built or fetched: the core, or a backend."""

    kind: Literal["core", "backend", "core-switch"]
    """A core-switch (such as ensemble) is built into the core: it has no section of its own."""
    abstract: bool = False
    """Only there for others to extend."""
    extends: Name | None = None
    """A component whose cmake arguments come after this one's own."""
    requires: tuple[Name, ...] = ()
    """Components that must be there too, and are handled before this one."""
    source: SourceProvider | None = None
    """How to build it from source."""
    wheel: WheelProvider | None = None
    """How to assemble it from wheels."""
    artefacts: dict[ProviderKind, tuple[RelativePath, ...]] = {}
    """Files that the tree must hold afterwards, for each provider."""

    def provides(self, kind: ProviderKind) -> bool:
        """Return whether the component can come from this provider."""
        if self.kind == "core-switch":
            return True
        return (self.source if kind is ProviderKind.SOURCE else self.wheel) is not None


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
    base_packages: tuple[Package, ...]
    """What every image of it has, besides the packages marked Essential."""
    base_libraries: dict[str, Package]
    """Shared libraries of those packages and the package of each: what a tree may count on where
    the archive cannot be asked."""
    bundled_packages: dict[Package, tuple[str, ...]] = {}
    """Packages that an image may lack, and their libraries, which travel in the tree's lib folder
    so that nothing has to be installed on the board."""


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
    os: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Operating systems, the usual one first."""
    release: Name
    """The release that is taken when none is named."""
    components: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Components that are taken when none is named."""
    switches: tuple[BoardSwitch, ...] = ()
    """CMake values that differ from the components' own."""


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
    apt: dict[Literal["debian", "ubuntu"], AptAddress] = {}
    """Archive address of each distribution."""
    pypi: IndexAddress | None = None
    """Simple index for pip; the user's own pip configuration holds where this is left out."""
    images: tuple[ImageRewrite, ...] = ()
    """Container registries."""


# --- patches --------------------------------------------------------------------------------


class Edit(Strict):
    """One exact-match edit of a file."""

    file: RelativePath
    """The file below the component's sources."""
    old: Annotated[str, Field(min_length=1)]
    """Text that must stand there."""
    new: str
    """Text that takes its place."""
    count: Annotated[int, Field(ge=1)] = 1
    """How often the old text must stand there, exactly."""


class Patch(Strict):
    """Edits of one component's fetched sources, and why."""

    version: Annotated[int, Field(alias="schema", ge=1, le=1)] = 1
    """Version of the recipe format."""
    summary: str
    """One line."""
    why: str
    """What goes wrong without it."""
    upstream: tuple[str, ...] = ()
    """Threads and commits that tell more."""
    after: Literal["fetch", "configure"] = "fetch"
    """The moment: right after the clone, or once CMake has fetched the nested sources."""
    edits: Annotated[tuple[Edit, ...], Field(min_length=1)]
    """The edits, in order."""


WheelProvider.model_rebuild()

RECIPE_KINDS: dict[str, type[Recipe]] = {
    "releases": Release,
    "components": Component,
    "boards": Board,
    "os": OperatingSystem,
    "mirrors": Mirror,
}
