"""What will happen, as data: nothing here touches a disk, a network or a process."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from tritonbuild.errors import UsageError

# Needed at run time: a plan is read back from JSON by its types.
from tritonbuild.recipe.fields import ProviderKind  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Mapping

PLAN_VERSION = 4

# `Machine.origin` of one that was looked at.
THIS_MACHINE = "this machine"


class Executor(str, Enum):
    """Where the scripts of a source build run."""

    NATIVE = "native"
    """On this machine, for this machine."""
    EMULATED = "emulated"
    """In a root of the board's system, under QEMU where its architecture is another one."""
    CROSS = "cross"
    """In a root of the board's system for this machine's architecture, with a cross compiler."""
    BUILDX = "buildx"
    """In containers of the board's system, which BuildKit runs; its machine may be another one."""

    def __str__(self) -> str:
        return self.value


class StepKind(str, Enum):
    """What a step does."""

    ROOT = "root"
    COMPILERS = "compilers"
    SOURCES = "sources"
    CHECK = "check"
    FETCH = "fetch"
    PATCH = "patch"
    CONFIGURE = "configure"
    BUILD = "build"
    INSTALL = "install"
    CONTAINER = "container"
    ASSEMBLE = "assemble"
    VERIFY = "verify"
    IMAGE = "image"

    def __str__(self) -> str:
        return self.value


class SettingKind(str, Enum):
    """What a setting does to the arguments of its component."""

    SET = "set"
    """The value counts for all who take it from there; a new name goes to the end."""
    OVERRIDE = "override"
    """Another value on this component's command line alone, for a name that is there."""
    EXTRA = "extra"
    """One more argument after all others, as it is."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Setting:
    """One `--set component.FLAG=VALUE`, or what an option of build.py's comes to.

    Attributes:
        origin: The option, for messages.
        type: CMake's type of an extra argument.
    """

    component: str
    flag: str
    value: str
    origin: str = "--set"
    kind: SettingKind = SettingKind.SET
    type: str | None = None


@dataclass(frozen=True)
class Machine:
    """The machine that builds: what decides which adjustments a source build needs.

    Attributes:
        arch: Debian's name of its architecture.
        os: Its operating system as the os recipes are named, such as `debian-12`.
        gcc, cmake, glibc, python: Versions.
        origin: Where the facts come from: `os/NAME` (a recipe) or `this machine`.
        cores: Usable cores; None takes the board's.
        memory: Memory that a build may take, in bytes; None takes the board's.
    """

    arch: str
    os: str
    gcc: str
    cmake: str
    glibc: str
    python: str
    origin: str
    cores: int | None = None
    memory: int | None = None


@dataclass(frozen=True)
class OwnArchive:
    """A file of the user's in the place of one that the release names.

    Attributes:
        address: `file://` and its path.
        sha256: What it holds now.
    """

    address: str
    sha256: str


@dataclass(frozen=True)
class Request:
    """What the user asked for; what is None is the recipes' to decide."""

    board: str
    os: str | None = None
    release: str | None = None
    provider: ProviderKind | None = None
    executor: Executor | None = None
    components: tuple[str, ...] = ()
    mirror: str = "upstream"
    jobs: int | None = None
    settings: tuple[Setting, ...] = ()
    variants: dict[str, str] = field(default_factory=dict)
    checkouts: dict[str, str] = field(default_factory=dict)
    archives: dict[str, OwnArchive] = field(default_factory=dict)
    accelerate: bool = True
    base_image: str | None = None


@dataclass(frozen=True)
class Selection:
    """What a request came to: every name is decided and known to exist.

    Attributes:
        components: In the order in which they are handled.
        added: Components that were not asked for, and who needs each.
        executor: None for `wheel`, where nothing is compiled.
        qemu_cpu: The board's core as qemu-user calls it.
        variants: The way in which each component that has several is built.
        checkouts: Local folder that a component's sources are taken from, instead of its
            repository.
        archives: Files of the user's instead of archives of the release, by name.
        accelerate: Whether compilers of this machine do the work of those of the board's system.
        base_image: Image that the board's system is taken from; None unpacks its packages.
    """

    board: str
    arch: str
    os: str
    release: str
    provider: ProviderKind
    executor: Executor | None
    components: tuple[str, ...]
    added: dict[str, str]
    mirror: str
    settings: tuple[Setting, ...]
    qemu_cpu: str | None = None
    variants: dict[str, str] = field(default_factory=dict)
    checkouts: dict[str, str] = field(default_factory=dict)
    archives: dict[str, OwnArchive] = field(default_factory=dict)
    accelerate: bool = True
    base_image: str | None = None

    @property
    def runs_in_root(self) -> bool:
        """Whether scripts run in a system like the board's; what they build is for the board."""
        return self.executor in (Executor.EMULATED, Executor.CROSS, Executor.BUILDX)

    @property
    def work_name(self) -> str:
        """The default name of the work directory."""
        return f"{self.board}-{self.release}-{self.executor or self.provider}"


