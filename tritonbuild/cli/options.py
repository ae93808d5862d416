"""Options that several verbs share, and what they come to."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import OwnArchive, Plan, Request, Setting
    from tritonbuild.recipe.fields import ProviderKind
    from tritonbuild.recipe.load import RecipeBook


def _complete(kind: str, incomplete: str) -> list[str]:
    from tritonbuild.recipe.load import RecipeBook

    return [name for name in RecipeBook.open().names(kind) if name.startswith(incomplete)]


def _complete_board(incomplete: str) -> list[str]:
    return _complete("boards", incomplete)


def _complete_os(incomplete: str) -> list[str]:
    return _complete("os", incomplete)


def _complete_release(incomplete: str) -> list[str]:
    return _complete("releases", incomplete)


def complete_mirror(incomplete: str) -> list[str]:
    """Return the mirrors whose name begins so."""
    return _complete("mirrors", incomplete)


def complete_model(incomplete: str) -> list[str]:
    """Return the example models whose name begins so."""
    return _complete("models", incomplete)


def _complete_mirror(incomplete: str) -> list[str]:
    known = complete_mirror(incomplete)
    return [*known, *(["auto"] if "auto".startswith(incomplete) else [])]


def _complete_component(incomplete: str) -> list[str]:
    from tritonbuild.plan.select import selectable
    from tritonbuild.recipe.load import RecipeBook

    return [name for name in selectable(RecipeBook.open()) if name.startswith(incomplete)]


def _complete_provider(incomplete: str) -> list[str]:
    from tritonbuild.recipe.fields import ProviderKind

    return [kind.value for kind in ProviderKind if kind.value.startswith(incomplete)]


def _complete_executor(incomplete: str) -> list[str]:
    from tritonbuild.plan.model import Executor as ExecutorName

    return [one.value for one in ExecutorName if one.value.startswith(incomplete)]


def _complete_variant(incomplete: str) -> list[str]:
    from tritonbuild.plan.select import selectable
    from tritonbuild.recipe.load import RecipeBook

    book = RecipeBook.open()
    sources = {name: book.component(name).source for name in selectable(book)}
    pairs = [f"{name}={way}" for name, one in sources.items() if one for way in one.variants]
    return [pair for pair in pairs if pair.startswith(incomplete)]


def _complete_source(incomplete: str) -> list[str]:
    return [f"{name}=" for name in _complete_component("") if name.startswith(incomplete)]


def _complete_archive(incomplete: str) -> list[str]:
    from tritonbuild.plan.select import TREE
    from tritonbuild.recipe.load import RecipeBook

    book = RecipeBook.open()
    names = {name for one in book.names("releases") for name in book.release(one).archives}
    names.add(TREE)
    return [f"{name}=" for name in sorted(names) if name.startswith(incomplete)]


def complete_step(incomplete: str) -> list[str]:
    """Return the steps of the last build made from this folder whose id begins so."""
    from tritonbuild.errors import TritonBuildError

    try:
        _, plan = open_workspace(None)
    except (TritonBuildError, OSError, ValueError):
        return []
    return [step.id for step in plan.steps if step.id.startswith(incomplete)]


# typer reads these annotations at run time on Python 3.10 too, hence Optional.
Board = Annotated[
    str,
    typer.Option(help="Board to build for.", autocompletion=_complete_board, show_default=False),
]
Boards = Annotated[
    list[str],
    typer.Option(
        "--board", help="Board to build for; repeat it for more.", autocompletion=_complete_board,
        show_default=False,
    ),
]  # fmt: skip
Os = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Its operating system [the board's usual one].", autocompletion=_complete_os),
]
Release = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Triton release [the board's].", autocompletion=_complete_release),
]
From = Annotated[
    str,
    typer.Option(
        "--from", help="Where components come from: source, wheel or archive.",
        autocompletion=_complete_provider,
    ),
]  # fmt: skip
Executor = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Where a source build runs: native on this machine and for it, emulated in a root of "
        "the board's system, cross with that root as a sysroot, buildx in containers [native on a "
        "machine like the board, else emulated].",
        autocompletion=_complete_executor,
    ),
]
Accelerate = Annotated[
    bool,
    typer.Option(
        help="For --executor emulated and buildx: let compilers of this machine do the work of the board's."
    ),
]
Components = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--component", "-c", help="Component to take; repeat it for more [the board's].",
        autocompletion=_complete_component,
    ),
]  # fmt: skip
Mirror = Annotated[
    str,
    typer.Option(
        help="Set of addresses to fetch from; auto measures them all.",
        autocompletion=_complete_mirror,
    ),
]
Jobs = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--jobs", "-j", min=1, help="Compilers at once [from cores and memory]."),
]
Settings = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="COMPONENT.FLAG=VALUE", help="Set a CMake value; repeatable."),
]
Variants = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--variant", metavar="COMPONENT=NAME",
        help="Another way to build a component, such as onnxruntime=docker; repeatable.",
        autocompletion=_complete_variant,
    ),
]  # fmt: skip
Checkouts = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--source", metavar="COMPONENT=DIR",
        help="Take a component's sources from a local git checkout; repeatable.",
        autocompletion=_complete_source,
    ),
]  # fmt: skip
Archives = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--archive", metavar="NAME=FILE",
        help="Take a file of your own for an archive of the release, such as onnxruntime or, from "
        "archive, tritonserver; repeatable.",
        autocompletion=_complete_archive,
    ),
]  # fmt: skip
BaseImage = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="IMAGE", help="Take the board's system from a container image instead of packages."
    ),
]
Recipes = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="Folder of your own recipes, over the shipped ones [./recipes]."),
]
NewWorkDir = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--work-dir", help="Folder to work in [build/BOARD-RELEASE-HOW]."),
]
WorkDir = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="Folder to work in [the last build's]."),
]
OnHost = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--host", metavar="BOARD",
        help="Over ssh: user@board, a name of ssh's settings, or ssh://user@board:port.",
    ),
]  # fmt: skip
# Where the server is used on a board.
DEFAULT_TO = "/opt/tritonserver"
To = Annotated[
    str, typer.Option("--to", metavar="PATH", help="Where the server is used on the board: a link.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True)
class Choice:
    """What the options that say what to build come to: the recipes, and a request of them."""

    book: RecipeBook
    request: Request


def _shared_options(
    board: Board,
    os: Os = None,
    release: Release = None,
    provider: From = "source",
    executor: Executor = None,
    component: Components = None,
    mirror: Mirror = "upstream",
    jobs: Jobs = None,
    settings: Settings = None,
    variant: Variants = None,
    source: Checkouts = None,
    archive: Archives = None,
    accelerate: Accelerate = True,
    base_image: BaseImage = None,
    recipes: Recipes = None,
) -> Choice:
    """Return what the options ask for; they are written down here, once, for all verbs.

    Raises:
        UsageError: A value is none of those that exist, or is malformed.
    """
    from tritonbuild.plan.model import Executor as ExecutorName
    from tritonbuild.plan.model import Request
    from tritonbuild.plan.named import check_choice
    from tritonbuild.recipe.fields import ProviderKind
    from tritonbuild.recipe.load import RecipeBook

    kind = ProviderKind(check_choice("--from", provider, [p.value for p in ProviderKind]))
    if kind.is_ready_made:
        taken = {} if kind is ProviderKind.ARCHIVE else {"--archive": archive}
        _refuse_ready_made(kind, {"--variant": variant, "--source": source, **taken})
    request = Request(
        board=board,
        os=os,
        release=release,
        provider=kind,
        executor=ExecutorName(check_choice("--executor", executor, [e.value for e in ExecutorName]))
        if executor
        else None,
        components=tuple(component or ()),
        mirror=mirror,
        jobs=jobs,
        settings=tuple(_parse_setting(text) for text in settings or ()),
        variants=dict(
            _parse_pair("--variant", text, "onnxruntime=docker") for text in variant or ()
        ),
        checkouts={
            name: str(Path(folder).resolve())
            for name, folder in (
                _parse_pair("--source", text, "rknn=../rknn_backend") for text in source or ()
            )
        },
        archives=dict(_read_archive(text) for text in archive or ()),
        accelerate=accelerate,
        base_image=base_image,
    )
    return Choice(RecipeBook.open(recipes), request)


def _refuse_ready_made(kind: ProviderKind, given: Mapping[str, list[str] | None]) -> None:
    """Refuse options that a build heeds which compiles.

    Raises:
        UsageError: One of them was given.
    """
    from tritonbuild.errors import UsageError

    for option, texts in given.items():
        if texts:
            msg = f"{option} {texts[0]} does not go with --from {kind}"
            raise UsageError(msg, hint=f"{kind}s come compiled; {option} needs --from source")


def _read_archive(text: str) -> tuple[str, OwnArchive]:
    """Return the name and what `--archive NAME=FILE` stands for; the file is read here, once."""
    from tritonbuild.errors import UsageError
    from tritonbuild.paths import hash_file
    from tritonbuild.plan.model import OwnArchive
    from tritonbuild.sources.address import file_url, is_safe_name

    name, file = _parse_pair("--archive", text, "onnxruntime=onnxruntime-linux-aarch64-1.16.3.tgz")
    path = Path(file).resolve()
    if not path.is_file():
        msg = f"--archive {name}: {path} is no file"
        raise UsageError(msg, hint="name a tar archive of the same layout as the release's")
    if not is_safe_name(path.name):
        msg = f"--archive {name}: the name of {path} has blanks, quotes or the like"
        raise UsageError(msg, hint="rename it, as in onnxruntime-linux-aarch64-1.16.3.tgz")
    return name, OwnArchive(file_url(path), hash_file(path))


def takes_choice(
    *, without: tuple[str, ...] = (), defaults: Mapping[str, str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb the options that say what to build; it gets them as its first argument.

    Args:
        without: Names of `_shared_options` that it does not take.
        defaults: Other defaults than the usual ones; None makes an option's default None.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        shared = inspect.signature(_shared_options, eval_str=True).parameters
        own = inspect.signature(verb, eval_str=True).parameters
        taken = [
            p.replace(default=(defaults or {}).get(name, p.default))
            for name, p in shared.items()
            if name not in without
        ]
        names = [p.name for p in taken]

        @functools.wraps(verb)
        def call(**values: object) -> None:
            mine = {name: values.pop(name) for name in names if name in values}
            fixed = {name: (defaults or {})[name] for name in without if name in (defaults or {})}
            verb(_shared_options(**mine, **fixed), **values)  # type: ignore[arg-type]

        rest = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in list(own.values())[1:]]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in taken] + rest
        # What must be given stands first, as Python wants it.
        parameters.sort(key=lambda p: p.default is not inspect.Parameter.empty)
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        return call

    return decorate


def _parse_setting(text: str) -> Setting:
    import re

    from tritonbuild.errors import UsageError
    from tritonbuild.plan.model import Setting

    # Only the first `=` separates: a value may hold more of them.
    found = re.fullmatch(r"([a-z0-9][a-z0-9._-]*)\.([A-Za-z_][A-Za-z0-9_]*)=(.*)", text, re.DOTALL)
    if not found or "\0" in text:
        msg = f"--set {text!r}: COMPONENT.FLAG=VALUE is wanted"
        raise UsageError(msg, hint="for example --set core.TRITON_ENABLE_TRACING=OFF")
    return Setting(found[1], found[2], found[3])


# What the options that take a pair want, as their help says.
_PAIRS = {"--variant": "COMPONENT=NAME", "--source": "COMPONENT=DIR", "--archive": "NAME=FILE"}


def _parse_pair(option: str, text: str, example: str) -> tuple[str, str]:
    from tritonbuild.plan.named import split_pair

    return split_pair(option, text, "=", _PAIRS[option], example)


def open_book(recipes: Path | None) -> RecipeBook:
    """Open the shipped recipes, with the user's over them."""
    from tritonbuild.recipe.load import RecipeBook

    return RecipeBook.open(recipes)


