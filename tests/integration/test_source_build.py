"""Source builds of the stand-ins of tests/upstream: from empty to a server that answers.

The recipes are the shipped ones; git and archives reach the stand-ins through a mirror recipe, as
users do it. The builds are native, for the machine that runs the tests.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time

import pytest

from tritonbuild.executors.machine import SYSTEM_PATH
from tritonbuild.paths import Workspace
from tritonbuild.plan.model import read_plan

# --- from empty to green ----------------------------------------------------------------------


def test_build_leaves_what_upstream_forgets(source_build):
    tree = source_build.tritonserver_dir
    for name in (
        "bin/tritonserver", "lib/libtritonserver.so", "include/triton/core", "LICENSE",
        "backends/python/triton_python_backend_stub",
        "backends/onnxruntime/libtriton_onnxruntime.so",
        "backends/onnxruntime/libonnxruntime.so",
        "backends/rknn/librknnrt.so",
    ):  # fmt: skip
        assert (tree / name).exists(), name
    assert (tree / "backends/onnxruntime/libonnxruntime.so").is_symlink(), "links stay links"
    found = subprocess.run(
        ["readelf", "-d", tree / "backends/rknn/libtriton_rknn.so"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.search(r"RUNPATH|RPATH", found.stdout)
    assert "$ORIGIN" in found.stdout


def test_server_answers(source_build, world):
    outcome = world.run(
        "smoke", "--work-dir", source_build.root, "--json", cwd=source_build.root, env=world.env
    )
    report = json.loads(outcome.stdout)
    assert outcome.code == 0, report
    skipped = {r["name"]: r["detail"] for r in report["results"] if r["status"] == "skip"}
    assert set(skipped) == {
        "grpc", "grpc-onnx", "rknn", "classification", "shared-memory", "trace", "bls", "sequence",
        "response-cache", "decoupled", "decoupled-http", "c-api", "repository-agent",
    }, skipped  # fmt: skip
    # Why is what the server itself says or lacks.
    assert skipped["shared-memory"] == "the server does not list the extension system_shared_memory"
    assert "this python backend cannot ask other models" in skipped["bls"]
    assert 'has no field named "model_transaction_policy"' in skipped["decoupled-http"]
    assert skipped["decoupled"] == "the server was built without gRPC"
    assert skipped["c-api"] == "libtritonserver.so has no TRITONSERVER_ApiVersion"
    assert report["server_version"] == "2.41.0"


def test_manifest_names_commits_patches_and_tools(source_build):
    manifest = json.loads(source_build.manifest_path.read_text(encoding="utf-8"))
    repositories = {one["repository"]: one for one in manifest["sources"] if "repository" in one}
    core = repositories["https://github.com/triton-inference-server/core.git"]
    assert re.fullmatch(r"[0-9a-f]{40}", core["commit"])
    archives = [one for one in manifest["sources"] if "sha256" in one]
    assert {"onnxruntime", "boostorg"} <= {one["name"] for one in archives}
    assert "python: python/boost-1.79-mirror.yaml" in manifest["patches"]
    assert manifest["tools"]["toolchain"]
    assert str(source_build.root) not in json.dumps(manifest), "no path of this machine"


def test_cmake_got_every_flag_of_the_plan(source_build):
    plan = read_plan(source_build.plan_path.read_text(encoding="utf-8"), "plan.json")
    for component, folder in (("core", "tritonserver"), ("python", "python"), ("rknn", "rknn")):
        record = source_build.root / "build" / folder / "build" / "standin_cmake_variables.txt"
        lines = record.read_text(encoding="utf-8").splitlines()
        found = [re.match(r"([^:=#]+)(?::([A-Z]+))?=(.*)", line) for line in lines]
        given = {match[1]: (match[2], match[3]) for match in found if match}
        for flag in plan.flags[component]:
            assert given[flag.name][1] == flag.value, (component, flag)
            assert flag.type is None or given[flag.name][0] == flag.type, (component, flag)


# --- again ------------------------------------------------------------------------------------


def test_nothing_to_do_is_quick(source_build, world):
    world.build(source_build.root)  # whatever other tests did
    started = time.monotonic()
    outcome = world.build(source_build.root, "--json")
    seconds = time.monotonic() - started
    assert set(world.statuses(outcome).values()) == {"kept"}
    assert seconds < 3, "an idle machine takes below 1 s (benchmarks/source.py)"


def test_another_argument_for_rknn_touches_only_rknn(world, tmp_path):
    work = tmp_path / "work"
    only = ("--component", "python", "--component", "rknn", "--json")
    assert world.build(work, *only).code == 0
    before = Workspace(work).root / "build" / "python" / "build" / "build.ninja"
    stamp = before.stat().st_mtime_ns
    changed = ("--set", "rknn.SOMETHING=1")
    plan = world.run(
        "plan", *world.options, *only[:-1], *changed, "--work-dir", work, cwd=tmp_path,
        env=world.env,
    )  # fmt: skip
    assert re.search(r"configure-rknn.*\n.*\n +to do again, changed: its commands", plan.stdout)
    outcome = world.build(work, *only, *changed)
    again = {name for name, status in world.statuses(outcome).items() if status != "kept"}
    looked = {"sources", "check-patches"}  # they look, and change nothing
    assert again - looked == {
        "configure-rknn", "build-rknn", "install-rknn", "assemble", "verify",
    }  # fmt: skip
    assert before.stat().st_mtime_ns == stamp


def test_component_that_is_left_out_leaves_the_tree(world, tmp_path):
    work = tmp_path / "work"
    assert world.build(work, "--component", "python", "--component", "rknn").code == 0
    assert world.build(work, "--component", "python").code == 0
    assert not (Workspace(work).tritonserver_dir / "backends" / "rknn").exists()


def test_two_folders_give_the_same_package(source_build, world, tmp_path):
    work = tmp_path / "another" / "folder-which-has-a-much-longer-name"
    # Compiled anew: what ccache kept of the first would be the same in any case.
    outcome = world.build(work, "--no-ccache")
    assert outcome.code == 0, outcome.stderr
    assert (work / "manifest.json").read_bytes() == source_build.manifest_path.read_bytes()
    digests = set()
    for root in (work, source_build.root):
        packed = world.run("package", "--work-dir", root, "--json", cwd=tmp_path, env=world.env)
        assert packed.code == 0, packed.stderr
        found = json.loads(packed.stdout)
        digests.add((found[0] if isinstance(found, list) else found)["sha256"])
    assert len(digests) == 1


def test_rendered_script_alone_makes_the_same_tree(source_build, world, tmp_path):
    """`bash cmake_build`, as render writes it: with make, one component after the other."""
    folder = tmp_path / "by-hand"
    executor = world.options.index("--executor")
    options = (*world.options[:executor], *world.options[executor + 2 :])
    rendered = world.run(
        "render", *options, "--os", "debian-12", "--component", "rknn", "--build-dir",
        folder / "server" / "build", "--output", folder, cwd=tmp_path, env=world.env,
    )  # fmt: skip
    assert rendered.code == 0, rendered.stderr
    env = {
        "HOME": str(tmp_path), "PATH": f"{source_build.root / 'tools'}:{SYSTEM_PATH}",
        "GIT_CONFIG_COUNT": "1", "GIT_ALLOW_PROTOCOL": "file",
        "GIT_CONFIG_KEY_0": f"url.file://{world.folder}/git/github.com/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", folder / "cmake_build"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    tree = folder / "server" / "build" / "opt" / "tritonserver"
    found = {str(path.relative_to(tree)) for path in tree.rglob("*") if not path.is_dir()}
    others = ("backends/python/", "backends/onnxruntime/")
    assert found == {name for name in world.sums(source_build.root) if not name.startswith(others)}


def test_scripts_run_by_hand(source_build, copy_build):
    scripts = sorted(source_build.scripts_dir.glob("*.sh"))
    assert [s.name for s in scripts if "build-rknn" in s.name]
    for script in scripts:
        if "rknn" in script.name:
            done = subprocess.run(
                ["env", "-i", f"HOME={source_build.root}", "bash", script],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-2000:]


# --- without a network ------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["folder", "sources.tar"])
def test_offline_build_needs_no_network(world, tmp_path, require_or_skip, form):
    require_or_skip(
        shutil.which("unshare")
        and subprocess.run(["unshare", "--net", "true"], check=False).returncode == 0,
        "network namespaces",
    )
    bundle = tmp_path / form
    choice = (*world.options, "--component", "python", "--component", "onnxruntime")
    fetched = world.run("fetch", *choice, "--output", bundle, cwd=tmp_path, env=world.env)
    assert fetched.code == 0, fetched.stderr
    away = world.folder.with_name("away")
    world.folder.rename(away)
    try:
        shutil.copytree(away / "recipes", world.folder / "recipes")
        outcome = world.build(
            tmp_path / "work", *choice[len(world.options):], "--offline", bundle,
            prefix=("unshare", "--net"),
            env={"TRITONBUILD_CACHE_DIR": str(tmp_path / "empty-cache")},
        )  # fmt: skip
    finally:
        shutil.rmtree(world.folder)
        away.rename(world.folder)
    assert outcome.code == 0, outcome.stderr