@dataclass(frozen=True)
class Flag:
    """One cmake argument, with where its value came from."""

    name: str
    type: str | None
    value: str
    origin: str

    def to_argument(self) -> str:
        """Return `-DNAME:TYPE=VALUE`, as text for an argument list."""
        kind = f":{self.type}" if self.type else ""
        return f"-D{self.name}{kind}={self.value}"


@dataclass(frozen=True)
class JobCount:
    """How many compilers may run at once for a component, and why that many.

    Attributes:
        memory_per_job: What one compiler may take, in bytes.
    """

    component: str
    count: int
    reason: str
    memory_per_job: int


@dataclass(frozen=True)
class Command:
    """One command of a script.

    Attributes:
        argv: Program and arguments, as text.
        cmake: The arguments get upstream's three pass-through variables in front of them.
        glob: The last part of the second argument is a pattern for the shell.
        unless_exists: Only run where this does not exist.
        note: Why tritonbuild adds it to what upstream does; None for upstream's own.
        incidental: It decides how fast a result comes, not which one: no part of the step's key.
    """

    argv: tuple[str, ...]
    cmake: bool = False
    glob: bool = False
    unless_exists: str | None = None
    note: str | None = None
    incidental: bool = False


@dataclass(frozen=True)
class Step:
    """One thing that is done whole or not at all.

    Attributes:
        id: kebab-case; with its number the name of its script and log.
        why: What it is for, in one line.
        needs: Ids of the steps whose results it takes: where one of them is done again, so is it.
        after: Ids of steps that only have to be done before.
        environment: Variables of its script; CFLAGS, CXXFLAGS and LDFLAGS are added to.
        commands: What runs, for steps that are scripts.
        details: Inputs, for steps that are not: names, checksums, packages.
        scripts: The steps that run in its container one after the other, for a step that is one.
    """

    id: str
    kind: StepKind
    title: str
    why: str
    component: str | None = None
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    commands: tuple[Command, ...] = ()
    details: dict[str, object] = field(default_factory=dict)
    scripts: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Everything that a build will do.

    Attributes:
        flags: cmake arguments of each component that is built from source.
        jobs: Only for source builds: nothing is compiled otherwise.
        packages: Debian packages that the build needs on the machine where it runs.
        notes: What this combination cannot do, and facts from the recipes.
        machine: What a source build is planned for; None where nothing is compiled.
    """

    tritonbuild: str
    selection: Selection
    steps: tuple[Step, ...]
    flags: dict[str, tuple[Flag, ...]]
    jobs: tuple[JobCount, ...]
    packages: tuple[str, ...]
    notes: tuple[str, ...]
    machine: Machine | None = None
    version: int = PLAN_VERSION

    def name_of(self, step: Step) -> str:
        """Return `NN-<step>`: the name of the step's script, log and state."""
        return f"{self._numbers[step.id]:02d}-{step.id}"

    def find_step(self, step_id: str) -> Step:
        """Return a step by its id."""
        return self.steps[self._numbers[step_id] - 1]

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        """Each step's number, from 1: looked up for every step, and a plan may have thousands."""
        return {step.id: number for number, step in enumerate(self.steps, start=1)}

    @functools.cached_property
    def signature(self) -> str:
        """A checksum over what comes out: job counts and words for people are no part of it."""
        steps = [[step.id, key_parts_of(step, {}, {})] for step in self.steps]
        chosen = dataclasses.asdict(self.selection)
        return _hash([self.tritonbuild, self.version, chosen, steps])

    def to_json(self) -> str:
        """Return the plan as `plan.json` holds it."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"


def read_plan(text: str, origin: str) -> Plan:
    """Return the plan that `to_json` wrote.

    Args:
        text: The JSON text.
        origin: The file that it comes from, for messages.

    Raises:
        UsageError: It is not a plan, or one of another version of tritonbuild.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        plan = TypeAdapter(Plan).validate_json(text)
    except ValidationError as err:
        msg = f"{origin} is not a plan that this version of tritonbuild wrote"
        raise UsageError(msg, hint="run `tritonbuild build` again") from err
    if plan.version != PLAN_VERSION:
        msg = f"{origin} is a plan of version {plan.version}, not {PLAN_VERSION}"
        raise UsageError(msg, hint="run `tritonbuild build` again")
    return plan


def key_parts_of(
    step: Step, needed: Mapping[str, str], inputs: Mapping[str, str]
) -> dict[str, str]:
    """Return a checksum for each kind of thing that decides what a step produces.

    Args:
        step: The step.
        needed: Keys of the steps that it needs, by id.
        inputs: Whatever else decides, by what it is called: sources, tools, templates.
    """
    content: dict[str, object] = {
        "commands": [dataclasses.asdict(c) for c in step.commands if not c.incidental],
        "details": step.details,
        "environment": step.environment,
        "plan": [PLAN_VERSION, step.id],
        **{f"script {one.id}": key_of(key_parts_of(one, {}, {})) for one in step.scripts},
        **{f"needs {name}": key for name, key in needed.items()},
        **inputs,
    }
    return {name: _hash(value) for name, value in content.items()}


def key_of(parts: Mapping[str, str]) -> str:
    """Return one checksum over all that decides what a step produces."""
    return _hash(dict(parts))


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
