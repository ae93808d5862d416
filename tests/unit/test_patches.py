"""The states of patches against sources: told apart, all at once, with the nearest lines."""

from __future__ import annotations

import pytest

from tritonbuild.errors import PatchError, RecipeError
from tritonbuild.patches.series import (
    UNKNOWN,
    PatchInSeries,
    check_series,
    inspect_series,
)
from tritonbuild.patches.show import format_diff
from tritonbuild.patches.text import State
from tritonbuild.recipe.changes import Change
from tritonbuild.recipe.load import load_patch
from tritonbuild.recipe.patch import Patch

SOURCES = {
    "CMakeLists.txt": b"project(x)\noption(GPU ON)\nset(URL http://dead.example/a.tgz)\nend()\n",
    "build/_deps/repo-src/CMakeLists.txt": b"tests(ON)\n",
}


def patch(*changes: tuple[str, ...], name: str = "c/p.yaml", component: str = "c"):
    return PatchInSeries(component, name, "a summary", tuple(Change(*one) for one in changes))


def read(_: str, path: str):
    return SOURCES.get(path)


URL = ("CMakeLists.txt", "1", "http://dead.example/", "http://alive.example/")


def state_of(*series: PatchInSeries, pristine: bool = True) -> list[State]:
    return [report.state for report in inspect_series(series, read, pristine=pristine)]


def test_a_patch_applies():
    assert state_of(patch(URL)) == [State.APPLIES]


@pytest.mark.parametrize(("pristine", "state"), [(True, State.UPSTREAM), (False, State.APPLIED)])
def test_what_is_there_already_is_upstreams_in_its_own_sources(pristine, state):
    there = (URL[0], "1", URL[3], URL[2])
    assert state_of(patch(there), pristine=pristine) == [state]


def test_upstreams_own_repair_is_known_by_its_text():
    guard = ("CMakeLists.txt", "?", "option(GPU ON)", "")
    report = inspect_series([patch(guard, ("CMakeLists.txt", "1", "absent", "x"))], read)[0]
    assert report.state is State.UPSTREAM
    assert report.note == "CMakeLists.txt holds what upstream put there"


def test_a_text_for_upstreams_repair_must_not_be_our_own():
    guard = ("CMakeLists.txt", "?", "alive", "")
    report = inspect_series([patch(guard, URL)], read)[0]
    assert report.state is State.MISFIT
    assert "choose another for `fixed`" in report.problems[0]


def test_part_of_a_patch_may_be_there_already():
    report = inspect_series([patch(URL, ("CMakeLists.txt", "1", "GPU OFF", "GPU ON"))], read)[0]
    assert (report.state, report.note) == (State.APPLIES, "1 of 2 changes are there already")


def test_a_patch_is_checked_against_the_result_of_those_before():
    second = patch(
        ("CMakeLists.txt", "1", "alive.example/a.tgz)\nend()", "alive.example/a.tgz)\nX()")
    )
    assert state_of(second) == [State.MISFIT]
    first = patch(("CMakeLists.txt", "1", "dead", "alive"))
    reports = inspect_series([first, second], read)
    # It fits, but a script that is run again could not tell that the first was applied.
    assert [report.state for report in reports] == [State.APPLIES, State.APPLIES]


def test_a_patch_must_not_touch_what_another_wrote():
    first = patch(URL, name="c/first.yaml")
    second = patch(("CMakeLists.txt", "1", "alive.example", "other.example"))
    report = inspect_series([first, second], read)[1]
    assert report.state is State.MISFIT
    assert "touches what patches/c/first.yaml wrote" in report.problems[0]
    other = patch(("CMakeLists.txt", "1", "alive.example", "other"), component="d")
    assert state_of(first, other) == [State.APPLIES, State.MISFIT], "each has sources of its own"


def test_changes_of_one_patch_must_not_touch_each_other():
    both = patch(URL, ("CMakeLists.txt", "1", "alive.example", "other.example"))
    report = inspect_series([both], read)[0]
    assert report.state is State.MISFIT
    assert "another of its changes" in report.problems[0]


