"""cmake_build: upstream's script for the same switches, and nothing that a value can run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from tritonbuild.errors import RenderError, UsageError
from tritonbuild.plan.layout import SourceLayout
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Request, Setting
from tritonbuild.plan.switches import Switches, apply_switches
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import RecipeBook
from tritonbuild.render import template
from tritonbuild.render.cmake_build import render_cmake_build

GOLDEN = Path(__file__).parents[1] / "golden"
# The build folder of the guide whose script the expectation holds.
BUILD_DIR = PurePosixPath("/data/github_codes/server/build")

BOOK = RecipeBook.open()
BOARDS = BOOK.names("boards")
RELEASES = ["r23.12", "r24.01"]


def make(board: str, *, book=BOOK, build_dir: PurePosixPath = BUILD_DIR, **request):
    request.setdefault("provider", ProviderKind.SOURCE)
    layout = SourceLayout.of_script(build_dir)
    return make_plan(book, Request(board=board, **request), layout=layout)


def render(board: str, **request) -> str:
    return render_cmake_build(make(board, **request), BOOK)


# --- the text ---------------------------------------------------------------------------------


@pytest.mark.parametrize("board", BOARDS)
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


# The guide let CMake build ONNX Runtime with Docker, which is not tritonbuild's own choice.
AS_UPSTREAM = {"onnxruntime": "upstream"}


def test_without_additions_it_is_upstreams_script():
    expected = (GOLDEN / "orangepi5b-r23.12.upstream.sh").read_text(encoding="utf-8")
    found = strip_additions(render("orangepi5b", release="r23.12", variants=AS_UPSTREAM))
    assert "tritonbuild" not in found
    assert re.sub(r"(?m)^make -j\d+ ", "make -j16 ", found) == expected


@pytest.mark.parametrize(
    ("variant", "extra"),
    [
        pytest.param(
            {},
            f' "-DTRITON_ONNXRUNTIME_INCLUDE_PATHS={BUILD_DIR}/archives/onnxruntime/include"'
            f' "-DTRITON_ONNXRUNTIME_LIB_PATHS={BUILD_DIR}/archives/onnxruntime/lib"',
            id="archive, the usual way",
        ),
        pytest.param(
            {"onnxruntime": "docker"}, ' "-DTRITON_BUILD_CONTAINER=ubuntu:22.04"', id="docker"
        ),
    ],
)
def test_variants_add_arguments_to_upstreams_and_change_nothing_else(variant, extra):
    expected = strip_additions(render("orangepi5b", release="r23.12", variants=AS_UPSTREAM))
    found = strip_additions(render("orangepi5b", release="r23.12", variants=variant))
    assert found.count(extra) == 1
    without = re.sub(r"(?m)^make -j\d+ ", "make -j ", found.replace(extra, ""))
    assert without == re.sub(r"(?m)^make -j\d+ ", "make -j ", expected)


def test_job_counts_are_the_plans():
    plan = make("orangepi5b", release="r23.12")
    counts = re.findall(r"(?m)^make -j(\d+) VERBOSE=1 install$", render_cmake_build(plan, BOOK))
    assert [int(count) for count in counts] == [job.count for job in plan.jobs]
    assert max(job.count for job in plan.jobs) <= BOOK.board("orangepi5b").cpu.cores


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("board", BOARDS)
def test_bash_and_shellcheck_find_nothing(board, release, tmp_path, shellcheck):
    script = tmp_path / "cmake_build"
    script.write_text(render(board, release=release), encoding="utf-8")
    parsed = subprocess.run(["bash", "-n", script], check=False, capture_output=True, text=True)
    for done in (parsed, shellcheck(script)):
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
    for components, wanted in ((("core",), False), (("python",), True)):
        plan = make("generic-arm64", book=PLAIN, components=components)
        assert ("tritonbuild_edit()" in render_cmake_build(plan, PLAIN)) == wanted


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
    watched = {key: os.environ.get(key) for key in ("CXXFLAGS", "MINE")}
    out.write(json.dumps([watched, [name, *args]]) + "\\n")


def make(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if name == "git" and "checkout" in args and "-C" in args:
    server = Path(args[args.index("-C") + 1])
    make(server / "LICENSE")
    make(server / "TRITON_VERSION", os.environ["VERSION"] + "\\n")
if name == "git" and args[0] == "clone":
    make(Path(args[-1]) / "CMakeLists.txt", os.environ["BOOST"] + "\\n")
if name == "curl":
    import io, tarfile

    with tarfile.open(args[args.index("--output") + 1], "w:gz") as archive:
        for path in ("include/core/onnxruntime_c_api.h", "lib/libonnxruntime.so.1", "LICENSE"):
            archive.addfile(tarfile.TarInfo("onnxruntime-1/" + path), io.BytesIO(b""))
        link = tarfile.TarInfo("onnxruntime-1/lib/libonnxruntime.so")
        link.type, link.linkname = tarfile.SYMTYPE, "libonnxruntime.so.1"
        archive.addfile(link)
    print(200)
if name == "cmake":
    start = "-DCMAKE_INSTALL_PREFIX:PATH="
    prefix = Path(next(a for a in args if a.startswith(start)).removeprefix(start))
    make(prefix / "bin/tritonserver")
    make(prefix / "lib/libtritonserver.so")
    make(prefix / "python/tritonserver-2.41.0-py3-none-any.whl")
    make(prefix / "include/triton/core/tritonserver.h")
    component = prefix.parent.name
    for folder in ("backends", "repoagents", "caches"):
        make(prefix / folder / component / f"libtriton_{component}.so")
"""

