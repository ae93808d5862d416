"""Views: bare repositories of one build, whose tags and branches are exactly what it resolved to.

A view holds next to nothing itself: its objects are borrowed from the shared cache. Where git's
addresses are rewritten to views, whatever CMake clones is the commit that was resolved.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.errors import HostError
from tritonbuild.paths import make_dir
from tritonbuild.sources.address import file_url
from tritonbuild.sources.gitrun import git_env, quote, run_git

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tbare = true
[gc]
\tauto = 0
[uploadpack]
\tallowAnySHA1InWant = true
\tallowFilter = true
"""

# What is checked out must be what the commit holds, whatever the user's own settings are. Submodules
# are cloned from files here, which git allows only where it is told to.
_SETTINGS = """\
[core]
\tautocrlf = false
\teol = lf
\tattributesFile = /dev/null
\thooksPath = /dev/null
\tfsmonitor = false
[clone]
\tdefaultRemoteName = origin
\trejectShallow = false
[submodule]
\trecurse = false
[protocol "file"]
\tallow = always
[advice]
\tdetachedHead = false
"""


@dataclass
class View:
    """What a view will hold.

    Attributes:
        refs: Full names of references, and the commit of each.
        sources: Bare repositories that objects are borrowed from.
        spellings: Addresses that lead here.
    """

    refs: dict[str, str] = field(default_factory=dict)
    sources: list[Path] = field(default_factory=list)
    spellings: list[str] = field(default_factory=list)

    def add(self, commit: str, name: str | None, source: Path, spellings: Iterable[str]) -> None:
        """Add a commit, under a reference or so that it can be asked for by its id."""
        self.refs[name or f"refs/heads/tritonbuild-commit-{commit}"] = commit
        if name and name.startswith("refs/pull/"):
            # `git clone -b` knows branches and tags only.
            self.refs[f"refs/heads/{name.removeprefix('refs/')}"] = commit
        if source not in self.sources:
            self.sources.append(source)
        self.spellings += [one for one in spellings if one not in self.spellings]


def write_view(path: Path, view: View) -> None:
    """Write a view in the place of an older one, whole.

    Raises:
        HostError: It cannot be written.
    """
    make_dir(path.parent)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as name:
            made = Path(name) / "git"
            _fill(made, view)
            if path.exists():
                path.rename(Path(name) / "old")
            made.rename(path)
    except OSError as err:
        msg = f"cannot write {path}: {err.strerror}"
        raise HostError(msg, hint="is the disk full, or the folder read-only?") from err


def _fill(folder: Path, view: View) -> None:
    for part in ("objects/info", "objects/pack", "refs/heads", "refs/tags"):
        (folder / part).mkdir(parents=True)
    borrowed = "".join(f"{source / 'objects'}\n" for source in view.sources)
    (folder / "objects" / "info" / "alternates").write_text(borrowed, encoding="utf-8")
    (folder / "config").write_text(_CONFIG, encoding="utf-8")
    # Which commits have no parents here is a repository's own knowledge: it is not borrowed.
    shallow = sorted({line for source in view.sources for line in _read_shallow(source)})
    if shallow:
        (folder / "shallow").write_text("".join(f"{one}\n" for one in shallow), encoding="ascii")
    lines = ["# pack-refs with: peeled fully-peeled sorted \n"]
    lines += [f"{commit} {name}\n" for name, commit in sorted(view.refs.items())]
    (folder / "packed-refs").write_text("".join(lines), encoding="utf-8")
    branches = [name for name in view.refs if name.startswith("refs/heads/")]
    head = f"ref: {branches[0]}" if branches else next(iter(view.refs.values()))
    (folder / "HEAD").write_text(f"{head}\n", encoding="utf-8")


def _read_shallow(source: Path) -> list[str]:
    try:
        return (source / "shallow").read_text(encoding="ascii").split()
    except FileNotFoundError:
        return []


def make_self_contained(path: Path) -> None:
    """Copy into a view what it borrows.

    Raises:
        HostError: There is no room for it.
    """
    borrowed = path / "objects" / "info" / "alternates"
    if not borrowed.is_file():
        return
    result = run_git(path, ["repack", "-a", "-d", "-q"], visible=True)
    if result.returncode:
        msg = f"cannot copy the objects of {path}: {result.output.strip()}"
        raise HostError(msg, hint="is the disk full?")
    borrowed.unlink()


def read_refs(path: Path) -> dict[str, str]:
    """Return a view's references; none where there is no view."""
    try:
        text = (path / "packed-refs").read_text(encoding="utf-8")
    except OSError:
        return {}
    lines = [line.partition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: commit for commit, _, name in lines}


def hold_commits(paths: Sequence[Path], commits: Iterable[str]) -> bool:
    """Return whether the views together have all of these commits, asked in one go."""
    if not paths:
        return not list(commits)
    # git-config(1) has this form of quoting for paths with a colon.
    objects = ":".join(quote(str(path / "objects")) for path in paths)
    argv = [f"--git-dir={paths[0]}", "rev-list", "--no-walk=unsorted", "--quiet", *commits, "--"]
    env = {**git_env(), "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects}
    return proc.capture(["git", *argv], env=env).returncode == 0


def format_git_config(views: Mapping[Path, View], others: Sequence[tuple[str, str]]) -> str:
    """Return the configuration under which git finds the views.

    Args:
        views: The views by their folders.
        others: Prefixes and what stands in their place, for what has no view.
    """
    lines = ["# Addresses of upstream's, and where this build has them.\n"]
    for path, view in sorted(views.items()):
        lines.append(f"[url {quote(file_url(path.with_suffix('')))}]\n")
        lines += [f"\tinsteadOf = {quote(spelling)}\n" for spelling in sorted(view.spellings)]
    for before, after in others:
        lines.append(f"[url {quote(after)}]\n\tinsteadOf = {quote(before)}\n")
    return "".join(lines) + _SETTINGS


def remove_other_views(root: Path, wanted: Iterable[Path]) -> None:
    """Delete views that a build does not use any more."""
    kept = set(wanted)
    for path in sorted(root.rglob("*.git")) if root.is_dir() else ():
        if path not in kept and (path / "packed-refs").is_file():
            shutil.rmtree(path, ignore_errors=True)
