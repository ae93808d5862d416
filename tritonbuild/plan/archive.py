"""The steps of `--from archive`: a whole tree that a release has ready-made, checked and taken over."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from tritonbuild.errors import UsageError
from tritonbuild.plan.model import Step, StepKind
from tritonbuild.plan.root import plan_root
from tritonbuild.plan.select import TREE
from tritonbuild.plan.tree import describe_release, plan_verify
from tritonbuild.recipe.fields import ProviderKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tritonbuild.plan.model import OwnArchive, Selection
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import Board, Release, ServerTree

# How NVIDIA calls them: tritonserver2.34.0-jetpack5.1.tgz, tritonserver2.40.0-igpu.tar.gz, and
# tritonserver2.35.0-jetpack5.1.2-update-2.tgz with something more at the end.
_FILE_NAME = re.compile(
    r"tritonserver-?(?P<version>\d+\.\d+\.\d+)-(?P<platform>[a-z]+[0-9.]*?)(-[a-z0-9-]+)?"
    r"\.(tgz|tar\.gz)"
)
_JETPACK = re.compile(r"jetpack([0-9.]+)")


def plan_archive_steps(book: RecipeBook, selection: Selection) -> tuple[Step, ...]:
    """Return root, fetch, unpacking and verification.

    Raises:
        UsageError: The release has no archive for this board and system, or the user's own is for
            others.
    """
    release = book.release(selection.release)
    system = book.operating_system(selection.os)
    own = selection.archives.get(TREE)
    tree = _find_tree(release, book.board(selection.board), selection.os)
    if own is not None:
        _check_own(book, selection, own)
    elif tree is None:
        raise _make_refusal(book, selection)
    address = (own.address, own.sha256) if own else (tree.url, tree.sha256)  # type: ignore[union-attr]
    root = plan_root(book, selection)
    sources = _plan_sources(*address)
    assemble = Step(
        "assemble", StepKind.ASSEMBLE, "unpack /opt/tritonserver",
        "the tree as its makers packed it, with run paths that let it be moved",
        needs=(sources.id,),
        details={
            "name": TREE,
            "parts": [
                {
                    "component": name,
                    "artefacts": list(book.component(name).artefacts.get(ProviderKind.ARCHIVE, ())),
                }
                for name in selection.components
            ],
            **describe_release(release),
        },
    )  # fmt: skip
    more = {
        "bundled": {name: list(libs) for name, libs in system.bundled_packages.items()},
        "libraries": dict(tree.libraries) if tree else _list_libraries(book, selection),
        "runtime_packages": dict(_find_modules(book, selection)),
    }
    verify = plan_verify(selection, system, more, needs=(root.id, assemble.id))
    return root, sources, assemble, verify


def _plan_sources(address: str, sha256: str | None) -> Step:
    wanted = {"component": "core", "name": TREE, "url": address, "sha256": sha256}
    details: dict[str, object] = {
        "repositories": [], "archives": [wanted], "variables": {}, "externals": {},
        "checkouts": {}, "images": [],
    }  # fmt: skip
    name = unquote(urlsplit(address).path.rpartition("/")[2])
    return Step(
        "sources", StepKind.SOURCES, f"fetch {name}",
        "the whole server with its backends, compiled by those who release it", details=details,
    )  # fmt: skip


def _find_modules(book: RecipeBook, selection: Selection) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each component that needs Python modules of the board, and the package of each."""
    for name in selection.components:
        archive = book.component(name).archive
        if archive and selection.os in archive.runtime_packages:
            yield name, dict(archive.runtime_packages[selection.os])


def has_tree(release: Release, board: Board, system: str) -> bool:
    """Return whether a release has an archive for a board with one of its systems."""
    return _find_tree(release, board, system) is not None


def _find_tree(release: Release, board: Board, system: str) -> ServerTree | None:
    return next((tree for tree in release.trees if _fits(tree, board, system)), None)


