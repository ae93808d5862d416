"""What the command line says to wrong options, and what it promises about itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

PLAN = ("plan", "--board", "orangepi5b")

WRONG = {
    "board": (("plan", "--board", "orangpi5b"), 'unknown board "orangpi5b"; did you mean "orangepi5b"?'),
    "board-is-a-path": (("plan", "--board", "../boards/orangepi5b"), 'unknown board "../boards/'),
    "board-is-empty": (("plan", "--board", ""), 'unknown board ""'),
    "os": ((*PLAN, "--os", "debian-21"), 'unknown operating system "debian-21"; did you mean "debian-12"?'),
    "release": ((*PLAN, "--release", "r23.13"), 'unknown release "r23.13"; did you mean "r23.12"?'),
    "rollback-with-no-service": (
        ("deploy", "board", "--rollback", "--no-service"),
        "--no-service does nothing with --rollback",
    ),
    "rollback-with-keep": (
        ("deploy", "board", "--rollback", "--keep", "3"), "--keep does nothing with --rollback",
    ),
    "rollback-with-packages": (
        ("deploy", "board", "--rollback", "--install-packages"),
        "--install-packages does nothing with --rollback",
    ),
    "rollback-with-work-dir": (
        ("deploy", "board", "--rollback", "--work-dir", "x"),
        "--work-dir does nothing with --rollback",
    ),
    "rollback-with-no-smoke": (
        ("deploy", "board", "--rollback", "--no-smoke"), "--no-smoke does nothing with --rollback",
    ),
    "component": ((*PLAN, "-c", "onnxruntim"), 'unknown component "onnxruntim"; did you mean "onnxruntime"?'),
    "component-abstract": ((*PLAN, "-c", "backend"), '"backend" is only there for other components'),
    "mirror": ((*PLAN, "--mirror", "upsteam"), 'unknown mirror "upsteam"; did you mean "upstream"?'),
    "provider": ((*PLAN, "--from", "wheels"), '--from: unknown value "wheels"; did you mean "wheel"?'),
    "executor": ((*PLAN, "--executor", "natve"), '--executor: unknown value "natve"; did you mean "native"?'),
    "executor-with-wheel": (
        (*PLAN, "--from", "wheel", "--executor", "native"),
        "--executor does not go with --from wheel: nothing is compiled",
    ),
    "no-accelerate-with-cross": (
        (*PLAN, "--executor", "cross", "--no-accelerate"),
        "--no-accelerate does not go with --executor cross",
    ),
    "no-accelerate-with-wheel": (
        (*PLAN, "--from", "wheel", "--no-accelerate"),
        "--no-accelerate does not go with --from wheel",
    ),
    "set-no-value": ((*PLAN, "--set", "core.X"), "--set 'core.X': COMPONENT.FLAG=VALUE is wanted"),
    "set-no-component": ((*PLAN, "--set", "X=1"), "--set 'X=1': COMPONENT.FLAG=VALUE is wanted"),
    "set-empty": ((*PLAN, "--set", ""), "--set '': COMPONENT.FLAG=VALUE is wanted"),
    "set-odd-flag": ((*PLAN, "--set", "core.A B=1"), "COMPONENT.FLAG=VALUE is wanted"),
    "set-unknown-component": (
        (*PLAN, "--set", "pyton.X=1"),
        '--set: "pyton" is not a component of this build; did you mean "python"?',
    ),
    "set-component-not-built": (
        (*PLAN, "-c", "core", "--set", "rknn.X=1"),
        '--set: "rknn" is not a component of this build',
    ),
    "set-unknown-switch": (
        (*PLAN, "--set", "core.TRITON_ENABLE_MALIGPU=ON"),
        'core has no switch "TRITON_ENABLE_MALIGPU"; did you mean "TRITON_ENABLE_MALI_GPU"?',
    ),
    "set-with-wheel": (
        (*PLAN, "--from", "wheel", "--set", "core.TRITON_ENABLE_TRACING=OFF"),
        "--set core.TRITON_ENABLE_TRACING does not go with --from wheel",
    ),
    "npu-switch-off-in-core": (
        (*PLAN, "--set", "core.TRITON_ENABLE_MALI_GPU=OFF"),
        "orangepi5b with rknn needs core.TRITON_ENABLE_MALI_GPU=ON, not OFF: without it the server",
    ),
    "npu-switch-off-in-rknn": (
        (*PLAN, "--set", "rknn.TRITON_ENABLE_MALI_GPU=OFF"),
        "orangepi5b with rknn needs rknn.TRITON_ENABLE_MALI_GPU=ON, not OFF: without it the backend",
    ),
    "kind": (("list", "board"), 'unknown kind of recipe "board"; did you mean "boards"?'),
    "show": (("show", "debian"), 'unknown recipe "debian"; did you mean "debian-1'),
    "show-path": (("show", "boards/../os/debian-12"), 'unknown board "../os/debian-12"'),
    "schema": (("schema", "bords"), 'unknown kind of recipe "bords"; did you mean "boards"?'),
    "recipes": (("check", "--recipes", "nowhere"), "nowhere: no such folder"),
    "relative-build-dir": (
        ("render", "--board", "orangepi5b", "--build-dir", "build", "--output", "out"),
        "--build-dir build: an absolute path is wanted",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_option_is_explained_with_exit_code_2(cli, name):
    args, message = WRONG[name]
    done = cli(*args)
    assert done.code == 2
    assert message in done.err
    assert done.err.startswith("error: ")
    assert "\nhint: " in done.err
    assert done.out == ""
    assert not (cli.folder / "out").exists()


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(("frobnicate",), id="verb"),
        pytest.param(("plan",), id="board-missing"),
        pytest.param((*PLAN, "--jobs", "0"), id="no-jobs"),
        pytest.param((*PLAN, "--jobs", "many"), id="jobs-no-number"),
        pytest.param((*PLAN, "--colour"), id="option"),
        pytest.param((*PLAN, "extra"), id="extra-argument"),
    ],
)
def test_wrong_usage_exits_with_2(cli, args):
    done = cli(*args)
    assert done.code == 2
    assert "Error: " in done.err


def test_npu_switch_may_be_off_without_rknn(cli):
    args = ("-c", "core", "-c", "python", "--set", "core.TRITON_ENABLE_MALI_GPU=OFF")
    done = cli(*PLAN, *args, "--json")
    assert done.code == 0, done.text
    flags = {flag["name"]: flag for flag in json.loads(done.out)["flags"]["core"]}
    assert flags["TRITON_ENABLE_MALI_GPU"]["value"] == "OFF"
    assert flags["TRITON_ENABLE_MALI_GPU"]["origin"] == "--set"


def test_set_keeps_everything_after_the_first_equals_sign(cli):
    value = "-DA=1 -DB='x y';$HOME\nend"
    done = cli(*PLAN, "--set", f"core.CMAKE_CXX_FLAGS={value}", "--json")
    flags = {flag["name"]: flag["value"] for flag in json.loads(done.out)["flags"]["core"]}
    assert flags["CMAKE_CXX_FLAGS"] == value


def test_release_without_stub_for_the_python_is_refused(cli, tmp_path):
    os_dir = tmp_path / "o" / "os"
    os_dir.mkdir(parents=True)
    text = cli("show", "os/debian-12").out.replace("3.11", "3.13")
    (os_dir / "debian-12.yaml").write_text(text)
    args = (*PLAN, "--os", "debian-12", "--recipes", tmp_path / "o")
    done = cli(*args, "--from", "wheel")
    assert done.code == 2
    assert "r23.12 has a python backend stub for Python 3.8, 3.9, 3.10, 3.11" in done.err
    assert "debian-12 has Python 3.13" in done.err
    source = cli(*args)
    assert source.code == 2, "the core's own wheel has its limits, too"
    assert "core cannot be built with Python 3.13 (os/debian-12)" in source.err


def test_verbs_say_in_their_first_line_what_they_do(cli):
    done = cli("--help")
    assert done.code == 0
    for verb in ("list", "show", "check", "schema", "plan", "render", "build"):
        assert f"\n  {verb} " in done.out


def test_version_is_on_stdout(cli):
    import tritonbuild

    assert cli("--version").out == f"tritonbuild {tritonbuild.__version__}\n"
    assert cli("-v", "--version").out == f"tritonbuild {tritonbuild.__version__}\n"


def test_full_device_is_a_host_error(cli):
    argv = cli.argv(*PLAN)
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            argv, stdout=full, stderr=subprocess.PIPE, text=True, env=cli.make_env(),
            cwd=cli.folder, check=False,
        )  # fmt: skip
    assert done.returncode == 4
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_reader_that_has_seen_enough_is_no_error(cli):
    for args in (PLAN, ("list",), ("schema",)):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            cli.argv(*args), stdout=write, stderr=subprocess.PIPE, text=True, env=cli.make_env(),
            cwd=cli.folder, check=False,
        )  # fmt: skip
        os.close(write)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        assert done.returncode in (0, 1)


# --- overlays -------------------------------------------------------------------------------

BOARD = """\
name: NAME
summary: SUMMARY
soc: none
arch: arm64
cpu: {cores: 2, model: none}
memory: 4GiB
os: [debian-12]
release: r23.12
components: [core]
"""


def write_board(folder, name, summary):
    path = folder / "boards" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(BOARD.replace("NAME", name).replace("SUMMARY", summary))
    return path


def need_no_local(tmp_path):
    """Return a folder that has no ./recipes."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("how", ["option", "local"])
