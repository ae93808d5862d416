"""The steps of `--from source`: the commands that Triton's own build.py would write.

The form was read in server/build.py (commit 35dc045f, days before r23.12) and compared with a
script that it rendered for r23.12. What tritonbuild adds carries a note that says why.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tritonbuild.errors import RecipeError
from tritonbuild.plan.model import Command, Step, StepKind
from tritonbuild.plan.select import lineage
from tritonbuild.recipe.load import load_patch

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    from tritonbuild.plan.model import Flag, JobCount, Selection
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import Component, GitClone, Release


def install_prefix_of(component: str, build_dir: PurePosixPath) -> str:
    """Return CMAKE_INSTALL_PREFIX of a component, where build.py puts it."""
    folder = "tritonserver" if component == "core" else component
    return str(build_dir / folder / "install")


def plan_source_steps(
    book: RecipeBook,
    selection: Selection,
    flags: dict[str, tuple[Flag, ...]],
    jobs: tuple[JobCount, ...],
    build_dir: PurePosixPath,
    server_dir: PurePosixPath,
) -> tuple[Step, ...]:
    """Return fetch, patch, configure, build and install of each component, in order."""
    steps: list[Step] = []
    for job in jobs:
        component = book.component(job.component)
        arguments = tuple(flag.to_argument() for flag in flags[component.name])
        if component.kind == "core":
            steps += _plan_core(book, selection, arguments, job.count, build_dir, server_dir)
        else:
            steps += _plan_backend(book, selection, component, arguments, job.count, build_dir)
    return tuple(steps)


def _plan_core(
    book: RecipeBook,
    selection: Selection,
    arguments: tuple[str, ...],
    jobs: int,
    build_dir: PurePosixPath,
    server_dir: PurePosixPath,
) -> list[Step]:
    release = book.release(selection.release)
    component = book.component("core")
    work = build_dir / "tritonserver" / "build"
    fetch = Step(
        "fetch-core", StepKind.FETCH, f"fetch the server's sources, {release.tag}",
        "the core is built from the server's own repository", "core",
        commands=_fetch_server(release, str(server_dir)),
    )  # fmt: skip
    configure = _configure("core", work, (*arguments, str(server_dir)), ())
    steps = _chain(
        fetch,
        *_plan_patches(component, "fetch", server_dir),
        configure,
        *_plan_patches(component, "configure", server_dir),
        _build("core", jobs),
    )
    prefix = build_dir / "tritonserver" / "install"
    install = Step(
        "install-core", StepKind.INSTALL, "copy the core into the tree",
        "what the board needs of what was built", "core", (steps[-1].id,),
        _install_core(prefix, build_dir, server_dir),
    )  # fmt: skip
    return [*steps, install]


def _chain(*steps: Step) -> list[Step]:
    """Let each step need the one before it, besides what it needs already."""
    chained = [steps[0]]
    for step in steps[1:]:
        chained.append(replace(step, needs=(chained[-1].id, *step.needs)))
    return chained


def _fetch_server(release: Release, server_dir: str) -> tuple[Command, ...]:
    """Return a call of the bash function that fetches what is not there yet.

    The build folder may lie inside the server's, so `git clone` would find a folder in its way.
    """
    return (
        Command(
            (
                "tritonbuild_fetch", server_dir, release.server_repository, release.tag,
                release.triton_version,
            ),
            note="the server's sources, where they are not there yet",
        ),
    )  # fmt: skip


def _install_core(
    prefix: PurePosixPath, build_dir: PurePosixPath, server_dir: PurePosixPath
) -> tuple[Command, ...]:
    tree = build_dir / "opt" / "tritonserver"

    def put(source: str, folder: str, *, glob: bool = False) -> list[Command]:
        return [
            Command(("mkdir", "-p", str(tree / folder))),
            Command(("cp", str(prefix / source), str(tree / folder)), glob=glob),
        ]

    headers = str(tree / "include/triton/core")
    return (
        *put("bin/tritonserver", "bin"),
        *put("lib/libtritonserver.so", "lib"),
        *put("python/tritonserver*.whl", "python", glob=True),
        Command(("mkdir", "-p", str(tree / "include/triton"))),
        Command(
            ("rm", "-fr", headers),
            note="a second run would copy the folder into itself, as core/core",
        ),
        Command(("cp", "-r", str(prefix / "include/triton/core"), headers)),
        Command(("cp", str(server_dir / "LICENSE"), str(tree))),
        Command(("cp", str(server_dir / "TRITON_VERSION"), str(tree))),
    )


def _plan_backend(
    book: RecipeBook,
    selection: Selection,
    component: Component,
    arguments: tuple[str, ...],
    jobs: int,
    build_dir: PurePosixPath,
) -> list[Step]:
    source = component.source
    if source is None or source.clone is None:
        msg = f"component {component.name}: a backend needs source.clone"
        raise RecipeError(msg, hint="say which repository it is built from")
    name = component.name
    clone = source.clone
    tag = clone.tag or book.release(selection.release).tag
    folder = build_dir / clone.directory
    fetch = Step(
        f"fetch-{name}", StepKind.FETCH, f"fetch the {name} backend's sources, {tag}",
        component.summary, name, commands=_fetch_backend(clone, tag, build_dir),
    )  # fmt: skip
    install = Step(
        f"install-{name}", StepKind.INSTALL, f"copy the {name} backend into the tree",
        "what the board needs of what was built", name,
        commands=_install_backend(component, build_dir, clone.directory),
    )  # fmt: skip
    return _chain(
        fetch,
        *_plan_patches(component, "fetch", folder),
        _configure(name, folder / "build", (*arguments, ".."), ("install-core",)),
        *_plan_patches(component, "configure", folder),
        _build(name, jobs),
        install,
    )


def _fetch_backend(clone: GitClone, tag: str, build_dir: PurePosixPath) -> tuple[Command, ...]:
    folder = clone.directory
    command = ("git", "clone", *clone.options, "-b", tag, clone.repository, folder)
    return (
        Command(("mkdir", "-p", str(build_dir))),
        Command(("cd", str(build_dir))),
        Command(("rm", "-fr", folder)),
        Command(command, unless_exists=folder),
    )


def _plan_patches(component: Component, moment: str, folder: PurePosixPath) -> list[Step]:
    """Return a step for each patch that belongs after `moment` (fetch or configure)."""
    steps = []
    for relative in component.source.patches if component.source else ():
        patch = load_patch(relative)
        if patch.after != moment:
            continue
        commands = tuple(
            Command(
                ("tritonbuild_edit", str(folder / edit.file), str(edit.count), edit.old, edit.new),
                note=f"patches/{relative}: {patch.summary}",
            )
            for edit in patch.edits
        )
        # Components may share a patch, and their steps may not share an id.
        stem = relative.removesuffix(".yaml").removeprefix(f"{component.name}/")
        identifier = f"patch-{component.name}-{stem}".replace("/", "-").replace(".", "-")
        steps.append(
            Step(
                identifier, StepKind.PATCH, patch.summary, patch.why, component.name,
                commands=commands,
            )
        )  # fmt: skip
    return steps


def _configure(
    component: str, work: PurePosixPath, arguments: tuple[str, ...], needs: tuple[str, ...]
) -> Step:
    return Step(
        f"configure-{component}", StepKind.CONFIGURE, f"configure {component}",
        "cmake looks at the machine and fetches nested sources", component, needs,
        (
            Command(("mkdir", "-p", str(work))),
            Command(("cd", str(work))),
            Command(("cmake", *arguments), cmake=True),
        ),
    )  # fmt: skip


def _build(component: str, jobs: int) -> Step:
    return Step(
        f"build-{component}", StepKind.BUILD, f"build {component} with {jobs} jobs",
        "compile, and install below the build folder", component,
        commands=(Command(("make", f"-j{jobs}", "VERBOSE=1", "install")),),
    )  # fmt: skip


def _install_backend(
    component: Component, build_dir: PurePosixPath, folder: str
) -> tuple[Command, ...]:
    backends = build_dir / "opt" / "tritonserver" / "backends"
    built = build_dir / folder / "install" / "backends" / component.name
    commands = [
        Command(("mkdir", "-p", str(backends))),
        Command(("rm", "-fr", str(backends / component.name))),
        Command(("cp", "-r", str(built), str(backends))),
    ]
    note = "so that the libraries beside it are found wherever the tree is put"
    tree = backends.parent
    commands += [
        Command(("patchelf", "--set-rpath", "$ORIGIN", str(tree / path)), note=note)
        for path in (component.source.origin_rpath if component.source else ())
    ]
    return tuple(commands)


def packages_of(book: RecipeBook, selection: Selection) -> tuple[str, ...]:
    """Return the Debian packages that building the selection needs, sorted."""
    found: set[str] = set()
    for name in selection.components:
        for part in lineage(book, book.component(name)):
            if part.source:
                found.update(part.source.apt_packages.get(selection.os, ()))
    return tuple(sorted(found))
