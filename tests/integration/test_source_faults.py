"""Source builds that meet what goes wrong out there: each stops with a reason and loses nothing."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tritonbuild.paths import data_dir

# The core alone is the quickest build, rknn the smallest backend.
CORE = ("--component", "core")
RKNN = ("--component", "rknn")


def git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", repository, "-c", "user.name=t", "-c", "user.email=t@example.invalid",
         *arguments],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def check_out(repository: Path, folder: Path, ref: str = "r23.12") -> Path:
    subprocess.run(["git", "clone", "-q", "-b", ref, repository, folder], check=True)
    return folder


# --- sources ----------------------------------------------------------------------------------


def test_tag_that_does_not_exist(own_world, tmp_path):
    git(own_world.repository("zjd1988/rknn_backend"), "update-ref", "-d", "refs/heads/r23.12")
    git(own_world.repository("zjd1988/rknn_backend"), "branch", "r23.11", "HEAD")
    outcome = own_world.build(tmp_path / "work", *RKNN)
    assert outcome.code == 5, outcome.stderr
    assert "r23.12" in outcome.stderr
    assert 'did you mean "r23.11"' in outcome.stderr


def test_moved_tag_stops_a_locked_build(own_world, tmp_path):
    lock = tmp_path / "tritonbuild.lock"
    written = own_world.run(
        "lock", *own_world.options, *RKNN, "--output", lock, cwd=tmp_path, env=own_world.env
    )
    assert written.code == 0, written.stderr
    bare = own_world.repository("zjd1988/rknn_backend")
    work_tree = check_out(bare, tmp_path / "rknn")
    (work_tree / "README.md").write_text("moved\n")
    git(work_tree, "add", "README.md")
    git(work_tree, "commit", "-q", "-m", "move")
    git(work_tree, "push", "-q", "--force", "origin", "HEAD:refs/heads/r23.12")
    outcome = own_world.build(
        tmp_path / "work", *RKNN, env={"TRITONBUILD_CACHE_DIR": str(tmp_path / "other")}
    )
    assert outcome.code == 5, outcome.stderr
    assert git(work_tree, "rev-parse", "HEAD") in outcome.stderr
    assert "lock --update" in outcome.stderr
    updated = own_world.run(
        "lock", *own_world.options, *RKNN, "--update", "--output", lock, cwd=tmp_path,
        env={"TRITONBUILD_CACHE_DIR": str(tmp_path / "third")},
    )  # fmt: skip
    assert updated.code == 0, updated.stderr
    assert git(work_tree, "rev-parse", "HEAD") in updated.stdout
    assert own_world.build(tmp_path / "work", *RKNN).code == 0


def test_repository_that_vanished(own_world, tmp_path):
    shutil.rmtree(own_world.repository("triton-inference-server/common"))
    outcome = own_world.build(tmp_path / "work", *CORE)
    assert outcome.code == 5, outcome.stderr
    assert "triton-inference-server/common" in outcome.stderr


def find_archive(world, name: str) -> Path:
    return next((world.folder / "archives").rglob(name))


@pytest.mark.parametrize("damage", ["cut", "changed", "page"])
def test_damaged_archive_never_stays_in_the_cache(own_world, tmp_path, damage):
    archive = find_archive(own_world, "boost_1_79_0.tar.gz")
    content = archive.read_bytes()
    bad = {
        "cut": content[: len(content) // 2],
        "changed": content[:-9] + b"x" + content[-8:],
        "page": b"<!DOCTYPE html><html><body>gone</body></html>" + b" " * 5000,
    }[damage]
    archive.write_bytes(bad)
    choice = ("--component", "python")
    outcome = own_world.build(tmp_path / "work", *choice)
    assert outcome.code == 5, outcome.stderr
    if damage == "page":
        assert "web page" in outcome.stderr
    kept = [path for path in own_world.cache.rglob("boost_1_79_0.tar.gz") if path.is_file()]
    assert all(path.read_bytes() != bad for path in kept)
    archive.write_bytes(content)
    assert own_world.build(tmp_path / "work", *choice).code == 0


def test_local_checkout(own_world, tmp_path):
    folder = check_out(own_world.repository("zjd1988/rknn_backend"), tmp_path / "mine")
    choice = (*RKNN, "--source", f"rknn={folder}")
    work = tmp_path / "work"
    first = own_world.build(work, *choice)
    assert first.code == 0, first.stderr
    (folder / "CMakeLists.txt").write_text((folder / "CMakeLists.txt").read_text() + "\n# mine\n")
    dirty = own_world.build(work, *choice)
    assert dirty.code == 5
    assert "CMakeLists.txt" in dirty.stderr
    assert "--allow-dirty" in dirty.stderr
    allowed = own_world.build(work, *choice, "--allow-dirty", "--json")
    assert allowed.code == 0, allowed.stderr
    assert own_world.statuses(allowed)["fetch-rknn"] == "done"
    assert own_world.statuses(allowed)["build-core"] == "kept"
    assert (work / "build/rknn/CMakeLists.txt").read_text().endswith("# mine\n")
    assert git(folder, "status", "--porcelain") == "M CMakeLists.txt", "the checkout is untouched"
    manifest = json.loads((work / "manifest.json").read_text())
    assert any(one.get("dirty") for one in manifest["sources"])


# --- patches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["gone", "twice"])
def test_patch_that_does_not_fit_is_found_before_anything_is_built(own_world, tmp_path, fault):
    work_tree = check_out(own_world.repository("zjd1988/rknn_backend"), tmp_path / "rknn")
    lists = work_tree / "CMakeLists.txt"
    text = lists.read_text()
    line = next(one for one in text.splitlines() if "${PT_LIBS}" in one)
    other = f"{line}\n{line}" if fault == "twice" else line.replace("rklib", "library")
    lists.write_text(text.replace(line, other))
    git(work_tree, "commit", "-q", "-a", "-m", fault)
    git(work_tree, "push", "-q", "origin", "HEAD:refs/heads/r23.12")
    outcome = own_world.build(tmp_path / "work", *RKNN)
    assert outcome.code == 6, outcome.stderr
    assert "rknn/run-path.yaml" in outcome.stderr
    wanted = f"{text.splitlines().index(line) + 1}" if fault == "twice" else "FOREACH(rklib"
    assert wanted in outcome.stderr, "the lines that fit, or the nearest ones"
    assert not (tmp_path / "work" / "build").exists(), "nothing was built"


# --- steps ------------------------------------------------------------------------------------


@pytest.fixture
def broken(own_world, tmp_path):
    """A build whose rknn does not compile."""
    folder = check_out(own_world.repository("zjd1988/rknn_backend"), tmp_path / "mine")
    source = next((folder / "src").glob("*.cc"))
    source.write_text(source.read_text() + "\nthis is no C++;\n")
    git(folder, "commit", "-q", "-a", "-m", "broken")
    work = tmp_path / "work"
    choice = ("--component", "python", *RKNN, "--source", f"rknn={folder}")
    return own_world, work, choice, source.name


def test_failed_step_says_everything_that_is_needed(broken):
    world, work, choice, source = broken
    outcome = world.build(work, *choice)
    assert outcome.code == 8, outcome.stderr
    error = outcome.stderr[outcome.stderr.index("error:") :]
    assert "build-rknn" in error
    assert f"{source}" in error
    assert re.search(r"error: .*this|does not name a type", error)
    assert re.search(r"log: .*build-rknn\.log", error)
    assert re.search(r"scripts/\d\d-build-rknn\.sh", error)
    assert "tritonbuild shell --failed" in error
    assert len(error.splitlines()) < 40
    shell = world.run(
        "shell", "--failed", "--work-dir", work, "--", "printenv", "CMAKE_TOOLCHAIN_FILE",
        cwd=work, env=world.env,
    )  # fmt: skip
    assert shell.stdout.strip() == str(work / "toolchain.cmake")


def test_keep_going_builds_what_does_not_need_it(broken):
    world, work, choice, _ = broken
    outcome = world.build(work, *choice, "--keep-going")
    assert outcome.code == 8
    assert "not done" in outcome.stderr
    assert (work / "trees/python/backends/python/libtriton_python.so").is_file()
    assert not (work / "manifest.json").exists()


# Fails once, as a compiler does that the kernel has killed for memory.
GREEDY = """
add_custom_target(greedy ALL
  COMMAND sh -c "test -e tried || { touch tried; echo 'c++: fatal error: Killed signal \
terminated program cc1plus' >&2; exit 1; }"
  VERBATIM)
