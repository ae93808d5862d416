"""Every error has the exit code that errors.py (and, for users, docs/cli.md) promises."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tritonbuild
from tritonbuild import errors
from tritonbuild.cli import main
from tritonbuild.errors import TritonBuildError

if TYPE_CHECKING:
    from collections.abc import Callable

ERRORS = sorted(
    (
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, TritonBuildError) and found is not TritonBuildError
    ),
    key=lambda found: found.__name__,
)
# What is one thing to users: what they wrote is wrong or cannot be, and a kind of SourceError.
SHARED = {"UsageError", "RecipeError", "UnsupportedError", "UnreachableError"}


def read_table() -> dict[str, int]:
    """Return class and exit code of each line of the table in errors.py."""
    rows = re.findall(r"[├└]── (\w+) +(\d+)  ", errors.__doc__ or "")
    return {name: int(code) for name, code in rows}


def test_table_lists_every_error_with_its_code() -> None:
    assert read_table() == {error.__name__: error.exit_code for error in ERRORS}


def test_codes_are_distinct_and_in_range() -> None:
    codes = [error.exit_code for error in ERRORS if error.__name__ not in SHARED]
    assert len(set(codes)) == len(codes)
    assert 2 not in codes
    # 0 is success, 1 a bug, 126 and up are the shell's.
    assert all(2 < code < 126 for code in codes)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_error_defines_its_own_code(error: type[TritonBuildError]) -> None:
    assert "exit_code" in vars(error), "say it in the class, so that nothing is inherited unseen"
    assert error.__doc__


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_documentation_lists_the_code(error: type[TritonBuildError]) -> None:
    text = (Path(tritonbuild.__file__).parent.parent / "docs/cli.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| *`?(\d+)`? *\|", text, re.MULTILINE)
    assert str(error.exit_code) in rows, f"docs/cli.md has no row for exit code {error.exit_code}"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_main_exits_with_the_code_and_says_the_hint_last(
    error: type[TritonBuildError],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        message = "something is wrong"
        raise error(message, hint="do this")

    monkeypatch.setattr("tritonbuild.cli.app.app", fail)
    monkeypatch.setattr("sys.argv", ["tritonbuild", "list"])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == error.exit_code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: something is wrong\nhint: do this\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["--version"], 0, id="version"),
        pytest.param(["list", "boards"], 0, id="list"),
        pytest.param(["nonsense"], 2, id="unknown-verb"),
        pytest.param(["plan", "--board", "orangepi5b", "--nonsense"], 2, id="unknown-option"),
        pytest.param(["plan", "--board", "orangepi5"], 2, id="unknown-board"),
    ],
)
def test_command_exits_with_the_code(
    run_cli: Callable[..., tuple[int, str, str]], arguments: list[str], code: int
) -> None:
    found, stdout, stderr = run_cli(*arguments)
    assert found == code, stderr
    assert bool(stdout) == (code == 0)
    assert bool(stderr) == (code != 0)
