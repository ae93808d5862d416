"""build: from a plan to a checked /opt/tritonserver tree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from tritonbuild.cli.options import Choice, Json, NewWorkDir, takes_choice

if TYPE_CHECKING:
    from tritonbuild.engine.run import StepResult
    from tritonbuild.executors.buildx import BuildxOptions
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan

Builder = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="buildx: builder or Docker context [the one in use]."),
]
Tag = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="buildx: name of the image [tritonserver:VERSION-BOARD-OS-source]."),
]
Push = Annotated[
    bool, typer.Option("--push", help="buildx: push the image to the registry that --tag names.")
]
Image = Annotated[bool, typer.Option(help="buildx: make an image that serves the tree.")]
CacheFrom = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        metavar="SPEC", help="buildx: cache to take from, as docker buildx has it; repeatable."
    ),
]
CacheTo = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        metavar="SPEC", help="buildx: cache to fill, as docker buildx has it; repeatable."
    ),
]


@takes_choice()
def build(
    choice: Choice,
    work_dir: NewWorkDir = None,
    lock: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Lock to hold to [./tritonbuild.lock, if there is one]."),
    ] = None,
    offline: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Take everything from what `fetch` wrote: a folder or tar."),
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", "-k", help="After a failure, do what does not need it.")
    ] = False,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Take --source checkouts with changes.")
    ] = False,
    ccache: Annotated[bool, typer.Option(help="Use ccache, where it is installed.")] = True,
    distcc: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="HOST/JOBS,...", help="Machines that compile, too, for a native build."
        ),
    ] = None,
    ccache_remote: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="URL",
            envvar="TRITONBUILD_CCACHE_REMOTE",
            help="Compiler cache that machines share: redis://... or http://...",
        ),
    ] = None,
    builder: Builder = None,
    tag: Tag = None,
    push: Push = False,
    image: Image = True,
    cache_from: CacheFrom = None,
    cache_to: CacheTo = None,
    as_json: Json = False,
) -> None:
    """Fetch, build, assemble and check /opt/tritonserver; a second run does only what is left."""
    from tritonbuild.engine.build import BuildOptions, build_plan, plan_build
    from tritonbuild.engine.machines import check_machines
    from tritonbuild.executors.distcc import parse_helpers
    from tritonbuild.executors.remotecache import parse_remote

    buildx = _make_buildx(
        choice, builder=builder, tag=tag, push=push, image=image,
        cache_from=tuple(cache_from or ()), cache_to=tuple(cache_to or ()),
    )  # fmt: skip
    helpers = parse_helpers(distcc) if distcc is not None else ()
    if _is_only_environment(choice, ccache_remote):
        ccache_remote = None
    remote = parse_remote(ccache_remote) if ccache_remote else None
    plan, ws = plan_build(choice.book, choice.request, work_dir, buildx)
    check_machines(plan, helpers, remote, use_ccache=ccache)
    options = BuildOptions(
        lock=lock,
        offline=offline,
        keep_going=keep_going,
        allow_dirty=allow_dirty,
        use_ccache=ccache,
        helpers=helpers,
        remote=remote,
        buildx=buildx,
    )
    _remember(ws)
    results = build_plan(plan, ws, choice.book, options)
    board = choice.book.board(plan.selection.board)
    is_meant = str(board.arch) == plan.selection.arch and plan.selection.os in board.os
    _report(plan, ws, results, is_for_board=is_meant, as_json=as_json)


def _is_only_environment(choice: Choice, remote: str | None) -> bool:
    """Return whether a shared cache is set for all builds, and this one could not use it."""
    from tritonbuild.plan.model import Executor
    from tritonbuild.proc import read_environment

    request = choice.request
    made = request.provider is not None and request.provider.is_ready_made
    unable = made or request.executor is Executor.BUILDX
    return unable and remote in read_environment(["TRITONBUILD_CCACHE_REMOTE"]).values()


def _make_buildx(choice: Choice, **given: Any) -> BuildxOptions:  # noqa: ANN401
    """Return how BuildKit is used.

    Raises:
        UsageError: It is not, and an option is for it; or there is no name to push to.
    """
    from tritonbuild.errors import UsageError
    from tritonbuild.executors.buildx import BuildxOptions, check_cache_spec
    from tritonbuild.plan.model import Executor
    from tritonbuild.plan.select import check_image_name

    options = BuildxOptions(**given)
    if choice.request.executor is not Executor.BUILDX and options != BuildxOptions():
        usual = BuildxOptions()
        name = next(name for name, value in given.items() if value != getattr(usual, name))
        option = "no-image" if name == "image" else name.replace("_", "-")
        msg = f"--{option} is for --executor buildx alone"
        raise UsageError(msg, hint="add --executor buildx, or leave it out")
    if options.tag is not None:
        check_image_name("--tag", options.tag)
    if options.tag is not None and not options.image:
        msg = "--tag does nothing with --no-image"
        raise UsageError(msg, hint="leave one of them out")
    for spec in (*options.cache_from, *options.cache_to):
        check_cache_spec(spec)
    if options.push and (options.tag is None or not options.image):
        msg = "--push: where to?"
        raise UsageError(msg, hint="say --tag REGISTRY/NAME:TAG, without --no-image")
    return options


def _remember(ws: Workspace) -> None:
    """Note the build for later verbs: before it runs, so that `logs` and `shell` find a failed one."""
    from tritonbuild.console import terminal
    from tritonbuild.paths import remember

    ws.make()
    try:
        remember(ws.root)
    except OSError as err:
        terminal.warning(
            f"cannot note this build for later verbs ({err.filename}: {err.strerror}): "
            f"they need --work-dir {ws.root}"
        )


def _report(
    plan: Plan, ws: Workspace, results: list[StepResult], *, is_for_board: bool, as_json: bool
) -> None:
    import json
    from dataclasses import asdict

    from tritonbuild.console import terminal
    from tritonbuild.stage.verified import read_verified

    verified = read_verified(ws)
    if as_json:
        content = {
            "work_dir": str(ws.root),
            "tree": str(ws.tritonserver_dir),
            "steps": [asdict(result) for result in results],
            "verify": verified,
        }
        terminal.output(json.dumps(content, indent=2))
        return
    rows = [(r.name, r.title, r.status, f"{r.seconds:.1f}") for r in results]
    terminal.table(("STEP", "WHAT", "STATUS", "SECONDS"), rows)
    terminal.output("\n" + format_verification(plan.selection.os, verified))
    chosen = plan.selection
    machine = f"this machine ({chosen.arch}, {chosen.os}), not for {chosen.board}"
    whom = chosen.board if is_for_board else machine
    terminal.info(f"\n{ws.tritonserver_dir} is ready for {whom}")
    terminal.info(
        "next: `tritonbuild smoke` proves that it answers, `tritonbuild package` packs it"
    )


def format_verification(system: str, verified: dict[str, Any]) -> str:
    """Return what the ELF check found, in a few lines: against what, how new, from where."""
    from tritonbuild.stage.verified import packages_to_install

    against = {"root": f"the libraries of {system}", "recipe": f"the recipe's list for {system}"}
    needs = [
        f"{prefix} {needed['version']} of {verified['board'][prefix]}"
        for prefix, needed in verified["highest"].items()
        if prefix in verified["board"]
    ]
    packages = sorted(set(verified["system_libraries"].values()))
    checked = f"{verified['files']} {verified['arch']} ELF files checked"
    lines = [
        f"{checked} against {against[verified['source']]}: no problem",
        f"  highest symbol versions: {', '.join(needs)}",
        f"  taken from the board: {', '.join(packages)}",
    ]
    if verified["to_install"]:
        lines.append(f"  to install there: {' '.join(packages_to_install(verified))}")
    return "\n".join(lines)
