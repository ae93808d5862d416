"""Workflows: what they say, that the services take them, and that no value becomes code in them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tritonbuild import __version__
from tritonbuild.cli.app import app
from tritonbuild.errors import TritonBuildError
from tritonbuild.render.ci import ACTIONS, CACHES, is_sealed, quote_word, seal

CHECKOUT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parents[1] / "golden"
SCRIPTS = Path(sysconfig.get_path("scripts"))
OUTPUTS = {"github": Path(".github/workflows/tritonserver.yml"), "gitlab": Path(".gitlab-ci.yml")}
SERVICES = tuple(OUTPUTS)
SCHEMAS = {"github": "vendor.github-workflows", "gitlab": "vendor.gitlab-ci"}
BOARD = ("--board", "orangepi5b", "--os", "debian-12")

# Options that reach every line of both templates.
CASES = {
    # Without a version, so that a new one changes no golden file.
    "usual": (*BOARD, "--install", "tritonbuild[grpc]"),
    "wheel": (*BOARD, "--from", "wheel", "--install", "tritonbuild[grpc]"),
    "much": (
        "--board", "orangepi5b", "--board", "generic-arm64", "--os", "debian-12", "--release", "r23.12",
        "--executor", "emulated", "--no-accelerate", "-c", "python", "-c", "onnxruntime",
        "--mirror", "cn", "--jobs", "3", "--set", "core.TRITON_ENABLE_TRACING=OFF",
        "--set", "core.CMAKE_CXX_FLAGS=-DA='$(x)' ${{ secrets.Y }}",
        "--variant", "onnxruntime=archive", "--format", "deb", "--format", "oci",
        "--install", ".[grpc]", "--runner", "ubuntu-24.04-arm",
    ),
    "no-cache": (*BOARD, "--cache", "none"),
}  # fmt: skip
# What the project's own workflow is made with.
OWN = (
    *BOARD, "--format", "tar.zst", "--format", "deb", "--format", "oci", "--install", ".[grpc]",
)  # fmt: skip


class Ended(NamedTuple):
    """How a command ended; what an error says is as `cli.main` prints it."""

    code: int
    stdout: str
    stderr: str


def run_here(*arguments: str | Path) -> Ended:
    """Run the verb in this process and folder: the tests are many."""
    result = CliRunner().invoke(app, ["ci", *map(str, arguments)])
    error = result.exception
    if isinstance(error, TritonBuildError):
        return Ended(error.exit_code, result.stdout, f"error: {error.message}\nhint: {error.hint}")
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return Ended(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def ci(tmp_path, monkeypatch):
    """Run the verb in the test's own folder."""
    monkeypatch.chdir(tmp_path)
    return run_here


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[tuple[str, str], Path]:
    """A repository for each service and set of options, with the workflow in it."""
    found = {}
    for service in SERVICES:
        for name, options in CASES.items():
            folder = tmp_path_factory.mktemp(f"{service}-{name}")
            outcome = run_here(service, *options, "--output", folder / OUTPUTS[service])
            assert outcome.code == 0, outcome.stderr
            found[service, name] = folder / OUTPUTS[service]
    return found


@pytest.fixture(params=[(service, name) for service in SERVICES for name in CASES], ids="-".join)
def workflow(request, written) -> tuple[str, Path]:
    return request.param[0], written[request.param]