def open_workspace(work_dir: Path | None) -> tuple[Workspace, Plan]:
    """Return the work directory that was named, or the last build's, and the plan built in it.

    Raises:
        UsageError: There is none, or nothing was built in it.
    """
    from tritonbuild.errors import UsageError
    from tritonbuild.paths import Workspace, recall
    from tritonbuild.plan.model import read_plan

    ws = Workspace(work_dir.resolve() if work_dir else recall())
    if not ws.plan_path.is_file():
        msg = f"{ws.root} is no work directory: it has no plan.json"
        raise UsageError(msg, hint="run `tritonbuild build` first")
    text = ws.plan_path.read_text(encoding="utf-8", errors="replace")
    return ws, read_plan(text, str(ws.plan_path))


def open_finished(work_dir: Path | None) -> tuple[Workspace, Plan]:
    """Return the work directory that was named, or the last build's, and the plan built in it.

    Raises:
        UsageError: There is none, or its build is not finished.
    """
    from tritonbuild.errors import UsageError

    ws, plan = open_workspace(work_dir)
    if not ws.manifest_path.is_file() or not ws.verify_path.is_file():
        msg = f"{ws.root} has no finished build"
        raise UsageError(msg, hint="run `tritonbuild build` first; it goes on where it stopped")
    return ws, plan
