"""Sources from a folder of the user's: taken as they are, and never touched."""

from __future__ import annotations

import hashlib
import os

import pytest

from tritonbuild.errors import SourceError
from tritonbuild.sources.resolve import is_intact

UPSTREAM = "https://upstream.invalid"


def digest_of(folder) -> dict[str, str]:
    """Every file of a checkout, those of git itself and their times included."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() + str(path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def mine(world, git):
    """A clone of a component's repository with a commit of its own."""
    world.upstream.commit("one", {"a": "upstream\n", "ignored/.gitignore": "*\n"}, tag="v1")
    folder = world.tmp / "my clone"
    git(world.tmp, "clone", "-q", world.upstream.path("one"), folder)
    (folder / "a").write_text("mine\n")
    (folder / ".gitignore").write_text("*.o\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "mine")
    return folder


@pytest.fixture
def wanted(world, mine):
    return world.want(("one", "tritonbuild-checkout"), checkouts={"one": str(mine)})


def test_checkout_is_built_instead_of_the_repository(world, mine, wanted, git):
    lock = world.bring(wanted)
    (locked,) = lock.repositories
    assert locked.commit == git(mine, "rev-parse", "HEAD")
    assert (locked.checkout, locked.dirty, locked.repository) == (True, None, f"{UPSTREAM}/one.git")
    assert is_intact(lock, world.store)
    for address in (f"{UPSTREAM}/one.git", str(mine)):
        clone = world.clone(address, "tritonbuild-checkout")
        assert (clone / "a").read_text() == "mine\n"


def test_changes_that_are_not_committed_stop_the_build(world, mine, wanted):
    (mine / "a").write_text("changed\n")
    for number in range(12):
        (mine / f"new{number:02}").write_text("x")
    (mine / "x.o").write_text("ignored")
    with pytest.raises(SourceError) as err:
        world.bring(wanted)
    assert " M a" in err.value.message
    assert "?? new00" in err.value.message
    assert "x.o" not in err.value.message
    assert "and 3 more" in err.value.message
    assert "--allow-dirty" in err.value.hint


def test_dirty_checkout_is_taken_whole_and_left_alone(world, mine, wanted, git):
    (mine / "a").write_text("changed\n")
    (mine / "new file").write_text("new\n")
    (mine / "x.o").write_text("ignored\n")
    (mine / "staged").write_text("staged\n")
    git(mine, "add", "staged")
    (mine / "forced.o").write_text("forced\n")
    git(mine, "add", "-f", "forced.o")
    before = digest_of(mine)
    lock = world.bring(wanted, allow_dirty=True)
    assert digest_of(mine) == before
    clone = world.clone(f"{UPSTREAM}/one.git", "tritonbuild-checkout")
    assert (clone / "a").read_text() == "changed\n"
    assert (clone / "new file").read_text() == "new\n"
    assert (clone / "staged").is_file()
    assert (clone / "forced.o").is_file()
    assert not (clone / "x.o").exists()
    assert lock.repositories[0].dirty == git(clone, "rev-parse", "HEAD^{tree}")
    assert world.bring(wanted, allow_dirty=True) == lock
    (mine / "a").write_text("changed again\n")
    assert world.bring(wanted, allow_dirty=True).repositories[0].dirty != lock.repositories[0].dirty


def test_worktree_of_a_clone_is_a_checkout_too(world, mine, git):
    other = world.tmp / "worktree"
    git(mine, "worktree", "add", "-q", other, "-b", "other")
    (other / "a").write_text("in the worktree\n")
    wanted = world.want(("one", "tritonbuild-checkout"), checkouts={"one": str(other)})
    world.bring(wanted, allow_dirty=True)
    clone = world.clone(f"{UPSTREAM}/one.git", "tritonbuild-checkout")
    assert (clone / "a").read_text() == "in the worktree\n"


def test_checkout_of_another_user_is_refused_in_gits_words(world, mine, wanted, require_or_skip):
    require_or_skip(os.geteuid() == 0, "root, to give a folder away")
    for path in (mine, *mine.rglob("*")):
        os.lchown(path, 12345, 12345)
    with pytest.raises(SourceError, match="dubious ownership"):
        world.bring(wanted)


@pytest.mark.parametrize("kind", ["missing", "plain", "empty", "bare"])
def test_folder_that_is_no_checkout_is_refused(world, git, tmp_path, kind):
    folder = tmp_path / "folder"
    if kind != "missing":
        folder.mkdir()
    if kind in ("empty", "bare"):
        git(folder, "init", "-q", *(["--bare"] if kind == "bare" else []))
    world.upstream.commit("one", {"a": "1"}, tag="v1")
    wanted = world.want(("one", "tritonbuild-checkout"), checkouts={"one": str(folder)})
    with pytest.raises(SourceError, match=r"checkout|without"):
        world.bring(wanted)
