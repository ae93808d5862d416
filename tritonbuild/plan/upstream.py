"""The commands that Triton's own build.py would write, section by section.

The form was read in server/build.py (commit 35dc045f, days before r23.12) and compared with a
script that it rendered for r23.12. What tritonbuild adds carries a note that says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonbuild.errors import RecipeError
from tritonbuild.plan.model import Command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import PurePosixPath

    from tritonbuild.recipe.component import Component, GitClone, SourceProvider
    from tritonbuild.recipe.model import Release

# Where each kind of component lies in the tree.
TREE_FOLDERS = {
    "backend": "backends",
    "repoagent": "repoagents",
    "cache": "caches",
    "program": "programs",
}

# What build.py calls the branch of a pull request.
PULL_BRANCH = "tritonbuildref"

_SELF_CONTAINED = "so that the libraries beside it are found wherever the tree is put"


def fetch_server(release: Release, server_dir: PurePosixPath) -> tuple[Command, ...]:
    """Return a call of the bash function that fetches what is not there yet.

    The build folder may lie inside the server's, so `git clone` would find a folder in its way.
    """
    return (
        Command(
            (
                "tritonbuild_fetch", str(server_dir), release.server_repository, release.tag,
                release.triton_version,
            ),
            note="the server's sources, where they are not there yet",
        ),
    )  # fmt: skip


def fetch_repository(
    clone: GitClone, tag: str, build_dir: PurePosixPath, *, force: bool = True
) -> tuple[Command, ...]:
    """Return the clone of a component below the build folder.

    Args:
        clone: Its repository.
        tag: Tag or branch, or `pull/N/head` for a pull request.
        build_dir: The build folder.
        force: Take away what is there.
    """
    folder = clone.directory
    into = (
        Command(("mkdir", "-p", str(build_dir))),
        Command(("cd", str(build_dir))),
        *([Command(("rm", "-fr", folder))] if force else []),
    )
    if not tag.startswith("pull/"):
        command = ("git", "clone", *clone.options, "-b", tag, clone.repository, folder)
        return (*into, Command(command, unless_exists=folder))
    options = tuple(option for option in clone.options if option != "--single-branch")
    again = Command(
        ("git", "checkout", "--detach"),
        note="git does not fetch into the branch that an earlier run has checked out",
    )
    return (
        *into,
        Command(("git", "clone", *options, clone.repository, folder), unless_exists=folder),
        Command(("cd", folder)),
        *([] if force else [again]),
        Command(("git", "fetch", "origin", f"{tag}:{PULL_BRANCH}")),
        Command(("git", "checkout", PULL_BRANCH)),
    )


def prepare(
    source: SourceProvider,
    machine: str,
    build_dir: PurePosixPath | None = None,
    trees: Mapping[str, str] | None = None,
) -> tuple[Command, ...]:
    """Return what a component needs between its clone and cmake.

    Args:
        source: The component's source.
        machine: The target, as build.py calls it.
        build_dir: The build folder, where the script is not there yet.
        trees: Where the files of each library are that it is linked to.
    """
    stands_for = {"{target.machine}": machine}
    stands_for |= {f"{{tree.{name}}}": path for name, path in (trees or {}).items()}

    def fill(word: str) -> str:
        for name, value in stands_for.items():
            word = word.replace(name, value)
        return word

    commands = tuple(Command(tuple(map(fill, words))) for words in source.prepare)
    if commands and build_dir is not None:
        return (Command(("cd", str(build_dir))), *commands)
    return commands


def configure(work: PurePosixPath, arguments: tuple[str, ...]) -> tuple[Command, ...]:
    """Return the cmake call of a component."""
    return (
        Command(("mkdir", "-p", str(work))),
        Command(("cd", str(work))),
        Command(("cmake", *arguments), cmake=True),
    )


def make(jobs: int, *, verbose: bool = True, target: str = "install") -> tuple[Command, ...]:
    """Return the compilation of what was configured."""
    return (Command(("make", f"-j{jobs}", f"VERBOSE={int(verbose)}", target)),)


def install_core(
    prefix: PurePosixPath, tree: PurePosixPath, server_dir: PurePosixPath
) -> tuple[Command, ...]:
    """Return the copies from the core's install prefix and the server's sources into the tree."""

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


def install_parts(
    source: SourceProvider, places: Mapping[str, PurePosixPath], tree: PurePosixPath
) -> tuple[Command, ...]:
    """Return the copies of what a recipe says that its component leaves.

    Args:
        source: The component's source.
        places: What `sources`, `build` and `install` are.
        tree: The tree.

    Raises:
        RecipeError: It takes something from elsewhere.
    """
    commands: list[Command] = []
    for part in source.tree:
        place, _, inside = part.from_.partition("/")
        if place not in places or not inside:
            msg = f"tree: {part.from_}: files are taken from {', '.join(places)}"
            raise RecipeError(msg, hint="for example build/libNAME.so*")
        folder = str(tree / part.to) if part.to else str(tree)
        commands += [
            Command(("mkdir", "-p", folder)),
            # Options may stand last for GNU's cp; links stay links.
            Command(("cp", str(places[place] / inside), folder, "-rP"), glob="*" in inside),
        ]
    return tuple(commands)


def collect_sources(
    work: PurePosixPath, tree: PurePosixPath, server_dir: PurePosixPath
) -> tuple[Command, ...]:
    """Return what packs the third parties' sources, which go with a container image."""
    folder = tree / "third-party-src"
    return (
        Command(("mkdir", "-p", str(folder))),
        Command(("cd", str(work))),
        Command(("tar", "zcf", str(folder / "src.tar.gz"), "third-party-src")),
        Command(("cp", str(server_dir / "docker/README.third-party-src"), str(folder / "README"))),
    )


def install_component(
    component: Component, source_dir: PurePosixPath, prefix: PurePosixPath, tree: PurePosixPath
) -> tuple[Command, ...]:
    """Return the copy of a backend, repository agent or cache into the tree.

    Args:
        component: The component.
        source_dir: Its sources.
        prefix: Its install prefix.
        tree: The tree.
    """
    folder = TREE_FOLDERS[component.kind]
    parent, own = tree / folder, tree / folder / component.name
    copies = component.source.copies if component.source else ()
    commands = [Command(("mkdir", "-p", str(parent))), Command(("rm", "-fr", str(own)))]
    if copies:
        commands.append(Command(("mkdir", "-p", str(own))))
        commands += [Command(("cp", str(source_dir / path), str(own))) for path in copies]
    elif component.source and component.source.installs_to:
        installed = source_dir / component.source.installs_to
        targets = [own / path for path in component.source.takes]
        folders = dict.fromkeys(str(target.parent) for target in targets)
        commands.append(Command(("mkdir", "-p", *folders)))
        commands += [
            Command(("cp", "-r", str(installed / path), str(target)))
            for path, target in zip(component.source.takes, targets, strict=True)
        ]
    else:
        commands.append(Command(("cp", "-r", str(prefix / folder / component.name), str(parent))))
    source = component.source
    run_paths = dict.fromkeys(source.origin_rpath, "$ORIGIN") if source else {}
    run_paths |= {path: f"$ORIGIN/{to}" for path, to in source.run_paths.items()} if source else {}
    commands += [
        Command(("patchelf", "--set-rpath", run_path, str(tree / path)), note=_SELF_CONTAINED)
        for path, run_path in run_paths.items()
    ]
    return tuple(commands)