def test_what_is_not_there_yet_is_told():
    nested = patch(("build/_deps/repo-src/CMakeLists.txt", "1", "ON", "OFF"))
    assert state_of(nested) == [State.APPLIES]
    report = inspect_series([nested], lambda *_: UNKNOWN)[0]
    assert report.state is State.UNKNOWN
    check_series([nested], lambda *_: UNKNOWN)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(
            ("absent.txt", "1", "a", "b"), "absent.txt: there is no such file", id="no file"
        ),
        pytest.param(
            ("CMakeLists.txt", "1", "(", "["),
            "the old text stands there 4 times (lines 1, 2, 3, 4), not 1", id="fits too often",
        ),
        pytest.param(
            ("CMakeLists.txt", "2", "project", "x"), "stands there once (line 1), not 2",
            id="fits too seldom",
        ),
        pytest.param(
            ("CMakeLists.txt", "1", "option", "project"),
            "the old text is there, and the new one too, once (line 1): take the lines around it",
            id="both are there",
        ),
        pytest.param(
            ("CMakeLists.txt", "1", "set(URL http://dead.example/b.tgz)\n", "new"),
            "the old text is not there; nearest (- wanted, + there):\n"
            "          - set(URL http://dead.example/b.tgz)\n"
            "        3 + set(URL http://dead.example/a.tgz)\n", id="nearest line",
        ),
        pytest.param(
            ("CMakeLists.txt", "1", "zzzzzzzzz", "x"),
            "the old text is not there, nor anything like it", id="nothing near",
        ),
        pytest.param(
            ("CMakeLists.txt", "1", "zzzzzzzzz", "e"), "the new text stands there 6 times (lines 1, ",
            id="new text too often",
        ),
        pytest.param(
            ("CMakeLists.txt", "1", "project(x)\r\noption", "x"), "without the CR", id="CRLF"
        ),
        pytest.param(
            ("CMakeLists.txt", "+", "", "x"), "is there already, with another content", id="new file"
        ),
        pytest.param(
            ("CMakeLists.txt", "-", "x", ""), "another content than the one", id="removed file"
        ),
    ],
)  # fmt: skip
def test_a_misfit_is_explained(change, said):
    with pytest.raises(PatchError) as caught:
        check_series([patch(change)], read)
    message = caught.value.message
    assert message.startswith("a patch does not fit:\n  patches/c/p.yaml (c)\n    ")
    assert said in message.replace("\n    ", "\n")
    assert "tritonbuild show patches/c/p.yaml" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("content", "old", "new", "said"),
    [
        (b"ab", "b", "aa", "it could not be told where the new text was put"),
        (b"xabb", "ab", "a", "the old text would still be there"),
    ],
)
def test_what_could_not_be_undone_is_not_done(content, old, new, said):
    report = inspect_series([patch(("f", "1", old, new))], lambda *_: content)[0]
    assert said in report.problems[0]
    assert report.problems[0].endswith(": take the lines around it into both")


def test_lines_that_end_in_crlf_are_told():
    crlf = b"a\r\nb\r\n"
    report = inspect_series([patch(("f", "1", "a\nb\n", "x"))], lambda *_: crlf)[0]
    assert report.problems == ("f: the old text is there, but the file's lines end in CR LF",)


def test_all_misfits_of_all_components_are_told_at_once():
    series = [
        patch(("CMakeLists.txt", "1", "one", "x"), ("CMakeLists.txt", "1", "two", "x")),
        patch(URL, name="c/good.yaml"),
        patch(("gone", "1", "a", "b"), name="d/q.yaml", component="d"),
    ]
    with pytest.raises(PatchError) as caught:
        check_series(series, read)
    message = caught.value.message
    assert message.startswith("2 patches do not fit:")
    assert message.count("the old text is not there") == 2
    assert "patches/d/q.yaml (d)" in message
    assert "good" not in message
    assert caught.value.exit_code == 6


def test_many_lines_are_searched_quickly_and_the_nearest_is_found():
    lines = [f"  set_property(TARGET t{n} PROPERTY P {n * 7})" for n in range(3000)]
    content = "\n".join(lines).encode()
    wanted = "  set_property(TARGET t2500 PROPERTY P 17501)\n"
    report = inspect_series([patch(("f", "1", wanted, "x"))], lambda *_: content)[0]
    assert "2501 +   set_property(TARGET t2500 PROPERTY P 17500)" in report.problems[0]


