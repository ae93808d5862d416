"""render with build.py's options: the arguments of each, and what is refused instead of got wrong.

The expectations (tests/golden/switches.yaml) were written by hand from what is known of build.py.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from tritonbuild.cli.app import app
from tritonbuild.errors import RecipeError, RenderError, TritonBuildError, UsageError
from tritonbuild.render.container import quote_value

GOLDEN = Path(__file__).parents[1] / "golden" / "switches.yaml"
TABLE = yaml.safe_load(GOLDEN.read_text(encoding="utf-8"))
CASES = TABLE["cases"]
BUILD_DIR = "/srv/server/build"
ORGANIZATION = "https://github.com/triton-inference-server"
CORE = "Triton core library and tritonserver executable"
# Kind of section: folder of the tree, and how its repository is called.
KINDS = {
    "backend": ("backends", "_backend"),
    "repository agent": ("repoagents", "_repository_agent"),
    "cache": ("caches", "_cache"),
}
CUDA_BOARD = """\
schema: 1
name: cuda-board
summary: A board with CUDA
soc: any
arch: arm64
cpu: {cores: 4, model: any}
memory: 8GiB
cuda: "8.7"
os: [ubuntu-22.04]
release: r23.12
components: [core]
"""


@pytest.fixture(scope="module")
def recipes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "boards").mkdir()
    (folder / "boards" / "cuda-board.yaml").write_text(CUDA_BOARD)
    return folder


def call(*arguments: object) -> None:
    """Run the verb in this process; its errors come as they are raised."""
    outcome = CliRunner().invoke(app, ["render", *map(str, arguments)])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == 0, outcome.output


def render(output: Path, recipes: Path, *options: str, board="generic-arm64", **more) -> str:
    release = more.get("release", "r23.12")
    named = ["--release", release] if release else []
    call(
        "--board", board, *named, "--recipes", recipes, "--like-upstream", "--output", output,
        *more.get("where", ("--build-dir", BUILD_DIR)), *options,
    )  # fmt: skip
    return (output / "cmake_build").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def scripts(recipes, tmp_path_factory) -> dict[str, Path]:
    """The script of every case."""
    folder = tmp_path_factory.mktemp("scripts")
    found = {}
    for number, (name, case) in enumerate(CASES.items()):
        more = {key: case[key] for key in ("board", "release") if key in case}
        render(folder / str(number), recipes, "-j", "4", *case["options"], **more)
        found[name] = folder / str(number) / "cmake_build"
    return found


# --- the table --------------------------------------------------------------------------------


def strip_additions(text: str) -> str:
    return re.sub(r"(?ms)^# tritonbuild: .*?^# end tritonbuild\n", "", text)


def split_sections(text: str) -> list[tuple[str, str | None, list[str]]]:
    """Return title, the line about deleting it, and the lines of each section."""
    found = []
    pattern = r"(?ms)^########\n# (.*?)\n(?:# Delete this section to remove (.*?) from build\n)?#\n(.*?)^#\n# end (.*?)\n########\n\n"
    body = strip_additions(text)
    for title, removable, lines, end in re.findall(pattern, body):
        assert title == end
        found.append((title, removable or None, lines.splitlines()))
    rest = re.sub(pattern, "", body)
    header = "#!/usr/bin/env bash\n\n#\n# Build script for Triton Inference Server\n#\n\n"
    header += "# Exit script immediately if any command fails\nset -e\n"
    assert rest in (f"{header}\n", f"{header}set -x\n\n")
    return found


def expect_arguments(kind: str, section: dict) -> list[str]:
    shape = [text.format(name=section.get("name")) for text in TABLE["shapes"][kind]]
    for change in section.get("changes", ()):
        name = change.partition("=")[0]
        places = [index for index, text in enumerate(shape) if text.partition("=")[0] == name]
        assert len(places) == 1, f"the table changes what is not there: {change}"
        shape[places[0]] = change
    return [*section.get("first", ()), *shape, *section.get("last", ())]


def expect_lines(case: dict, kind: str, section: dict) -> list[str]:
    folder, suffix = KINDS.get(kind, ("", ""))
    name = section.get("name")
    values = {
        "name": name,
        "folder": folder,
        "tree": case.get("tree", f"{BUILD_DIR}/opt/tritonserver"),
        "server": case.get("server", "/srv/server"),
        "verbose": case.get("verbose", 0),
        "tag": section.get("tag", "r23.12"),
        "repository": section.get("repository", f"{ORGANIZATION}/{name}{suffix}.git"),
    }
    lines: list[str] = []
    for line in TABLE["commands"][section.get("commands", kind)]:
        if line == "CLONE":
            lines += [*TABLE["clones"][case.get("clone", "forced")], *section.get("prepare", ())]
        else:
            lines.append(line)
    return [line.format(**values) for line in lines]


@pytest.mark.parametrize("name", CASES)
def test_sections_arguments_and_commands_are_build_pys(name, scripts):
    case = CASES[name]
    text = scripts[name].read_text(encoding="utf-8")
    assert ("\nset -x\n" in text) == (case.get("verbose", 0) == 1)
    found = split_sections(text)
    wanted = [next(iter(section.items())) for section in case["sections"]]
    titles = [CORE if kind == "core" else f"'{one['name']}' {kind}" for kind, one in wanted]
    assert [title for title, _, _ in found] == titles
    for (title, removable, lines), (kind, section) in zip(found, wanted, strict=True):
        assert removable == (None if kind == "core" else kind), title
        configured = [line for line in lines if line.startswith("cmake ")]
        assert ["CMAKE" if line in configured else line for line in lines] == expect_lines(
            case, kind, section
        ), title
        if section.get("commands") == "copied":
            assert configured == []
            continue
        assert len(configured) == 1, title
        words = shlex.split(configured[0])
        assert words[:4] == [
            "cmake", "-DTRT_VERSION=${TRT_VERSION}",
            "-DCMAKE_TOOLCHAIN_FILE=${CMAKE_TOOLCHAIN_FILE}",
            "-DVCPKG_TARGET_TRIPLET=${VCPKG_TARGET_TRIPLET}",
        ], title  # fmt: skip
        where = case.get("server", "/srv/server") if kind == "core" else ".."
        assert words[-1] == where, title
        assert words[4:-1] == [f"-D{text}" for text in expect_arguments(kind, section)], title


def test_the_table_is_as_long_as_was_asked_for():
    options = {tuple(case["options"]) for case in CASES.values()}
    assert len(options) == len(CASES)
    assert len(CASES) >= 40


def test_bash_and_shellcheck_find_nothing(scripts, shellcheck):
    for path in scripts.values():
        done = subprocess.run(["bash", "-n", path], check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    # cmake is given what it asks for: a `;` is part of a list there.
    done = shellcheck(*scripts.values())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# All that build.py's parser has.
BUILD_PY_OPTIONS = """\
-q --quiet -v --verbose --dryrun --no-container-build --no-container-interactive
--no-container-pull --container-memory --target-platform --target-machine --build-id --build-sha
--build-dir --install-dir --cmake-dir --tmp-dir --library-paths --build-type -j --build-parallel
--github-organization --version --container-version --upstream-container-version
--container-prebuild-command --no-container-source --image --enable-all --enable-logging
--enable-stats --enable-metrics --enable-gpu-metrics --enable-cpu-metrics --enable-tracing
--enable-nvtx --enable-gpu --enable-mali-gpu --min-compute-capability --endpoint --filesystem
--no-core-build --backend --repo-tag --repoagent --cache --no-force-clone --extra-core-cmake-arg
--override-core-cmake-arg --extra-backend-cmake-arg --override-backend-cmake-arg
"""


def test_every_option_of_build_py_is_taken():
    verb = get_command(app).commands["render"]
    known = {name for one in verb.params for name in (*one.opts, *one.secondary_opts)}
    assert [name for name in BUILD_PY_OPTIONS.split() if name not in known] == []
    documented = (Path(__file__).parents[2] / "docs" / "render.md").read_text(encoding="utf-8")
    assert [name for name in BUILD_PY_OPTIONS.split() if f"`{name}" not in documented] == []


# --- without --like-upstream the recipes hold ---------------------------------------------------


def test_options_change_the_boards_build_and_leave_the_rest_alone(tmp_path):
    options = ("--board", "orangepi5b", "--build-dir", BUILD_DIR, "--output", tmp_path)
    call(*options)
    plain = (tmp_path / "cmake_build").read_text(encoding="utf-8")
    call(*options, "--no-enable-tracing", "--endpoint", "http", "--cache", "local")
    changed = (tmp_path / "cmake_build").read_text(encoding="utf-8")
    start = changed.index("########\n# 'local' cache")
    assert changed.index("########\n# 'rknn' backend") < start
    for old, new in (
        ("TRITON_ENABLE_TRACING:BOOL=ON", "TRITON_ENABLE_TRACING:BOOL=OFF"),
        ("TRITON_ENABLE_GRPC:BOOL=ON", "TRITON_ENABLE_GRPC:BOOL=OFF"),
    ):
        assert plain.count(old) == 1
        plain = plain.replace(old, new)
    ours = [line for line in changed[:start].splitlines() if not line.startswith("# local: ")]
    assert ours == plain.splitlines()


def test_a_named_backend_takes_the_place_of_the_boards(tmp_path, recipes):
    call(
        "--board", "orangepi5b", "--build-dir", BUILD_DIR, "--output", tmp_path,
        "--backend", "python:r23.11", "--set", "core.TRITON_ENABLE_TRACING=OFF",
    )  # fmt: skip
    text = (tmp_path / "cmake_build").read_text(encoding="utf-8")
    assert [title for title, _, _ in split_sections(text)] == [CORE, "'python' backend"]
    assert "-b r23.11 https" in text
    assert '"-DTRITON_ENABLE_TRACING:BOOL=OFF"' in text
    assert '"-DTRITON_ENABLE_STATS:BOOL=ON"' in text


@pytest.mark.parametrize(
    "options",
    [("--image", "base,ubuntu:22.04"), ("--library-paths", "onnxruntime:/opt/ort"),
     ("--variant", "onnxruntime=upstream")],
    ids=lambda options: options[0],
)  # fmt: skip
def test_own_image_or_libraries_take_the_place_of_the_archive(tmp_path, options):
    call("--board", "generic-arm64", "--build-dir", BUILD_DIR, "--output", tmp_path, *options)
    assert "tritonbuild_download" not in (tmp_path / "cmake_build").read_text(encoding="utf-8")


def test_version_finds_the_release(tmp_path):
    call(
        "--board", "generic-arm64", "--build-dir", BUILD_DIR, "--output", tmp_path,
        "--version", "2.42.0", "-c", "core",
    )  # fmt: skip
    text = (tmp_path / "cmake_build").read_text(encoding="utf-8")
    assert '"-DTRITON_CORE_REPO_TAG:STRING=r24.01"' in text


def test_jobs_have_build_pys_name_too(tmp_path):
    options = ("--board", "generic-arm64", "--build-dir", BUILD_DIR, "--output", tmp_path)
    call(*options, "--build-parallel", "7")
    assert "make -j7 VERBOSE=1 install" in (tmp_path / "cmake_build").read_text(encoding="utf-8")


# --- what is refused --------------------------------------------------------------------------

NATIVE = ("--build-dir", BUILD_DIR)
REFUSED = [
    # What CMake refuses, after everything was fetched.
    ("--enable-metrics", "METRICS=ON needs core.TRITON_ENABLE_STATS=ON"),
    ("--enable-tracing", "TRACING=ON needs core.TRITON_ENABLE_STATS=ON"),
    ("--enable-stats --enable-cpu-metrics", "METRICS_CPU=ON needs core.TRITON_ENABLE_METRICS=ON"),
    ("--enable-stats --enable-gpu --enable-gpu-metrics", "METRICS_GPU=ON needs .*METRICS=ON"),
    ("--enable-stats --enable-metrics --enable-gpu-metrics", "METRICS_GPU=ON needs .*GPU=ON"),
    ("--enable-gpu --extra-core-cmake-arg TRITON_ENABLE_ASAN=ON", "ASAN=ON needs .*GPU=OFF"),
    ("--enable-gpu --set core.TRITON_ENABLE_ASAN=ON", "ASAN=ON needs .*GPU=OFF"),
    ("--extra-core-cmake-arg TRITON_ENABLE_METRICS=yes", "METRICS=ON needs .*STATS=ON"),
    ("--enable-stats --enable-metrics --override-core-cmake-arg TRITON_ENABLE_STATS=0",
     "METRICS=ON needs .*STATS=ON"),
    ("--backend tensorrt", "tensorrt needs core.TRITON_ENABLE_GPU=ON"),
    ("--backend tensorrtllm --enable-gpu", "tensorrtllm needs --image base,IMAGE"),
    ("--target-platform igpu --enable-stats --enable-metrics --enable-gpu --enable-gpu-metrics",
     "no DCGM for Tegra"),
    # What build.py takes and gets wrong.
    ("--endpoint grpc,http", "one value at a time; build.py would leave them all out"),
    ("--endpoint grcp", 'unknown value "grcp"; did you mean "grpc"'),
    ("--filesystem azure", 'unknown value "azure"'),
    ("--filesystem s3,gcs", "one value at a time"),
    ("--library-paths onnxruntime", "BACKEND:PATH is wanted"),
    ("--library-paths onnxruntime:/x", "takes no library path in this build"),
    ("--backend python --library-paths python:/x", "python takes no library path"),
    ("--backend onnxruntime --library-paths onnxruntime:x/y", "an absolute path is wanted"),
    ("--repo-tag core", "COMPONENT:TAG is wanted"),
    ("--repo-tag third_party:main", 'unknown repository "third_party"; did you mean "thirdparty"'),
    ("--repo-tag core:pull/1/head", "a pull request cannot be built this way"),
    ("--repo-tag core:-x", "is no tag or branch"),
    ("--backend python:pull/x/head", "a pull request is pull/NUMBER/head"),
    ("--backend python:r1:r2", "is no tag or branch"),
    ("--backend python:", "is no tag or branch"),
    ("--backend python:a..b", "is no tag or branch"),
    ("--backend tensorflow1", "no TensorFlow 1 since 23.04"),
    ("--backend pyhton", 'unknown backend "pyhton"; did you mean "python"'),
    ("--backend ../x", "cannot be the name of a component"),
    ("--backend -x:main", "cannot be the name of a component"),
    ("--backend tritonserver", "cannot be the name of a component"),
    ("--backend backend", "only there for others to extend"),
    ("--backend ensemble:main", "ensemble is part of the core and has no tag"),
    ("--no-core-build --backend python --extra-core-cmake-arg A=B", "nothing gets it"),
    ("--no-core-build --backend python --override-core-cmake-arg TRITON_VERSION=1",
     "nothing gets it"),
    ("--backend local", "local is a cache"),
    ("--cache checksum", "checksum is a repository agent"),
    ("--cache ensemble", "ensemble is a core-switch"),
    ("--backend core", "core is a core"),
    ("--backend mine:main --cache mine:main", "both are built in one folder"),
    ("--backend python:a --backend python:b", "both are built in one folder"),
    ("--extra-backend-cmake-arg python:A=B", "python is not a backend of this build"),
    ("--override-backend-cmake-arg python:A=B", "python is not a backend of this build"),
    ("--backend python --override-backend-cmake-arg python:A=B", "python gets no A"),
    ("--backend python --extra-backend-cmake-arg python:A", "BACKEND:NAME=VALUE is wanted"),
    ("--backend python --extra-backend-cmake-arg A=B", "BACKEND:NAME=VALUE is wanted"),
    ("--backend vllm --extra-backend-cmake-arg vllm:A=B", "vllm is only copied"),
    ("--override-core-cmake-arg TRITON_ENABLE_STAT=ON", 'did you mean "TRITON_ENABLE_STATS"'),
    ("--extra-core-cmake-arg A", "NAME=VALUE is wanted"),
    ("--extra-core-cmake-arg $(x)=B", "NAME=VALUE is wanted"),
    ("--image base", "NAME,IMAGE is wanted"),
    ("--image bsae,ubuntu:22.04", 'unknown value "bsae"; did you mean "base"'),
    ("--image base,ubuntu:22.04,x", "is no name of an image"),
    ("--image base,-x", "is no name of an image"),
    ("--build-type debug", 'unknown value "debug"; did you mean "Debug"'),
    ("--min-compute-capability sm_87", "a number such as 8.7"),
    ("--target-platform jetpack", "there is no such platform here"),
    ("--target-platform windows", "there is no such platform here"),
    ("--target-machine arm64", 'unknown value "arm64"'),
    ("--enable-all", "generic-arm64 has no CUDA GPU"),
    ("--no-core-build", "nothing is left to build"),
    ("--no-core-build --backend ensemble", "nothing is left to build"),
    ("--version 2.39.0", "its container versions are not known"),
    ("--version 2.42.0 --release r23.12", "--release r23.12 is 2.41.0"),
    (
        "--version 2.39.0 --container-version 23.10 --upstream-container-version 23.10 --backend onnxruntime",
        "no such thing in r23.12",
    ),
    ("--version $(x)", "no version"),
    ("--github-organization -x --backend python", "an address that git takes is wanted"),
    ("-v -q", "--verbose does not go with --quiet"),
    ("--install-dir opt", "--install-dir opt: an absolute path is wanted"),
    ("--container-prebuild-command true", "does nothing without --container-build"),
    ("--tmp-dir /data", "does nothing without --container-build"),
    ("--container-memory 8g", "on Windows alone"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "said"), REFUSED, ids=[options for options, _ in REFUSED])
def test_refused_with_a_hint(options, said, tmp_path):
    arguments = ("--board", "generic-arm64", "--like-upstream", *NATIVE, *options.split())
    with pytest.raises(TritonBuildError, match=said) as caught:
        call("--output", tmp_path / "out", *arguments)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--build-dir", "--install-dir", "--server-dir"])
def test_relative_folder_is_refused(option, tmp_path):
    with pytest.raises(UsageError, match=f"{option} build: an absolute path"):
        call("--board", "generic-arm64", "--output", tmp_path, *NATIVE, option, "build")


def test_missing_build_dir_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--build-dir is missing"):
        call("--board", "generic-arm64", "--output", tmp_path)


def test_another_machine_needs_like_upstream(tmp_path):
    with pytest.raises(UsageError, match="orangepi5b is arm64"):
        call("--board", "orangepi5b", *NATIVE, "--output", tmp_path, "--target-machine", "x86_64")


def test_npu_board_keeps_its_switch(tmp_path):
    options = ("--board", "orangepi5b", *NATIVE, "--output", tmp_path, "--backend", "rknn")
    with pytest.raises(UsageError, match=r"orangepi5b with rknn needs .*MALI_GPU=ON"):
        call(*options, "--no-enable-mali-gpu")
    with pytest.raises(UsageError, match=r"orangepi5b with rknn needs .*MALI_GPU=ON"):
        call(*options, "--like-upstream")
    call(*options, "--like-upstream", "--enable-mali-gpu")


def test_plan_refuses_the_same_through_set(cli):
    done = cli("plan", "--board", "orangepi5b", "--set", "core.TRITON_ENABLE_STATS=OFF")
    assert done.code == 2
    assert "core.TRITON_ENABLE_METRICS=ON needs core.TRITON_ENABLE_STATS=ON" in done.err
    assert "hint: say core.TRITON_ENABLE_STATS=ON, or core.TRITON_ENABLE_METRICS=OFF" in done.err


# --- container builds -------------------------------------------------------------------------


def render_container(tmp_path: Path, recipes: Path, *options: str, **more) -> dict[str, str]:
    output = tmp_path / "server" / "build"
    render(output, recipes, "-j", "4", *options, where=("--container-build",), **more)
    return {path.name: path.read_text(encoding="utf-8") for path in output.iterdir()}


def list_instructions(dockerfile: str) -> list[str]:
    """Return the instructions, a line each, without comments."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [line for line in joined.splitlines() if line]