def test_user_recipes_add_and_override_and_leave_the_others(cli, tmp_path, how):
    folder = tmp_path / "recipes" if how == "local" else tmp_path / "mine"
    write_board(folder, "my-board", "one of my own")
    mine = write_board(folder, "orangepi5b", "another one of that name")
    option = ("--recipes", folder) if how == "option" else ()
    listed = json.loads(cli("list", "boards", "--json", *option).out)
    found = {row["name"]: row["summary"] for row in listed}
    assert found["generic-arm64"] == "Any 64-bit ARM machine, no accelerator"
    assert found["my-board"] == "one of my own"
    assert found["orangepi5b"] == "another one of that name"
    shipped = json.loads(cli("list", "boards", "--json", cwd=need_no_local(tmp_path)).out)
    assert set(found) == {row["name"] for row in shipped} | {"my-board"}
    shown = json.loads(cli("show", "boards/orangepi5b", "--json", *option).out)
    assert shown["file"] == str(mine)
    plan = json.loads(cli("plan", "--board", "orangepi5b", "--json", *option).out)
    assert plan["selection"]["components"] == ["core"]


def test_recipes_option_goes_before_local_folder(cli, tmp_path):
    write_board(tmp_path / "recipes", "x", "local")
    write_board(tmp_path / "named", "x", "named")
    shown = cli("show", "boards/x", "--recipes", tmp_path / "named").out
    assert "summary: named" in shown


