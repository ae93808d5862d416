"""What a component's recipe may say: how it is built from source, or comes ready-made."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tritonbuild.recipe.fields import (
    CloneOption,
    CMakeName,
    Condition,
    EnvironmentName,
    GitAddress,
    GitRef,
    Name,
    Package,
    ProviderKind,
    Recipe,
    RelativePath,
    Size,
    Strict,
    VersionRange,
)

CMakeType = Literal["BOOL", "STRING", "PATH", "FILEPATH", "INTERNAL"]


# `[not ]WHERE.NAME[=VALUE]`: without a value, whether CMake takes it for true.
Term = Annotated[str, Field(pattern=r"^(not )?[a-z0-9][a-z0-9_-]*\.[A-Za-z0-9._-]+(=[^=]+)?$")]


class CMakeArg(Strict):
    """One `-DNAME:TYPE=VALUE`; the value is given, or taken from somewhere by name."""

    name: CMakeName
    """The CMake variable."""
    type: CMakeType | None = None
    """Its type; left out where Triton's build.py leaves it out."""
    value: str | None = None
    """The value as text."""
    from_: Annotated[str | None, Field(alias="from")] = None
    """Where the value comes from: release.FIELD, build.FIELD, npu.target (the board's NPU),
    selected.COMPONENT (ON or OFF) or COMPONENT.VARIABLE (what that component got); of build.py's
    options image.NAME, library_path.COMPONENT and target.FIELD."""
    format: str | None = None
    """The value as text in which {WHERE.NAME} stands for what `from` would take."""
    if_: Annotated[tuple[Term, ...], Field(alias="if")] = ()
    """Where it is passed: WHERE.NAME is true for CMake, WHERE.NAME=VALUE is that value, `not` turns
    either around; all must hold."""
    why: str | None = None
    """What it does, where the name does not say."""

    @model_validator(mode="after")
    def _check_one_origin(self) -> CMakeArg:
        if [self.value, self.from_, self.format].count(None) != 2:
            msg = "say either value, from or format"
            raise ValueError(msg)
        return self


class Need(Strict):
    """Values that go together only in some ways, which CMake would find out late or never."""

    if_: Annotated[tuple[Term, ...], Field(alias="if")] = ()
    """Where it matters, as in cmake_args; everywhere where this is left out."""
    then: Annotated[tuple[Term, ...], Field(min_length=1)]
    """What has to hold then."""
    why: str
    """What goes wrong otherwise."""


class GitClone(Strict):
    """How a repository is fetched."""

    repository: GitAddress
    """git address: a URL, git@host:path, or an absolute path."""
    tag: GitRef | None = None
    """Tag or branch; the release's own tag where this is left out."""
    directory: RelativePath
    """Folder below the build folder."""
    options: tuple[CloneOption, ...] = ("--recursive", "--single-branch", "--depth=1")
    """Options of `git clone`, before `-b TAG`."""


class Adjustment(Strict):
    """What a newer machine needs; switched on by itself where its condition holds."""

    when: Condition
    """Where it is needed."""
    why: str
    """What goes wrong without it."""
    upstream: tuple[str, ...] = ()
    """Threads and commits that tell more."""
    environment: dict[EnvironmentName, str] = {}
    """Variables of the component's steps; CFLAGS, CXXFLAGS and LDFLAGS are added to, others set."""
    cmake_args: tuple[CMakeArg, ...] = ()
    """Arguments after all others, each with a value of its own."""
    archives: tuple[Name, ...] = ()
    """Archives of the release that are unpacked to the build folder before CMake runs; in
    `environment`, {archive.NAME} stands for the folder of one."""

    @model_validator(mode="after")
    def _check_values(self) -> Adjustment:
        if any(arg.value is None or arg.if_ for arg in self.cmake_args):
            msg = "an adjustment's cmake_args say value, and no from, format or if"
            raise ValueError(msg)
        return self


class UnfitMachine(Strict):
    """A machine that a component cannot be built on."""

    when: Condition
    """Which machines."""
    why: str
    """What goes wrong there."""
    instead: str
    """What does go."""
    beside: bool = False
    """Whether a native build may have a newer program beside the system's: for a machine that was
    not looked at, `plan` only says so then."""


class SourceVariant(Strict):
    """One of several ways to build a component from source."""

    summary: str
    """One line for `show`."""
    cmake_args: tuple[CMakeArg, ...] = ()
    """Arguments after the component's own, as build.py's --extra-backend-cmake-arg puts them; one of
    a name that is there takes its place."""
    archives: tuple[Name, ...] = ()
    """Archives of the release that are unpacked to the build folder before CMake runs."""
    libraries: tuple[RelativePath, ...] = ()
    """Files of those archives that go into the backend's folder, links kept: ARCHIVE/GLOB."""
    patches: tuple[RelativePath, ...] = ()
    """Files below patches/, after the component's own."""
    apt_packages: dict[Name, tuple[Package, ...]] = {}
    """Packages that the build needs on top, for each operating system."""
    needs_docker: bool = False
    """CMake calls `docker build`."""


class TreePart(Strict):
    """Files that a component leaves in the tree."""

    from_: Annotated[RelativePath, Field(alias="from")]
    """Files or a folder below `sources`, `build` (CMake's folder) or `install` (its prefix); the last
    part may be a pattern. Links stay links."""
    to: RelativePath | None = None
    """Folder of the tree; its top where this is left out."""


