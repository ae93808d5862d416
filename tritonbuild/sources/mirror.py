"""Mirrors: which addresses to try for one that upstream names, and in which order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tritonbuild.sources.address import strip_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tritonbuild.recipe.model import Mirror, Rewrite

# The recipe of the original addresses.
UPSTREAM = "upstream"

_MAX_CHAIN = 5


class Rewriter:
    """The rewrites of several mirrors, the most wanted first.

    The mirror `upstream` stands for the original addresses: mirrors after it are tried after them.
    """

    def __init__(self, mirrors: Sequence[Mirror]) -> None:
        names = [mirror.name for mirror in mirrors]
        first = names.index(UPSTREAM) + 1 if UPSTREAM in names else len(names)
        self._mirrors = tuple(mirrors)
        self._first = self._mirrors[:first]

    def git(self, address: str) -> list[str]:
        """Return the addresses to try for a repository."""
        return self._list(address, lambda mirror: mirror.git, _git_forms)

    def archive(self, url: str) -> list[str]:
        """Return the addresses to try for an archive.

        What one mirror leads to may be rewritten by another: an archive that upstream names at an
        address that is dead is found at its new one, and near to where the user is.
        """
        return self._list(url, lambda mirror: mirror.archives, _url_forms)

    def _list(
        self,
        address: str,
        table_of: Callable[[Mirror], Sequence[Rewrite]],
        forms_of: Callable[[str], list[str]],
    ) -> list[str]:
        found: list[str] = []
        for mirrors in (self._first, self._mirrors):
            tables = [table_of(mirror) for mirror in mirrors]
            found += _follow(address, tables, forms_of, _MAX_CHAIN)
        return list(dict.fromkeys(found))

    def image(self, name: str) -> list[str]:
        """Return the names to try for a container image, its own last."""
        found = [mirror.rewrite_image(name) for mirror in self._first]
        return list(dict.fromkeys([*(one for one in found if one is not None), name]))

    def git_prefixes(self) -> list[tuple[str, str]]:
        """Return the most wanted mirror's rewrite of each prefix, for git's own configuration."""
        found: dict[str, str] = {}
        for mirror in self._first:
            for rule in mirror.git:
                found.setdefault(rule.from_, rule.to)
        return sorted(found.items())


def _follow(
    address: str,
    tables: Sequence[Sequence[Rewrite]],
    forms_of: Callable[[str], list[str]],
    depth: int,
) -> Iterator[str]:
    for table in tables if depth else ():
        rewritten = _rewrite(address, table, forms_of)
        if rewritten is not None and rewritten != address:
            yield from _follow(rewritten, tables, forms_of, depth - 1)
    yield address


def _rewrite(
    address: str, table: Sequence[Rewrite], forms_of: Callable[[str], list[str]]
) -> str | None:
    """Return an address with the longest prefix that fits replaced."""
    best: tuple[int, str] | None = None
    for form in forms_of(address):
        for rule in table:
            for prefix in _schemes(rule.from_):
                if form.startswith(prefix) and (best is None or len(prefix) > best[0]):
                    best = (len(prefix), rule.to + form.removeprefix(prefix))
    return best[1] if best else None


def _schemes(prefix: str) -> list[str]:
    """Return a prefix as it is and, where it is one of the web, with the other scheme."""
    match = re.fullmatch(r"https?(://.*)", prefix)
    return [f"https{match[1]}", f"http{match[1]}"] if match else [prefix]


def _url_forms(url: str) -> list[str]:
    return [strip_credentials(url)]


def _git_forms(address: str) -> list[str]:
    """Return the spellings of a repository's address that a rewrite may be written for."""
    plain = strip_credentials(address).rstrip("/")
    scp = re.fullmatch(r"(?:ssh://)?[\w.-]+@([\w.-]+)(?::\d+)?[:/](.+)", plain)
    bases = [plain, *([f"https://{scp[1]}/{scp[2]}"] if scp else [])]
    return [
        form
        for base in bases
        for form in (base, base.removesuffix(".git"), f"{base.removesuffix('.git')}.git")
    ]
