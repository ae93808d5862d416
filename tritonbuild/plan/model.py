"""What will happen, as data: nothing here touches a disk, a network or a process."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass, field
from enum import Enum

from tritonbuild.errors import UsageError

# Needed at run time: a plan is read back from JSON by its types.
from tritonbuild.recipe.model import ProviderKind  # noqa: TC001

PLAN_VERSION = 1


class Executor(str, Enum):
    """Where the scripts of a source build run."""

    NATIVE = "native"

    def __str__(self) -> str:
        return self.value


class StepKind(str, Enum):
    """What a step does."""

    ROOT = "root"
    FETCH = "fetch"
    PATCH = "patch"
    CONFIGURE = "configure"
    BUILD = "build"
    INSTALL = "install"
    ASSEMBLE = "assemble"
    VERIFY = "verify"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Setting:
    """One `--set component.FLAG=VALUE`."""

    component: str
    flag: str
    value: str


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


@dataclass(frozen=True)
class Selection:
    """What a request came to: every name is decided and known to exist.

    Attributes:
        components: In the order in which they are handled.
        added: Components that were not asked for, and who needs each.
        executor: None for `wheel`, where nothing is compiled.
        qemu_cpu: The board's core as qemu-user calls it.
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
    """How many compilers may run at once for a component, and why that many."""

    component: str
    count: int
    reason: str


@dataclass(frozen=True)
class Command:
    """One command of a script.

    Attributes:
        argv: Program and arguments, as text.
        cmake: The arguments get upstream's three pass-through variables in front of them.
        glob: The last part of the second argument is a pattern for the shell.
        unless_exists: Only run where this does not exist.
        note: Why tritonbuild adds it to what upstream does; None for upstream's own.
    """

    argv: tuple[str, ...]
    cmake: bool = False
    glob: bool = False
    unless_exists: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Step:
    """One thing that is done whole or not at all.

    Attributes:
        id: kebab-case; with its number the name of its script and log.
        why: What it is for, in one line.
        needs: Ids of the steps that come before.
        commands: What runs, for steps that are scripts.
        details: Inputs, for steps that are not: names, checksums, packages.
    """

    id: str
    kind: StepKind
    title: str
    why: str
    component: str | None = None
    needs: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()
    details: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Everything that a build will do.

    Attributes:
        flags: cmake arguments of each component that is built from source.
        jobs: Only for source builds: nothing is compiled otherwise.
        packages: Debian packages that the build needs on the machine where it runs.
        notes: What this combination cannot do, and facts from the recipes.
    """

    tritonbuild: str
    selection: Selection
    steps: tuple[Step, ...]
    flags: dict[str, tuple[Flag, ...]]
    jobs: tuple[JobCount, ...]
    packages: tuple[str, ...]
    notes: tuple[str, ...]
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


def key_of(step: Step, needed: list[str]) -> str:
    """Return a checksum over all that decides what a step produces.

    Args:
        step: The step.
        needed: Keys of the steps that it needs, and of files that it reads.
    """
    content = {
        "id": step.id,
        "commands": [dataclasses.asdict(command) for command in step.commands],
        "details": step.details,
        "needs": needed,
        "plan": PLAN_VERSION,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
