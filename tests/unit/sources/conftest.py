"""A small world of upstream repositories, reached as users reach theirs: through a mirror recipe."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tritonbuild.recipe.model import Mirror
from tritonbuild.sources.resolve import GitWanted, Wanted, bring_sources

UPSTREAM = "https://upstream.invalid"
_IDENTITY = {
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@localhost", "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@localhost", "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_DATE": "1700000000 +0000", "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.file.allow",
    "GIT_CONFIG_VALUE_0": "always",
}  # fmt: skip


def run_git(folder: Path, *arguments: str | Path, env: dict[str, str] | None = None) -> str:
    """Run git and return what it printed."""
    done = subprocess.run(
        ["git", "-C", str(folder), *map(str, arguments)], check=True, text=True,
        capture_output=True, env={**os.environ, **_IDENTITY, **(env or {})}, timeout=60,
    )  # fmt: skip
    return done.stdout.strip()


@dataclass
class Upstream:
    """Repositories below one folder; each change is a commit on `main`."""

    root: Path

    def path(self, name: str) -> Path:
        return self.root / f"{name}.git"

    def url(self, name: str) -> str:
        return f"{UPSTREAM}/{name}.git"

    def commit(self, name: str, files: dict[str, str], *, tag: str | None = None) -> str:
        folder = self.path(name)
        if not folder.exists():
            folder.mkdir(parents=True)
            run_git(folder, "init", "-q", "-b", "main")
            run_git(folder, "config", "receive.denyCurrentBranch", "ignore")
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        run_git(folder, "add", "-A")
        run_git(folder, "commit", "-q", "--allow-empty", "-m", f"change {name}")
        if tag:
            self.tag(name, tag)
        return run_git(folder, "rev-parse", "HEAD")

    def tag(self, name: str, tag: str) -> None:
        run_git(self.path(name), "tag", "-f", tag)

    def add_submodule(self, name: str, path: str, url: str, of: str) -> str:
        """Add a gitlink to another repository's newest commit; return that commit."""
        folder = self.path(name)
        commit = run_git(self.path(of), "rev-parse", "HEAD")
        with (folder / ".gitmodules").open("a") as out:
            out.write(f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n')
        run_git(folder, "add", ".gitmodules")
        run_git(folder, "update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
        run_git(folder, "commit", "-q", "-m", f"submodule {path}")
        return commit


@dataclass
class World:
    """Upstream, a mirror that reaches it, a cache and a store."""

    tmp: Path
    upstream: Upstream
    mirrors: list[Mirror]
    reports: list[str] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.tmp / "work" / "sources"

    @property
    def cache(self) -> Path:
        return self.tmp / "cache"

    @property
    def log(self) -> Path:
        return self.tmp / "work" / "sources.log"

    def want(self, *pairs: tuple[str, str], **more: object) -> Wanted:
        """Return components `NAME` of repositories `NAME` at a reference."""
        repositories = tuple(GitWanted(name, self.upstream.url(name), ref) for name, ref in pairs)
        return Wanted(repositories, **more)

    def bring(self, wanted: Wanted, **options: object):
        values = {
            "store": self.store, "cache": self.cache, "mirrors": self.mirrors, "lock": None,
            "offline": False, "allow_dirty": False, "log": self.log,
            "report": self.reports.append,
        }  # fmt: skip
        return bring_sources(wanted, **{**values, **options})

    def clone(self, url: str, ref: str, *options: str, store: Path | None = None) -> Path:
        """Clone as a build's script does: under the settings that rewrite addresses."""
        target = self.tmp / "clones" / hashlib.sha256(os.urandom(8)).hexdigest()[:8]
        target.parent.mkdir(exist_ok=True)
        env = {
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "include.path",
            "GIT_CONFIG_VALUE_0": str((store or self.store) / "gitconfig"),
        }  # fmt: skip
        run_git(self.tmp, "clone", "-q", *options, "-b", ref, "--", url, target, env=env)
        return target


def make_mirror(**tables: object) -> Mirror:
    return Mirror.model_validate({"name": "test", "summary": "a mirror for tests", **tables})


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    (tmp_path / "upstream").mkdir()
    return Upstream(tmp_path / "upstream")


@pytest.fixture
def world(tmp_path: Path, upstream: Upstream) -> World:
    rule = {"from": f"{UPSTREAM}/", "to": f"file://{upstream.root}/"}
    return World(tmp_path, upstream, [make_mirror(git=[rule])])


@pytest.fixture
def mirror_of():
    return make_mirror


@pytest.fixture
def git():
    return run_git


@pytest.fixture
def tarball(tmp_path: Path) -> Path:
    """A small tar.gz."""
    content = tmp_path / "content"
    content.mkdir()
    (content / "data").write_bytes(os.urandom(200_000))
    path = tmp_path / "pack-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as out:
        out.add(content, "pack-1.0")
    return path


@pytest.fixture
def sha256_of():
    return lambda path: hashlib.sha256(Path(path).read_bytes()).hexdigest()
