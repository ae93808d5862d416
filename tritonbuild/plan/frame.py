"""What stands around the components' steps in a work directory.

Before them the systems that a build runs in, what comes from outside, and the check of all patches;
after them assembly and verification.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tritonbuild.errors import UsageError
from tritonbuild.plan.containers import CONTAINERS, plan_containers, plan_image
from tritonbuild.plan.model import Executor, Step, StepKind
from tritonbuild.plan.packages import packages_of, runtime_packages_of
from tritonbuild.plan.root import plan_build_root, plan_compilers, plan_root, plan_tools_root
from tritonbuild.plan.tree import describe_release, plan_verify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tritonbuild.plan.model import Selection
    from tritonbuild.plan.source import Part
    from tritonbuild.recipe.load import RecipeBook


def frame_stages(
    book: RecipeBook, selection: Selection, parts: Sequence[Part], stages: Sequence[Step]
) -> tuple[Step, ...]:
    """Return all steps of a build in a work directory.

    Args:
        book: The recipes.
        selection: What is built.
        parts: Its components.
        stages: Their steps.

    Raises:
        UsageError: A component needs Docker, which builds in roots do not have.
    """
    systems = _plan_systems(book, selection)
    if systems:
        _check_docker(parts)
    before = tuple(step.id for step in systems)
    if selection.executor is Executor.BUILDX:
        stages = (plan_containers(parts, stages),)
    inside = [replace(step, after=(*step.after, *before)) for step in stages]
    tree = _plan_tree(book, selection, parts)
    if selection.executor is Executor.BUILDX:
        tree = (*tree, plan_image(selection))
    return (*systems, *_plan_sources(parts), *inside, *tree)


def _check_docker(parts: Sequence[Part]) -> None:
    for part in parts:
        if part.variant and part.variant.needs_docker:
            msg = f"this way to build {part.name} calls docker, which a build in a root has not"
            hint = f"leave --variant {part.name} out, or build with --executor native"
            raise UsageError(msg, hint=hint)


def _plan_systems(book: RecipeBook, selection: Selection) -> tuple[Step, ...]:
    """Return the steps that unpack what a build for the board runs in; none for a native one."""
    if not selection.runs_in_root:
        return ()
    packages = packages_of(book, selection)
    is_cross = selection.executor is Executor.CROSS
    return (
        plan_root(book, selection),
        plan_build_root(book, selection, packages),
        *([plan_tools_root(book, selection, packages)] if is_cross else []),
        plan_compilers(book, selection),
    )


def _plan_sources(parts: Sequence[Part]) -> tuple[Step, Step]:
    """Return the step that brings everything from outside, and the check of all patches."""
    details: dict[str, object] = {
        "repositories": [
            {
                "component": part.name,
                "repository": part.clone.repository,
                "ref": part.tag,
                **({"cmake_dir": part.source.cmake_dir} if part.source.cmake_dir else {}),
            }
            for part in parts
        ],
        "archives": [
            {"component": part.name, "name": name, "url": url, "sha256": sha256}
            for part in parts
            for name, url, sha256 in part.archives()
        ],
        "variables": {part.name: {f.name: f.value for f in part.flags} for part in parts},
        "externals": {part.name: dict(part.source.externals) for part in parts},
        "checkouts": {part.name: part.checkout for part in parts if part.checkout},
        "images": [image for part in parts for image in part.images()],
    }
    sources = Step(
        "sources", StepKind.SOURCES, "fetch all sources",
        "everything from outside is there and checked before anything is built", details=details,
    )  # fmt: skip
    series = [
        {"component": part.name, "patches": [*part.digest("fetch"), *part.digest("configure")]}
        for part in parts
    ]
    check = Step(
        "check-patches", StepKind.CHECK, "check that every patch fits",
        "a patch that does not fit is found now, not after hours", needs=("sources",),
        details={"series": series},
    )  # fmt: skip
    return sources, check


def _plan_tree(book: RecipeBook, selection: Selection, parts: Sequence[Part]) -> tuple[Step, ...]:
    """Return assembly and verification."""
    last = [f"{StepKind.INSTALL}-{part.name}" for part in parts]
    if selection.executor is Executor.BUILDX:
        last = [CONTAINERS]
    system = book.operating_system(selection.os)
    release = book.release(selection.release)
    assemble = Step(
        "assemble", StepKind.ASSEMBLE, "assemble /opt/tritonserver",
        "one tree that can be moved, with what each component has to leave",
        needs=tuple(last),
        details={
            "parts": [
                {
                    "component": part.name,
                    "tree": str(part.layout.tree_of(part.name)),
                    "artefacts": list(part.component.artefacts.get(selection.provider, ())),
                }
                for part in parts
            ],
            **describe_release(release),
        },
    )  # fmt: skip
    verify = plan_verify(
        selection,
        system,
        {"bundled": {}, "runtime_packages": runtime_packages_of(book, selection)},
        needs=(assemble.id,),
        after=("root", "build-root") if selection.runs_in_root else (),
        against="the system that it was built for",
    )
    return assemble, verify
