"""`render --executor buildx`: a Dockerfile, a bake file and a context that need no tritonbuild."""

from __future__ import annotations

import json
import re

import pytest

RENDER = ("render", "--board", "orangepi5b", "--os", "debian-12", "--executor", "buildx")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory, session_cli):
    folder = tmp_path_factory.mktemp("render") / "context"
    outcome = session_cli(*RENDER, "--output", folder, cwd=folder.parent)
    assert outcome.code == 0, outcome.stderr
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {str(folder / name) for name in files} == set(outcome.stdout.split())
    return folder


def read_instructions(folder) -> list[str]:
    """Return the instructions of a Dockerfile, each on one line."""
    text = (folder / "Dockerfile").read_text(encoding="utf-8")
    joined = re.sub(r"\\\n\s*", " ", text)
    return [line for line in joined.splitlines() if line and not line.startswith("#")]


def test_every_file_that_the_dockerfile_names_is_in_the_context(rendered):
    named = set()
    for line in read_instructions(rendered):
        if line.startswith("RUN"):
            named |= {source for mount in re.findall(r"--mount=(\S+)", line)
                      for source in re.findall(r"source=([^,]+)", mount)
                      if "from=" not in mount}  # fmt: skip
    assert {"tools", "toolchain.cmake", "scripts/build-core.sh"} <= named
    for source in named:
        assert (rendered / source).exists(), source
    text = (rendered / "Dockerfile").read_text(encoding="utf-8")
    tools = set(re.findall(r"/(?:run/tritonbuild|tools)/([\w.]+\.(?:sh|py))", text))
    for tool in tools - {path.name for path in (rendered / "scripts").iterdir()}:
        assert (rendered / "tools" / tool).is_file(), tool


def test_each_component_has_a_stage_and_each_script_an_instruction(rendered):
    lines = read_instructions(rendered)
    stages = [line.split()[-1] for line in lines if line.startswith("FROM ")]
    assert [s for s in stages if s.startswith("build-")] == [
        "build-root", "build-core", "build-python", "build-onnxruntime", "build-rknn",
    ]  # fmt: skip
    assert stages[-1] == "runtime"
    scripts = sorted(path.name for path in (rendered / "scripts").iterdir())
    run = [re.findall(r'"/run/tritonbuild/([\w.-]+\.sh)"', line) for line in lines]
    assert sorted(name for found in run for name in found if name in scripts) == scripts


def test_programs_are_lists_of_words_that_no_shell_reads(rendered):
    for line in read_instructions(rendered):
        if line.startswith("RUN "):
            words = json.loads(line[line.index("[") :])
            assert all(isinstance(word, str) for word in words)


def test_caches_are_mounted_for_sources_packages_and_compilers(rendered):
    text = (rendered / "Dockerfile").read_text(encoding="utf-8")
    for mount in (
        "type=cache,id=tritonbuild-sources,target=/usr/src/tritonserver/sources",
        "type=cache,id=tritonbuild-ccache-arm64,target=/var/cache/ccache",
        "type=cache,id=tritonbuild-jobs,target=/run/tritonbuild-jobs",
        "type=cache,id=tritonbuild-apt-arm64,target=/var/cache/apt,sharing=locked",
    ):
        assert mount in text


def test_image_starts_as_nobody_and_is_asked_whether_it_is_ready(rendered):
    lines = read_instructions(rendered)
    last = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert "USER 1000:1000" in last
    assert 'ENTRYPOINT ["/opt/tritonserver/bin/tritonserver"]' in last
    assert any(line.startswith("HEALTHCHECK") and "/v2/health/ready" in line for line in last)


def test_bake_file_builds_the_trees_and_names_the_image(rendered):
    bake = json.loads((rendered / "docker-bake.json").read_text(encoding="utf-8"))
    assert bake["group"]["default"]["targets"] == ["trees"]
    assert bake["target"]["trees"]["platforms"] == ["linux/arm64"]
    assert bake["target"]["runtime"]["tags"] == ["tritonserver:2.41.0-orangepi5b-debian-12-source"]


def test_scripts_are_shell(rendered, shellcheck):
    scripts = [*(rendered / "scripts").iterdir(), *(rendered / "tools").glob("*.sh")]
    done = shellcheck("--shell=bash", *scripts)
    assert done.returncode == 0, done.stdout


def test_mirror_reaches_git_archives_and_packages(cli, tmp_path):
    mirror = tmp_path / "recipes" / "mirrors" / "near.yaml"
    mirror.parent.mkdir(parents=True)
    mirror.write_text(
        "schema: 1\nname: near\nsummary: near\n"
        "git:\n  - {from: https://github.com/, to: https://near.example/git/}\n"
        "archives:\n  - {from: https://github.com/, to: https://near.example/files/}\n"
        "apt: {debian: https://near.example/debian}\n"
        "images:\n  - {from: docker.io/library/, to: near.example/hub/}\n"
    )
    folder = tmp_path / "context"
    outcome = cli(
        *RENDER, "--recipes", tmp_path / "recipes", "--mirror", "near", "--output", folder
    )
    assert outcome.code == 0, outcome.err
    dockerfile = (folder / "Dockerfile").read_text(encoding="utf-8")
    assert "ARG BASE_IMAGE=near.example/hub/debian:bookworm\n" in dockerfile
    assert '"aarch64", "debian", "bookworm", "https://near.example/debian", "-"' in dockerfile
    assert '"arm64", "aarch64-linux-gnu", "12", "https://near.example/debian"' in dockerfile
    git = (folder / "tools" / "gitconfig").read_text(encoding="utf-8")
    assert '[url "https://near.example/git/"]\n\tinsteadOf = "https://github.com/"\n' in git
    fetch = (folder / "scripts" / "fetch-onnxruntime.sh").read_text(encoding="utf-8")
    assert "tritonbuild_download https://near.example/files/microsoft/onnxruntime/" in fetch


def test_same_plan_gives_the_same_files(cli, rendered, tmp_path):
    assert cli(*RENDER, "--output", tmp_path / "again").code == 0
    for path in rendered.rglob("*"):
        if path.is_file():
            again = tmp_path / "again" / path.relative_to(rendered)
            assert again.read_bytes() == path.read_bytes()
            assert again.stat().st_mode == path.stat().st_mode


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--executor", "emulated"), "cmake_build is for the machine that it runs on"),
        (("--executor", "buildx", "--build-dir", "/b"), "--build-dir does not go with"),
        (("--executor", "buildx", "--container-build"), "--container-build does not go with"),
        (("--build-dir", "/b", "--tag", "x:1"), "--tag is for --executor buildx alone"),
        (("--build-dir", "/b", "--base-image", "x:1"), "--base-image is for builds in"),
        (("--executor", "buildx", "--mirror", "auto"), "cannot measure"),
        (("--executor", "buildx", "--no-container-pull"), "--no-container-pull does not go with"),
        (("--executor", "buildx", "--image", "base,x:1"), "--image does not go with"),
        (("--executor", "buildx", "--archive", f"onnxruntime={__file__}"), "--archive does not"),
        (("--executor", "buildx", "--tag", "Bad Tag; $(x)"), "no name of an image"),
        (("--executor", "buildx", "--variant", "onnxruntime=docker"), "calls docker"),
    ],
)
def test_what_does_not_go_together_is_refused(cli, tmp_path, options, said):
    outcome = cli("render", "--board", "orangepi5b", *options, "--output", tmp_path / "x")
    assert outcome.code == 2, outcome.err
    assert said in outcome.err
    assert not (tmp_path / "x").exists()
