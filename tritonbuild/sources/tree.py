"""The files of a commit, read out of a bare repository without a checkout."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild.errors import SourceError
from tritonbuild.sources.address import resolve_relative, view_path_of
from tritonbuild.sources.gitrun import run_git

if TYPE_CHECKING:
    from tritonbuild.sources.git import Fetched

# CMake files are text for people; the biggest of the projects around Triton has 2 MB (gRPC).
_MAX_BYTES = 8 << 20


class Tree:
    """The files of one commit, read when they are asked for.

    Args:
        fetched: The commit.
        address: The repository's address.
    """

    def __init__(self, fetched: Fetched, address: str) -> None:
        self.name = view_path_of(address).stem
        self._fetched = fetched
        self._names: frozenset[str] | None = None
        self._known: dict[str, str | None] = {}
        self._lock = threading.Lock()

    def read(self, path: str) -> str | None:
        """Return a file's text, None where there is no such file."""
        with self._lock:
            if self._names is None:
                self._names = self._list_names()
            if path not in self._names:
                return None
            if path not in self._known:
                self._known[path] = self._read(path)
            return self._known[path]

    def _list_names(self) -> frozenset[str]:
        """Return the paths of all plain files that are not too big to be read."""
        argv = ["ls-tree", "-r", "-z", "-l", "--full-tree", self._fetched.commit]
        result = run_git(self._fetched.repository, argv)
        if result.returncode:
            msg = f"{self._fetched.repository}: {result.output.strip()}"
            raise SourceError(msg, hint=f"delete {self._fetched.repository} and run again")
        names = set()
        for entry in result.output.split("\0"):
            head, _, path = entry.partition("\t")
            mode, _, _, size = (head.split() + [""] * 4)[:4]
            if mode in _PLAIN_MODES and size.isdigit() and int(size) <= _MAX_BYTES:
                names.add(path)
        return frozenset(names)

    def _read(self, path: str) -> str | None:
        argv = ["cat-file", "blob", f"{self._fetched.commit}:{path}"]
        result = run_git(self._fetched.repository, argv)
        return result.output if result.returncode == 0 else None


_PLAIN_MODES = {"100644", "100755", "100664"}


@dataclass(frozen=True)
class Submodule:
    """A submodule: its path, its whole address, and the commit that is wanted of it."""

    path: str
    repository: str
    commit: str


def list_submodules(fetched: Fetched, address: str) -> list[Submodule]:
    """Return the submodules of a commit that `git submodule update --init` would fetch.

    Args:
        fetched: The commit.
        address: The repository's address, which relative ones start from.

    Raises:
        SourceError: .gitmodules cannot be read.
    """
    blob = f"{fetched.commit}:.gitmodules"
    if run_git(fetched.repository, ["cat-file", "-e", blob]).returncode:
        return []
    result = run_git(fetched.repository, ["config", "-z", "--blob", blob, "--list"])
    if result.returncode:
        msg = f"{address}: .gitmodules cannot be read: {result.output.strip()}"
        raise SourceError(msg)
    named: dict[str, dict[str, str]] = {}
    for entry in result.output.split("\0"):
        key, _, value = entry.partition("\n")
        if key.startswith("submodule."):
            name, _, what = key.removeprefix("submodule.").rpartition(".")
            named.setdefault(name, {})[what] = value
    paths = {one["path"]: one for one in named.values() if "path" in one and "url" in one}
    commits = _find_links(fetched, list(paths))
    return [
        Submodule(path, resolve_relative(one["url"], address), commits[path])
        for path, one in sorted(paths.items())
        if path in commits and one.get("update") != "none"
    ]


def _find_links(fetched: Fetched, paths: list[str]) -> dict[str, str]:
    """Return the commits that a tree holds at these paths."""
    argv = ["ls-tree", "-z", "--full-tree", fetched.commit, "--", *paths]
    result = run_git(fetched.repository, argv, settings={"core.quotePath": "false"})
    found: dict[str, str] = {}
    for entry in result.output.split("\0") if result.returncode == 0 else ():
        head, _, path = entry.partition("\t")
        parts = head.split(" ")
        if len(parts) == 3 and parts[1] == "commit":
            found[path] = parts[2]
    return found