class SourceProvider(Strict):
    """How to build a component from source."""

    clone: GitClone | None = None
    """The repository; core is built from the server's own."""
    cmake_args: tuple[CMakeArg, ...] = ()
    """Arguments in the order that Triton's build.py gives them."""
    subdirectory: RelativePath | None = None
    """Folder of its sources that has the CMakeLists.txt, if it is not the first one."""
    installs_to: RelativePath | None = None
    """Folder of its sources that `install` fills, if it sets CMAKE_INSTALL_PREFIX itself."""
    takes: tuple[RelativePath, ...] = ()
    """What of that folder goes into the tree: files, and folders with all that is in them."""
    switches: tuple[CMakeName, ...] = ()
    """Switches of its CMakeLists.txt that build.py never passes, and settings may."""
    needs: tuple[Need, ...] = ()
    """What CMake refuses, or takes and gets wrong: refused before anything is built."""
    unfit: tuple[UnfitMachine, ...] = ()
    """Machines that it cannot be built on: refused before anything is built."""
    build_type: str | None = None
    """Its CMAKE_BUILD_TYPE, whatever is asked for."""
    prepare: tuple[tuple[str, ...], ...] = ()
    """What runs in the build folder after the clone, as argument lists; {target.machine} stands for
    aarch64 or x86_64."""
    cmake_dir: RelativePath | None = None
    """Folder of its sources that CMake is given; their top where this is left out."""
    target: CMakeName = "install"
    """What of it is built."""
    libraries: tuple[Name, ...] = ()
    """Components of kind library that are built before it: {tree.NAME} in `prepare` is where one's
    files are."""
    tree: tuple[TreePart, ...] = ()
    """What goes into the tree, where it is not what its kind usually leaves."""
    copies: tuple[RelativePath, ...] = ()
    """Files of its sources that go into the tree as they are; nothing is compiled then."""
    patches: tuple[RelativePath, ...] = ()
    """Files below patches/ that are applied to the fetched sources."""
    apt_packages: dict[Name, tuple[Package, ...]] = {}
    """Packages that the build needs, for each operating system."""
    runtime_packages: dict[Name, dict[str, Package]] = {}
    """For each operating system what the board needs that no ELF file tells of, such as a Python
    module, and the package that has it."""
    memory_per_job: Size = 2 << 30
    """Memory that one compiler may take."""
    origin_rpath: tuple[RelativePath, ...] = ()
    """Files in the tree whose run path has to become $ORIGIN after the copy."""
    run_paths: dict[RelativePath, RelativePath] = {}
    """Files in the tree whose run path has to become $ORIGIN/FOLDER, and the folder of each."""
    variants: dict[Name, SourceVariant] = {}
    """Ways to build it, the usual one first; `--variant COMPONENT=NAME` takes another."""
    adjustments: tuple[Adjustment, ...] = ()
    """What newer compilers, CMake or C libraries need."""
    externals: dict[str, CMakeName] = {}
    """Nested sources (names of ExternalProject_Add or FetchContent_Declare) that are fetched only
    where a variable of this component's is ON."""


class WheelProvider(Strict):
    """How to assemble a component from Python wheels."""

    wheels: tuple[Name, ...]
    """Distributions, as the release pins them."""
    requires: tuple[Name, ...] = ()
    """Components that it needs besides those that every provider needs."""
    layout: tuple[WheelPart, ...] = ()
    """Which files of which wheel go where in the tree; later parts may not overwrite earlier."""
    links: dict[RelativePath, str] = {}
    """Names under which other programs look for files of the tree, and a glob that fits the one file
    that each is: wheels have their libraries under names with checksums in them."""
    bundled_packages: dict[Name, dict[Package, tuple[str, ...]]] = {}
    """For each operating system, packages that a board may lack and their libraries, which travel
    in the tree's lib folder; a system that is not named has none of them to give."""
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


class ArchiveProvider(Strict):
    """That a component is in the trees which releases have as archives."""

    runtime_packages: dict[Name, dict[str, Package]] = {}
    """For each operating system Python modules that the board needs where the archive does not
    bring them in the component's folder, and the package of each."""
    limits: tuple[str, ...] = ()
    """What this provider cannot do; `plan` says so."""


class Component(Recipe):
    """Something that gets built or fetched: the core, or a backend."""

    kind: Literal["core", "backend", "repoagent", "cache", "core-switch", "library", "program"]
    """A core-switch (such as ensemble) is built into the core: it has no section of its own. A library
    is for other components to be linked to. A program is one that the server does not need."""
    triton: VersionRange | None = None
    """Versions of the server that it goes with; all, where this is left out."""
    abstract: bool = False
    """Only there for others to extend."""
    extends: Name | None = None
    """A component whose cmake arguments come after this one's own."""
    requires: tuple[Name, ...] = ()
    """Components that must be there too, and are handled before this one."""
    needs_npu: bool = False
    """It does nothing on a board without an NPU; `plan` says so."""
    source: SourceProvider | None = None
    """How to build it from source."""
    wheel: WheelProvider | None = None
    """How to assemble it from wheels."""
    archive: ArchiveProvider | None = None
    """That it is in a release's ready-made tree, and what to know about it there."""
    artefacts: dict[ProviderKind, tuple[RelativePath, ...]] = {}
    """Files that the tree must hold afterwards, for each provider."""

    def provides(self, kind: ProviderKind) -> bool:
        """Return whether the component can come from this provider."""
        if self.kind == "core-switch":
            return True
        providers: dict[ProviderKind, Strict | None] = {
            ProviderKind.SOURCE: self.source,
            ProviderKind.WHEEL: self.wheel,
            ProviderKind.ARCHIVE: self.archive,
        }
        return providers[kind] is not None


WheelProvider.model_rebuild()