"""


def test_compiler_that_finds_no_memory_gets_a_second_try_with_half_the_jobs(own_world, tmp_path):
    folder = check_out(own_world.repository("zjd1988/rknn_backend"), tmp_path / "mine")
    lists = folder / "CMakeLists.txt"
    lists.write_text(lists.read_text() + GREEDY)
    git(folder, "commit", "-q", "-a", "-m", "greedy")
    work = tmp_path / "work"
    outcome = own_world.build(work, *RKNN, "--source", f"rknn={folder}", "--jobs", "4")
    assert outcome.code == 0, outcome.stderr
    said = r"warning: \d\d-build-rknn: .* too little memory with 4 jobs; again with 2\n"
    assert len(re.findall(said, outcome.stderr)) == 1, outcome.stderr
    log = next((work / "logs").glob("*-build-rknn.log")).read_text()
    first, mark, second = log.partition("--- tritonbuild: ")
    assert mark, "both tries are in the log"
    assert "FAILED: " in first
    assert "FAILED: " not in second


HOSTILE = {
    "command": "$(touch {mark})",
    "backquotes": "`touch {mark}`",
    "newline": "a\ntouch {mark}\n",
    "quotes": "\"; touch {mark}; \"'; touch {mark}; '",
    "dash": "--version",
    "blanks": "two  words = three",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_value_reaches_cmake_as_text(world, tmp_path, name):
    mark = tmp_path / "mark"
    value = HOSTILE[name].format(mark=mark)
    work = tmp_path / "work"
    outcome = world.build(work, *RKNN, "--set", f"rknn.HOSTILE={value}")
    assert outcome.code == 0, outcome.stderr
    assert not mark.exists()
    record = (work / "build/rknn/build/standin_cmake_variables.txt").read_text()
    assert value.split("\n")[0] in record


BACKEND_COMMON = """\
summary: Say what was lost
why: As the author of a backend asks his users to.
after: configure
edits:
  - file: build/_deps/repo-backend-src/src/backend_common.cc
    old: |
      TRITONSERVER_Error* Failed(const std::string& message) {
    new: |
      TRITONSERVER_Error* Failed(const std::string& message_) {
        const std::string message = "EDITED: " + message_;
"""


def test_recipe_of_the_users_is_text_and_edits_what_cmake_fetched(own_world, tmp_path):
    """Values of a recipe are no code; a patch after `configure` is in what gets compiled."""
    mark = tmp_path / "mark"
    values = [value.format(mark=mark) for value in HOSTILE.values()]
    recipe = data_dir("recipes") / "components" / "rknn.yaml"
    content = yaml.safe_load(recipe.read_text())
    source = content["source"]
    source["patches"].append("mine/backend-common.yaml")
    source["cmake_args"] += [
        {"name": f"HOSTILE_{number}", "value": value} for number, value in enumerate(values)
    ]
    folder = own_world.folder / "recipes"
    (folder / "components").mkdir(exist_ok=True)
    (folder / "components" / "rknn.yaml").write_text(yaml.safe_dump(content))
    (folder / "patches" / "mine").mkdir(parents=True)
    (folder / "patches" / "mine" / "backend-common.yaml").write_text(BACKEND_COMMON)
    work = tmp_path / "work"
    outcome = own_world.build(work, *RKNN)
    assert outcome.code == 0, outcome.stderr
    assert not mark.exists()
    record = (work / "build/rknn/build/standin_cmake_variables.txt").read_text()
    for number, value in enumerate(values):
        assert re.search(rf"^HOSTILE_{number}:\w+={re.escape(value)}$", record, re.MULTILINE)
    built = work / "stage/opt/tritonserver/backends/rknn/libtriton_rknn.so"
    assert b"EDITED: " in built.read_bytes()


@pytest.mark.parametrize("name", ["with blanks", "with'quote", 'with"quote', "$(touch mark)"])
def test_path_that_upstream_cannot_build_in_is_refused_at_once(world, tmp_path, name):
    outcome = world.build(tmp_path / name, *RKNN)
    assert outcome.code == 2, outcome.stderr
    assert "--work-dir" in outcome.stderr
    assert not (tmp_path / name).exists()


def test_full_disk_is_said_and_the_build_goes_on_afterwards(world, tmp_path, require_or_skip):
    work = tmp_path / "small"
    work.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", work], check=False, capture_output=True
    )
    require_or_skip(mounted.returncode == 0, "root, to mount a small disk")
    try:
        outcome = world.build(work, *RKNN)
        assert outcome.code == 4, outcome.stderr
        assert re.search(r"[Nn]o space|no room|disk of \S+ is full", outcome.stderr), outcome.stderr
        subprocess.run(["mount", "-o", "remount,size=500m", work], check=True)
        again = world.build(work, *RKNN)
        assert again.code == 0, again.stderr
    finally:
        subprocess.run(["umount", work], check=True)


def test_read_only_folder(world, tmp_path, require_or_skip):
    work = tmp_path / "read-only"
    work.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", work], check=False, capture_output=True
    )
    require_or_skip(mounted.returncode == 0, "root, to mount a read-only disk")
    try:
        outcome = world.build(work / "inside", *RKNN)
    finally:
        subprocess.run(["umount", work], check=True)
    assert outcome.code == 4, outcome.stderr
    assert "--work-dir" in outcome.stderr


# --- kill -9 ----------------------------------------------------------------------------------

KILLS = 30


def start(world, work: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    work.parent.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "tritonbuild", "-q", "build", *world.options, *RKNN]
    argv += ["--work-dir", work]
    return subprocess.Popen(
        [str(word) for word in argv], cwd=work.parent, env={**os.environ, **world.env, **env},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def processes_in(folder: Path) -> list[str]:
    """Return the commands of all processes that work in or below a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").resolve().is_relative_to(folder):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def kill_somewhere(
    world, work: Path, dice: random.Random, longest: float, env: dict[str, str]
) -> float:
    """Kill a new build at a random moment at which it runs; return after how many seconds."""
    while True:
        child = start(world, work, env)
        moment = dice.uniform(0.05, longest)
        time.sleep(moment)
        child.send_signal(signal.SIGKILL)
        if child.wait() == -signal.SIGKILL:
            return moment
        # It was quicker than the one that was measured: nothing was killed.
        shutil.rmtree(work.parent)
        longest = moment


@pytest.mark.timeout(3000)
def test_kill_at_any_moment_and_again_makes_the_same_tree(world, tmp_path):
    """Killed 30 times at random moments of a build, each of which is then finished."""
    seed = random.SystemRandom().randrange(1 << 30)
    dice = random.Random(seed)
    # What one build compiled the others need not: there is time for more kills.
    shared = tmp_path / "ccache"
    shared.mkdir()
    (shared / "ccache.conf").write_text(f"base_dir = {tmp_path}\nhash_dir = false\n")
    env = {"CCACHE_DIR": str(shared)}
    assert world.build(tmp_path / "first", *RKNN, env=env).code == 0
    # With warm caches, as those that are killed have them.
    started = time.monotonic()
    assert world.build(tmp_path / "measured", *RKNN, env=env).code == 0
    # Two at a time, because CMake keeps one core busy and no more: each takes longer then.
    longest = 1.4 * (time.monotonic() - started)
    expected = (tmp_path / "measured" / "manifest.json").read_bytes()

    def kill_and_finish(number: int) -> None:
        work = tmp_path / f"killed-{number}" / "work"
        moment = kill_somewhere(world, work, dice, longest, env)
        deadline = time.monotonic() + 5
        while processes_in(work.parent) and time.monotonic() < deadline:
            time.sleep(0.05)
        said = f"seed {seed}, kill {number} after {moment:.2f} s"
        assert processes_in(work.parent) == [], said
        again = world.build(work, *RKNN, env=env)
        assert again.code == 0, f"{said}: {again.stderr}"
        assert (work / "manifest.json").read_bytes() == expected, said
        shutil.rmtree(work.parent)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(kill_and_finish, range(KILLS)))
