"""Every value reaches the program as the text that it is; safe ones look as upstream's do."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tritonbuild.errors import RenderError
from tritonbuild.plan.model import Command
from tritonbuild.render.bash import format_command, format_commands, quote, quote_glob

if TYPE_CHECKING:
    from pathlib import Path

# Text as Python gets it from a command line: surrogate escapes are bytes that were no UTF-8.
ARGUMENTS = st.text(
    st.one_of(
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
        st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"]),
        st.sampled_from("$`\"'\\!\n\t ;&|<>(){}[]*?~#-"),
    ),
    max_size=30,
)


@pytest.fixture(scope="module")
def recorder(tmp_path_factory) -> Path:
    """A cmake that writes its arguments, each followed by a NUL, into ./argv."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "cmake").write_text("#!/bin/sh\nprintf '%s\\0' \"$@\" >argv\n")
    (folder / "cmake").chmod(0o755)
    return folder


def run_bash(line: str, recorder: Path, cwd: Path, **extra: str) -> list[bytes]:
    script = cwd / "script.sh"
    script.write_text(f"set -e\n{line}\n", encoding="utf-8")
    env = {"PATH": f"{recorder}:/usr/bin:/bin", "LC_ALL": "C.UTF-8", **extra}
    done = subprocess.run(
        ["bash", script],
        check=False,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert {path.name for path in cwd.iterdir()} == {"argv", "script.sh"}
    return (cwd / "argv").read_bytes().split(b"\0")[:-1]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=ARGUMENTS, bare=ARGUMENTS)
@example(value="$(touch pwned)`touch pwned`", bare="; touch pwned")
@example(value="é\\n中\\", bare="-x\n# end tritonbuild\n")
def test_any_text_survives_bash(value, bare, recorder, tmp_path):
    command = Command(("cmake", f"-DX:STRING={value}", bare), cmake=True)
    argv = run_bash(format_command(command), recorder, tmp_path)
    assert argv[3:] == [os.fsencode(f"-DX:STRING={value}"), os.fsencode(bare)]


def test_line_stays_one_printable_line():
    for text in ("a\nb", "\x1b[2J", "\u202eevil", "a\rb", "\u2028", "\x85", "\udcff"):
        line = quote(text)
        assert line.isprintable(), text
        assert len(line.splitlines()) == 1


def test_environment_passes_through_and_may_be_unset(recorder, tmp_path):
    line = format_command(Command(("cmake", ".."), cmake=True))
    assert run_bash(line, recorder, tmp_path) == [
        b"-DTRT_VERSION=", b"-DCMAKE_TOOLCHAIN_FILE=", b"-DVCPKG_TARGET_TRIPLET=", b"..",
    ]  # fmt: skip
    argv = run_bash(line, recorder, tmp_path, CMAKE_TOOLCHAIN_FILE='/a b/$(x)"')
    assert argv[1] == b'-DCMAKE_TOOLCHAIN_FILE=/a b/$(x)"'


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        pytest.param("-DA:BOOL=ON", '"-DA:BOOL=ON"', id="upstream's form"),
        pytest.param("-DA=-O2 -g", '"-DA=-O2 -g"', id="blanks, as upstream would write them"),
        pytest.param("-DA=", '"-DA="', id="empty"),
        pytest.param("/a/b", "/a/b", id="bare path"),
        pytest.param("..", "..", id="bare dots"),
        pytest.param("/a b", "'/a b'", id="path with a blank"),
        pytest.param("-DA=$B", "'-DA=$B'", id="dollar"),
        pytest.param("-DA=!!", "'-DA=!!'", id="history"),
        pytest.param("-DA=a\\b", "'-DA=a\\b'", id="backslash"),
        pytest.param("-DA=a\nb", "$'-DA=a\\x0ab'", id="newline"),
    ],
)
def test_argument_form(argument, line):
    command = Command(("cmake", argument), cmake=True)
    assert format_command(command).endswith(
        f'"-DVCPKG_TARGET_TRIPLET=${{VCPKG_TARGET_TRIPLET}}" {line}'
    )


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/b/python/triton*.whl", "/b/python/triton*.whl"),
        ("/a $(x)*/triton*.whl", "'/a $(x)*'/triton*.whl"),
        ("/*.whl", "/*.whl"),
    ],
)
def test_glob_keeps_its_pattern_and_quotes_its_folder(path, line):
    assert quote_glob(path) == line
    assert format_command(Command(("cp", path, "/d e"), glob=True)) == f"cp {line} '/d e'"


@pytest.mark.parametrize("path", ["/b/$(touch x)*", "/b/a b*", "/b/"])
def test_glob_pattern_with_more_than_a_pattern_is_refused(path):
    with pytest.raises(RenderError, match="no file name pattern"):
        quote_glob(path)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_what_no_argument_can_hold_is_refused(text):
    with pytest.raises(RenderError):
        quote(text)


def test_notes_and_guards_are_grouped():
    commands = [
        Command(("a",)),
        Command(("b",), unless_exists="x y", note="why\n$(touch pwned)\x1b"),
        Command(("c",), unless_exists="x y", note="why\n$(touch pwned)\x1b"),
        Command(("d",), note="other"),
        Command(("e",), unless_exists="f"),
    ]
    assert format_commands(commands) == [
        "a",
        "# tritonbuild: why $(touch pwned)",
        "if [[ ! -e 'x y' ]]; then",
        "  b;",
        "  c;",
        "fi",
        "# end tritonbuild",
        "# tritonbuild: other",
        "d",
        "# end tritonbuild",
        "if [[ ! -e f ]]; then",
        "  e;",
        "fi",
    ]
