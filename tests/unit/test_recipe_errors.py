"""One broken recipe a rule, and the exact message that it gets.

Each file of tests/recipes/broken/ says in its first lines which kind of recipe it wants to be and
what must be said about it: `# expect: LINE: message`.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from tritonbuild.errors import RecipeError
from tritonbuild.recipe.fields import (
    AddressPrefix,
    AptAddress,
    CloneOption,
    GitAddress,
    GitRef,
    IndexAddress,
    Version,
    WheelName,
)
from tritonbuild.recipe.load import load_file
from tritonbuild.recipe.model import RECIPE_KINDS

BROKEN = Path(__file__).parents[1] / "recipes" / "broken"
FILES = sorted(BROKEN.glob("*.yaml"))


def read_expectations(path: Path) -> tuple[str, list[str]]:
    text = path.read_text(encoding="utf-8")
    kind = re.search(r"^# kind: (\w+)$", text, re.MULTILINE)
    assert kind
    return kind.group(1), re.findall(r"^# expect: (.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_broken_recipe_gets_every_problem_with_its_line(path):
    kind, expected = read_expectations(path)
    with pytest.raises(RecipeError) as caught:
        load_file(path, RECIPE_KINDS[kind])
    assert sorted(caught.value.message.splitlines()) == sorted(f"{path}:{e}" for e in expected)
    assert caught.value.hint


def test_check_reports_every_problem_of_every_file_at_once(cli, tmp_path):
    recipes = tmp_path / "recipes.d"
    everything = []
    for path in FILES:
        kind, expected = read_expectations(path)
        target = recipes / kind / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        everything += [f"{target}:{line}" for line in expected]
    done = cli("check", "--recipes", recipes)
    assert done.code == 2
    assert done.out == ""
    for line in everything:
        assert line in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("hint: ") == 1


@pytest.mark.parametrize("verb", ["check", "plan"])
@pytest.mark.parametrize(
    ("provider", "message"),
    [
        pytest.param(
            "{wheels: [], templates: [backends/rknx]}",
            'x: templates/backends/rknx: no such folder; did you mean "backends/rknn"?',
            id="template",
        ),
        pytest.param(
            "{wheels: [psutil], layout: [{wheel: psutils, files: '**', to: backends/x}]}",
            'x: layout: psutils is not among its wheels; did you mean "psutil"?',
            id="wheel",
        ),
    ],
)
def test_assembly_from_what_is_not_there_is_refused_before_a_build(
    cli, tmp_path, verb, provider, message
):
    (tmp_path / "components").mkdir()
    (tmp_path / "components" / "x.yaml").write_text(
        f"name: x\nsummary: x\nkind: backend\nwheel: {provider}\n"
    )
    options = {"check": (), "plan": ("--board", "generic-arm64", "--from", "wheel", "-c", "x")}
    done = cli(verb, *options[verb], "--recipes", tmp_path)
    assert done.code == 2, done.text
    assert message in done.err


ADDRESSES = {
    AptAddress: (
        ("http://x.invalid/debian", "https://x.invalid", "file:///srv/debian", "copy:///srv/debian"),
        ("--setup-hook=id", "deb http://x.invalid", "http://x.invalid/a b", "x.invalid", ""),
    ),
    IndexAddress: (
        ("https://x.invalid/simple", "file:///srv/simple"),
        ("--extra-index-url=x", "ftp://x.invalid", "x"),
    ),
    AddressPrefix: (
        ("https://x.invalid/", "git://x.invalid/", "ssh://git@x.invalid/", "file:///srv/"),
        ("-c", "ext::sh -c id", "x.invalid"),
    ),
    GitAddress: (
        (
            "https://x.invalid/a.git", "ssh://git@x.invalid:22/a", "git://x.invalid/a",
            "file:///srv/a", "git@x.invalid:a/b.git", "/srv/my sources/a",
        ),
        ("-x", "--upload-pack=id", "ext::sh -c id", "a/b", "git@x.invalid:-a", "ssh://-oX=id/a"),
    ),
    GitRef: (
        ("r23.12", "v1/x", "pull/7/head", "a" * 40, "_x@1+2=3,4"),
        ("-x", "--upload-pack=id", "a b", "a\nb", "$(id)", "a:b", "a^", ""),
    ),
    CloneOption: (
        ("--recursive", "--depth=1", "--single-branch"),
        ("--upload-pack=id", "--config=core.fsmonitor=id", "-c", "-uid", "x", "--", "--depth=1\n"),
    ),
    Version: (
        ("2.41.0", "23.12", "2.42.0dev", "py310_23.1.0-1", "1.0+b.1"),
        ("1; id", "1\nRUN id", "$(id)", "-1", "1 2", '1"', ""),
    ),
    WheelName: (
        (
            "ruamel.yaml-0.18.16-py3-none-any.whl", "a-1.0-1-py3-none-any.whl",
            "a-1!2.0+local.1-cp39-cp39-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        ),
        ("ruamel.whl", "a-1.0-py3-none.whl", "-r-1.0-py3-none-any.whl", "a-1-py3-none-any.whl.x"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "text", "good"),
    [(kind, text, i == 0) for kind, both in ADDRESSES.items() for i in (0, 1) for text in both[i]],
)
def test_what_ends_in_command_lines_and_dockerfiles_is_neither_option_nor_code(kind, text, good):
    adapter = TypeAdapter(kind)
    if good:
        assert adapter.validate_python(text) == text
        return
    with pytest.raises(ValidationError):
        adapter.validate_python(text)


RAW = {
    "empty": (b"", "1: the file: should be a mapping, not nothing"),
    "list": (b"- a\n- b\n", "1: the file: should be a mapping, not a list"),
    "text": (b"just words\n", "1: the file: should be a mapping, not 'just words'"),
    "not-yaml": (b"a: [1\nb: }\n", "not YAML:"),
    "tabs": (b"a:\n\t- b\n", "2: not YAML:"),
    "two-documents": (b"a: b\n---\nc: d\n", "2: a second document starts here (---)"),
    "not-utf-8": (b"name: \xff\n", "not UTF-8 text (byte 6)"),
    "utf-16": ("name: x\n".encode("utf-16"), "not UTF-8 text (byte 0)"),
    "nul": (b"name: a\0b\n", "not YAML:"),
    "binary": (bytes(range(128, 256)) * 50, "not UTF-8 text (byte 0)"),
    "nested-flow": (b"[" * 100_000, "1: nested more than 50 deep"),
    "nested-mappings": (b"{a: " * 100_000, "1: nested more than 50 deep"),
    "nested-block": (b"- " * 5_000 + b"x\n", "1: nested more than 50 deep"),
    "key-is-a-list": (b"[a, b]: c\n", "1: a key must be plain text"),
    "alias-to-itself": (b"a: &a [*a]\n", "1: aliases (*name) are not allowed"),
    "billion-laughs": (
        b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
        "2: aliases (*name) are not allowed",
    ),
    "merge-key": (b"<<: {name: b}\n", "1: <<: unknown key"),
    "python-object": (b"name: !!python/object/apply:os.system [x]\n", "1: name:"),
    "huge-size": (b"memory: " + b"9" * 400 + b"GiB\n", "1: memory: a size such as"),
    "odd-digits": ("memory: ²GiB\n".encode(), "1: memory: a size such as"),
    "huge-number": (b"cpu: {cores: " + b"9" * 5000 + b"}\n", "1: cpu.cores: Unable to parse"),
}


@pytest.mark.parametrize("name", RAW)
def test_file_that_is_no_recipe_is_refused(cli, tmp_path, name):
    content, message = RAW[name]
    path = tmp_path / "o" / "boards" / "b.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    done = cli("plan", "--board", "b", "--recipes", tmp_path / "o")
    assert done.code == 2, done.text
    assert f"{path}:" in done.err
    assert message in done.err
    assert "hint: " in done.err
    assert done.out == ""
    assert max(map(len, done.err.splitlines())) < 400


def test_link_out_of_the_folder_is_refused(cli, tmp_path):
    boards = tmp_path / "o" / "boards"
    boards.mkdir(parents=True)
    outside = tmp_path / "b.yaml"
    outside.write_text("name: b\n")
    (boards / "b.yaml").symlink_to(outside)
    done = cli("plan", "--board", "b", "--recipes", tmp_path / "o")
    assert done.code == 2
    assert f"{boards / 'b.yaml'}: leads outside of its folder, to {outside}" in done.err


def test_link_within_the_folder_is_followed(cli, tmp_path):
    boards = tmp_path / "o" / "boards"
    boards.mkdir(parents=True)
    (tmp_path / "o" / "kept").mkdir()
    text = MINIMAL_BOARD.replace("NAME", "b")
    (tmp_path / "o" / "kept" / "x.yaml").write_text(text)
    (boards / "b.yaml").symlink_to("../kept/x.yaml")
    assert cli("plan", "--board", "b", "--recipes", tmp_path / "o").code == 0


MINIMAL_BOARD = """\
name: NAME
summary: a board
soc: none
arch: arm64
cpu: {cores: 2, model: none}
memory: 4GiB
os: [debian-12]
release: r23.12
components: [core]
"""


@pytest.mark.parametrize("make", ["folder", "dead-link", "pipe"])
def test_recipe_that_is_no_file_is_refused(cli, tmp_path, make):
    path = tmp_path / "o" / "boards" / "b.yaml"
    path.parent.mkdir(parents=True)
    if make == "folder":
        path.mkdir()
    elif make == "dead-link":
        path.symlink_to("nowhere.yaml")
    else:
        import os

        os.mkfifo(path)
    done = cli("check", "--recipes", tmp_path / "o", timeout=10)
    assert done.code == 2
    assert f"{path}: is not a file, or a link to nothing" in done.err


def test_file_name_that_no_option_could_take_is_refused(cli, tmp_path):
    path = tmp_path / "o" / "boards" / "My Board.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(MINIMAL_BOARD.replace("NAME", "My Board"))
    done = cli("check", "--recipes", tmp_path / "o")
    assert done.code == 2
    assert 'boards/My Board.yaml: "My Board" cannot be the name of a recipe' in done.err


def write_components(folder: Path, **bodies: str) -> None:
    (folder / "components").mkdir(parents=True, exist_ok=True)
    for name, body in bodies.items():
        text = f"name: {name}\nsummary: x\nkind: backend\nsource: {{}}\n{body}\n"
        (folder / "components" / f"{name}.yaml").write_text(text)


def test_components_that_require_each_other_are_refused(cli, tmp_path):
    write_components(tmp_path / "o", a="requires: [b]", b="requires: [c]", c="requires: [a]")
    done = cli("plan", "--board", "generic-arm64", "-c", "a", "--recipes", tmp_path / "o")
    assert done.code == 2
    assert re.search(
        r"components/a\.yaml:\d+: components require each other in a circle: a → b → c → a",
        done.err,
    )


def test_components_that_extend_each_other_are_refused(cli, tmp_path):
    write_components(tmp_path / "o", a="extends: b", b="extends: a")
    done = cli("plan", "--board", "generic-arm64", "-c", "a", "--recipes", tmp_path / "o")
    assert done.code == 2
    assert re.search(
        r"components/b\.yaml:\d+: components extend each other in a circle: a → b → a", done.err
    )


def test_component_that_requires_or_extends_itself_is_refused(cli, tmp_path):
    write_components(tmp_path / "o", a="requires: [a]", b="extends: b")
    for name in "ab":
        done = cli("plan", "--board", "generic-arm64", "-c", name, "--recipes", tmp_path / "o")
        assert done.code == 2, done.text
        assert "in a circle" in done.err


def test_component_that_requires_what_does_not_exist_is_refused(cli, tmp_path):
    write_components(tmp_path / "o", a="requires: [pyton]")
    done = cli("plan", "--board", "generic-arm64", "-c", "a", "--recipes", tmp_path / "o")
    assert done.code == 2
    assert 'unknown component "pyton"; did you mean "python"?' in done.err


def test_patch_that_does_not_exist_is_refused_by_check(cli, tmp_path):
    folder = tmp_path / "o"
    write_components(folder, a="")
    text = (folder / "components/a.yaml").read_text()
    text = text.replace("source: {}", "source: {patches: [a/nope.yaml]}")
    (folder / "components/a.yaml").write_text(text)
    done = cli("check", "--recipes", folder)
    assert done.code == 2
    assert 'unknown patch "a/nope.yaml"' in done.err


def test_value_from_nowhere_is_refused(cli, tmp_path):
    folder = tmp_path / "o"
    write_components(folder, a="")
    text = (folder / "components/a.yaml").read_text()
    args = "source: {cmake_args: [{name: X, from: release.nope}]}"
    (folder / "components/a.yaml").write_text(text.replace("source: {}", args))
    done = cli("plan", "--board", "generic-arm64", "-c", "a", "--recipes", folder)
    assert done.code == 2
    assert "components/a.yaml:4: X takes its value from release.nope: no such thing" in done.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("os: [debian-12, debain-13]", 'unknown operating system "debain-13"; did you mean'),
        ("release: r23.13", 'unknown release "r23.13"; did you mean'),
        ("components: [core, pyhton]", 'unknown component "pyhton"; did you mean "python"?'),
    ],
)
def test_name_in_a_board_that_does_not_exist_is_found_by_file_and_line(
    cli, tmp_path, line, message
):
    folder = tmp_path / "o"
    (folder / "boards").mkdir(parents=True)
    lines = {
        "os": "os: [debian-12]",
        "release": "release: r23.12",
        "components": "components: [core]",
    }
    lines[line.partition(":")[0]] = line
    start = ["name: b", "summary: s", "soc: s", "arch: arm64", "cpu: {cores: 1, model: m}"]
    content = [*start, "memory: 4GiB", *lines.values()]
    (folder / "boards/b.yaml").write_text("\n".join(content) + "\n")
    done = cli("plan", "--board", "b", "--recipes", folder)
    assert done.code == 2
    assert f"boards/b.yaml:{content.index(line) + 1}: {message}" in done.err


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        ("component: kore, flag: TRITON_ENABLE_MALI_GPU", 'the component "kore"'),
        (
            "component: core, flag: TRITON_ENABLE_MALI_GPUU",
            'did you mean "TRITON_ENABLE_MALI_GPU"?',
        ),
        ("component: core, flag: TRITON_ENABLE_STATS, required_with: [rknnn]", '"rknnn"'),
    ],
)
def test_mistyped_switch_of_a_board_is_an_error(cli, tmp_path, switch, message):
    folder = tmp_path / "o"
    (folder / "boards").mkdir(parents=True)
    (folder / "boards/b.yaml").write_text(
        "name: b\nsummary: s\nsoc: s\narch: arm64\ncpu: {cores: 1, model: m}\nmemory: 4GiB\n"
        "os: [debian-12]\nrelease: r23.12\ncomponents: [core]\n"
        f"switches: [{{{switch}, value: 'ON', why: w}}]\n"
    )
    for verb in (("plan", "--board", "b"), ("check",)):
        done = cli(*verb, "--recipes", folder)
        assert done.code == 2, done.text
        assert message in done.err
