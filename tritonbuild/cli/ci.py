"""ci: a workflow that builds, proves, packs and releases, on GitHub or GitLab."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from tritonbuild.cli.options import Boards, Choice, Recipes, open_book, takes_choice
from tritonbuild.cli.package import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tritonbuild.plan.model import Request
    from tritonbuild.render.ci import Pipeline


def _complete(*names: str) -> Callable[[str], list[str]]:
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


# typer reads annotations at run time on Python 3.10 too, hence Optional.
Service = Annotated[
    str,
    typer.Argument(
        metavar="SERVICE", help="github or gitlab.", autocompletion=_complete("github", "gitlab")
    ),
]
Executor = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Where a source build runs: buildx, emulated or cross [buildx].",
        autocompletion=_complete("buildx", "cross", "emulated"),
    ),
]
Formats = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--format", metavar="FORMAT", show_default=False,
        help="Package to make: tar.zst, deb or oci; repeat it for more [tar.zst].",
        autocompletion=_complete(*FORMATS),
    ),
]  # fmt: skip
Install = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="REQUIREMENT",
        help="What pip installs there, such as '.[grpc]' for a checkout [this version].",
    ),
]
Cache = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Where BuildKit keeps what it built: gha (GitHub), registry (GitLab) or none "
        "[the service's].",
        autocompletion=_complete("gha", "registry", "none"),
    ),
]
Runner = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="LABEL", help="Runner to take: runs-on or a tag [ubuntu-24.04, or no tag]."
    ),
]
Output = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="File to write, - for stdout [where the service looks for it]."),
]


@takes_choice(without=("board", "executor", "source", "archive", "recipes"), defaults={"board": ""})
def ci(
    choice: Choice,
    service: Service,
    board: Boards,
    executor: Executor = None,
    recipes: Recipes = None,
    formats: Formats = None,
    install: Install = None,
    cache: Cache = None,
    runner: Runner = None,
    output: Output = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if the file is another one.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a file that was edited.")
    ] = False,
) -> None:
    """Write a workflow that builds for boards, smoke-tests, packs and releases. Offline."""
    from tritonbuild.console import terminal
    from tritonbuild.plan.named import check_choice
    from tritonbuild.render.ci import OUTPUTS, render_ci

    service = check_choice("ci", service, tuple(OUTPUTS))
    pipeline = _make_pipeline(
        choice, service, board, executor=executor, recipes=recipes, formats=formats,
        install=install, cache=cache, runner=runner,
    )  # fmt: skip
    text = render_ci(service, pipeline)
    if output == Path("-"):
        _refuse_with_stdout(check=check, force=force)
        terminal.output(text)
        return
    path = output or Path(OUTPUTS[service])
    if check:
        _compare(path, text)
    else:
        _write(path, text, force=force)


def _make_pipeline(
    choice: Choice,
    service: str,
    boards: list[str],
    *,
    executor: str | None,
    recipes: Path | None,
    formats: list[str] | None,
    install: str | None,
    cache: str | None,
    runner: str | None,
) -> Pipeline:
    """Return what the options come to.

    Raises:
        TritonBuildError: See `make_plan`, and the checks below.
    """
    from dataclasses import replace

    from tritonbuild import __version__
    from tritonbuild.arch import Arch
    from tritonbuild.cli.package import check_formats
    from tritonbuild.plan.make import make_plan
    from tritonbuild.render.ci import CACHES, RUNNERS, Pipeline

    given = {"--format": formats, "--install": install, "--cache": cache, "--runner": runner}
    boards = list(dict.fromkeys(boards))
    folder = _check_recipes(recipes)
    request, used = _check_executor(choice, executor)
    book = open_book(recipes)
    for name in boards:
        make_plan(book, replace(request, board=name))
    pipeline = Pipeline(
        boards=tuple(boards),
        archs=tuple(Arch(book.board(name).arch) for name in boards),
        request=request,
        executor=used,
        recipes=folder,
        formats=tuple(check_formats(formats or ["tar.zst"])),
        install=_check_install(install or f"tritonbuild[grpc]=={__version__}"),
        cache=_check_cache(service, cache, used) or CACHES[service][0],
        runner=_check_runner(runner) or RUNNERS[service],
        command=(),
    )
    return replace(pipeline, command=_describe(service, pipeline, given))


def _check_executor(choice: Choice, executor: str | None) -> tuple[Request, str | None]:
    """Return the request, and the name of the executor; None where nothing is compiled.

    Raises:
        UsageError: There is none of that name, or it would build for the runner.
    """
    from dataclasses import replace

    from tritonbuild.errors import UsageError
    from tritonbuild.plan.model import Executor as ExecutorName
    from tritonbuild.plan.named import check_choice
    from tritonbuild.recipe.fields import ProviderKind

    provider = choice.request.provider or ProviderKind.SOURCE
    if executor is None and provider.is_ready_made:
        return choice.request, None
    used = ExecutorName(
        check_choice(
            "--executor", executor or ExecutorName.BUILDX.value, [e.value for e in ExecutorName]
        )
    )
    if used is ExecutorName.NATIVE:
        msg = "--executor native builds for the runner, not for the board"
        raise UsageError(msg, hint="take buildx, emulated or cross; they run on any runner")
    if provider.is_ready_made:
        msg = f"--executor does not go with --from {provider}: nothing is compiled"
        raise UsageError(msg, hint="leave it out, or say --from source")
    return replace(choice.request, executor=used), used.value


def _check_recipes(recipes: Path | None) -> str | None:
    """Return the folder of recipes as the workflow names it.

    Raises:
        UsageError: It cannot be there in a checkout.
    """
    from tritonbuild.errors import UsageError

    if recipes is None:
        return None
    if recipes.is_absolute() or ".." in recipes.parts:
        msg = f"--recipes {recipes}: a runner has nothing but the repository"
        raise UsageError(msg, hint="name a folder in it, as seen from its top: --recipes recipes")
    return str(recipes)


def _check_install(requirement: str) -> str:
    """Return what pip is to install.

    Raises:
        UsageError: It is nothing.
    """
    from tritonbuild.errors import UsageError

    if not requirement.strip():
        msg = "--install: a requirement as pip takes it is wanted"
        raise UsageError(msg, hint="for example --install 'tritonbuild[grpc]' or '.[grpc]'")
    return requirement


def _check_cache(service: str, cache: str | None, executor: str | None) -> str | None:
    """Return the place of BuildKit's cache, if one was named.

    Raises:
        UsageError: The service has no such place, or BuildKit builds nothing.
    """
    from tritonbuild.errors import UsageError
    from tritonbuild.plan.named import check_choice
    from tritonbuild.render.ci import BUILDX, CACHES

    if cache is None:
        return None
    check_choice("--cache", cache, CACHES[service])
    if executor != BUILDX:
        msg = "--cache is BuildKit's, which builds only with --executor buildx"
        raise UsageError(msg, hint="leave it out: tritonbuild's own cache is kept all the same")
    return cache


def _check_runner(runner: str | None) -> str | None:
    """Return the runner, if one was named.

    Raises:
        UsageError: It cannot be a label.
    """
    import re

    from tritonbuild.errors import UsageError

    if runner is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", runner):
        msg = f"--runner {runner!r}: letters, digits, `.`, `_` and `-` make a label"
        raise UsageError(msg, hint="for example --runner ubuntu-24.04-arm")
    return runner


def _describe(
    service: str, pipeline: Pipeline, given: Mapping[str, str | list[str] | None]
) -> tuple[str, ...]:
    """Return the command that makes this workflow, in one form however it was typed.

    Args:
        service: For whom.
        pipeline: What it does.
        given: Options of this verb that were given, where not giving one means something else.
    """
    from tritonbuild.render.ci import list_choice, list_details

    words = ["tritonbuild", "ci", service]
    for board in pipeline.boards:
        words += ["--board", board]
    words += list_choice(pipeline.request, pipeline.executor, pipeline.recipes)
    words += list_details(pipeline.request)
    for option, value in given.items():
        for one in [value] if isinstance(value, str) else value or ():
            words += [option, one]
    return tuple(words)


# --- the file --------------------------------------------------------------------------------


def _refuse_with_stdout(*, check: bool, force: bool) -> None:
    from tritonbuild.errors import UsageError

    for option, is_given in (("--check", check), ("--force", force)):
        if is_given:
            msg = f"{option} does not go with --output -"
            raise UsageError(msg, hint="--output - prints the workflow and looks at no file")


def _read(path: Path) -> str | None:
    """Return what a file holds; None where there is none."""
    from tritonbuild.errors import HostError

    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as err:
        msg = f"{path} cannot be read: {err.strerror}"
        raise HostError(msg, hint="--output names another file") from err


def _compare(path: Path, text: str) -> None:
    """Print how a file differs from what it should be.

    Raises:
        UsageError: It does.
    """
    import difflib

    from tritonbuild.console import terminal
    from tritonbuild.errors import UsageError

    found = _read(path)
    if found == text:
        terminal.info(f"{path} is what these options come to")
        return
    if found is None:
        msg = f"{path} does not exist"
    else:
        lines = difflib.unified_diff(
            found.splitlines(), text.splitlines(), str(path), "wanted", lineterm=""
        )
        terminal.output("\n".join(line.encode("utf-8", "replace").decode() for line in lines))
        msg = f"{path} is not what these options come to"
    raise UsageError(msg, hint="the same command without --check writes it")


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write the workflow, unless that would lose what somebody wrote.

    Raises:
        UsageError: The file was edited, or is not ours.
    """
    from tritonbuild.console import terminal
    from tritonbuild.errors import UsageError
    from tritonbuild.paths import make_dir, write_text
    from tritonbuild.render.ci import is_sealed

    found = _read(path)
    if found not in (None, text) and not is_sealed(str(found)) and not force:
        msg = f"{path} was edited, or `tritonbuild ci` did not make it"
        hint = "--force overwrites it; --check shows the difference; --output names another file"
        raise UsageError(msg, hint=hint)
    if found != text:
        make_dir(path.parent)
        write_text(path, text)
    terminal.output(str(path))
    terminal.info("unchanged" if found == text else "written" if found is None else "updated")