def find_in_order(text: str, wanted: list[str]) -> None:
    position = 0
    for part in wanted:
        found = text.find(part, position)
        assert found >= 0, f"{part!r} is not there, or not in its place"
        position = found + len(part)


def test_container_files_are_there_and_scripts_can_be_run(tmp_path, recipes):
    files = render_container(tmp_path, recipes, "--backend", "python")
    assert sorted(files) == [
        "Dockerfile", "Dockerfile.buildbase", "Dockerfile.cibase", "cmake_build", "docker_build",
    ]  # fmt: skip
    for name in files:
        executable = os.access(tmp_path / "server" / "build" / name, os.X_OK)
        assert executable == (not name.startswith("Dockerfile")), name


def test_inside_the_container_the_folders_are_build_pys(tmp_path, recipes):
    files = render_container(
        tmp_path, recipes, "--backend", "identity", "--backend", "onnxruntime",
        "--container-prebuild-command", 'export A="$(date)"',
    )  # fmt: skip
    body = strip_additions(files["cmake_build"])
    assert body.index('\nexport A="$(date)"\n\n########\n') < body.index(CORE)
    assert "tritonbuild_fetch" not in files["cmake_build"], "COPY brings the server's sources"
    inner = "/tmp/tritonbuild"
    find_in_order(
        body,
        [
            f"cd {inner}/tritonserver/build\n",
            f'"-DCMAKE_INSTALL_PREFIX:PATH={inner}/tritonserver/install"',
            " /workspace\nmake -j4 VERBOSE=0 install\n",
            f"mkdir -p {inner}/install/bin\n",
            f"cp /workspace/TRITON_VERSION {inner}/install\n",
            f"mkdir -p {inner}/install/third-party-src\n",
            f"cd {inner}/tritonserver/build\n",
            f"tar zcf {inner}/install/third-party-src/src.tar.gz third-party-src\n",
            f"cp /workspace/docker/README.third-party-src {inner}/install/third-party-src/README\n",
            f"#\n# end {CORE}\n",
            f'"-DCMAKE_INSTALL_PREFIX:PATH={inner}/identity/install"',
            "########\n# Collect Triton CI artifacts\n#\n",
            f"mkdir -p {inner}/ci\n",
            f"cp -r /workspace/qa {inner}/ci\n",
            f"cp -r /workspace/deploy {inner}/ci\n",
            f"mkdir -p {inner}/ci/docs\n",
            f"cp -r /workspace/docs/examples {inner}/ci/docs\n",
            f"mkdir -p {inner}/ci/src/test\n",
            f"cp -r /workspace/src/test/models {inner}/ci/src/test\n",
            f"cp -r {inner}/tritonserver/install/bin {inner}/ci\n",
            f"mkdir -p {inner}/ci/lib\n",
            f"cp {inner}/tritonserver/install/lib/libtritonrepoagent_relocation.so {inner}/ci/lib\n",
            f"cp -r {inner}/tritonserver/install/python {inner}/ci\n",
            f"mkdir -p {inner}/ci/backends\n",
            *(f"if [[ -e {inner}/{name}/install/backends/{name} ]]; then\n"
              f"cp -r {inner}/{name}/install/backends/{name} {inner}/ci/backends\nfi\n"
              for name in ("identity", "repeat", "square")),
            f"mkdir -p {inner}/ci/tritonbuild/tritonserver/backends\n",
            *(f"if [[ -e {inner}/tritonserver/install/backends/{name} ]]; then\n"
              for name in ("query", "implicit_state", "sequence", "dyna_sequence",
                           "distributed_addsub", "iterative_sequence")),
            f"mkdir -p {inner}/ci/qa/L0_custom_ops\n",
            f"cp {inner}/onnxruntime/install/test/libcustom_op_library.so {inner}/ci/qa/L0_custom_ops\n",
            f"cp {inner}/onnxruntime/install/test/custom_op_test.onnx {inner}/ci/qa/L0_custom_ops\n",
            f"cp -r {inner}/onnxruntime/test/* {inner}/ci/qa\n",
            f"mkdir -p {inner}/ci/tritonbuild\n",
            f"rm -fr {inner}/identity/build\n",
            f"rm -fr {inner}/identity/install\n",
            f"cp -r {inner}/identity {inner}/ci/tritonbuild\n",
            "#\n# end Triton CI artifacts\n########\n",
            f"chmod -R a+rw {inner}/install\nchmod -R a+rw {inner}/ci\n",
        ],
    )  # fmt: skip


