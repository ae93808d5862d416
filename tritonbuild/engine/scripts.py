"""The script of one step, with all that it needs: environment, archives, and where things are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tritonbuild.engine.toolchain import make_environment
from tritonbuild.plan.model import Command, StepKind
from tritonbuild.render.script import render_script
from tritonbuild.sources.resolve import make_git_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonbuild.engine.toolchain import Toolchain
    from tritonbuild.plan.model import Plan, Step
    from tritonbuild.sources.lock import Lock


def make_script(
    plan: Plan,
    step: Step,
    name: str,
    *,
    home: PurePosixPath,
    toolchain: Toolchain,
    lock: Lock,
    more: Mapping[str, str] | None = None,
    secrets: Mapping[str, Path] | None = None,
) -> str:
    """Return the script of a step.

    Args:
        plan: The plan.
        step: The step.
        name: What the script is called, without its suffix.
        home: The work directory, as the script sees it.
        toolchain: The programs.
        lock: What the sources were resolved to.
        more: More variables.
        secrets: See `render_script`.
    """
    sources = home / "sources"
    git = make_git_environment(lock, Path(sources))
    environment = {**make_environment(plan, home, step, toolchain, git), **(more or {})}
    if step.kind is StepKind.CONFIGURE:
        step = _with_seeds(step, lock, sources)
    return render_script(step, name, environment, secrets)


def _with_seeds(step: Step, lock: Lock, sources: PurePosixPath) -> Step:
    """Put archives where CMake's own download would put them, right before it runs."""
    commands: list[Command] = []
    for archive in lock.archives:
        if archive.component == step.component and archive.seed is not None:
            folder = str(PurePosixPath(archive.seed).parent)
            note = f"{archive.name} is here already: CMake checks it and downloads nothing"
            commands += [
                Command(("mkdir", "-p", folder), note=note),
                Command(("cp", str(sources / archive.file), archive.seed), note=note),
            ]
    last = len(step.commands) - 1
    return replace(step, commands=(*step.commands[:last], *commands, step.commands[last]))
