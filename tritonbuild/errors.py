"""Every error that tritonbuild raises on purpose, and the exit code that belongs to it.

    TritonBuildError
     ├── UsageError         2   options that do not go together
     ├── UnsupportedError   2   a UsageError: a recipe says that it does not work
     ├── RecipeError        2   a recipe is missing, malformed or contradicts itself
     ├── NothingToDoError   3   a selector matched nothing
     ├── HostError          4   this machine lacks a tool, room, a port or a right
     ├── SourceError        5   something from outside did not arrive, or is not what was pinned
     ├── UnreachableError   5   a SourceError: where it comes from cannot be reached at all
     ├── PatchError         6   an edit of fetched sources does not fit
     ├── RenderError        7   a template and its values do not go together
     ├── BuildError         8   a build command failed
     ├── AssembleError      9   the assembled tree lacks something or holds something wrong
     └── SmokeTestError    10   the server did not start or answered wrongly

Modules raise these; only `tritonbuild.cli.main` prints them and exits. Exit code 1 is left for
bugs (a traceback), 130 for Ctrl-C.
"""

from __future__ import annotations

from typing import ClassVar


class TritonBuildError(Exception):
    """Something went wrong that the user can do something about.

    Args:
        message: What is wrong and where; may span lines, and fits one screen.
        hint: What to do about it; printed once, after the message.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(TritonBuildError):
    """Options that do not exist or do not go together."""

    exit_code: ClassVar[int] = 2


class UnsupportedError(UsageError):
    """What was asked for is known not to work: a recipe says so, and what goes instead."""

    exit_code: ClassVar[int] = 2


class RecipeError(TritonBuildError):
    """A recipe is missing, malformed, or contradicts itself or another one."""

    exit_code: ClassVar[int] = 2


class NothingToDoError(TritonBuildError):
    """A selector matched nothing."""

    exit_code: ClassVar[int] = 3


class HostError(TritonBuildError):
    """This machine lacks a tool, a kernel feature, room, a port or a right."""

    exit_code: ClassVar[int] = 4


class SourceError(TritonBuildError):
    """Something from outside did not arrive or is not what the recipe pins."""

    exit_code: ClassVar[int] = 5


class UnreachableError(SourceError):
    """Where something comes from cannot be reached; some work can go on without it."""

    exit_code: ClassVar[int] = 5


class PatchError(TritonBuildError):
    """An edit of fetched sources is missing or does not fit."""

    exit_code: ClassVar[int] = 6


class RenderError(TritonBuildError):
    """A template and the values for it do not go together."""

    exit_code: ClassVar[int] = 7


class BuildError(TritonBuildError):
    """A build command failed."""

    exit_code: ClassVar[int] = 8


class AssembleError(TritonBuildError):
    """The assembled tree lacks something or holds something that cannot run on the board."""

    exit_code: ClassVar[int] = 9


class SmokeTestError(TritonBuildError):
    """The assembled server did not start or answered wrongly."""

    exit_code: ClassVar[int] = 10