@pytest.mark.parametrize("option", ["--no-container-source", "--no-core-build"])
def test_without_the_core_or_sources_there_is_no_tar_of_them(tmp_path, recipes, option):
    files = render_container(tmp_path, recipes, "--backend", "identity", option)
    assert "tar zcf" not in files["cmake_build"]
    assert "README.third-party-src" not in files["cmake_build"]
    assert ("libtritonrepoagent" in files["cmake_build"]) == (option == "--no-container-source")


def test_docker_build_is_build_pys(tmp_path, recipes):
    server = tmp_path / "server"
    text = strip_additions(render_container(tmp_path, recipes, "-v")["docker_build"])
    assert [line for line in text.splitlines() if line and not line.startswith("#")] == [
        "set -e",
        "set -x",
        f"cd {server}",
        (
            f"docker build -t tritonserver_buildbase -f {server}/build/Dockerfile.buildbase --pull "
            "--cache-from=tritonserver_buildbase --cache-from=tritonserver_buildbase_cache0 "
            "--cache-from=tritonserver_buildbase_cache1 ."
        ),
        (
            'if [ "$(docker ps -a | grep tritonserver_builder)" ]; then  docker rm '
            "tritonserver_builder; fi"
        ),
        (
            "docker run -w /workspace/build --name tritonserver_builder -it -v "
            "/var/run/docker.sock:/var/run/docker.sock tritonserver_buildbase ./cmake_build"
        ),
        f"docker cp tritonserver_builder:/tmp/tritonbuild/install {server}/build",
        f"docker cp tritonserver_builder:/tmp/tritonbuild/ci {server}/build",
        f"cd {server}",
        f"docker build -t tritonserver -f {server}/build/Dockerfile .",
        f"cd {server}",
        f"docker build -t tritonserver_cibase -f {server}/build/Dockerfile.cibase .",
    ]


