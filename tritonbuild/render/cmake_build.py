"""Triton's `cmake_build`: the script that build.py writes, from a plan.

Layout of build.py's BuildScript class (server, commit 35dc045f): a header, then a section for each
component between lines of eight `#`. The script runs without tritonbuild.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from tritonbuild.errors import UsageError
from tritonbuild.plan.model import StepKind
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.render.bash import format_block, format_commands, format_functions, quote
from tritonbuild.render.template import render_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tritonbuild.plan.model import Plan, Step
    from tritonbuild.recipe.load import RecipeBook

CORE_TITLE = "Triton core library and tritonserver executable"

# What a section is called in its title, and in the line that says that it can be deleted.
_KIND_TITLES = {"repoagent": "repository agent"}

# What is added to instead of replaced.
_ADDED_TO = ("CFLAGS", "CXXFLAGS", "LDFLAGS")


def render_cmake_build(
    plan: Plan,
    book: RecipeBook,
    *,
    verbose: bool = True,
    first: Iterable[str] = (),
    ci: Iterable[str] = (),
    last: Iterable[str] = (),
) -> str:
    """Return the text of the script that builds a plan's components from source.

    Deleting the blocks from `# tritonbuild: ...` to `# end tritonbuild` gives build.py's script for
    the same switches.

    Args:
        plan: A plan in the form of upstream's script.
        book: Its recipes.
        verbose: Show every command.
        first: Lines before the first section.
        ci: Lines of the section that collects what tests need; none without it.
        last: Lines after the last section.

    Raises:
        UsageError: The plan takes wheels, so there is nothing to compile, or the release is older
            than upstream's script.
        RenderError: A value cannot stand in a script, or the template is broken.
    """
    if plan.selection.provider is not ProviderKind.SOURCE:
        msg = f"cmake_build compiles, and --from {plan.selection.provider} does not"
        raise UsageError(msg, hint="use --from source")
    ways = book.release(plan.selection.release).components
    if ways:
        msg = f"{plan.selection.release} builds {', '.join(ways)} in a way of its own, and had no "
        msg += "build.py whose script could be written"
        raise UsageError(
            msg, hint="use `tritonbuild build`: its steps are scripts that run by hand"
        )
    commands = [command for step in plan.steps for command in step.commands]
    functions = format_functions(commands)
    about = format_block(f"for {plan.selection.board}, {plan.selection.release}", _describe(plan))
    own = "what the blocks below call"
    sections = [*_make_sections(plan.steps, book)]
    if ci:
        title = "Collect Triton CI artifacts"
        sections.append(
            {"title": title, "end": "Triton CI artifacts", "removable": "", "lines": ci}
        )
    return render_template(
        "cmake_build.j2",
        {
            "about": about,
            "verbose": verbose,
            "functions": format_block(own, functions) if functions else [],
            "first": first,
            "sections": sections,
            "last": last,
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


def _make_sections(steps: Iterable[Step], book: RecipeBook) -> Iterator[dict[str, object]]:
    for name, group in itertools.groupby(steps, key=lambda step: step.component):
        kind = "core" if name is None else book.component(name).kind
        called = _KIND_TITLES.get(kind, kind)
        title = CORE_TITLE if kind == "core" else f"'{name}' {called}"
        yield {
            "title": title,
            "end": title,
            "removable": "" if kind == "core" else called,
            "lines": list(_format_steps(list(group))),
        }


def _format_steps(steps: list[Step]) -> Iterator[str]:
    """Return a component's lines; what its compilers need from the environment ends with it."""
    compiled = [step for step in steps if step.kind is StepKind.CONFIGURE]
    wanted = compiled[0].environment if compiled else {}
    for step in steps:
        if step in compiled and wanted:
            yield from format_block(
                "what this component needs where it is compiled", [*_set_environment(wanted)]
            )
        yield from format_commands(step.commands)
    if wanted:
        yield from format_block("as it was before", [*_restore_environment(wanted)])


def _set_environment(wanted: dict[str, str]) -> Iterator[str]:
    for name, value in wanted.items():
        yield f"tritonbuild_before_{name}=${{{name}-}}"
        before = f'"${{{name}:+${name} }}"' if name in _ADDED_TO else ""
        yield f"export {name}={before}{quote(value)}"


def _restore_environment(wanted: dict[str, str]) -> Iterator[str]:
    for name in wanted:
        yield f"export {name}=$tritonbuild_before_{name}"
        yield f"if [[ -z ${name} ]]; then unset {name}; fi"
