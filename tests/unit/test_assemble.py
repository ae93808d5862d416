"""The globs of a layout (`*` stays within a folder, `**` spans folders), and its programs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonbuild.errors import AssembleError
from tritonbuild.stage.assemble import Assembly, _check_artefacts, _compile_glob

names = st.lists(
    st.text(st.characters(exclude_characters="/\n", exclude_categories=["Cs"]), min_size=1),
    min_size=1,
    max_size=5,
).map("/".join)


@pytest.mark.parametrize(
    ("glob", "name", "fits"),
    [
        ("a/*", "a/b", True),
        ("a/*", "a/b/c", False),
        ("a/**", "a/b/c", True),
        ("**", "a/b/c", True),
        ("a/?.so", "a/b.so", True),
        ("a/?.so", "a/bc.so", False),
        ("a/?.so", "a//.so", False),
        ("lib*.so.1", "libx.so.1", True),
        ("lib*.so.1", "libx_so_1", False),
        ("a+b/(c)[d]", "a+b/(c)[d]", True),
        ("a", "ab", False),
    ],
)
def test_glob_fits_what_it_says(glob, name, fits):
    assert bool(_compile_glob(glob).fullmatch(name)) is fits


@given(names)
def test_double_star_fits_every_name(name):
    assert _compile_glob("**").fullmatch(name)


@given(names)
def test_name_without_wildcards_fits_itself_only(name):
    plain = name.replace("*", "").replace("?", "") or "x"
    assert _compile_glob(plain).fullmatch(plain)
    assert not _compile_glob(plain).fullmatch(plain + "x")


@given(names)
def test_star_fits_names_of_one_folder_only(name):
    assert bool(_compile_glob("*").fullmatch(name)) is ("/" not in name)


@pytest.mark.parametrize(
    ("artefact", "executable", "problem"),
    [
        pytest.param("backends/x/LICENSE", False, None, id="text"),
        pytest.param("backends/x/stub", True, "x: backends/x/stub cannot be run", id="program"),
        pytest.param("bin/server", False, "x: bin/server cannot be run", id="in-bin"),
        pytest.param("backends/x/gone", False, "x: backends/x/gone is missing", id="missing"),
    ],
)
def test_only_programs_must_have_their_run_bit(tmp_path, artefact, executable, problem):
    assembly = Assembly(tmp_path, "3.11")
    if "gone" not in artefact:
        path = assembly.claim(artefact, "x.whl")
        path.write_text("x")
        path.chmod(0o644)
    if executable:
        assembly.programs.add(artefact)
    parts = [{"component": "x", "artefacts": [artefact]}]
    if problem is None:
        _check_artefacts(assembly, parts)
        return
    with pytest.raises(AssembleError, match=problem):
        _check_artefacts(assembly, parts)