def test_other_folder_in_the_container_is_where_it_is_copied_from(tmp_path, recipes):
    """build.py copies from /tmp/tritonbuild, wherever --tmp-dir is."""
    files = render_container(
        tmp_path, recipes, "--tmp-dir", "/data/x y", "--no-container-pull",
        "--no-container-interactive",
    )  # fmt: skip
    script = files["docker_build"]
    assert "docker cp 'tritonserver_builder:/data/x y/tritonbuild/install' " in script
    assert "docker cp 'tritonserver_builder:/data/x y/tritonbuild/ci' " in script
    assert "/tmp/tritonbuild" not in script.replace(str(tmp_path), "")
    assert "mkdir -p '/data/x y/tritonbuild/install/bin'" in files["cmake_build"]
    assert "--pull" not in script
    assert " -it " not in script


BASE_PACKAGES = [
    "ca-certificates",
    "autoconf",
    "automake",
    "build-essential",
    "git",
    "gperf",
    "libre2-dev",
    "libssl-dev",
    "libtool",
    "libcurl4-openssl-dev",
    "libb64-dev",
    "libgoogle-perftools-dev",
    "patchelf",
    "python3-dev",
    "python3-pip",
    "python3-setuptools",
    "rapidjson-dev",
    "scons",
    "software-properties-common",
    "pkg-config",
    "unzip",
    "wget",
    "zlib1g-dev",
    "libarchive-dev",
    "libxml2-dev",
    "libnuma-dev",
]
RUN_PACKAGES = [
    "clang",
    "curl",
    "dirmngr",
    "git",
    "gperf",
    "libb64-0d",
    "libcurl4-openssl-dev",
    "libgoogle-perftools-dev",
    "libjemalloc-dev",
    "libnuma-dev",
    "libre2-9",
    "software-properties-common",
    "wget",
]
BOOST = "https://archives.boost.io/release/1.80.0/source/boost_1_80_0.tar.gz"


