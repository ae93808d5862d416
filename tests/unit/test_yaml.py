"""YAML as recipes see it: text stays text, whatever YAML 1.1 would make of it."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tritonbuild.errors import RecipeError
from tritonbuild.recipe.yaml import MAX_DEPTH, read_document

# Folders of pytest live longer than one example; each example writes its file anew.
same_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None
)


@pytest.fixture
def read(tmp_path):
    def read_text(text: str):
        path = tmp_path / "x.yaml"
        path.write_text(text, encoding="utf-8")
        return read_document(path)

    return read_text


@pytest.mark.parametrize(
    "text", ["23.10", "ON", "off", "yes", "0755", "1e3", "0x1F", "1_000", "2023-12-22", ".inf", "="]
)
def test_plain_scalar_stays_as_it_was_written(read, text):
    assert read(f"key: {text}\n").data == {"key": text}


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_null_is_none(read, text):
    assert read(f"key: {text}\n").data == {"key": None}


def test_quoted_null_is_text(read):
    assert read("a: 'null'\nb: \"\"\nc: !!str null\n").data == {"a": "null", "b": "", "c": "null"}


def test_lines_are_those_of_keys_and_items(read):
    document = read("# x\na:\n  b: 1\n  c:\n    - x\n    - y: 2\n")
    assert document.lines[("a", "b")] == 3
    assert document.lines[("a", "c", 1)] == 6
    assert document.find_line(("a", "c", 1, "nothing", "here")) == 6
    assert document.find_line(("nowhere",)) == 2


def test_windows_line_ends_and_byte_order_mark_are_read(read):
    assert read("\ufeffa: b\r\nc: d\r\n").data == {"a": "b", "c": "d"}


def test_first_value_of_a_duplicate_key_is_kept_and_the_second_is_a_problem(read):
    document = read("a: 1\nb: 2\na: {c: [3]}\n")
    assert document.data == {"a": "1", "b": "2"}
    assert document.problems == [(3, "duplicate key 'a' (first on line 1)")]


text_lists = st.recursive(
    st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@same_folder
@given(text_lists)
def test_any_text_comes_back_as_it_was(read, value):
    text = yaml.safe_dump(value, allow_unicode=True, default_style='"')
    document = read(text)
    assert document.data == value
    assert document.problems == []


@same_folder
@given(st.text())
def test_any_file_is_read_or_refused(read, text):
    try:
        document = read(text)
    except RecipeError as err:
        assert "x.yaml" in err.message  # noqa: PT017
    else:
        assert all(line >= 1 for line in document.lines.values())


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
def test_depth_limit_is_exact(read, depth):
    text = "[" * depth + "]" * depth
    if depth > MAX_DEPTH:
        text = "[" + text + "]"
        with pytest.raises(RecipeError, match=f"nested more than {MAX_DEPTH} deep"):
            read(text)
    else:
        assert read(text).problems == []