def _fits(tree: ServerTree, board: Board, system: str) -> bool:
    has_gpu = board.cuda is not None or not tree.cuda
    return tree.arch == board.arch and system in tree.os and has_gpu


def _list_libraries(book: RecipeBook, selection: Selection) -> dict[str, str]:
    """Return what a board's system may have installed for an archive that no release has.

    It is what the archives of other releases for the same board and system want: the libraries are
    JetPack's, and the same for all.
    """
    board = book.board(selection.board)
    found: dict[str, str] = {}
    for name in book.names("releases"):
        tree = _find_tree(book.release(name), board, selection.os)
        found.update(tree.libraries if tree else {})
    return found


def _make_refusal(book: RecipeBook, selection: Selection) -> UsageError:
    """Return why no archive of the release fits, and which ones of others would."""
    release = book.release(selection.release)
    wanted = f"{selection.board} with {selection.os}"
    if not release.trees:
        msg = f"no archive of {release.name} ({release.triton_version}) is known here"
    else:
        theirs = "; ".join(_describe(tree) for tree in release.trees)
        msg = f"the archive of {release.name} is for {theirs}; this is {wanted}"
    return UsageError(f"{msg}{_say_gpu(book, selection)}", hint=_say_what_fits(book, selection))


def _describe(tree: ServerTree) -> str:
    gpu = ", with a CUDA GPU" if tree.cuda else ""
    return f"{tree.summary} ({' or '.join(tree.os)}, {tree.arch}{gpu})"


def _say_gpu(book: RecipeBook, selection: Selection) -> str:
    board = book.board(selection.board)
    trees = book.release(selection.release).trees
    wants = any(tree.cuda and selection.os in tree.os for tree in trees)
    return ", without a CUDA GPU" if wants and board.cuda is None else ""


def _say_what_fits(book: RecipeBook, selection: Selection) -> str:
    board = book.board(selection.board)
    found = [
        f"--release {name}"
        for name in book.names("releases")
        if has_tree(book.release(name), board, selection.os)
    ]
    own = f"an archive of your own with --archive {TREE}=FILE"
    if not found:
        return f"no release here has one that fits; use --from wheel or source, or {own}"
    return f"one that fits has {' or '.join(found)}; or use {own}"


def _check_own(book: RecipeBook, selection: Selection, own: OwnArchive) -> None:
    """Refuse a file that says by its name that it is for another version or system.

    What its name does not say, the check of its files does.

    Raises:
        UsageError: It is for another one.
    """
    file = unquote(urlsplit(own.address).path.rpartition("/")[2])
    found = _FILE_NAME.fullmatch(file)
    if found is None:
        return
    release = book.release(selection.release)
    if found["version"] != release.triton_version:
        msg = f"{file} is Triton {found['version']}; {release.name} is {release.triton_version}"
        names = [
            name
            for name in book.names("releases")
            if book.release(name).triton_version == found["version"]
        ]
        other = f"say --release {' or '.join(names)}, or " if names else ""
        raise UsageError(msg, hint=f"{other}take the archive of {release.triton_version}")
    systems = _systems_of(book, found["platform"])
    if systems and selection.os not in systems:
        msg = f"{file} is for {_say_platform(found['platform'])} ({' or '.join(systems)})"
        msg += f"; this is {selection.board} with {selection.os}"
        raise UsageError(msg, hint=_say_what_fits(book, selection))


def _systems_of(book: RecipeBook, platform: str) -> list[str]:
    """Return the systems that archives of a platform are for, as far as the releases tell."""
    trees = [tree for name in book.names("releases") for tree in book.release(name).trees]
    return list(dict.fromkeys(os for t in trees if t.platform == platform for os in t.os))


def _say_platform(platform: str) -> str:
    jetpack = _JETPACK.fullmatch(platform)
    return f"JetPack {jetpack[1]}" if jetpack else f"JetPack's {platform}"