def test_image_that_builds(tmp_path, recipes):
    text = render_container(tmp_path, recipes)["Dockerfile.buildbase"]
    instructions = list_instructions(text)
    assert instructions[:4] == [
        "ARG TRITON_VERSION=2.41.0", "ARG TRITON_CONTAINER_VERSION=23.12",
        "ARG BASE_IMAGE=ubuntu:22.04", "FROM ${BASE_IMAGE}",
    ]  # fmt: skip
    find_in_order(
        "\n".join(instructions),
        [
            "download.docker.com", "docker.io docker-buildx-plugin",
            f"--no-install-recommends {' '.join(BASE_PACKAGES)} ",
            "pip3 install --upgrade pip", "pip3 install --upgrade wheel setuptools docker",
            BOOST, "./bootstrap.sh --prefix=/usr ", "./b2 install",
            "apt.kitware.com", "'cmake=3.27.7*' 'cmake-data=3.27.7*'",
            "ENV TRITON_SERVER_VERSION=", "WORKDIR /workspace", "COPY . .", "ENTRYPOINT []",
            "Miniconda3-py310_23.1.0-1-Linux-aarch64.sh",
            "80d6c306b015e1e3b01ea59dc66c676a81fa30279bc2da1f180a7ef7b2191d6e",
        ],
    )  # fmt: skip
    assert "datacenter-gpu-manager" not in text
    assert "jfrog" not in text


