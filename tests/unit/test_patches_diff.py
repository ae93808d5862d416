"""Unified diffs: as git writes them, counted, and inside of the sources; exact like edits."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tritonbuild.errors import PatchError, RecipeError
from tritonbuild.patches.folder import apply_to_folder, undo_in_folder
from tritonbuild.patches.series import PatchInSeries
from tritonbuild.patches.text import State
from tritonbuild.recipe.changes import parse_diff
from tritonbuild.recipe.load import load_patch

if TYPE_CHECKING:
    from pathlib import Path

TEN = "".join(f"line {n}\n" for n in range(10))
BLOCKS = "".join(f"begin\n  flags(A)\n  flags(B)\n  flags(C)\nend {n}\n" for n in range(3))


def make_diff(folder: Path, before: dict[str, bytes], after: dict[str, bytes], *more: str) -> bytes:
    """Return what git says of two trees; leave the first in `folder`."""
    git = ["git", "-C", str(folder)]
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([*git, "init", "-q"], check=True)
    for tree in (before, after):
        for path in folder.rglob("*"):
            if path.is_file() and ".git" not in path.parts:
                path.unlink()
        for name, content in tree.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        if tree is before:
            subprocess.run([*git, "add", "-A"], check=True)
    diff = [*git, "diff", *(more or ("--no-renames",))]
    subprocess.run([*git, "add", "-N", "--ignore-removal", "."], check=True)
    text = subprocess.run(diff, check=True, capture_output=True).stdout
    for name in after:
        (folder / name).unlink()
    for name, content in before.items():
        (folder / name).write_bytes(content)
    return text


def apply_patch(folder: Path, patch):
    """Apply one patch alone; return how it stood to the folder before."""
    return apply_to_folder(folder, [PatchInSeries.of("c", "p.yaml", patch)])[0]


def undo_patch(folder: Path, patch) -> None:
    undo_in_folder(folder, [PatchInSeries.of("c", "p.yaml", patch)])


def load(tmp_path: Path, diff: bytes):
    folder = tmp_path / "recipes"
    (folder / "patches").mkdir(parents=True, exist_ok=True)
    (folder / "patches" / "p.diff").write_bytes(diff)
    (folder / "patches" / "p.yaml").write_text("summary: s\nwhy: w\ndiff: p.diff\n")
    return load_patch("p.yaml", [folder])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"a": TEN}, {"a": TEN.replace("line 4", "LINE 4")}, id="one hunk"),
        pytest.param(
            {"a": TEN * 3},
            {"a": "new\n" + TEN * 2 + TEN.replace("5", "five\nfive")},
            id="two hunks",
        ),
        pytest.param({"a": BLOCKS}, {"a": BLOCKS.replace("end 1", "X\nend 1")}, id="repeated"),
        pytest.param({"a": "x\ny"}, {"a": "x\ny\n"}, id="gets a line end"),
        pytest.param({"a": "x\ny\n"}, {"a": "x\nz"}, id="loses a line end"),
        pytest.param({"a": "x\r\ny\r\n"}, {"a": "x\r\nz\r\n"}, id="CRLF"),
        pytest.param({"a": b"\xff\xfe\nx\n"}, {"a": b"\xff\xfe\ny\xe9\n"}, id="no UTF-8"),
        pytest.param({"a": "x\n"}, {"a": "x\n", "d/new": "n\n"}, id="new file"),
        pytest.param({"a": "x\n", "b": "y"}, {"a": "z\n"}, id="removed file"),
        pytest.param({"a b.txt": "x\n"}, {"a b.txt": "y\n"}, id="name with a blank"),
        pytest.param({"a": "-- x\n++ y\n"}, {"a": "-- x\n++ z\n"}, id="lines like headers"),
        pytest.param({"a": "x\n\ny\x0cz\u2028\n"}, {"a": "x\n\ny\x0cZ\u2028\n"}, id="other ends"),
        pytest.param({"a": "x\rb\n"}, {"a": "x\rc\n"}, id="a CR inside"),
    ],
)
def test_a_diff_of_git_is_applied_and_undone(tmp_path, before, after):
    before, after = (
        {name: text if isinstance(text, bytes) else text.encode() for name, text in tree.items()}
        for tree in (before, after)
    )
    folder = tmp_path / "src"
    patch = load(tmp_path, make_diff(folder, before, after))

    def files() -> dict[str, bytes]:
        found = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}

    assert files() == before
    assert apply_patch(folder, patch).state is State.APPLIES
    assert files() == after
    assert apply_patch(folder, patch).state is State.APPLIED
    assert files() == after
    undo_patch(folder, patch)
    assert files() == before
    undo_patch(folder, patch)
    assert files() == before


def test_a_hunk_is_found_where_lines_moved_but_not_where_there_are_two_places(tmp_path):
    folder = tmp_path / "src"
    before, after = BLOCKS.encode(), BLOCKS.replace("end 1", "X\nend 1").encode()
    patch = load(tmp_path, make_diff(folder, {"a": before}, {"a": after}, "-U1"))
    (folder / "a").write_bytes(b"moved\n" + before)
    assert apply_patch(folder, patch).state is State.APPLIES
    assert (folder / "a").read_bytes() == b"moved\n" + after
    blind = load(tmp_path, patch_of("a", "@@ -2,2 +2,3 @@\n   flags(A)\n+  X\n   flags(B)\n"))
    (folder / "a").write_bytes(before)
    assert apply_patch(folder, blind).state is State.APPLIES
    (folder / "a").write_bytes(b"moved\n" + before)
    with pytest.raises(PatchError, match=r"stands there 3 times \(lines 3, 8, 13\), not 1"):
        apply_patch(folder, blind)
    assert (folder / "a").read_bytes() == b"moved\n" + before


def test_whole_lines_are_meant(tmp_path):
    (tmp_path / "a").write_text("xab\nc\n")
    patch = load(tmp_path, patch_of("a", "@@ -1,2 +1,2 @@\n ab\n-c\n+d\n"))
    with pytest.raises(PatchError):
        apply_patch(tmp_path, patch)


def test_nothing_is_changed_where_one_hunk_does_not_fit(tmp_path):
    folder = tmp_path / "src"
    before = {"a": TEN.encode(), "b": TEN.encode()}
    after = {name: text.replace(b"line 4", b"4") for name, text in before.items()}
    patch = load(tmp_path, make_diff(folder, before, after))
    (folder / "b").write_bytes(b"other\n")
    with pytest.raises(PatchError, match="b: the old text is not there"):
        apply_patch(folder, patch)
    assert (folder / "a").read_bytes() == before["a"]
    assert sorted(path.name for path in folder.iterdir()) == [".git", "a", "b"]


def patch_of(name: str, hunks: str, target: str | None = None) -> bytes:
    return f"--- a/{name}\n+++ b/{target or name}\n{hunks}".encode()


HUNK = "@@ -1,2 +1,2 @@\n a\n-b\n+c\n"


@pytest.mark.parametrize(
    ("diff", "said"),
    [
        pytest.param(patch_of("../x", HUNK), "not a path inside the sources", id="dots"),
        pytest.param(patch_of("/etc/x", HUNK), "not a path inside the sources", id="two slashes"),
        pytest.param(b"--- /etc/x\n+++ /etc/x\n" + HUNK.encode(), "inside", id="absolute"),
        pytest.param(b"--- x\n+++ x\n" + HUNK.encode(), "inside the sources", id="no prefix"),
        pytest.param(patch_of(".git/config", HUNK), "inside the sources", id="git's own"),
        pytest.param(
            b'--- "a/\\303\\251"\n+++ "b/\\303\\251"\n' + HUNK.encode(), "in quotes", id="quoted"
        ),
        pytest.param(patch_of("x", HUNK, target="y"), "is renamed to y", id="renamed"),
        pytest.param(
            b"diff --git a/x b/x\nold mode 100644\nnew mode 100755\n", "another mode", id="mode"
        ),
        pytest.param(
            b"diff --git a/x b/x\nnew file mode 120000\n--- /dev/null\n+++ b/x\n"
            b"@@ -0,0 +1 @@\n+/etc/passwd\n\\ No newline at end of file\n",
            "is a link", id="link",
        ),
        pytest.param(
            b"diff --git a/x b/x\nnew file mode 100755\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+x\n",
            "another mode", id="executable",
        ),
        pytest.param(
            b"diff --git a/x b/x\nindex 1..2 100644\nBinary files a/x and b/x differ\n",
            "x is binary", id="binary",
        ),
        pytest.param(
            b"diff --git a/x b/x\nindex 1..2 100644\nGIT binary patch\nliteral 1\nIcmZPo\n\n",
            "x is binary", id="git's binary",
        ),
        pytest.param(patch_of("x", "@@ -1,3 +1,2 @@\n a\n-b\n+c\n"), "shorter", id="too short"),
        pytest.param(patch_of("x", HUNK + "+d\n"), ":7: belongs to no hunk", id="too long"),
        pytest.param(patch_of("x", HUNK + "-d\n e\n"), ":7: belongs to no hunk", id="more removed"),
        pytest.param(patch_of("x", "@@ -0,0 +1 @@\n+c\n"), "no context", id="no context"),
        pytest.param(patch_of("x", "@@ -1 +0,0 @@\n-c\n"), "no context", id="all is removed"),
        pytest.param(b"", "changes nothing", id="empty"),
        pytest.param(b"just some text\n", "changes nothing", id="no diff"),
        pytest.param(b"@@ -1 +1 @@\n-a\n+b\n", "not a diff", id="no names"),
        pytest.param(
            patch_of("x", f"@@ -1,2 +1,2 @@\n a\n-b\n+{'c' * 100_001}\n"), "more than 100000 bytes",
            id="huge",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_done_exactly_is_refused(tmp_path, diff, said):
    with pytest.raises(RecipeError) as caught:
        parse_diff(tmp_path / "p.diff", diff)
    assert said in caught.value.message
    assert caught.value.message.startswith(f"{tmp_path}/p.diff")
    assert caught.value.hint


def test_a_mail_of_git_format_patch_is_read(tmp_path):
    text = b"From 1 Mon\nSubject: [PATCH] x\n\n- one\n- two\n---\n x | 2 +-\n\n" + (
        b"diff --git a/x b/x\nindex 1..2 100644\n" + patch_of("x", HUNK) + b"-- \n2.39.5\n\n"
    )
    changes = parse_diff(tmp_path / "p", text)
    assert [tuple(change) for change in changes] == [("x", "@1", "a\nb\n", "a\nc\n")]