def run_tool(name: str, *arguments: str | Path, cwd: Path) -> None:
    """Run a program that the development environment installs."""
    done = subprocess.run(
        [SCRIPTS / name, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def list_scripts(service: str, path: Path) -> list[str]:
    """Return every script of a workflow that a shell gets, one for each shell."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if service == "github":
        return [
            step["run"]
            for job in content["jobs"].values()
            for step in job["steps"]
            if "run" in step
        ]
    jobs = [job for job in content.values() if isinstance(job, dict) and "script" in job]
    return [
        "\n".join(job[part])
        for job in jobs
        for part in ("before_script", "script", "after_script")
        if part in job
    ]


# --- the text ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["usual", "wheel", "much"])
@pytest.mark.parametrize("service", SERVICES)
def test_golden(written, service, name):
    """UPDATE_GOLDEN=1 writes the files anew: read the difference before you commit it."""
    path = GOLDEN / f"ci-{name}.{service}.yml"
    text = written[service, name].read_text(encoding="utf-8")
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "UPDATE_GOLDEN=1 pytest writes it anew"


def test_service_takes_it(workflow):
    service, path = workflow
    run_tool("check-jsonschema", "--builtin-schema", SCHEMAS[service], path, cwd=path.parent)


def test_schema_refuses_what_is_wrong(written, tmp_path):
    """The check above is one: a misspelt key is seen."""
    for service, word in (("github", "runs-on:"), ("gitlab", "script:")):
        text = written[service, "usual"].read_text(encoding="utf-8")
        path = tmp_path / f"{service}.yml"
        path.write_text(text.replace(word, f"x{word}"), encoding="utf-8")
        with pytest.raises(AssertionError):
            run_tool("check-jsonschema", "--builtin-schema", SCHEMAS[service], path, cwd=tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_open_on_github(written, name):
    """zizmor: templates in scripts, tokens on disk, too many rights, actions that can be moved."""
    path = written["github", name]
    run_tool("zizmor", "--offline", "--persona", "pedantic", path, cwd=path.parent)


def test_scripts_are_clean(workflow, tmp_path):
    service, path = workflow
    scripts = list_scripts(service, path)
    assert len(scripts) >= 4
    for number, script in enumerate(scripts):
        assert "${{" not in script, "GitHub would fill this in before any shell sees it"
        (tmp_path / f"{number}.sh").write_text(f"set -eo pipefail\n{script}", encoding="utf-8")
    files = sorted(tmp_path.glob("*.sh"))
    # SC2016: what users' values hold stands in single quotes, so that no shell fills it in.
    options = ("--shell=bash", "--enable=quote-safe-variables", "--exclude=SC2016")
    run_tool("shellcheck", *options, *files, cwd=tmp_path)


def test_no_pull_request_gets_rights_or_secrets(workflow):
    service, path = workflow
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    text = path.read_text(encoding="utf-8").partition("\n\n")[2]
    assert "secrets." not in text.replace("$''{{ secrets.Y", "")
    if service == "gitlab":
        for name in ("publish", "release"):
            assert content[name]["rules"] == [{"if": "$CI_COMMIT_TAG =~ /^v/"}]
        return
    assert content["permissions"] == {}
    rights = {name: job["permissions"] for name, job in content["jobs"].items()}
    assert rights == {"build": {"contents": "read"}, "release": {"contents": "write"}}
    assert content["jobs"]["release"]["if"] == "${{ startsWith(github.ref, 'refs/tags/v') }}"
    # YAML 1.1 reads the key `on` as true.
    assert "pull_request" in content[True]
    assert "pull_request_target" not in content[True]


@pytest.mark.parametrize("service", SERVICES)
def test_version_that_wrote_it_is_installed(written, service):
    text = written[service, "no-cache"].read_text(encoding="utf-8")
    assert f"install --quiet -- 'tritonbuild[grpc]=={__version__}'\n" in text
    assert "--cache-to" not in text


def test_actions_are_pinned_to_commits():
    for name, commit, version in ACTIONS.values():
        assert len(commit) == 40, name
        assert set(commit) <= set("0123456789abcdef"), name
        assert version.startswith("v"), name


@pytest.mark.parametrize("service", SERVICES)
def test_both_services_run_the_same_commands(written, service):
    scripts = "\n".join(list_scripts(service, written[service, "usual"]))
    verbs = [
        words[1] for line in scripts.splitlines() if (words := line.split())[:1] == ["tritonbuild"]
    ]
    assert verbs == ["doctor", "build", "smoke", "package"]
    cache = CACHES[service][0]
    assert f'--cache-from "type={cache},' in scripts
    assert "mode=max,ignore-error=true" in scripts


# --- values are text --------------------------------------------------------------------------

HOSTILE = [
    "$(touch pwned)`touch pwned`; touch pwned",
    "' ; touch pwned ; '",
    "${{ secrets.TOKEN }}",
    "'${{ x }}'\n${{ y }}",
    "a: b # c\n- d\n  e: |",
    "%> <%= install %> {{ x }} {% raw %}",
    "\\\n\t\x1b[2J\u2028é\udcff",
    "- *x &y !!z",
]  # fmt: skip
VALUES = st.text(
    st.one_of(
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
        st.sampled_from("${}'\"\\ \n#:&*!|>-%@`"),
    ),
    max_size=30,
)


def read_arguments(script: str, folder: Path) -> list[bytes]:
    """Run a script with a `tritonbuild` that writes its arguments down; return them."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    program = programs / "tritonbuild"
    program.write_text('#!/bin/sh\nprintf "%s\\0" "$@" > "$ARGUMENTS"\n')
    program.chmod(0o755)
    env = {
        "PATH": f"{programs}:/usr/bin:/bin", "ARGUMENTS": str(folder / "arguments"),
        "BOARD": "b", "LC_ALL": "C.UTF-8", "CI_REGISTRY_IMAGE": "r",
    }  # fmt: skip
    path = folder / "script.sh"
    path.write_text(script, encoding="utf-8")
    done = subprocess.run(
        ["bash", "-eo", "pipefail", path], cwd=folder, env=env, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return (folder / "arguments").read_bytes().split(b"\0")[:-1]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("service", SERVICES)
def test_values_reach_the_build_as_they_are(ci, tmp_path, service, value):
    setting = f"core.CMAKE_CXX_FLAGS={value}"
    outcome = ci(service, *BOARD, "--set", setting, "--install", value)
    assert outcome.code == 0, outcome.stderr
    path = tmp_path / OUTPUTS[service]
    run_tool("check-jsonschema", "--builtin-schema", SCHEMAS[service], path, cwd=tmp_path)
    scripts = list_scripts(service, path)
    assert "${{" not in "\n".join(scripts)
    (script,) = [one for one in scripts if "tritonbuild build" in one]
    start = script.index("mkdir -p build\n")
    end = script.index("tee build/build.txt")
    folder = tmp_path / "run"
    folder.mkdir()
    arguments = read_arguments(f"{script[start:end]}cat", folder)
    assert arguments[arguments.index(b"--set") + 1] == os.fsencode(setting)
    assert not (folder / "pwned").exists()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=VALUES)
@example(value="${{")
@example(value="'${{'")
@example(value="\n${{ x }}")
@example(value="$${{{")
def test_any_text_is_one_word_and_no_expression(value, tmp_path):
    word = quote_word(value)
    assert "${{" not in word
    assert word.isprintable()
    assert read_arguments(f"tritonbuild {word}", tmp_path) == [os.fsencode(value)]


# --- the file ---------------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
def test_command_in_the_head_makes_the_same_file(ci, written, service):
    text = written[service, "much"].read_text(encoding="utf-8")
    program, verb, *arguments = shlex.split(text.splitlines()[1].removeprefix("#"))
    assert (program, verb) == ("tritonbuild", "ci")
    outcome = ci(*arguments, "--output", "-")
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout == text


def test_second_run_changes_nothing_and_other_options_replace_it(run_cli, tmp_path):
    path = tmp_path / "new/folder/ci.yml"
    for options, said in (
        (BOARD, "written"),
        (BOARD, "unchanged"),
        ((*BOARD, "-j", "2"), "updated"),
    ):
        outcome = run_cli("ci", "github", *options, "--output", path)
        assert outcome.code == 0, outcome.stderr
        assert outcome.stderr.strip() == said
    assert "--jobs 2" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda text: text + "# mine\n", id="more"),
        pytest.param(lambda text: text.replace("timeout-minutes: 360", "timeout-minutes: 9"), id="value"),
        pytest.param(lambda text: text.replace("# Made by", "# made by"), id="head"),
        pytest.param(lambda _: "name: mine\n", id="other"),
        pytest.param(lambda _: "", id="empty"),
    ],
)  # fmt: skip
def test_edited_file_is_kept(ci, tmp_path, edit):
    path = tmp_path / OUTPUTS["github"]
    assert ci("github", *BOARD).code == 0
    made = path.read_text(encoding="utf-8")
    path.write_text(edit(made), encoding="utf-8")
    outcome = ci("github", *BOARD)
    assert outcome.code == 2
    assert "was edited, or `tritonbuild ci` did not make it" in outcome.stderr
    assert "\nhint: --force overwrites it" in outcome.stderr
    assert path.read_text(encoding="utf-8") == edit(made)
    assert ci("github", *BOARD, "--force").code == 0
    assert path.read_text(encoding="utf-8") == made


