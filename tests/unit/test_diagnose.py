"""Why a step failed: every rule on real log lines, and the lines that matter in logs of any size."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import typing

import pytest

from tritonbuild.engine.diagnose import describe_exit, describe_step_failure, diagnose
from tritonbuild.engine.excerpt import MOST_LINES, clean, read_excerpt
from tritonbuild.errors import BuildError, HostError, PatchError, RecipeError, SourceError
from tritonbuild.paths import data_dir
from tritonbuild.plan.model import StepKind
from tritonbuild.recipe.failures import KIND, FailureRules, Retry, StepName, load_rules
from tritonbuild.recipe.load import RecipeBook

RULES = load_rules(RecipeBook.open())
EXAMPLES = [
    pytest.param(rule, text, id=f"{rule.name}-{number}")
    for rule in RULES
    for number, text in enumerate(rule.examples, 1)
]


@pytest.fixture
def write_log(tmp_path):
    def write(*lines: str):
        path = tmp_path / "07-build-core.log"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def describe(log, kind=StepKind.BUILD, returncode=1, **options):
    return describe_step_failure(
        step="07-build-core", title="build core", kind=kind, returncode=returncode, log=log,
        script=log.with_suffix(".sh"), **options,
    )  # fmt: skip


# --- rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "text"), EXAMPLES)
def test_rule_comes_first_on_its_own_examples(rule, text, write_log):
    log = write_log(
        "+ ninja install",
        "-- Detecting CXX compile features - done",
        "[1/9] Building CXX object a.o",
        text,
        "ninja: build stopped: subcommand failed.",
    )
    kind = StepKind(rule.steps[0]) if rule.steps else StepKind.BUILD
    found = diagnose(log, kind, rules=RULES)
    assert [hit.rule.name for hit in found.hits][:1] == [rule.name]
    assert found.lines
    assert found.command == "ninja install"
    error = describe(log, kind, rules=RULES)
    shown = error.message.splitlines()
    assert len(shown) <= 24, "one screen"
    assert any(line.startswith("  cause: ") for line in shown)
    assert any(line.startswith("  do: ") for line in shown)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rule_is_silent_on_an_ordinary_log(rule, write_log):
    log = write_log(
        "-- Looking for arc4random - not found",
        "-- Performing Test HAVE_X - Failed",
        "CMake Deprecation Warning at CMakeLists.txt:24 (cmake_minimum_required):",
        "  Compatibility with CMake < 3.5 will be removed from a future version of CMake.",
        "src/a.cc:1:2: warning: unused variable 'x' [-Wunused-variable]",
        "[2/2] Linking CXX executable tritonserver",
    )
    assert not diagnose(log, StepKind.BUILD, rules=[rule]).hits


def test_names_are_unique_and_files_are_the_users_too(tmp_path):
    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))
    assert len(names) > 80
    assert set(typing.get_args(StepName)) == {kind.value for kind in StepKind}


RULE = """\
schema: 1
name: mine
summary: my rules
rules:
  - name: coffee
    pattern: 'out of coffee'
    steps: [build]
    cause: The machine is empty.
    action: Fill it.
    error: host
    priority: 99
    examples: ['fatal: out of coffee']
