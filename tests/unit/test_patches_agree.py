"""The two readers of a change, Python's and the scripts' bash function, agree; undo is exact."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tritonbuild.errors import PatchError
from tritonbuild.patches.folder import apply_to_folder, undo_in_folder
from tritonbuild.patches.series import PatchInSeries
from tritonbuild.patches.show import format_diff
from tritonbuild.patches.text import State, judge
from tritonbuild.paths import data_dir
from tritonbuild.plan.model import Command
from tritonbuild.recipe.changes import GUARD, Change, parse_diff
from tritonbuild.recipe.patch import Patch
from tritonbuild.render.bash import format_command, format_functions

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = (data_dir("templates") / "cmake_build_edit.sh").read_text(encoding="utf-8")
PROGRAM = compile(TEMPLATE.split("TRITONBUILD_EDIT'\n")[1].split("\nTRITONBUILD_EDIT\n")[0],
                  "tritonbuild_edit", "exec")  # fmt: skip

# A few bytes, so that texts overlap, repeat and hold one another: a line end of each kind, one that
# is no UTF-8, and what shells look at.
pieces = st.sampled_from([b"a", b"b", b"ab", b"\n", b"\r\n", b"\xff", b"$a", b"'", b"\xc3\xa9"])
contents = st.lists(pieces, max_size=12).map(b"".join)
texts = st.lists(pieces, min_size=1, max_size=3).map(b"".join)
places = st.one_of(
    st.integers(1, 3).map(str), st.integers(1, 6).map(lambda line: f"@{line}")
)  # fmt: skip


@st.composite
def changes(draw) -> Change:
    old, new = (draw(texts).decode("utf-8", "surrogateescape") for _ in range(2))
    where = draw(st.one_of(places, st.sampled_from(["+", "-", "?"])))
    if where in ("+", "-", "?"):
        old, new = ("", new) if where == "+" else (old, "")
    return Change(draw(st.sampled_from(["one", "two"])), where, old, new)


series = st.lists(changes(), min_size=1, max_size=3).map(tuple)
trees = st.fixed_dictionaries({"one": contents}, optional={"two": contents})


def write_tree(folder: Path, tree: dict[str, bytes]) -> None:
    for name in ("one", "two"):
        (folder / name).unlink(missing_ok=True)
        if name in tree:
            (folder / name).write_bytes(tree[name])


def read_tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run_python(folder: Path, patch: PatchInSeries) -> tuple[bool, State | None]:
    try:
        return True, apply_to_folder(folder, [patch])[0].state
    except PatchError:
        return False, None


def arguments_of(folder: Path, patch: PatchInSeries) -> list[str]:
    return [
        word
        for change in patch.changes
        for word in (str(folder / change.file), *change[1:])
    ]  # fmt: skip


def run_program(folder: Path, patch: PatchInSeries) -> bool:
    """Run the bash function's own program, in this process: thousands of times."""
    before, sys.argv = sys.argv, ["-", *arguments_of(folder, patch)]
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            exec(PROGRAM, {"__name__": "__main__"})  # noqa: S102
    except SystemExit as err:
        return not err.code
    finally:
        sys.argv = before
    return True