def test_image_that_serves_on_the_processor(tmp_path, recipes):
    options = ("--backend", "onnxruntime", "--backend", "python", "--endpoint", "sagemaker")
    labels = ("--build-id", "id 'x'", "--build-sha", 'a"b$c')
    text = render_container(tmp_path, recipes, *options, *labels)["Dockerfile"]
    instructions = list_instructions(text)
    assert [line for line in instructions if line.startswith("FROM")] == ["FROM ${BASE_IMAGE}"]
    find_in_order(
        "\n".join(instructions),
        [
            "ENV UCX_MEM_EVENTS=no",
            "ENV LD_LIBRARY_PATH=/opt/tritonserver/backends/onnxruntime:${LD_LIBRARY_PATH}",
            "ENV TRITON_SERVER_GPU_ENABLED=0", "ENV TRITON_SERVER_USER=triton-server", "-eq 1000",
            f"--no-install-recommends {' '.join(RUN_PACKAGES)} libgomp1 &&",
            BOOST, "ENV TCMALLOC_RELEASE_RATE=200",
            "python3 libarchive-dev python3-pip libpython3-dev ", "wheel setuptools", "numpy",
            "WORKDIR /opt/tritonserver", "COPY docker/entrypoint.d/ /opt/nvidia/entrypoint.d/",
            "COPY docker/cpu_only/ /opt/nvidia/",
            'ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh"]',
            'ENV NVIDIA_BUILD_ID="id \'x\'"', 'LABEL com.nvidia.build.id="id \'x\'"',
            'LABEL com.nvidia.build.ref="a\\"b\\$c"',
            "COPY --chown=1000:1000 build/install tritonserver",
            "LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true",
        ],
    )  # fmt: skip


def test_labels_are_known_to_be_unknown(tmp_path, recipes):
    text = render_container(tmp_path, recipes)["Dockerfile"]
    assert 'LABEL com.nvidia.build.id="<unknown>"\nLABEL com.nvidia.build.ref=""\n' in text


def test_pytorch_on_the_processor_takes_stubs_from_the_gpu_image(tmp_path, recipes):
    options = ("--backend", "pytorch", "--image", "gpu-base,r.example/min:1")
    text = render_container(tmp_path, recipes, *options)["Dockerfile"]
    instructions = "\n".join(list_instructions(text))
    find_in_order(
        instructions,
        [
            "FROM r.example/min:1 AS min_container", "FROM ${BASE_IMAGE}",
            "ENV LD_LIBRARY_PATH=/opt/hpcx/ucc/lib/:/opt/hpcx/ucx/lib/:${LD_LIBRARY_PATH}",
            "wget libgomp1 libgfortran5 &&",
            "COPY --from=min_container /usr/local/cuda/lib64/stubs/libcusparse.so ",
            "/usr/local/cuda/targets/sbsa-linux/lib", "libucc.so.1", "libuct.so.0", "libcudnn.so.8",
            "openmpi-bin patchelf", "libnccl.so.2",
            "RUN patchelf --add-needed /usr/local/cuda/lib64/stubs/libcublasLt.so.12",
        ],
    )  # fmt: skip


