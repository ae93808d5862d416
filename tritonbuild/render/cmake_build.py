"""Triton's `cmake_build`: the script that build.py writes, from a plan.

Layout of build.py's BuildScript class (server, commit 35dc045f): a header, then a section for each
component between lines of eight `#`. The script runs without tritonbuild.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from tritonbuild.errors import UsageError
from tritonbuild.recipe.model import ProviderKind
from tritonbuild.render.bash import format_block, format_commands, format_functions
from tritonbuild.render.template import render_template

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tritonbuild.plan.model import Plan, Step
    from tritonbuild.recipe.load import RecipeBook

CORE_TITLE = "Triton core library and tritonserver executable"


def render_cmake_build(plan: Plan, book: RecipeBook) -> str:
    """Return the text of the script that builds a plan's components from source.

    Deleting the blocks from `# tritonbuild: ...` to `# end tritonbuild` gives build.py's script for
    the same switches.

    Raises:
        UsageError: The plan takes wheels, so there is nothing to compile.
        RenderError: A value cannot stand in a script, or the template is broken.
    """
    if plan.selection.provider is not ProviderKind.SOURCE:
        msg = f"cmake_build compiles, and --from {plan.selection.provider} does not"
        raise UsageError(msg, hint="use --from source")
    commands = [command for step in plan.steps for command in step.commands]
    functions = format_functions(commands)
    about = format_block(f"for {plan.selection.board}, {plan.selection.release}", _describe(plan))
    own = "what the blocks below call"
    return render_template(
        "cmake_build.j2",
        {
            "about": about,
            "functions": format_block(own, functions) if functions else [],
            "sections": list(_make_sections(plan.steps, book)),
        },
    )


def _describe(plan: Plan) -> list[str]:
    """Return comment lines: what the blocks are, what is needed, where job counts come from."""
    packages = " ".join(plan.packages) or "none"
    return [
        "# Lines from `# tritonbuild: ...` to `# end tritonbuild` are tritonbuild's own. Without",
        "# them this is the script of Triton's build.py, but for the number of jobs:",
        "#   sed '/^# tritonbuild: /,/^# end tritonbuild$/d' cmake_build",
        f"# Packages for {plan.selection.os}: {packages}",
        *(f"# {job.component}: -j{job.count}, by {job.reason}" for job in plan.jobs),
        "# A value that holds a $ is text, on purpose:",
        "# shellcheck disable=SC2016",
    ]


def _make_sections(steps: Iterable[Step], book: RecipeBook) -> Iterable[dict[str, object]]:
    for name, group in itertools.groupby(steps, key=lambda step: step.component):
        is_core = name is None or book.component(name).kind == "core"
        yield {
            "title": CORE_TITLE if is_core else f"'{name}' backend",
            "removable": not is_core,
            "lines": format_commands(command for step in group for command in step.commands),
        }
