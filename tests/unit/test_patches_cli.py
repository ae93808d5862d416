"""`tritonbuild patch`: a component's patches on a checkout, by exit code, table and files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

COMPONENT = """\
name: demo
summary: For tests
kind: backend
source:
  clone: {repository: https://demo.invalid/demo.git, directory: demo}
  patches: [demo/nested.yaml, demo/url.yaml, demo/new.yaml, demo/future.yaml, demo/mirror.yaml]
  variants:
    usual: {summary: one}
    other: {summary: two, patches: [demo/other.yaml]}
"""
PATCHES = {
    "nested": "after: configure\nedits: [{file: build/_deps/x-src/f, old: 'ON', new: 'OFF'}]",
    "url": "edits: [{file: CMakeLists.txt, old: dead, new: alive}]",
    "new": "diff: new.diff",
    "future": "when: {gcc: '>=99'}\nedits: [{file: CMakeLists.txt, old: absent, new: x}]",
    "mirror": "mirror: cn\nedits: [{file: CMakeLists.txt, old: other, new: mirrored}]",
    "other": "edits: [{file: CMakeLists.txt, old: end, new: fin}]",
}
DIFF = "--- /dev/null\n+++ b/d/new.txt\n@@ -0,0 +1 @@\n+new\n"
SOURCE = b"url dead\r\nother\r\nend\xff"
NAMES = [f"demo/{name}.yaml" for name in ("url", "new", "nested", "future", "mirror")]


@pytest.fixture
def recipes(tmp_path) -> Path:
    folder = tmp_path / "my recipes"
    (folder / "components").mkdir(parents=True)
    (folder / "components" / "demo.yaml").write_text(COMPONENT)
    (folder / "patches" / "demo").mkdir(parents=True)
    for name, text in PATCHES.items():
        head = f"summary: Patch {name}\nwhy: tests\n"
        (folder / "patches" / "demo" / f"{name}.yaml").write_text(f"{head}{text}\n")
    (folder / "patches" / "demo" / "new.diff").write_text(DIFF)
    return folder


@pytest.fixture
def checkout(tmp_path) -> Path:
    folder = tmp_path / "a checkout"
    folder.mkdir()
    (folder / "CMakeLists.txt").write_bytes(SOURCE)
    (folder / "CMakeLists.txt").chmod(0o640)
    return folder


@pytest.fixture
def patch(cli, recipes, checkout):
    def run(*more: str):
        return cli("patch", checkout, "-c", "demo", "--recipes", recipes, *more)

    return run


def states(done) -> dict[str, str]:
    return {row["patch"]: row["state"] for row in json.loads(done.out)}


def test_patches_are_checked_applied_and_undone(patch, checkout):
    done = patch("--check", "--json")
    assert (done.code, done.err) == (0, "")
    assert states(done) == dict(zip(
        NAMES, ["applies", "applies", "not known yet", "not needed", "not needed"], strict=True
    ))  # fmt: skip
    assert (checkout / "CMakeLists.txt").read_bytes() == SOURCE

    done = patch()
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()] == ["PATCH", *NAMES]
    assert "demo/url.yaml     applied now    Patch url" in done.out
    assert "is not >=99 (this machine)" in done.out
    assert "only with --mirror cn" in done.out
    assert (checkout / "CMakeLists.txt").read_bytes() == SOURCE.replace(b"dead", b"alive")
    assert (checkout / "CMakeLists.txt").stat().st_mode & 0o7777 == 0o640
    assert (checkout / "d" / "new.txt").read_text() == "new\n"

    assert states(patch("--json"))["demo/url.yaml"] == "applied before"
    done = patch("--undo", "--json")
    assert states(done)["demo/new.yaml"] == "undone now"
    assert (checkout / "CMakeLists.txt").read_bytes() == SOURCE
    assert not (checkout / "d" / "new.txt").exists()
    assert states(patch("--undo", "--json"))["demo/url.yaml"] == "not applied"


def test_nested_sources_are_patched_once_they_are_there(patch, checkout):
    nested = checkout / "build" / "_deps" / "x-src" / "f"
    nested.parent.mkdir(parents=True)
    nested.write_text("ON")
    assert states(patch("--json"))["demo/nested.yaml"] == "applied now"
    assert nested.read_text() == "OFF"


def test_mirror_and_variant_bring_their_own(patch, checkout):
    done = patch("--mirror", "cn", "--variant", "other", "--json")
    assert states(done)["demo/mirror.yaml"] == states(done)["demo/other.yaml"] == "applied now"
    assert (checkout / "CMakeLists.txt").read_bytes() == b"url alive\r\nmirrored\r\nfin\xff"


def test_what_does_not_fit_is_told_with_the_nearest_lines_and_nothing_is_changed(patch, checkout):
    (checkout / "CMakeLists.txt").write_text("url deaf\nother\n")
    for arguments in (["--check"], []):
        done = patch(*arguments)
        assert done.code == 6
        assert "patches/demo/url.yaml (demo)" in done.err
        assert "nearest (- wanted, + there)" in done.err
        assert "hint: `tritonbuild show patches/demo/url.yaml`" in done.err
        assert not (checkout / "d").exists()
    assert "does not fit" in patch("--check").out


def test_undo_refuses_what_was_changed_since_and_changes_nothing(patch, checkout):
    assert patch().code == 0
    (checkout / "d" / "new.txt").write_text("mine\n")
    before = (checkout / "CMakeLists.txt").read_bytes()
    done = patch("--undo")
    assert done.code == 6
    assert "patches/demo/new.yaml: d/new.txt" in done.err
    assert (checkout / "CMakeLists.txt").read_bytes() == before
    assert (checkout / "d" / "new.txt").read_text() == "mine\n"


def test_what_the_commit_holds_is_upstreams_and_stays(patch, checkout):
    (checkout / "CMakeLists.txt").write_bytes(SOURCE.replace(b"dead", b"alive"))
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for argv in (
        ["init", "-q"], ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
    ):  # fmt: skip
        subprocess.run(["git", "-C", checkout, *argv], check=True, env=env)
    assert states(patch("--check", "--json"))["demo/url.yaml"] == "fixed upstream"
    assert states(patch("--json"))["demo/url.yaml"] == "fixed upstream"
    assert states(patch("--undo", "--json"))["demo/new.yaml"] == "undone now"
    assert b"alive" in (checkout / "CMakeLists.txt").read_bytes()
    assert not (checkout / "d" / "new.txt").exists()


def test_a_link_out_of_the_checkout_is_not_followed(patch, checkout, tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_bytes(SOURCE)
    (checkout / "CMakeLists.txt").unlink()
    (checkout / "CMakeLists.txt").symlink_to(outside)
    done = patch()
    assert done.code == 6
    assert "leads out of the folder" in done.err
    assert outside.read_bytes() == SOURCE


def test_what_cannot_be_written_leaves_all_as_it_was(cli, recipes, checkout, need):
    need(shutil.which("prlimit"), "prlimit, which lets a write fail as a full disk does")
    done = cli(
        "patch", checkout, "-c", "demo", "--recipes", recipes, prefix=("prlimit", "--fsize=10")
    )
    assert done.code == 6
    assert f"{checkout}: File too large" in done.err
    assert (checkout / "CMakeLists.txt").read_bytes() == SOURCE
    assert [path.name for path in checkout.rglob("*") if path.is_file()] == ["CMakeLists.txt"]


def test_a_file_in_the_way_of_a_folder_is_told(patch, checkout):
    (checkout / "d").write_text("mine")
    done = patch()
    assert done.code == 6
    assert "d/new.txt: Not a directory" in done.err
    assert (checkout / "CMakeLists.txt").read_bytes() == SOURCE


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--check", "--undo"], 2, "--check and --undo do not go together"),
        (["--variant", "othr"], 2, 'no variant "othr"; did you mean "other"?'),
        (["--mirror", "nowhere"], 2, 'unknown mirror "nowhere"'),
        (["-c", "dmo"], 2, 'unknown component "dmo"; did you mean "demo"?'),
        (["-c", "ensemble"], 3, "component ensemble has no patches"),
    ],
)
def test_bad_options(patch, arguments, code, said):
    done = patch(*arguments)
    assert done.code == code
    assert said in done.err


def test_no_folder(cli, recipes):
    done = cli("patch", "nowhere", "-c", "demo", "--recipes", recipes)
    assert (done.code, "nowhere: no such folder" in done.err) == (2, True)


def test_show_prints_a_patch_as_a_diff(cli, recipes):
    shipped = cli("show", "patches/python/boost-1.79-mirror.yaml")
    assert shipped.code == 0, shipped.err
    taken, put = ([line for line in shipped.out.splitlines() if line.startswith(sign)]
                  for sign in "-+")  # fmt: skip
    assert taken[0] == "--- a/CMakeLists.txt"
    assert "boostorg.jfrog.io" in taken[1]
    assert put[0] == "+++ b/CMakeLists.txt"
    assert put[1] == f"+{taken[1][1:]}".replace(
        "boostorg.jfrog.io/artifactory/main/release", "archives.boost.io/release"
    )
    mine = cli("show", "patches/demo/url.yaml", "--recipes", recipes)
    assert "-dead\n+alive" in mine.out


def test_a_bad_diff_is_a_bad_recipe(patch, recipes):
    (recipes / "patches" / "demo" / "new.diff").write_text(DIFF + "+more\n")
    done = patch()
    assert done.code == 2
    assert "new.diff:5: belongs to no hunk" in done.err