def test_tensorflow_on_the_processor_needs_nccl_alone(tmp_path, recipes):
    text = render_container(tmp_path, recipes, "--backend", "tensorflow")["Dockerfile"]
    assert "FROM nvcr.io/nvidia/tritonserver:23.12-py3-min AS min_container" in text
    assert text.count("COPY --from=min_container") == 1
    assert "libnccl.so.2" in text


def test_with_a_gpu_images_are_nvidias_and_have_dcgm(tmp_path, recipes):
    options = ("--enable-gpu", "--backend", "pytorch", "--backend", "vllm")
    files = render_container(tmp_path, recipes, *options, "--target-machine", "x86_64")
    for name in ("Dockerfile", "Dockerfile.buildbase"):
        assert "ARG BASE_IMAGE=nvcr.io/nvidia/tritonserver:23.12-py3-min\n" in files[name]
        assert "cuda/repos/ubuntu2204/x86_64/cuda-keyring_1.0-1_all.deb" in files[name]
        assert "datacenter-gpu-manager=1:3.2.6" in files[name]
    assert "min_container" not in files["Dockerfile"]
    assert "cpu_only" not in files["Dockerfile"]
    assert "libgfortran5" not in files["Dockerfile"]
    assert "RUN pip3 install vllm==0.2.2\n" in files["Dockerfile"]
    assert "Miniconda3-py310_23.1.0-1-Linux-x86_64.sh" in files["Dockerfile.buildbase"]


def test_image_for_tests(tmp_path, recipes):
    text = render_container(tmp_path, recipes, "--image", "base,mine:1")["Dockerfile.cibase"]
    assert list_instructions(text) == [
        "ARG TRITON_VERSION=2.41.0", "ARG TRITON_CONTAINER_VERSION=23.12",
        "ARG BASE_IMAGE=mine:1", "FROM ${BASE_IMAGE}", "ARG TRITON_VERSION",
        "ARG TRITON_CONTAINER_VERSION", "COPY build/ci /workspace", "WORKDIR /workspace",
        "ENV TRITON_SERVER_VERSION=${TRITON_VERSION}",
        "ENV NVIDIA_TRITON_SERVER_VERSION=${TRITON_CONTAINER_VERSION}",
    ]  # fmt: skip