KEPT_PATCH = "python/boost-1.79-mirror.yaml"


def drop_patches(book: RecipeBook) -> RecipeBook:
    """Return recipes with that one patch alone, and no checksums of archives.

    The stand-ins have no sources to edit, and their curl makes an archive of its own.
    """
    releases = []
    for name in book.names("releases"):
        release = book.release(name)
        archives = {
            key: pin.model_copy(
                update={
                    "files": {
                        arch: file.model_copy(update={"sha256": None})
                        for arch, file in pin.files.items()
                    }
                }
            )
            for key, pin in release.archives.items()
        }
        releases.append(release.model_copy(update={"archives": archives}))
    book = book.with_recipes("releases", releases)
    found = []
    for name in book.names("components"):
        component = book.component(name)
        if component.source is None:
            continue
        variants = {
            key: variant.model_copy(update={"patches": ()})
            for key, variant in component.source.variants.items()
        }
        patches = tuple(patch for patch in component.source.patches if patch == KEPT_PATCH)
        changes = {"patches": patches, "variants": variants}
        source = component.source.model_copy(update=changes)
        found.append(component.model_copy(update={"source": source}))
    return book.with_recipes("components", found)


PLAIN = drop_patches(BOOK)

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


def run_script(script: Path, tmp_path: Path, **more: str) -> list[list[str]]:
    """Run a script with the stand-ins first on PATH; return what they were called with."""
    return [argv for _, argv in watch_script(script, tmp_path, **more)]


def watch_script(script: Path, tmp_path: Path, **more: str) -> list[tuple[dict, list[str]]]:
    """Run a script; return what each stand-in saw in its environment, and its arguments."""
    tools = tmp_path / "bin"
    home = tmp_path / "home"
    for folder in (tools, home):
        folder.mkdir(exist_ok=True)
    for name in ("cmake", "make", "git", "patchelf", "curl"):
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
        **more,
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
    return read_record(record)


def read_record(record: Path) -> list[tuple[dict, list[str]]]:
    return [tuple(json.loads(line)) for line in record.read_text().splitlines()]


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
        "orangepi5b",
        book=PLAIN,
        release="r23.12",
        settings=settings,
        build_dir=PurePosixPath(build_dir),
    )
    script = tmp_path / "cmake_build"
    script.write_text(render_cmake_build(plan, PLAIN), encoding="utf-8")

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
    assert any(argv[0] == "curl" for argv in first)
    first = [argv for argv in first if argv[0] != "curl"]
    assert [argv for argv in first if argv[:2] != ["git", "-C"] and argv[1] != "init"] == wanted
    assert second == wanted  # the server's sources and the archive were there
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
    libraries = build_dir / "opt/tritonserver/backends/onnxruntime"
    assert (libraries / "libonnxruntime.so").readlink() == Path("libonnxruntime.so.1")
    assert (build_dir / "archives/onnxruntime/include/onnxruntime_c_api.h").is_file()
    edited = (build_dir / "python" / "CMakeLists.txt").read_text()
    assert edited == "https://archives.boost.io/release/1.79.0/source/boost_1_79_0.tar.gz\n"


HOSTILE_ORGANIZATION = "https://git.example/$(touch${IFS}pwned)`touch${IFS}pwned`/'\"\\;&*"


