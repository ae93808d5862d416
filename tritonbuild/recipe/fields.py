"""What the values in recipes may look like, and what every recipe has.

YAML gives strings only (`tritonbuild.recipe.load`), so the type of a field decides what a value
means: `23.10` stays a version, `ON` stays a CMake value, `8` becomes a number where a number is
wanted.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
)


def _check_no_password(text: str) -> str:
    """Refuse an address that tells a secret: it stands in plans, scripts and logs.

    The user of an ssh address is none. Mirrors' rewrites may hold one: they stand nowhere else.
    """
    if re.match(r"(https?|git)://[^/@]*@|ssh://[^/@]*:[^/@]*@", text):
        msg = (
            "no user or password may stand in an address that plans and scripts repeat: keep them "
            "in git's credentials, ~/.netrc, pip's or apt's own settings, or a mirror's rewrite"
        )
        raise ValueError(msg)
    return text


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Debian policy 5.6.1: lower case letters, digits, plus, minus and full stop.
Package = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
CMakeName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
VersionRange = Annotated[
    str, Field(pattern=r"^(<|<=|>|>=|==)\d+(\.\d+)*(,(<|<=|>|>=|==)\d+(\.\d+)*)*$")
]
PythonVersion = Annotated[str, Field(pattern=r"^3\.\d+$")]
# PEP 427; the build tag after the version is rare.
WheelName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.]*-[0-9][A-Za-z0-9_.+!]*(-[0-9][A-Za-z0-9_.]*)?"
               r"(-[A-Za-z0-9_.]+){3}\.whl$")
]  # fmt: skip
# Addresses end in the command lines of mmdebstrap, pip and git, where a text that begins with a
# dash is an option: `--setup-hook=...` would run a command.
AptAddress = Annotated[
    str, Field(pattern=r"^(https?|file|copy)://\S+$"), AfterValidator(_check_no_password)
]
IndexAddress = Annotated[
    str, Field(pattern=r"^(https?|file)://\S+$"), AfterValidator(_check_no_password)
]
ArchiveAddress = Annotated[
    str, Field(pattern=r"^(https?|file)://[^-\s]\S*$"), AfterValidator(_check_no_password)
]
AddressPrefix = Annotated[str, Field(pattern=r"^(https?|git|ssh|file)://\S+$")]
ImagePrefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9]\S*$")]
# A URL, scp's git@host:path, or an absolute path.
GIT_ADDRESS = (
    r"((https?|ssh|git|file)://[^-\s]\S*|/.+"
    r"|[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^-\s]\S*)"
)
GitAddress = Annotated[str, Field(pattern=f"^{GIT_ADDRESS}$"), AfterValidator(_check_no_password)]
# git-check-ref-format(1), narrowed: no blanks, none of ~^:?*[\\ and no leading dash.
GIT_REF = r"[A-Za-z0-9_][A-Za-z0-9_.+/@=,-]*"
GitRef = Annotated[str, Field(pattern=f"^{GIT_REF}$")]
# Without values but numbers: `--upload-pack=...` and `--config=...` would run a command.
CloneOption = Annotated[str, Field(pattern=r"^--[a-z][a-z-]*(=[0-9]+)?$")]
# Versions end in Dockerfiles, which know no quotes that would keep them text everywhere.
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]


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
    ARCHIVE = "archive"

    def __str__(self) -> str:
        return self.value

    @property
    def is_ready_made(self) -> bool:
        """Whether it comes compiled: no executor, no switches and no variants."""
        return self is not ProviderKind.SOURCE


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


class Condition(Strict):
    """Versions of the machine that builds, all of which must hold."""

    gcc: VersionRange | None = None
    """Of the C++ compiler."""
    cmake: VersionRange | None = None
    """Of CMake."""
    glibc: VersionRange | None = None
    """Of the C library."""
    python: VersionRange | None = None
    """Of /usr/bin/python3."""
