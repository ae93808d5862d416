"""render: a script that builds without tritonbuild, as Triton's own build.py would write it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from tritonbuild.cli.options import Choice, takes_choice
from tritonbuild.cli.switches import GivenSwitches, takes_switches

if TYPE_CHECKING:
    from tritonbuild.plan.model import Plan
    from tritonbuild.plan.switches import Switches
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.render.container import Container

# typer reads annotations at run time on Python 3.10 too, hence Optional.
Output = Annotated[
    Path, typer.Option(help="Folder that gets cmake_build, or a Dockerfile and its context.")
]
Tag = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="buildx: name of the image [tritonserver:VERSION-BOARD-OS-source]."),
]
BuildDir = Annotated[
    Optional[Path], typer.Option(help="Where the script will build; absolute.")  # noqa: UP045
]
ServerDir = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--server-dir", "--cmake-dir", help="The server's sources [the folder around --build-dir]."
    ),
]
InstallDir = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="The tree [opt/tritonserver below --build-dir]."),
]
BuildParallel = Annotated[
    Optional[int], typer.Option(min=1, help="The same as --jobs.")  # noqa: UP045
]
DryRun = Annotated[bool, typer.Option("--dryrun", help="Nothing is run, as always with render.")]
ContainerBuild = Annotated[
    bool,
    typer.Option(
        "--container-build/--no-container-build",
        help="Write docker_build and its Dockerfiles, too.",
    ),
]
BuildId = Annotated[
    Optional[str], typer.Option(help="Label of the image.")  # noqa: UP045
]
BuildSha = Annotated[
    Optional[str], typer.Option(help="Label of the image.")  # noqa: UP045
]
NoPull = Annotated[bool, typer.Option("--no-container-pull", help="Look for no newer base image.")]
NoInteractive = Annotated[
    bool, typer.Option("--no-container-interactive", help="docker run without -it.")
]
NoSource = Annotated[
    bool, typer.Option("--no-container-source", help="No third parties' sources in the image.")
]
Prebuild = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--container-prebuild-command", metavar="SHELL", help="Runs in the container before all."
    ),
]
ContainerMemory = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(metavar="SIZE", help="For Windows alone, and so refused."),
]
TmpDir = Annotated[
    Optional[Path], typer.Option(help="Folder in the container [/tmp].")  # noqa: UP045
]


@takes_choice(without=("provider", "source"), defaults={"provider": "source"})
@takes_switches
def render(
    choice: Choice,
    given: GivenSwitches,
    output: Output,
    build_dir: BuildDir = None,
    server_dir: ServerDir = None,
    install_dir: InstallDir = None,
    build_parallel: BuildParallel = None,
    dryrun: DryRun = False,  # noqa: ARG001  (for pasted command lines)
    container_build: ContainerBuild = False,
    build_id: BuildId = None,
    build_sha: BuildSha = None,
    no_container_pull: NoPull = False,
    no_container_interactive: NoInteractive = False,
    no_container_source: NoSource = False,
    prebuild: Prebuild = None,
    tmp_dir: TmpDir = None,
    container_memory: ContainerMemory = None,
    tag: Tag = None,
) -> None:
    """Write cmake_build, a script that builds from source without tritonbuild. Offline.

    It takes the options of Triton's build.py too, with the meaning that they have there. With
    --executor buildx it writes a Dockerfile, docker-bake.json and their context instead.
    """
    from tritonbuild.console import terminal
    from tritonbuild.errors import UsageError
    from tritonbuild.paths import make_dir, write_text
    from tritonbuild.plan.select import AUTO_MIRROR
    from tritonbuild.render.container import Container

    switches = given.read()
    if container_memory is not None:
        msg = "--container-memory: build.py hands it to Docker on Windows alone"
        raise UsageError(msg, hint="leave it out; `docker update --memory` limits a container")
    if choice.request.mirror == AUTO_MIRROR:
        msg = "render asks no network, so it cannot measure for --mirror auto"
        raise UsageError(msg, hint="name a mirror: `tritonbuild list mirrors`")
    jobs = build_parallel or choice.request.jobs
    choice = replace(choice, request=replace(choice.request, jobs=jobs))
    folders = _check_folders(
        {"--build-dir": build_dir, "--server-dir": server_dir, "--install-dir": install_dir,
         "--tmp-dir": tmp_dir}
    )  # fmt: skip
    inside = {"--build-id": build_id, "--build-sha": build_sha, "--tmp-dir": tmp_dir,
              "--container-prebuild-command": prebuild}  # fmt: skip
    docker_run = {
        "--no-container-pull": no_container_pull,
        "--no-container-interactive": no_container_interactive,
        "--no-container-source": no_container_source,
        "--image": switches.images,
        "--archive": choice.request.archives,
    }
    named = [name for name, value in {**folders, **inside, **docker_run}.items() if value]
    in_buildkit = _check_executor(choice, named, container_build=container_build, tag=tag)
    if in_buildkit:
        _write_standalone(choice, switches, output, tag)
        return
    _check_mode(container_build, folders, [name for name, value in inside.items() if value])
    if not container_build:
        texts = _render_native(choice, switches, folders)
    else:
        container = Container(
            server_dir=folders["--server-dir"] or _find_server_dir(output),
            output_dir=PurePosixPath(output.resolve()),
            inner_dir=(folders["--tmp-dir"] or PurePosixPath("/tmp")) / "tritonbuild",
            build_id=build_id,
            build_sha=build_sha,
            pull=not no_container_pull,
            interactive=not no_container_interactive,
            prebuild_command=prebuild,
        )
        inner = replace(switches, container=True, container_source=not no_container_source)
        texts = _render_container(choice, inner, container)
    folder = make_dir(output)
    for name, text in texts.items():
        write_text(folder / name, text, executable=not name.startswith("Dockerfile"))
        terminal.output(str(folder / name))


def _check_executor(
    choice: Choice, named: list[str], *, container_build: bool, tag: str | None
) -> bool:
    """Return whether a Dockerfile is wanted; refuse what would do nothing then, or without it.

    Raises:
        UsageError: Something is refused.
    """
    from tritonbuild.errors import UsageError
    from tritonbuild.plan.model import Executor
    from tritonbuild.plan.select import check_image_name

    executor = choice.request.executor
    if executor is Executor.BUILDX:
        if tag is not None:
            check_image_name("--tag", tag)
        for option in [*named, *(["--container-build"] if container_build else [])]:
            msg = (
                f"{option} does not go with --executor buildx: all that it needs is in its context"
            )
            raise UsageError(
                msg, hint="leave it out: what it is for is in the context, or asked there"
            )
        return True
    if executor not in (None, Executor.NATIVE):
        msg = f"--executor {executor}: cmake_build is for the machine that it runs on"
        raise UsageError(msg, hint="leave it out, or say --executor buildx for a Dockerfile")
    if tag is not None:
        msg = "--tag is for --executor buildx alone"
        raise UsageError(msg, hint="leave it out")
    return False


def _write_standalone(choice: Choice, switches: Switches, output: Path, tag: str | None) -> None:
    from tritonbuild.console import terminal
    from tritonbuild.executors import arrange
    from tritonbuild.paths import make_dir, write_text
    from tritonbuild.plan.layout import HOME, SourceLayout
    from tritonbuild.plan.make import make_plan
    from tritonbuild.plan.switches import apply_switches
    from tritonbuild.render.standalone import render_standalone
    from tritonbuild.stage.image_base import describe_image
    from tritonbuild.stage.members import read_mtime
    from tritonbuild.stage.naming import tag_of

    layout = replace(SourceLayout.of_work_dir(HOME), downloads=True)
    book, request, options = apply_switches(choice.book, choice.request, switches)
    made = make_plan(book, request, layout=layout, options=options)
    _warn(made, book)
    texts = render_standalone(
        made, book,
        facts=describe_image(made), tag=tag or tag_of(made),
        epoch=read_mtime(str(made.find_step("assemble").details["date"])),
        arrange=Path(arrange.__file__).read_text(encoding="utf-8"),
    )  # fmt: skip
    folder = make_dir(output)
    for name, text in texts.items():
        write_text(folder / name, text, executable=name.endswith(".sh"))
        terminal.output(str(folder / name))


def _render_native(
    choice: Choice, switches: Switches, folders: dict[str, PurePosixPath | None]
) -> dict[str, str]:
    from tritonbuild.plan.layout import SourceLayout
    from tritonbuild.plan.make import make_plan
    from tritonbuild.plan.switches import apply_switches
    from tritonbuild.render.cmake_build import render_cmake_build

    build_dir = folders["--build-dir"]
    assert build_dir is not None  # _check_mode
    layout = SourceLayout.of_script(build_dir, folders["--server-dir"])
    layout = replace(layout, install_dir=folders["--install-dir"])
    book, request, options = apply_switches(choice.book, choice.request, switches)
    made = make_plan(book, request, layout=layout, options=options)
    _warn(made, book)
    return {"cmake_build": render_cmake_build(made, book, verbose=options.verbose)}


def _render_container(choice: Choice, switches: Switches, container: Container) -> dict[str, str]:
    from tritonbuild.plan.layout import SourceLayout
    from tritonbuild.plan.make import make_plan
    from tritonbuild.plan.switches import apply_switches
    from tritonbuild.render.container import WORKSPACE, render_container

    inner = container.inner_dir
    layout = SourceLayout(inner, WORKSPACE, install_dir=inner / "install", fetch_server=False)
    book, request, options = apply_switches(choice.book, choice.request, switches)
    made = make_plan(book, request, layout=layout, options=options)
    _warn(made, book)
    return render_container(made, book, options, container)


def _warn(plan: Plan, book: RecipeBook) -> None:
    """Say what may be meant, and yet cannot work on the board."""
    from tritonbuild.console import terminal

    board = book.board(plan.selection.board)
    core = {flag.name: flag.value for flag in plan.flags["core"]}
    if core["TRITON_ENABLE_GPU"] == "ON" and board.cuda is None:
        terminal.warning(f"CUDA is asked for, and {board.name} has none that its recipe knows of")


def _check_folders(folders: dict[str, Path | None]) -> dict[str, PurePosixPath | None]:
    """Return the folders; scripts change folders, so a relative one would be another one there.

    Raises:
        UsageError: One is relative.
    """
    from tritonbuild.errors import UsageError

    for option, path in folders.items():
        if path is not None and not path.is_absolute():
            msg = f"{option} {path}: an absolute path is wanted"
            raise UsageError(msg, hint=f"the script changes folders: say {option} {path.resolve()}")
    return {option: PurePosixPath(path) if path else None for option, path in folders.items()}


def _check_mode(
    container_build: bool,
    folders: dict[str, PurePosixPath | None],
    inside: list[str],
) -> None:
    """Refuse options that belong to the other way to build.

    Raises:
        UsageError: Such an option, or no --build-dir.
    """
    from tritonbuild.errors import UsageError

    if not container_build:
        if inside:
            msg = f"{inside[0]} does nothing without --container-build"
            raise UsageError(msg, hint="add --container-build, or leave it out")
        if folders["--build-dir"] is None:
            msg = "--build-dir is missing"
            raise UsageError(
                msg, hint="say where the script will build: --build-dir /abs/server/build"
            )
        return
    for option in ("--build-dir", "--install-dir"):
        if folders[option] is not None:
            msg = f"{option} does not go with --container-build: the container has its own folders"
            raise UsageError(msg, hint="--server-dir says where the server's sources are")


def _find_server_dir(output: Path) -> PurePosixPath:
    """Return the folder around --output, where that is where build.py writes to."""
    from tritonbuild.errors import UsageError

    resolved = output.resolve()
    if resolved.name != "build" or not resolved.parent.name:
        msg = "--container-build: where are the server's sources?"
        raise UsageError(msg, hint="say --server-dir /abs/server, or --output /abs/server/build")
    return PurePosixPath(resolved.parent)