def run_bash(folder: Path, patch: PatchInSeries) -> bool:
    command = Command(("tritonbuild_edit", *arguments_of(folder, patch)))
    script = "\n".join(["set -e", *format_functions([command]), format_command(command), ""])
    done = subprocess.run(
        [shutil.which("bash"), "-c", script], cwd=folder, capture_output=True, check=False,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr
    return done.returncode == 0


def check_agreement(folder: Path, tree, patch: PatchInSeries, run_script) -> None:
    write_tree(folder, tree)
    scripts = run_script(folder, patch), read_tree(folder)
    write_tree(folder, tree)
    fits, state = run_python(folder, patch)
    after = read_tree(folder)
    alone = len({change.file for change in patch.changes}) == len(patch.changes)
    # Python knows two things more, both of them mistakes of whoever wrote the patch: a later change
    # touches what an earlier one wrote, and a text stands for upstream's repair and is our own.
    strict = any(change.where == GUARD for change in patch.changes) or not alone
    if fits or not scripts[0] or not strict:
        assert (fits, after) == scripts
    if not fits:
        assert after == tree
        return
    assert run_script(folder, patch)
    assert read_tree(folder) == after, "once more changes nothing"
    if state is State.UPSTREAM:
        return
    assert apply_to_folder(folder, [patch])[0].state is State.APPLIED
    assert read_tree(folder) == after
    try:
        undo_in_folder(folder, [patch])
    except PatchError:
        assert not alone, "changes of one file may contradict each other, and then it stays"
        assert read_tree(folder) == after
        return
    # What was there before cannot be told from ours.
    if alone and all(
        change.where == GUARD or judge(change, tree.get(change.file)).state is State.APPLIES
        for change in patch.changes
    ):
        assert read_tree(folder) == tree


few = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
many = settings(few, max_examples=500)


@many
@given(trees, series)
@example({"one": b"aba"}, (Change("one", "1", "ab", "ba"),))
@example({"one": b"aaa"}, (Change("one", "1", "aa", "b"),))
@example({"one": b"a\na\n"}, (Change("one", "@2", "a\n", "b\n"),))
@example({"one": b"a\r\nb"}, (Change("one", "@1", "b", "b\n"),))
@example({"one": b"ab"}, (Change("one", "1", "a", "aa"), Change("one", "1", "aa", "a")))
@example({"one": b""}, (Change("two", "+", "", "x"), Change("one", "-", "", "")))
def test_program_and_python_agree(tmp_path, tree, changes):
    folder = tmp_path / "tree"
    folder.mkdir(exist_ok=True)
    check_agreement(folder, tree, PatchInSeries("c", "p", "s", changes), run_program)


@few
@given(trees, series)
def test_bash_and_python_agree(tmp_path, tree, changes):
    folder = tmp_path / "a $(b) 'tree'"
    folder.mkdir(exist_ok=True)
    check_agreement(folder, tree, PatchInSeries("c", "p", "s", changes), run_bash)


@many
@given(contents, texts, texts, places)
def test_undo_gives_the_same_bytes_back(tmp_path, content, old, new, where):
    old, new = (text.decode("utf-8", "surrogateescape") for text in (old, new))
    patch = PatchInSeries("c", "p", "s", (Change("file", where, old, new),))
    path = tmp_path / "file"
    path.write_bytes(content)
    fits, state = run_python(tmp_path, patch)
    if fits and state is State.APPLIES:
        assert path.read_bytes() != content or old == new
        undo_in_folder(tmp_path, [patch])
    assert path.read_bytes() == content or state is State.APPLIED
    # The same change with its texts exchanged is the undo of scripts.
    path.write_bytes(content)
    if run_program(tmp_path, patch) and state is State.APPLIES:
        back = PatchInSeries("c", "p", "s", (Change("file", where, new, old),))
        assert run_program(tmp_path, back)
        assert path.read_bytes() == content


# --- diffs ------------------------------------------------------------------------------------

lines = st.lists(st.sampled_from(["a", "b", "c", "", "é", "a\r", "-x", "+x", "\\ y"]), max_size=14)


@settings(few, max_examples=300)
@given(lines, lines, st.booleans(), st.booleans())
def test_diff_that_we_print_is_read_back_and_undone(tmp_path, before, after, cut, cut_too):
    sides = ["".join(f"{line}\n" for line in side) for side in (before, after)]
    old = sides[0].removesuffix("\n") if cut else sides[0]
    new = sides[1].removesuffix("\n") if cut_too else sides[1]
    if not old or not new or old == new:
        return
    path = tmp_path / "f"
    path.write_bytes(old.encode())
    patch = Patch(summary="s", why="w", edits=[{"file": "f", "old": old, "new": new}])
    if run_python(tmp_path, PatchInSeries.of("c", "p", patch))[1] is not State.APPLIES:
        return  # such as a text that holds itself
    text = format_diff(patch, lambda _: old.encode())
    hunks = parse_diff(tmp_path / "d", text.encode())
    path.write_bytes(old.encode())
    series = [PatchInSeries("c", "p", "s", hunks)]
    fits, _ = run_python(tmp_path, series[0])
    assert path.read_bytes() == (new if fits else old).encode()
    if fits:
        undo_in_folder(tmp_path, series)
        assert path.read_bytes() == old.encode()


@pytest.mark.parametrize("name", ["one", "two"])
def test_what_cannot_be_written_leaves_both_files(tmp_path, name, need):
    """All of a patch or nothing: also where the second file is the problem."""
    tree = {"one": b"a", "two": b"a"}
    changes = (Change("one", "1", "a", "b"), Change("two", "1", "a", "b"))
    broken = tuple(c._replace(old="x") if c.file == name else c for c in changes)
    for run in (run_program, run_bash, lambda f, p: run_python(f, p)[0]):
        write_tree(tmp_path, tree)
        assert not run(tmp_path, PatchInSeries("c", "p", "s", broken))
        assert read_tree(tmp_path) == tree
        assert run(tmp_path, PatchInSeries("c", "p", "s", changes))
        assert read_tree(tmp_path) == {"one": b"b", "two": b"b"}