"""


@pytest.fixture
def my_rules(tmp_path):
    def write(text: str, name: str = "mine"):
        path = tmp_path / "my recipes" / KIND / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path.parents[1]

    return write


def test_rules_of_the_user_are_added_or_replace_a_file(my_rules, write_log):
    folder = my_rules(RULE)
    rules = load_rules(RecipeBook.open(folder))
    assert len(rules) == len(RULES) + 1
    log = write_log("fatal: out of coffee")
    assert isinstance(describe(log, rules=rules), HostError)
    assert not diagnose(log, StepKind.FETCH, rules=rules).hits, "it counts in build steps only"
    my_rules(RULE.replace("name: mine", "name: memory"), "memory")
    names = {rule.name for rule in load_rules(RecipeBook.open(folder))}
    assert "compiler-out-of-memory" not in names


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param("'out of coffee'", "'('", "6: rules.0.pattern: not a regular", id="regex"),
        pytest.param("'out of coffee'", "'x*'", "6: rules.0.pattern: matches the", id="anything"),
        pytest.param("action:", "actoin:", '9: rules.0.actoin: unknown key; did you', id="key"),
        pytest.param("host", "hots", "10: rules.0.error: ", id="class"),
        pytest.param("[build]", "[built]", "7: rules.0.steps.0: ", id="step"),
        pytest.param("['fatal: out of coffee']", "[]", "12: rules.0.examples: ", id="examples"),
        pytest.param("name: mine", "name: yours", '1: name: is "yours", but', id="file"),
    ],
)  # fmt: skip
def test_slip_in_a_rule_is_told_with_file_and_line(my_rules, write_log, old, new, expected):
    folder = my_rules(RULE.replace(old, new, 1))
    with pytest.raises(RecipeError) as caught:
        load_rules(RecipeBook.open(folder))
    assert f"{folder / KIND / 'mine.yaml'}:{expected}" in caught.value.message


def test_slip_in_the_users_rules_does_not_hide_what_failed(my_rules, write_log, monkeypatch):
    folder = my_rules(RULE.replace("'out of coffee'", "'('"))
    (folder.parent / "recipes").symlink_to(folder)
    monkeypatch.chdir(folder.parent)
    error = describe(write_log("c++: fatal error: Killed signal terminated program cc1plus"))
    assert "The kernel killed a compiler" in error.message
    assert "rules that cannot be read: " in error.message


# --- the lines that matter ----------------------------------------------------------------------


def test_ninjas_failed_edge_is_shown_and_not_how_it_stopped(tmp_path, require_or_skip):
    require_or_skip(shutil.which("ninja") and shutil.which("g++"), "ninja and g++")
    (tmp_path / "a.cc").write_text("int main() { return wrong; }\n")
    for name in "bcd":
        (tmp_path / f"{name}.cc").write_text("#warning error: not really\nint x;\n")
    (tmp_path / "build.ninja").write_text(
        "rule cc\n  command = g++ -fdiagnostics-color=always -c $in -o $out\n"
        + "".join(f"build {name}.o: cc {name}.cc\n" for name in "abcd")
    )
    log = tmp_path / "x.log"
    with log.open("wb") as sink:
        code = subprocess.run(
            ["bash", "-xc", "ninja -j3"], cwd=tmp_path, stdout=sink, stderr=sink, check=False
        ).returncode
    assert code != 0
    found = diagnose(log, StepKind.BUILD, rules=RULES)
    assert found.lines[0].startswith("FAILED: ")
    assert "wrong" in found.lines[1]
    text = "\n".join(found.lines)
    assert "build stopped" not in text
    assert "not really" not in text
    assert "\x1b" not in text
    assert found.command == "ninja -j3"


def test_cmakes_error_is_whole_and_its_farewell_is_not_shown(write_log):
    log = write_log(
        "+ cmake -G Ninja ..",
        "-- Configuring x",
        "CMake Error at CMakeLists.txt:31 (find_package):",
        '  Could not find a package configuration file provided by "RapidJSON" with',
        "  any of the following names:",
        "",
        "    RapidJSONConfig.cmake",
        "    rapidjson-config.cmake",
        "",
        "",
        "-- Configuring incomplete, errors occurred!",
        'See also "/work/CMakeFiles/CMakeOutput.log".',
    )
    found = diagnose(log, StepKind.CONFIGURE, rules=RULES)
    assert found.lines[0].startswith("CMake Error at")
    assert found.lines[-1] == "    rapidjson-config.cmake"
    assert found.hits[0].rule.name == "rapidjson-missing"


@pytest.mark.parametrize("width", [50, 60, 70])
def test_pattern_fits_wherever_cmake_breaks_the_line(write_log, width):
    import textwrap

    message = "Compatibility with CMake < 3.5 has been removed from CMake."
    log = write_log("CMake Error at x:1 (y):", *textwrap.wrap(message, width, initial_indent="  ",
                    subsequent_indent="  "))  # fmt: skip
    assert diagnose(log, StepKind.CONFIGURE, rules=RULES).hits[0].rule.name == "cmake-4"


def test_inner_build_of_an_external_project_is_what_counts(write_log):
    log = write_log(
        "[5/90] Performing build step for 'grpc-repo'",
        "FAILED: grpc-repo-stamp/grpc-repo-build",
        "cd /work && ninja",
        *(f"[{n}/40] Building CXX object {n}.o" for n in range(1, 40)),
        "FAILED: deep.o",
        "c++ -c deep.cc -o deep.o",
        "deep.cc:3:1: error: 'nope' does not name a type",
        "ninja: build stopped: subcommand failed.",
        "[6/90] Building CXX object other.o",
        "ninja: build stopped: subcommand failed.",
    )
    assert diagnose(log, StepKind.BUILD, rules=RULES).lines == (
        "FAILED: deep.o",
        "deep.cc:3:1: error: 'nope' does not name a type",
    )


def test_make_that_goes_on_shows_the_first_error_of_the_last_failure(write_log):
    log = write_log(
        "a.cc:1:1: error: first",
        "make[2]: *** [Makefile:3: a.o] Error 1",
        "make[2]: *** Waiting for unfinished jobs....",
        *(f"[ {n}%] Built target t{n}" for n in range(10, 20)),
        "b.cc:1:1: error: second",
        "make[2]: *** [Makefile:3: b.o] Error 1",
        "make: *** [Makefile:146: all] Error 2",
    )
    assert diagnose(log, StepKind.BUILD, rules=RULES).lines == (
        "a.cc:1:1: error: first",
        "make[2]: *** [Makefile:3: a.o] Error 1",
        "make[2]: *** Waiting for unfinished jobs....",
    )


@pytest.mark.parametrize(("finished", "expected"), [(10, "first"), (100, "second")])
def test_many_files_that_were_built_part_two_failures(write_log, finished, expected):
    """Beside a compiler that fails, as many finish as run at once; more are another run."""
    log = write_log(
        "a.cc:1:1: error: first",
        *(f"[{n}/900] Building CXX object {n}.o" for n in range(finished)),
        "b.cc:1:1: error: second",
    )
    (line,) = diagnose(log, StepKind.BUILD, rules=RULES).lines
    assert line.endswith(expected)


def test_what_was_mended_by_another_try_is_not_the_failure(write_log):
    log = write_log(
        "+ git clone https://github.com/x/y.git",
        "fatal: early EOF",
        "+ git clone https://github.com/x/y.git",
        "+ cmake ..",
        "CMake Error: The source directory \"/x\" does not exist.",
        "+ rm -rf /tmp/x",
    )  # fmt: skip
    found = diagnose(log, StepKind.CONFIGURE, rules=RULES)
    assert found.lines == ('CMake Error: The source directory "/x" does not exist.',)
    assert found.command == "cmake .."


def test_log_without_any_error_shows_its_end(write_log):
    log = write_log(*(f"line {n}" for n in range(100)))
    found = diagnose(log, StepKind.BUILD, rules=RULES)
    assert found.lines == tuple(f"line {n}" for n in range(85, 100))
    assert not found.hits


def test_long_traceback_keeps_how_it_ended(write_log):
    frames = [line for n in range(20) for line in (f'  File "x.py", line {n}, in f', "    f()")]
    log = write_log("Traceback (most recent call last):", *frames, "ValueError: deep", "more")
    lines = diagnose(log, StepKind.BUILD, rules=RULES).lines
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == "..."
    assert lines[-1] == "ValueError: deep"
    assert len(lines) == MOST_LINES


def test_long_lines_keep_their_beginning_and_end(write_log):
    (line,) = diagnose(
        write_log(f"a.cc:1:1: error: {'x' * 3000} is wrong"), StepKind.BUILD, rules=RULES
    ).lines
    assert line.startswith("a.cc:1:1: error: ")
    assert line.endswith("is wrong")
    assert len(line) <= 200


def test_colours_and_controls_are_taken_away():
    assert clean("\x1b[01m\x1b[Ka.cc:1:\x1b[m\x1b[K error\x07\r\n") == "a.cc:1: error"
    assert clean("10 %\r50 %\rfatal: x") == "fatal: x"
    assert clean("\x1b]0;title\x07text") == "text"


def test_missing_and_empty_logs_say_nothing(tmp_path):
    assert read_excerpt(tmp_path / "none.log").shown == ()
    (tmp_path / "empty.log").touch()
    assert read_excerpt(tmp_path / "empty.log").shown == ()
    assert "exit code 3" in describe(tmp_path / "none.log", returncode=3).message


@pytest.mark.parametrize("content", [b"\n" * 5000, b"\xff\xfe\n" * 10, b"no newline", b"\r\n\r\n"])
def test_odd_logs_are_read(tmp_path, content):
    (tmp_path / "odd.log").write_bytes(content)
    assert len(read_excerpt(tmp_path / "odd.log").shown) <= MOST_LINES


def test_log_of_a_gigabyte_is_read_in_little_memory(tmp_path):
    """A hole of 1 GB is one line; the same limits hold for many lines (64 MB of them here)."""
    log = tmp_path / "big.log"
    with log.open("wb") as file:
        file.write(b"+ ninja install\n")
        file.seek(1 << 30)
        file.write(b"\n" + b"[1/2] c++ -Werror=all -c some/file.cc -o some/file.o\n" * 1_200_000)
        file.write(b"FAILED: x.o\nx.cc:1:1: error: at last\n")
    code = (
        "import sys; from pathlib import Path;"
        "from tritonbuild.engine.excerpt import read_excerpt;"
        "found = read_excerpt(Path(sys.argv[1]));"
        "print(found.shown, found.command, Path('/proc/self/status').read_text())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, log], capture_output=True, text=True, check=True, timeout=60
    )
    assert "error: at last') ninja install" in done.stdout
    peak = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert peak
    assert int(peak[1]) < 80_000


# --- the message --------------------------------------------------------------------------------


def test_message_holds_all_that_is_needed(write_log):
    log = write_log("+ ninja -j8 install", "FAILED: a.o", "/tmp/x: No space left on device")
    error = describe(log)
    assert error.exit_code == 4
    assert error.message.splitlines()[:5] == [
        "step 07-build-core failed: build core",
        "  command: ninja -j8 install",
        "  exit code 1",
        "  | FAILED: a.o",
        "  | /tmp/x: No space left on device",
    ]
    assert f"  log: {log}\n  script: {log.with_suffix('.sh')}" in error.message
    assert "tritonbuild shell --failed" in error.hint


@pytest.mark.parametrize(
    ("line", "kind", "expected"),
    [
        ("a.cc:1:1: error: x", StepKind.BUILD, BuildError),
        ("a.cc:1:1: error: x", StepKind.PATCH, PatchError),
        ("something else", StepKind.FETCH, SourceError),
        ("fatal: early EOF", StepKind.FETCH, SourceError),
        ("fatal: early EOF", StepKind.CONFIGURE, SourceError),
        ("error: CMakeLists.txt: patch does not apply", StepKind.FETCH, PatchError),
        ("cp: x: No space left on device", StepKind.FETCH, HostError),
        ("x.hpp:1:1: error: unary_function is deprecated [-Werror]", StepKind.BUILD, BuildError),
    ],
)
def test_class_follows_from_rule_or_step(write_log, line, kind, expected):
    assert type(describe(write_log(line), kind, rules=RULES)) is expected


@pytest.mark.parametrize("kind", [StepKind.CONTAINER, StepKind.IMAGE])
def test_no_shell_is_offered_where_none_can_be_opened(write_log, kind):
    error = describe(write_log("ERROR: failed to solve: something"), kind)
    assert "shell" not in error.hint
    assert "logs --failed" in error.hint
    assert "shell --failed" in describe(write_log("x")).hint


def test_command_comes_from_the_logs_twin_where_nothing_was_traced(write_log):
    log = write_log("fatal: x")
    log.with_suffix(".json").write_text('{"argv": ["bash", "/w/scripts/07 x.sh"]}')
    assert "  command: bash '/w/scripts/07 x.sh'" in describe(log).message


@pytest.mark.parametrize(
    ("returncode", "expected"),
    [
        (2, "exit code 2"),
        (127, "exit code 127: no such command"),
        (137, "exit code 137, ended by SIGKILL: the kernel does that when memory is full"),
        (-9, "ended by SIGKILL: the kernel does that when memory is full"),
        (-15, "ended by SIGTERM: it was asked to end"),
        (255, "exit code 255"),
    ],
)
def test_exit_is_told_in_words(returncode, expected):
    assert describe_exit(returncode) == expected


def test_retry_is_what_the_likeliest_rule_says(write_log):
    log = write_log("c++: fatal error: Killed signal terminated program cc1plus")
    assert diagnose(log, StepKind.BUILD, rules=RULES).retry is Retry.FEWER_JOBS
    assert diagnose(write_log("a.cc:1:1: error: x"), StepKind.BUILD, rules=RULES).retry is None


# --- what is written elsewhere ------------------------------------------------------------------


def test_documented_rule_is_valid_and_works(my_rules, write_log):
    document = (data_dir("recipes").parent / "docs/failures.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```text\n(schema: .*?)^```$", document, re.MULTILINE | re.DOTALL)
    rules = load_rules(RecipeBook.open(my_rules(text, "house")))
    mine = next(rule for rule in rules if rule.name == "proxy-login")
    found = diagnose(write_log(*mine.examples), StepKind.SOURCES, rules=rules)
    assert found.hits[0].rule == mine


def test_committed_schema_is_the_models():
    committed = json.loads((data_dir("recipes") / "schema/failures.json").read_text())
    assert committed.pop("$schema").startswith("https://json-schema.org/")
    assert committed == FailureRules.model_json_schema(by_alias=True)