def test_container_scripts_pass_bash_and_shellcheck(tmp_path, recipes, shellcheck):
    render_container(
        tmp_path, recipes, "-v", "--backend", "onnxruntime", "--backend", "python",
        "--tmp-dir", "/x/$(y) `z`", "--cache", "local",
    )  # fmt: skip
    paths = [tmp_path / "server" / "build" / name for name in ("cmake_build", "docker_build")]
    for path in paths:
        done = subprocess.run(["bash", "-n", path], check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    # SC2143: build.py's own way to look for an older container.
    done = shellcheck("-e", "SC2143", *paths)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


FAKE = f"""\
#!{sys.executable} -IS
import json, os, sys
with open(os.environ["RECORD"], "a") as out:
    out.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
"""


def test_docker_build_runs_from_any_folder_and_values_stay_text(tmp_path, recipes):
    tools, server, output = tmp_path / "bin", tmp_path / "a b" / "$(touch pwned)", tmp_path / "out"
    tools.mkdir()
    server.mkdir(parents=True)
    (server / "TRITON_VERSION").write_text("2.41.0\n")
    (server / "build" / "install").mkdir(parents=True)
    (tools / "docker").write_text(FAKE)
    (tools / "docker").chmod(0o755)
    render(
        output, recipes, where=("--container-build", "--server-dir", str(server),
                                "--tmp-dir", "/t/`touch pwned`"),
    )  # fmt: skip
    record = tmp_path / "record"
    env = {"PATH": f"{tools}:/usr/bin:/bin", "RECORD": str(record), "HOME": str(tmp_path)}
    done = subprocess.run(
        [output / "docker_build"], check=False, cwd=tools, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    calls = [json.loads(line) for line in record.read_text().splitlines()]
    copied = [call_[2:] for call_ in calls if call_[1] == "cp"]
    assert copied == [
        [f"tritonserver_builder:/t/`touch pwned`/tritonbuild/{name}", str(server / "build")]
        for name in ("install", "ci")
    ]
    assert [call_[3] for call_ in calls if call_[1] == "build"] == [
        "tritonserver_buildbase", "tritonserver", "tritonserver_cibase",
    ]  # fmt: skip
    assert not (server / "build" / "install").exists(), "what an earlier run left"
    assert (server / "build" / "cmake_build").is_file()
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--build-dir", "/x"), "--build-dir does not go with --container-build"),
        (("--install-dir", "/x"), "--install-dir does not go with --container-build"),
        (("--tmp-dir", "x"), "--tmp-dir x: an absolute path"),
        (("--backend", "fastertransformer"), "what fastertransformer needs in its image"),
        (
            ("--backend", "tensorrtllm", "--enable-gpu", "--image", "base,x"),
            "what tensorrtllm needs",
        ),
        (("--target-platform", "igpu"), "--target-platform igpu: which image is not known"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_container_build_refuses(tmp_path, recipes, options, said):
    with pytest.raises(UsageError, match=said) as caught:
        render_container(tmp_path, recipes, *options)
    assert caught.value.hint


def test_container_build_needs_versions_that_are_known(tmp_path, recipes):
    with pytest.raises(UsageError, match="--enable-gpu needs DCGM, whose version is not known"):
        render_container(tmp_path, recipes, "--enable-gpu", release="r24.01")
    with pytest.raises(UsageError, match="dali needs Miniconda"):
        render_container(tmp_path, recipes, "--backend", "dali", release="r24.01")
    text = render_container(tmp_path, recipes, release="r24.01")["Dockerfile.buildbase"]
    assert "Miniconda" not in text


def test_container_build_needs_the_servers_folder(tmp_path, recipes):
    with pytest.raises(UsageError, match="where are the server's sources"):
        render(tmp_path / "out", recipes, where=("--container-build",))


def test_label_that_a_dockerfile_cannot_hold_is_refused(tmp_path, recipes):
    with pytest.raises(RenderError, match="cannot stand in a Dockerfile"):
        render_container(tmp_path, recipes, "--build-id", "x\nRUN touch pwned")
    assert quote_value('a\\b"c$d') == '"a\\\\b\\"c\\$d"'


# --- conditions in recipes --------------------------------------------------------------------

OWN = """\
schema: 1
name: own
summary: A backend
extends: backend
kind: backend
source:
  clone: {repository: "https://git.example/own.git", directory: own}
  cmake_args:
    - {name: SET, value: a, if: [core.TRITON_ENABLE_HTTP]}
    - {name: UNSET, value: a, if: [not core.TRITON_ENABLE_HTTP]}
    - {name: SAME, format: "<{release.tag}|{target.machine}>", if: [release.tag=r23.12]}
    - {name: OTHER, value: a, if: [release.tag=r24.01]}
    - {name: BOTH, value: a, if: [selected.own, not selected.rknn]}
  needs:
    - {if: [own.MODE=a], then: [own.HELPER], why: it does}
"""


@pytest.fixture
def own(tmp_path) -> Path:
    (tmp_path / "own" / "components").mkdir(parents=True)
    (tmp_path / "own" / "components" / "own.yaml").write_text(OWN, encoding="utf-8")
    return tmp_path / "own"


def call_own(own: Path, *options: str) -> str:
    call(
        "--board", "generic-arm64", "--release", "r23.12", "--recipes", own, *NATIVE,
        "--output", own, "--backend", "own", *options,
    )  # fmt: skip
    return (own / "cmake_build").read_text(encoding="utf-8")


def test_arguments_stand_where_their_conditions_hold(own):
    assert '"-DSET=a" "-DSAME=<r23.12|aarch64>" "-DBOTH=a" "-DCMAKE_BUILD_TYPE' in call_own(own)
    assert '"-DUNSET=a" "-DSAME=' in call_own(own, "--endpoint", "grpc")


@pytest.mark.parametrize(
    ("value", "is_wanted"),
    [("ON", True), ("1", True), ("x", True), ("off", False), ("x-NOTFOUND", False), ("", False)],
)
def test_needs_are_judged_as_cmake_would(own, value, is_wanted):
    options = ("--set", "own.MODE=a", "--set", f"own.HELPER={value}")
    if is_wanted:
        assert f'"-DHELPER={value}"' in call_own(own, *options)
        return
    with pytest.raises(UsageError, match=r"own\.MODE=a needs own\.HELPER=ON: it does"):
        call_own(own, *options)
    assert "-DHELPER" in call_own(own, "--set", "own.MODE=b", *options[2:])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[core.TRITON_ENABLE_HTTP]", "[croe.X]", r'own.yaml:9: "croe.X": there is no croe'),
        (
            "{release.tag}|",
            "{release.nope}|",
            "own.yaml:11: SAME takes its value from release.nope",
        ),
        ("[own.HELPER]", "[owm.HELPER]", r'own.yaml:15: "owm.HELPER": there is no owm'),
    ],
)
def test_what_cannot_be_looked_up_is_an_error_with_its_line(own, old, new, said):
    path = own / "components" / "own.yaml"
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(RecipeError, match=said):
        call_own(own, "--set", "own.MODE=a")


# --- the rest ---------------------------------------------------------------------------------


def test_pull_request_can_be_fetched_again_into_a_clone_that_stays(tmp_path, recipes):
    text = render(tmp_path, recipes, "--backend", "python:pull/334/head", "--no-force-clone")
    assert (
        "cd python\n"
        "# tritonbuild: git does not fetch into the branch that an earlier run has checked out\n"
        "git checkout --detach\n"
        "# end tritonbuild\n"
        "git fetch origin pull/334/head:tritonbuildref\n"
    ) in text
    assert "rm -fr python\n" not in text


def test_cuda_on_a_board_without_is_pointed_out(cli, tmp_path):
    options = ("--build-dir", BUILD_DIR, "--output", tmp_path, "--enable-gpu")
    done = cli("render", "--board", "generic-arm64", *options)
    assert done.code == 0
    assert "CUDA is asked for, and generic-arm64 has none that its recipe knows of" in done.err
    assert done.out == f"{tmp_path}/cmake_build\n"