def test_hostile_switches_arrive_as_they_are_and_nothing_runs(tmp_path):
    """What build.py splits, joins and hands to the shell: here each value is one text."""
    build_dir = tmp_path / "a $(touch pwned)" / "build"
    install_dir = tmp_path / "`touch pwned` -rf"
    switches = Switches(
        like_upstream=True,
        backends=("python", "mine:main", "identity:pull/3/head"),
        caches=("local",),
        organization=HOSTILE_ORGANIZATION,
        extra_core=tuple(f"X{index}:STRING={text}" for index, text in enumerate(HOSTILE)),
        override_core=(f"TRITON_VERSION={HOSTILE[7]}",),
        extra_backend=tuple(f"mine:X{index}={text}" for index, text in enumerate(HOSTILE)),
        override_backend=(f"python:CMAKE_BUILD_TYPE={HOSTILE[8]}",),
        verbose=True,
    )
    request = Request("generic-arm64", provider=ProviderKind.SOURCE, release="r23.12", jobs=2)
    book, request, options = apply_switches(PLAIN, request, switches)
    layout = SourceLayout(
        PurePosixPath(build_dir),
        PurePosixPath(build_dir.parent),
        install_dir=PurePosixPath(install_dir),
    )
    plan = make_plan(book, request, layout=layout, options=options)
    script = tmp_path / "cmake_build"
    script.write_text(render_cmake_build(plan, book), encoding="utf-8")
    calls = run_script(script, tmp_path)

    configured = {call[5].split("/")[-2]: call[4:-1] for call in calls if call[0] == "cmake"}
    assert list(configured) == ["tritonserver", "python", "mine", "identity", "local"]
    core = configured["tritonserver"]
    assert core[-len(HOSTILE) :] == [f"-DX{n}:STRING={text}" for n, text in enumerate(HOSTILE)]
    assert core[2] == f"-DTRITON_VERSION:STRING={HOSTILE[7]}"
    mine = configured["mine"]
    assert mine[-len(HOSTILE) :] == [f"-DX{n}={text}" for n, text in enumerate(HOSTILE)]
    assert configured["python"][0] == f"-DCMAKE_BUILD_TYPE={HOSTILE[8]}"
    clones = [call for call in calls if call[:2] == ["git", "clone"]]
    assert [call[-2:] for call in clones] == [
        [f"{HOSTILE_ORGANIZATION}/{name}.git", folder]
        for name, folder in (
            ("python_backend", "python"),
            ("mine_backend", "mine"),
            ("identity_backend", "identity"),
            ("local_cache", "local"),
        )
    ]
    assert ["git", "fetch", "origin", "pull/3/head:tritonbuildref"] in calls
    assert not [path for path in tmp_path.rglob("*") if path.name == "pwned"]
    assert (install_dir / "backends" / "mine" / "libtriton_mine.so").is_file()
    assert (install_dir / "caches" / "local" / "libtriton_local.so").is_file()


def test_what_compilers_need_holds_for_their_section_alone(tmp_path):
    recipes = tmp_path / "recipes"
    (recipes / "components").mkdir(parents=True)
    text = (BOOK.folders[-1] / "components" / "identity.yaml").read_text(encoding="utf-8")
    assert text.count("\nsource:\n") == 1
    adjustments = """
source:
  adjustments:
    - when: {gcc: ">=1"}
      why: for the test
      environment: {CXXFLAGS: "-DA=$(touch pwned) b", MINE: "x y"}
"""
    path = recipes / "components" / "identity.yaml"
    path.write_text(text.replace("\nsource:\n", adjustments), encoding="utf-8")
    book = drop_patches(RecipeBook((recipes, *BOOK.folders)))
    build_dir = PurePosixPath(tmp_path / "server" / "build")
    request = Request("generic-arm64", components=("core", "square", "identity", "repeat"))
    plan = make_plan(book, request, layout=SourceLayout.of_script(build_dir))
    script = tmp_path / "cmake_build"
    script.write_text(render_cmake_build(plan, book), encoding="utf-8")
    found = {
        argv[5].split("/")[-2]: seen
        for seen, argv in watch_script(script, tmp_path, CXXFLAGS="-O1")
        if argv[0] == "cmake"
    }
    other = {"CXXFLAGS": "-O1", "MINE": None}
    assert found["identity"] == {"CXXFLAGS": "-O1 -DA=$(touch pwned) b", "MINE": "x y"}
    assert [found[name] for name in ("tritonserver", "square", "repeat")] == [other, other, other]


def test_failing_command_stops_the_script(tmp_path):
    build_dir = tmp_path / "server" / "build"
    script = tmp_path / "cmake_build"
    plan = make("generic-arm64", book=PLAIN, build_dir=PurePosixPath(build_dir))
    text = render_cmake_build(plan, PLAIN)
    script.write_text(text.replace("\nmake -j", "\nfalse -j", 1), encoding="utf-8")
    with pytest.raises(AssertionError):
        run_script(script, tmp_path)
    calls = [argv[0] for _, argv in read_record(tmp_path / "record")]
    assert calls == ["git", "git", "git", "cmake"]
