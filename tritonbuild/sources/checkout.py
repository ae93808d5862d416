"""A component's sources from a folder of the user's, which is only ever read."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild.errors import SourceError
from tritonbuild.paths import make_dir
from tritonbuild.sources.address import file_url
from tritonbuild.sources.gitrun import make_bare, run_git

if TYPE_CHECKING:
    import git

# The branch that a checkout's state gets in the build's own copy.
CHECKOUT_REF = "tritonbuild-checkout"
_SHOWN = 10


@dataclass(frozen=True)
class Checkout:
    """A checkout's state, copied.

    Attributes:
        folder: The user's folder.
        repository: Bare repository that holds the commit, whole.
        commit: Its HEAD, or a commit of its working tree on top of that.
        dirty: Id of the working tree where it differs from HEAD.
    """

    folder: Path
    repository: Path
    commit: str
    dirty: str | None


def take_checkout(folder: Path, repository: Path, *, allow_dirty: bool) -> Checkout:
    """Copy what a checkout holds into a repository of our own.

    Args:
        folder: The checkout.
        repository: Where to; made anew.
        allow_dirty: Take the working tree where it differs from HEAD: what is tracked, and what is
            neither tracked nor ignored.

    Raises:
        SourceError: It is no checkout, has no commit, or differs from HEAD.
    """
    with _open(folder) as repo:
        head = repo.head.commit.hexsha
        changes = _list_changes(repo)
    if changes and not allow_dirty:
        shown = [f"  {line}" for line in changes[:_SHOWN]]
        more = len(changes) - _SHOWN
        msg = f"{folder} has changes that are not committed:"
        rest = [f"  and {more} more"] if more > 0 else []
        raise SourceError(
            "\n".join([msg, *shown, *rest]),
            hint="commit them, or say --allow-dirty to build the folder as it is",
        )
    make_dir(repository.parent)
    with tempfile.TemporaryDirectory(dir=repository.parent, prefix=".new-") as name:
        made = Path(name) / "git"
        make_bare(made)
        _copy_commit(folder, made, head)
        commit, tree = _write_tree(folder, made, head) if changes else (head, None)
        shutil.rmtree(repository, ignore_errors=True)
        made.rename(repository)
    return Checkout(folder, repository, commit, tree)


def _open(folder: Path) -> git.Repo:
    """Open a checkout.

    Raises:
        SourceError: It is none, has no commit, or git refuses it.
    """
    import git

    try:
        repo = git.Repo(folder, search_parent_directories=False)
    except (git.InvalidGitRepositoryError, git.NoSuchPathError) as err:
        msg = f"{folder} is not a checkout of a git repository"
        raise SourceError(msg, hint="name the top folder of a clone: COMPONENT=DIR") from err
    if repo.bare or not repo.head.is_valid():
        # To GitPython, a folder that git refuses (another user's) looks like an empty one.
        _run(folder, ["rev-parse", "--git-dir"])
        msg = f"{folder} is a repository without " + ("files" if repo.bare else "a commit")
        raise SourceError(msg, hint="name the top folder of a clone: COMPONENT=DIR")
    return repo


def _list_changes(repo: git.Repo) -> list[str]:
    """Return what differs from HEAD, a line a file; the index of the user's is not even refreshed.

    Raises:
        SourceError: git cannot tell.
    """
    import git

    try:
        output = repo.git(no_optional_locks=True).status(
            "--porcelain=v1", "-z", "--untracked-files=all", "--ignore-submodules=none",
            "--no-renames",
        )  # fmt: skip
    except git.GitCommandError as err:
        msg = f"git status failed in {repo.working_dir}: {err.stderr.strip()}"
        raise SourceError(msg, hint="does `git status` work there?") from err
    return [entry for entry in str(output).split("\0") if entry]


def _copy_commit(folder: Path, target: Path, head: str) -> None:
    top = _run(folder, ["rev-parse", "--show-toplevel"])
    argv = [
        "fetch", "--quiet", "--no-tags", "--depth=1", "--update-shallow", "--no-write-fetch-head",
        "--", file_url(top), f"+{head}:refs/heads/{CHECKOUT_REF}",
    ]  # fmt: skip
    settings = {"uploadpack.allowAnySHA1InWant": "true"}
    result = run_git(target, argv, settings=settings, visible=True)
    if result.returncode:
        msg = f"cannot copy the commit of {folder}: {result.output.strip()}"
        raise SourceError(msg, hint="does `git fsck` there say that it is whole?")


def _write_tree(folder: Path, target: Path, head: str) -> tuple[str, str | None]:
    """Write the working tree as a commit into the target alone; return it and its tree."""
    top = _run(folder, ["rev-parse", "--show-toplevel"])
    index = target / "tritonbuild-index"
    theirs = Path(_run(folder, ["rev-parse", "--path-format=absolute", "--git-path", "index"]))
    if theirs.is_file():
        shutil.copyfile(theirs, index)
    # The user's objects are left out: git would set the time of those that it needs again.
    env = {"GIT_INDEX_FILE": str(index), "GIT_OBJECT_DIRECTORY": str(target / "objects")}
    _run(Path(top), ["add", "--all", "--", "."], env=env)
    # What the index took for unchanged is written, too: it may have been staged only.
    _run(Path(top), ["add", "--renormalize", "--", "."], env=env)
    tree = _run(Path(top), ["write-tree"], env=env)
    date = _run(folder, ["log", "-1", "--no-show-signature", "--format=%ct", head])
    # The same tree on the same commit is the same commit again.
    stamp = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (
            ("NAME", "tritonbuild"),
            ("EMAIL", "tritonbuild@localhost"),
            ("DATE", f"{date} +0000"),
        )
    }
    message = "working tree of a checkout"
    commit = _run(
        Path(top), ["commit-tree", tree, "-p", head, "-m", message], env={**env, **stamp}
    )  # fmt: skip
    index.unlink()
    result = run_git(target, ["update-ref", f"refs/heads/{CHECKOUT_REF}", commit])
    if result.returncode:
        msg = f"cannot note the state of {folder}: {result.output.strip()}"
        raise SourceError(msg)
    return commit, tree


def _run(folder: Path, argv: list[str], *, env: dict[str, str] | None = None) -> str:
    result = run_git(None, ["-C", os.fspath(folder), *argv], env=env)
    if result.returncode:
        msg = f"git {argv[0]} failed in {folder}: {result.output.strip()}"
        raise SourceError(msg, hint="does `git status` work there?")
    return result.output.strip()