def test_check_passes_for_shipped_recipes(cli):
    done = cli("check", "--json")
    assert done.code == 0, done.text
    report = json.loads(done.out)
    assert report["problems"] == []
    assert report["checked"] > 20


def test_show_output_is_a_recipe_again(cli, tmp_path):
    for name in ("boards/orangepi5b", "components/core", "os/debian-12", "releases/r23.12"):
        kind, plain = name.split("/")
        path = tmp_path / "o" / kind / f"{plain}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(cli("show", name).out)
    first = json.loads(cli(*PLAN, "--json").out)
    second = json.loads(cli(*PLAN, "--json", "--recipes", tmp_path / "o").out)
    assert first == second


# --- pure, offline, quick -------------------------------------------------------------------


@pytest.fixture
def offline(need):
    done = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False)
    need(shutil.which("unshare") and done.returncode == 0, "unshare with a network of its own")
    return ("unshare", "-rn")


@pytest.mark.parametrize("provider", ["source", "wheel"])
def test_plan_is_the_same_without_network_home_and_in_another_folder(
    cli, offline, tmp_path, provider
):
    args = (*PLAN, "--from", provider, "--json")
    online = cli(*args)
    other = tmp_path / "other"
    other.mkdir()
    cut_off = cli(*args, prefix=offline, cwd=other, HOME="/proc/nowhere", PYTHONHASHSEED="7")
    assert online.code == cut_off.code == 0, cut_off.text
    assert online.out == cut_off.out
    assert not list(other.iterdir())


def test_render_is_the_same_without_network_and_home(cli, offline, tmp_path):
    args = ("render", "--board", "orangepi5b", "--build-dir", "/w/server/build", "--output")
    assert cli(*args, tmp_path / "a").code == 0
    done = cli(*args, tmp_path / "b", prefix=offline, HOME="/proc/nowhere", PYTHONHASHSEED="7")
    assert done.code == 0, done.text
    first, second = (tmp_path / x / "cmake_build" for x in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert list((tmp_path / "b").iterdir()) == [second]


HEAVY = {"requests", "docker", "git", "jinja2", "elftools", "zstandard", "filelock", "rich"}


@pytest.mark.parametrize(
    ("args", "more"),
    [
        pytest.param(("--version",), {"pydantic", "typer", "yaml"}, id="version"),
        pytest.param(("--help",), {"pydantic", "yaml"}, id="help"),
        pytest.param(PLAN, set(), id="plan"),
    ],
)
def test_verb_imports_nothing_heavy(cli, args, more):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *cli.argv(*args)[1:]],
        capture_output=True, text=True, env=cli.make_env(), cwd=cli.folder, check=True,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    tops = {name.partition(".")[0] for name in imported}
    assert "tritonbuild" in tops
    # `rich` is typer's own for errors; what counts for --help and plan is that it is not ours.
    assert not tops & (HEAVY | more)


@pytest.mark.parametrize("name", ["-v/:/host", "a b", "x:1\nRUN id", "$(id)", "HTTP://x/y", ""])
def test_name_that_is_none_of_an_image_is_refused(cli, name):
    outcome = cli("plan", "--board", "orangepi5b", "--executor", "buildx", f"--base-image={name}")
    assert outcome.code == 2
    assert "no name of an image" in outcome.err


def test_base_image_is_refused_where_no_system_is_made_of_it(cli):
    outcome = cli("plan", "--board", "orangepi5b", "--from", "wheel", "--base-image", "debian:12")
    assert outcome.code == 2
    assert "--base-image" in outcome.err