# --- recipes ----------------------------------------------------------------------------------

PATCH = """\
schema: 1
summary: A summary
why: It is needed
edits:
  - {file: a.txt, old: one, new: two}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "patches" / "python").mkdir(parents=True)
    return tmp_path


def test_a_patch_of_the_users_takes_the_place_of_the_shipped_one(folder):
    name = "python/boost-1.79-mirror.yaml"
    (folder / "patches" / name).write_text(PATCH)
    assert load_patch(name).changes != load_patch(name, [folder]).changes
    assert load_patch(name, [folder]).changes == (Change("a.txt", "1", "one", "two"),)
    assert load_patch(name, [folder / "nowhere"]).changes == load_patch(name).changes


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("diff: gone.diff\n", "there is no file gone.diff beside it"),
        ("diff: ../x.diff\n", "a path inside the folder is wanted"),
        ("mirror: No/Name\n", "mirror"),
        ("fixed: [{file: ../a, text: x}]\n", "a path inside the folder is wanted"),
        ("fixed: [{file: a, text: ''}]\n", "at least 1 character"),
    ],
)
def test_a_bad_patch_is_refused(folder, more, said):
    (folder / "patches" / "x.yaml").write_text(PATCH + more)
    with pytest.raises(RecipeError, match=said):
        load_patch("x.yaml", [folder])


def test_a_text_cannot_be_taken_away_without_a_trace(folder):
    (folder / "patches" / "x.yaml").write_text(PATCH.replace("new: two", "new: ''"))
    with pytest.raises(RecipeError, match=r"x.yaml:5: edits.0.new: .*at least 1 character"):
        load_patch("x.yaml", [folder])


@pytest.mark.parametrize("name", ["python/boost-1.79-miror.yaml", "../x.yaml", "python"])
def test_an_unknown_patch_is_an_error(folder, name):
    (folder / "x.yaml").write_text(PATCH)
    with pytest.raises(RecipeError) as caught:
        load_patch(name, [folder])
    if "miror" in name:
        assert 'did you mean "python/boost-1.79-mirror.yaml"' in caught.value.message


def test_a_link_out_of_the_folder_is_refused(folder):
    (folder / "x.yaml").write_text(PATCH)
    (folder / "patches" / "y.yaml").symlink_to(folder / "x.yaml")
    with pytest.raises(RecipeError, match="leads outside"):
        load_patch("y.yaml", [folder])


# --- shown ------------------------------------------------------------------------------------


def test_a_patch_is_shown_with_its_reasons():
    content = {
        "summary": "Mend it", "why": "It is broken", "upstream": ["https://example.org/1"],
        "after": "configure", "when": {"glibc": ">=2.36"}, "mirror": "cn",
        "fixed": [{"file": "f", "text": "mended"}],
        "edits": [{"file": "f", "old": "a\nb\n", "new": "a\nc\n", "count": 2}],
    }  # fmt: skip
    assert format_diff(Patch.model_validate(content)).splitlines() == [
        "# Mend it",
        "# why: It is broken",
        "# https://example.org/1",
        "# after: configure",
        "# only where: glibc >=2.36",
        "# only with: --mirror cn",
        "# not where f holds: 'mended'",
        "--- a/f",
        "+++ b/f",
        "@@ 2 times @@",
        " a",
        "-b",
        "+c",
    ]


@pytest.mark.parametrize("content", [b"x\na\nb", b"x\nA\nb"])
def test_a_patch_is_shown_on_the_sources_whether_it_was_applied_or_not(content):
    edits = [{"file": "f", "old": "x\na", "new": "x\nA"}]
    one = Patch.model_validate({"summary": "s", "why": "w", "edits": edits})
    shown = format_diff(one, lambda _: content).splitlines()
    assert shown[3:] == ["--- a/f", "+++ b/f", "@@ -1,3 +1,3 @@", " x", "-a", "+A", " b",
                         "\\ No newline at end of file"]  # fmt: skip
