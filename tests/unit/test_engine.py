"""Whole builds of a small world, disturbed in every way that a machine or a user can."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.network


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def small_disk(folder: Path, size: str, *options: str):
    """Mount a small disk of its own on a folder."""
    folder.mkdir(exist_ok=True)
    argv = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "none", str(folder)]
    subprocess.run(argv, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def can_mount(need, tmp_path):
    probe = tmp_path / "probe"
    if os.geteuid() == 0:
        try:
            with small_disk(probe, "64k"):
                return
        except subprocess.CalledProcessError:
            pass
    need(False, "the right to mount a small disk")


# --- a build that goes well -----------------------------------------------------------------


def test_build_makes_tree_plan_scripts_and_logs(tiny_world):
    done = tiny_world.build("--json")
    assert done.code == 0, done.text
    assert set(tiny_world.hash_tree()) == {
        "TRITON_VERSION",
        "bin/tritonserver",
        "lib/libpython3.11.so.1.0",
        "lib/note.txt",
    }
    report = json.loads(done.out)
    assert report["tree"] == str(tiny_world.work / "stage/opt/tritonserver")
    assert [step["name"] for step in report["steps"]] == [
        "01-root", "02-fetch-tiny", "03-assemble", "04-verify",
    ]  # fmt: skip
    plan = json.loads((tiny_world.work / "plan.json").read_text())
    assert plan["selection"]["board"] == "tiny"
    subprocess.run(["sh", "-n", tiny_world.work / "scripts/02-fetch-tiny.sh"], check=True)
    twin = json.loads((tiny_world.work / "logs/02-fetch-tiny.json").read_text())
    assert twin["returncode"] == 0
    assert (tiny_world.work / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172")


def test_second_build_keeps_everything(tiny_world):
    assert tiny_world.build().code == 0
    before = (tiny_world.work / "stage").stat().st_mtime_ns
    done = tiny_world.build("--json")
    assert {step["status"] for step in json.loads(done.out)["steps"]} == {"kept"}
    assert (tiny_world.work / "stage").stat().st_mtime_ns == before
    assert done.seconds < 5


def test_file_that_vanished_from_tree_is_put_back(tiny_world):
    assert tiny_world.build().code == 0
    before = tiny_world.hash_tree()
    (tiny_world.work / "stage/opt/tritonserver/bin/tritonserver").unlink()
    assert tiny_world.build().code == 0
    assert tiny_world.hash_tree() == before


def test_changed_layout_assembles_anew_without_leftovers(tiny_world):
    assert tiny_world.build().code == 0
    tiny_world.write_recipes(
        layout="[{wheel: tiny, files: tiny/bin/*, strip: 2, to: bin, executable: true}]"
    )
    done = tiny_world.build("--json")
    assert "lib/note.txt" not in tiny_world.hash_tree()
    statuses = {step["name"]: step["status"] for step in json.loads(done.out)["steps"]}
    assert statuses == {
        "01-root": "kept", "02-fetch-tiny": "kept", "03-assemble": "done", "04-verify": "done",
    }  # fmt: skip


def test_work_dir_with_blanks_quotes_and_umlauts_works(tiny_world, tmp_path):
    work = tmp_path / 'a b\'s "wörk" $HOME;x'
    done = tiny_world.build("--work-dir", work)
    assert done.code == 0, done.text
    assert (work / "stage/opt/tritonserver/bin/tritonserver").is_file()


def test_wheel_is_taken_from_cache_when_the_index_is_gone(tiny_world):
    assert tiny_world.build().code == 0
    for path in tiny_world.wheels.iterdir():
        path.unlink()
    done = tiny_world.build("--work-dir", tiny_world.work.with_name("other"))
    assert done.code == 0, done.text


def test_wheel_that_was_damaged_in_cache_is_fetched_again(tiny_world):
    assert tiny_world.build().code == 0
    (kept,) = tiny_world.cache.glob("wheels/*/*.whl")
    kept.write_bytes(b"rust")
    done = tiny_world.build("--work-dir", tiny_world.work.with_name("other"))
    assert done.code == 0, done.text
    assert kept.stat().st_size > 100


def statuses_of(done) -> dict[str, str]:
    assert done.code == 0, done.text
    return {step["name"][3:]: step["status"] for step in json.loads(done.out)["steps"]}


def test_file_that_changed_in_tree_is_put_right_and_checked_again(tiny_world):
    assert tiny_world.build().code == 0
    before = tiny_world.hash_tree()
    (tiny_world.work / "stage/opt/tritonserver/lib/note.txt").write_text("")
    statuses = statuses_of(tiny_world.build("--json"))
    assert (statuses["assemble"], statuses["verify"]) == ("done", "done")
    assert tiny_world.hash_tree() == before


def test_wheel_that_was_replaced_in_cache_does_not_reach_the_tree(tiny_world):
    assert tiny_world.build().code == 0
    before = tiny_world.hash_tree()
    (kept,) = tiny_world.cache.glob("wheels/*/*.whl")
    with zipfile.ZipFile(kept, "a") as archive:
        archive.writestr("tiny/lib/evil.txt", "evil")
    (tiny_world.work / "stage").rename(tiny_world.work / "gone")
    assert statuses_of(tiny_world.build("--json"))["fetch-tiny"] == "done"
    assert tiny_world.hash_tree() == before


@pytest.mark.parametrize("lost", ["root", "packages.json"])
def test_half_a_root_is_made_anew(rootless_world, lost):
    assert rootless_world.build().code == 0
    (folder,) = rootless_world.cache.glob("roots/bookworm-*")
    path = folder / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert statuses_of(rootless_world.build("--json"))["root"] == "done"
    assert (folder / "root" / "usr").is_dir()
    assert (folder / "packages.json").is_file()


def test_other_cache_is_filled_rather_than_the_old_one_trusted(tiny_world, shared_cache):
    assert tiny_world.build().code == 0
    other = tiny_world.cache.with_name("other cache")
    other.mkdir()
    (other / "roots").symlink_to(shared_cache / "roots")
    tiny_world.cli.env["TRITONBUILD_CACHE_DIR"] = str(other)
    assert statuses_of(tiny_world.build("--json"))["fetch-tiny"] == "done"
    assert list(other.glob("wheels/*/*.whl"))


def test_failed_check_leaves_nothing_that_smoke_or_package_would_take(tiny_world):
    assert tiny_world.build().code == 0
    tiny_world.sha256 = tiny_world.offer({"tiny/lib/broken.so": "\x7fELF but no more"})
    tiny_world.write_recipes()
    assert tiny_world.build().code == 9
    assert tiny_world.cli("package", "--work-dir", tiny_world.work).code == 9
    assert tiny_world.cli("smoke", "--work-dir", tiny_world.work).code == 2


def test_mirror_is_an_address_and_never_an_option(rootless_world, tmp_path):
    mirror = rootless_world.recipes / "mirrors/tiny.yaml"
    mirror.parent.mkdir()
    mirror.write_text("name: tiny\nsummary: evil\napt: {debian: '--setup-hook=touch pwned'}\n")
    done = rootless_world.build("--mirror", "tiny", cwd=tmp_path)
    assert done.code == 2, done.text
    assert not (tmp_path / "pwned").exists()


# --- broken recipes that only the build can see ---------------------------------------------


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        pytest.param(
            "[{wheel: tiny, files: nope/*, to: bin}]", "has no file like nope/*", id="none"
        ),
        pytest.param(
            "[{wheel: tiny, files: tiny/bin/*, to: bin, strip: 2},"
            " {wheel: tiny, files: tiny/bin/*, to: bin, strip: 2}]",
            "bin/tritonserver comes from",
            id="twice",
        ),
        pytest.param(
            "[{wheel: tiny, files: tiny/lib/*, to: bin, strip: 2}]",
            "core: bin/tritonserver is missing",
            id="artefact-missing",
        ),
        pytest.param(
            "[{wheel: tiny, files: tiny/bin/*, to: bin, strip: 2}]",
            "bin/tritonserver cannot be run",
            id="not-executable",
        ),
        pytest.param(
            "[{wheel: tiny, files: tiny/bin/*, to: bin, strip: 3}]",
            "strip",
            id="all-stripped",
        ),
        pytest.param(
            "[{wheel: tiny, files: tiny/bin/*, to: bin, strip: 2, executable: true},"
            " {wheel: tiny, files: tiny/lib/*, to: bin/tritonserver, strip: 2}]",
            "bin/tritonserver",
            id="file-is-also-folder",
        ),
    ],
)
def test_layout_that_does_not_fit_is_an_assemble_error(tiny_world, layout, message):
    tiny_world.write_recipes(layout=layout)
    done = tiny_world.build()
    assert done.code == 9, done.text
    assert message in done.err
    assert not (tiny_world.work / "stage").exists()
    assert not list(tiny_world.work.glob("stage.*"))


def test_file_has_a_second_name_where_the_recipe_says_one(tiny_world):
    tiny_world.write_recipes(links="{lib/plain.txt: lib/no*.txt, note: '**/note.txt'}")
    assert tiny_world.build().code == 0
    tree = tiny_world.work / "stage/opt/tritonserver"
    assert (tree / "lib/plain.txt").readlink() == Path("note.txt")
    assert (tree / "note").readlink() == Path("lib/note.txt")


@pytest.mark.parametrize(
    ("links", "message"),
    [
        pytest.param("{lib/x.so: lib/nope-*.so}", "0 files of the tree are like", id="none"),
        pytest.param("{lib/x.so: '**'}", "2 files of the tree are like **, not one", id="several"),
        pytest.param("{lib/note.txt: lib/note.txt}", "lib/note.txt comes from", id="itself"),
    ],
)
def test_link_that_does_not_fit_is_an_assemble_error(tiny_world, links, message):
    tiny_world.write_recipes(links=links)
    done = tiny_world.build()
    assert done.code == 9, done.text
    assert message in done.err


def test_failed_assembly_keeps_the_tree_that_was_there(tiny_world):
    assert tiny_world.build().code == 0
    before = tiny_world.hash_tree()
    tiny_world.write_recipes(layout="[{wheel: tiny, files: nope/*, to: bin}]")
    assert tiny_world.build().code == 9
    assert tiny_world.hash_tree() == before


def test_tree_of_an_earlier_plan_is_not_packed_under_the_name_of_a_later_one(tiny_world):
    package = ("package", "--work-dir", tiny_world.work)
    assert tiny_world.build().code == 0
    assert tiny_world.cli(*package).code == 0
    (packed,) = tiny_world.work.glob("out/*.tar.zst")
    packed.unlink()
    tiny_world.write_recipes(layout="[{wheel: tiny, files: nope/*, to: bin}]")
    assert tiny_world.build().code == 9
    done = tiny_world.cli(*package)
    assert done.code == 9
    assert "has no finished stage" in done.err
    assert not list(tiny_world.work.glob("out/*.tar.zst"))
    tiny_world.write_recipes()
    assert tiny_world.build().code == 0
    assert tiny_world.cli(*package).code == 0


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b'{"steps": []}', b"\xff\x00"])
def test_broken_plan_is_told_to_later_verbs_(rootless_world, content):
    world = rootless_world
    world.work.mkdir()
    (world.work / "plan.json").write_bytes(content)
    for verb in ("package", "smoke"):
        done = world.cli(verb, "--work-dir", world.work)
        assert done.code == 2
        assert "plan.json is not a plan that this version of tritonbuild wrote" in done.err
        assert "hint: run `tritonbuild build` again" in done.err


def test_build_writes_over_a_broken_plan(tiny_world):
    tiny_world.work.mkdir()
    (tiny_world.work / "plan.json").write_bytes(b"\xff\x00")
    assert tiny_world.build().code == 0
    assert json.loads((tiny_world.work / "plan.json").read_text())["steps"]


@pytest.mark.parametrize("verb", ["package", "smoke"])
def test_verb_without_a_build_says_to_build_first(cli, tmp_path, verb):
    done = cli(verb)
    assert done.code == 2
    assert "no build was made from this folder yet" in done.err
    done = cli(verb, "--work-dir", tmp_path)
    assert done.code == 2
    assert "is no work directory: it has no plan.json" in done.err
    assert "hint: run `tritonbuild build` first" in done.err


# --- no network, no room, no rights ---------------------------------------------------------


def test_index_that_cannot_be_reached_is_a_source_error(tiny_world):
    dead = f"http://127.0.0.1:{free_port()}"
    env = {"PIP_NO_INDEX": "0", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": f"{dead}/simple"}
    done = tiny_world.build(**env)
    assert done.code == 5, done.text
    assert "cannot reach the package index for tiny-1.0-py3-none-any.whl" in done.err
    assert "hint: check the network, proxy" in done.err
    assert done.seconds < 30
    tiny_world.assert_nothing_half_written()


def test_dead_proxy_is_a_source_error_and_keeps_what_has_arrived(tiny_world):
    assert tiny_world.build().code == 0
    kept = sorted(tiny_world.cache.glob("wheels/*/*.whl"))
    text = (tiny_world.recipes / "releases/tiny-1.yaml").read_text()
    other = text.replace("tiny-1.0", "tiny-1.1").replace(tiny_world.sha256, "0" * 64)
    (tiny_world.recipes / "releases/tiny-1.yaml").write_text(other)
    dead = f"http://127.0.0.1:{free_port()}"
    env = {"PIP_NO_INDEX": "0", "PIP_FIND_LINKS": "", "https_proxy": dead, "http_proxy": dead}
    done = tiny_world.build(PIP_INDEX_URL="https://index.invalid/simple", PIP_RETRIES="1", **env)
    assert done.code == 5, done.text
    assert "what has arrived so far is kept" in done.err
    assert sorted(tiny_world.cache.glob("wheels/*/*.whl")) == kept
    assert tiny_world.hash_tree()


def test_index_without_the_file_is_a_source_error(tiny_world):
    for path in tiny_world.wheels.iterdir():
        path.unlink()
    done = tiny_world.build()
    assert done.code == 5, done.text
    assert "the index that pip is set up for may not have this file" in done.err
    tiny_world.assert_nothing_half_written()


def test_archive_that_cannot_be_reached_is_a_warning_and_root_is_tried_again(rootless_world):
    world = rootless_world
    dead = f"http://127.0.0.1:{free_port()}/debian"
    (world.recipes / "mirrors").mkdir()
    (world.recipes / "mirrors/dead.yaml").write_text(
        f"name: dead\nsummary: nobody is there\napt: {{debian: {dead}}}\n"
    )
    done = world.build("--mirror", "dead", "--json")
    assert done.code == 0, done.text
    assert "the archive of debian bookworm for arm64 cannot be used" in done.err
    assert "checked against the recipe's list" in done.err
    assert json.loads(done.out)["verify"]["source"] == "recipe"
    state = json.loads((world.work / "state/01-root.json").read_text())
    assert state["key"] is None, "never taken as done the next time"
    assert not list(world.cache.glob("roots/[!.]*"))


def test_full_work_disk_is_a_host_error(tiny_world, can_mount):
    content = {"tiny/bin/tritonserver": "x" * 3_000_000}
    from zipfile import ZIP_DEFLATED, ZipFile

    path = tiny_world.wheels / "tiny-1.0-py3-none-any.whl"
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, text in content.items():
            archive.writestr(name, text)
        archive.writestr("tiny-1.0.dist-info/METADATA", "Name: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    tiny_world.use_wheel(path.read_bytes())
    tiny_world.write_recipes(
        layout="[{wheel: tiny, files: tiny/bin/*, strip: 2, to: bin, executable: true}]"
    )
    with small_disk(tiny_world.work, "2m"):
        done = tiny_world.build()
        assert done.code == 4, done.text
        assert "no room on disk: the tree needs" in done.err
        assert not list(tiny_world.work.glob("stage*"))


def test_full_cache_disk_is_a_host_error(tiny_world, can_mount, tmp_path):
    with small_disk(tmp_path / "full", "64k") as full:
        (full / "roots").symlink_to(tiny_world.cache / "roots")
        (full / "filler").write_bytes(b"x" * 60_000)
        # What pip itself unpacks on the way needs room elsewhere.
        done = tiny_world.build(TRITONBUILD_CACHE_DIR=str(full))
        assert done.code == 4, done.text
        assert "hint:" in done.err
        assert not list(full.glob("wheels/*/*"))
        assert not list(full.glob("wheels/.fetch-*"))
    assert not (tiny_world.work / "stage").exists()


@pytest.mark.parametrize("which", ["work", "cache"])
def test_read_only_folder_is_a_host_error(tiny_world, can_mount, tmp_path, which):
    with small_disk(tmp_path / "ro", "64k") as folder:
        (folder / "roots").symlink_to(tiny_world.cache / "roots")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        env = {"TRITONBUILD_CACHE_DIR": str(folder)} if which == "cache" else {}
        extra = ("--work-dir", folder / "work") if which == "work" else ()
        done = tiny_world.build(*extra, **env)
        assert done.code == 4, done.text
        assert "Read-only file system" in done.err
        assert str(folder) in done.err
        assert "hint:" in done.err


def test_work_dir_that_is_a_file_is_a_host_error(tiny_world, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = tiny_world.build("--work-dir", tmp_path / "file")
    assert done.code == 4, done.text
    assert "cannot make the folder" in done.err
    assert (tmp_path / "file").read_text() == "mine"


def test_home_that_cannot_be_written_does_not_spoil_a_build(tiny_world, can_mount, tmp_path):
    with small_disk(tmp_path / "home", "64k", "ro") as home:
        done = tiny_world.build(HOME=str(home))
    assert done.code == 0, done.text
    assert "warning:" in done.err
    assert "--work-dir" in done.err


# --- two at once, killed, interrupted -------------------------------------------------------


def start_and_wait(world):
    """Start a build of a wheel that a stuck server serves; wait until pip hangs there."""
    server = socket.create_server(("127.0.0.1", 0))
    env = {
        "PIP_NO_INDEX": "0",
        "PIP_FIND_LINKS": "",
        "PIP_INDEX_URL": f"http://127.0.0.1:{server.getsockname()[1]}/simple",
    }
    child = world.start(**env)
    server.settimeout(60)
    connection, _ = server.accept()
    return child, (server, connection)


def test_second_build_in_one_work_dir_says_who_holds_it(tiny_world, processes):
    child, sockets = start_and_wait(tiny_world)
    try:
        done = tiny_world.build()
        assert done.code == 4, done.text
        assert f"{tiny_world.work} is held by process {child.pid} (tritonbuild build" in done.err
        assert "hint: wait until it is done, or choose another --work-dir" in done.err
        assert child.poll() is None
    finally:
        processes[2](child)
        for one in sockets:
            one.close()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_killed_build_leaves_no_process_and_the_next_one_makes_the_same_tree(
    tiny_world, processes, signum
):
    list_descendants, wait_until, end = processes
    child, sockets = start_and_wait(tiny_world)
    below = list_descendants(child.pid)
    assert below, "pip runs"
    end(child, signum)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), timeout=10)
    for one in sockets:
        one.close()
    assert not (tiny_world.work / "stage").exists()
    assert not list(tiny_world.cache.glob("wheels/*/*.whl"))
    assert tiny_world.build().code == 0
    tree = tiny_world.hash_tree()
    done = tiny_world.build("--work-dir", tiny_world.work.with_name("undisturbed"))
    assert done.code == 0
    tiny_world.work = tiny_world.work.with_name("undisturbed")
    assert tiny_world.hash_tree() == tree


def test_ctrl_c_ends_with_130_and_leaves_no_process(tiny_world, processes):
    list_descendants, wait_until, end = processes
    child, sockets = start_and_wait(tiny_world)
    below = list_descendants(child.pid)
    text = end(child, signal.SIGINT)
    for one in sockets:
        one.close()
    assert child.returncode == 130, text
    assert "what is done is kept" in text
    assert "Traceback" not in text
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), timeout=10)
    assert not list(tiny_world.cache.glob("wheels/.fetch-*"))
    assert tiny_world.build().code == 0


def test_kill_during_assembly_leaves_a_whole_tree_or_none(tiny_world, processes):
    """Kill builds at many moments: what is there afterwards is never half a tree."""
    assert tiny_world.build().code == 0
    whole = tiny_world.hash_tree()
    for moment in (0.15, 0.3, 0.45, 0.6, 0.8):
        tiny_world.write_recipes(
            layout="[{wheel: tiny, files: tiny/bin/*, strip: 2, to: bin, executable: true},"
            f" {{wheel: tiny, files: tiny/lib/*, strip: 2, to: lib/{str(moment)[2:]}}}]"
        )
        child = tiny_world.start()
        try:
            child.wait(moment)
        except subprocess.TimeoutExpired:
            child.kill()
        child.communicate()
        found = tiny_world.hash_tree()
        assert not found or len(found) == len(whole)
    tiny_world.write_recipes()
    assert tiny_world.build().code == 0
    assert tiny_world.hash_tree() == whole
    assert not list(tiny_world.work.glob("stage.*"))


def test_python_of_the_tests_is_the_one_that_runs_tritonbuild(cli):
    assert cli("--version").out.startswith("tritonbuild ")
    assert sys.executable in cli.argv()


@pytest.mark.parametrize("gap", [0.0, 0.0005])
def test_second_signal_right_after_the_first_does_not_undo_it(tiny_world, processes, gap):
    list_descendants, wait_until, end = processes
    child, sockets = start_and_wait(tiny_world)
    below = list_descendants(child.pid)
    child.send_signal(signal.SIGTERM)
    time.sleep(gap)
    started = time.monotonic()
    end(child, signal.SIGTERM)
    for one in sockets:
        one.close()
    assert child.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - started < 10
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), timeout=10)