def test_check_says_what_differs_and_writes_nothing(ci, tmp_path):
    path = tmp_path / OUTPUTS["github"]
    outcome = ci("github", *BOARD, "--check")
    assert outcome.code == 2
    assert "does not exist" in outcome.stderr
    assert not path.exists()
    assert ci("github", *BOARD).code == 0
    assert ci("github", *BOARD, "--check").code == 0
    before = path.read_bytes()
    outcome = ci("github", *BOARD, "--check", "--jobs", "2")
    assert outcome.code == 2
    assert "+            --jobs 2" in outcome.stdout
    assert "is not what these options come to" in outcome.stderr
    assert path.read_bytes() == before


def test_seal_covers_all_but_itself():
    text = seal(("tritonbuild", "ci", "github"), "\nname: x\n")
    assert is_sealed(text)
    for index, char in enumerate(text):
        assert not is_sealed(f"{text[:index]}{chr(ord(char) ^ 1)}{text[index + 1 :]}"), index


# --- wrong options ----------------------------------------------------------------------------

GITHUB = ("github", "--board", "orangepi5b")
WRONG = {
    "service": (("githb", *BOARD), 'ci: unknown value "githb"; did you mean "github"?'),
    "board": (("github", "--board", "orangpi5b"), 'unknown board "orangpi5b"; did you mean "orangepi5b"?'),
    "second-board": ((*GITHUB, "--board", "generic"), 'unknown board "generic"'),
    "board-is-code": (("github", "--board", "$(x)"), 'unknown board "$(x)"'),
    "component": ((*GITHUB, "-c", "; x"), 'unknown component "; x"'),
    "mirror": ((*GITHUB, "--mirror", "$(x)"), 'unknown mirror "$(x)"'),
    "executor": ((*GITHUB, "--executor", "buildks"), 'unknown value "buildks"; did you mean "buildx"?'),
    "native": ((*GITHUB, "--executor", "native"), "builds for the runner, not for the board"),
    "executor-with-wheel": ((*GITHUB, "--from", "wheel", "--executor", "buildx"), "nothing is compiled"),
    "format": ((*GITHUB, "--format", "debs"), '--format: unknown value "debs"; did you mean "deb"?'),
    "cache": ((*GITHUB, "--cache", "registry"), '--cache: unknown value "registry"'),
    "cache-without-buildkit": ((*GITHUB, "--executor", "cross", "--cache", "gha"), "--cache is BuildKit's"),
    "runner": ((*GITHUB, "--runner", "x ${{ y }}"), "make a label"),
    "install": ((*GITHUB, "--install", " "), "--install: a requirement"),
    "recipes": ((*GITHUB, "--recipes", "/tmp"), "a runner has nothing but the repository"),
    "recipes-outside": ((*GITHUB, "--recipes", "../r"), "a runner has nothing but the repository"),
    "recipes-missing": ((*GITHUB, "--recipes", "nowhere"), "nowhere: no such folder"),
    "nul": ((*GITHUB, "--set", "core.X=1", "--os", "debian"), 'unknown operating system "debian"'),
    "check-stdout": ((*GITHUB, "--check", "--output", "-"), "--check does not go with --output -"),
    "force-stdout": ((*GITHUB, "--force", "--output", "-"), "--force does not go with --output -"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_option_is_explained_and_nothing_is_written(ci, tmp_path, name):
    args, message = WRONG[name]
    outcome = ci(*args)
    assert outcome.code == 2
    assert message in outcome.stderr
    assert "\nhint: " in outcome.stderr
    assert outcome.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_output_that_cannot_be_is_an_error_of_the_machine(ci, tmp_path):
    (tmp_path / "file").write_text("x")
    outcome = ci("github", *BOARD, "--output", "file/ci.yml")
    assert outcome.code == 4
    assert "\nhint: " in outcome.stderr
    (tmp_path / "folder").mkdir()
    outcome = ci("github", *BOARD, "--output", "folder")
    assert outcome.code == 4
    assert "folder cannot be read: Is a directory" in outcome.stderr


# --- the project's own ------------------------------------------------------------------------


def test_own_workflow_is_what_the_verb_writes(session_cli):
    outcome = session_cli("ci", "github", *OWN, "--check", cwd=CHECKOUT)
    assert outcome.code == 0, outcome.stdout + outcome.stderr


@pytest.mark.parametrize(
    "path", sorted((CHECKOUT / ".github/workflows").iterdir()), ids=lambda p: p.name
)
def test_own_workflows_are_clean(path):
    run_tool("check-jsonschema", "--builtin-schema", SCHEMAS["github"], path, cwd=CHECKOUT)
    run_tool("zizmor", "--offline", "--persona", "pedantic", path, cwd=CHECKOUT)


# --- what a release does ----------------------------------------------------------------------


@pytest.fixture
def packages(tmp_path) -> Path:
    """A folder of packages as a build leaves it."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "tritonserver-x.deb").write_bytes(b"a package")
    done = subprocess.run(
        ["sha256sum", "tritonserver-x.deb"], cwd=folder, capture_output=True, text=True, check=True
    )
    (folder / "tritonserver-x.deb.sha256").write_text(done.stdout)
    return folder


# Writes its arguments down, one a line; there is a release where the file says so.
GH = """\
#!/bin/sh
printf '%s\\n' "$*" >> "$LOG"
case "$2" in view) test -e "$RELEASE";; esac
"""


@pytest.mark.parametrize("exists", [False, True])
def test_github_release_has_every_package(written, packages, tmp_path, exists):
    content = yaml.safe_load(written["github", "usual"].read_text(encoding="utf-8"))
    script = content["jobs"]["release"]["steps"][-1]["run"]
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gh").write_text(GH)
    (programs / "gh").chmod(0o755)
    if exists:
        (tmp_path / "release").touch()
    env = {
        "PATH": f"{programs}:/usr/bin:/bin", "LOG": str(tmp_path / "log"), "TAG": "v1.0",
        "RELEASE": str(tmp_path / "release"),
    }  # fmt: skip
    argv = ["bash", "-eo", "pipefail", "-c", script]
    subprocess.run(argv, cwd=tmp_path, env=env, check=True)
    files = "tritonserver-x.deb tritonserver-x.deb.sha256"
    said = (tmp_path / "log").read_text().splitlines()
    assert said[0] == "release view v1.0"
    assert said[1] == (
        f"release upload v1.0 --clobber -- {files}"
        if exists
        else f"release create v1.0 --verify-tag --title v1.0 --notes-file ../notes.md -- {files}"
    )
    notes = (tmp_path / "notes.md").read_text().splitlines()
    assert notes[2].endswith("` | tritonserver-x.deb |")
    (packages / "tritonserver-x.deb").write_bytes(b"another one")
    done = subprocess.run(argv, cwd=tmp_path, env=env, check=False, capture_output=True)
    assert done.returncode != 0, "a package that is not the one that was built"
    assert (tmp_path / "log").read_text().splitlines() == said


def test_gitlab_publishes_every_package(written, packages, tmp_path, httpserver, require_or_skip):
    require_or_skip(shutil.which("curl"), "curl uploads packages")
    content = yaml.safe_load(written["gitlab", "usual"].read_text(encoding="utf-8"))
    got = {}

    def take(request):
        from werkzeug import Response

        assert request.headers["JOB-TOKEN"] == "a token"
        got[request.path] = request.get_data()
        return Response("{}", 201)

    base = "/projects/7/packages/generic/tritonserver/v1.0"
    for name in ("tritonserver-x.deb", "tritonserver-x.deb.sha256"):
        httpserver.expect_request(f"{base}/{name}", method="PUT").respond_with_handler(take)
    (tmp_path / "build/tritonserver").mkdir(parents=True)
    packages.rename(tmp_path / "build/tritonserver/out")
    env = {
        "PATH": "/usr/bin:/bin", "CI_API_V4_URL": httpserver.url_for("").rstrip("/"),
        "CI_PROJECT_ID": "7", "CI_COMMIT_TAG": "v1.0", "CI_JOB_TOKEN": "a token",
        "CI_PROJECT_DIR": str(tmp_path), "no_proxy": "*",
    }  # fmt: skip
    script = "\n".join(content["publish"]["script"])
    subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=env, check=True)
    httpserver.check_assertions()
    assert got[f"{base}/tritonserver-x.deb"] == b"a package"
    row = (tmp_path / "release.md").read_text().splitlines()[2]
    assert f"[tritonserver-x.deb]({env['CI_API_V4_URL']}{base}/tritonserver-x.deb) |" in row
