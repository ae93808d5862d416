"""The documentation is true: its YAML is valid, its commands run and say what it shows.

How a block is taken is said by its language and, where needed, by a comment on the line above:

- yaml: the first line names the file that it would be (`# recipes/boards/x.yaml`); it is validated
  as that kind.
- sh: run in a folder of its own, must succeed.
- console: lines with `$ ` are run; the other lines must be in their output, in that order.
- `<!-- test: needs build -->`: run in the folder where this run of the tests has built orangepi5b from
  wheels.
- `<!-- test: exits with N -->`: it must.
- `<!-- test: quickstart -->`: run by tests/integration/test_quickstart.py.
- `<!-- test: untried -->`: cannot be run here (a board is needed, or it would run these tests).
- other languages (text, or none) show something that is not run.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tritonbuild import errors
from tritonbuild.paths import ENVIRONMENT
from tritonbuild.recipe.load import RecipeBook, load_file, load_patch
from tritonbuild.recipe.model import RECIPE_KINDS
from tritonbuild.recipe.patch import Patch
from tritonbuild.smoke.checks import CHECKS
from tritonbuild.smoke.models import MODELS

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
FENCE = re.compile(
    r"^(?:<!-- test: (?P<mark>[^>]*?) -->\n+)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MARKS = re.compile(r"needs build|quickstart|untried|exits with \d+|")
RUN = ("sh", "console")
NOT_RUN = ("untried", "quickstart")


@dataclass(frozen=True)
class Block:
    path: Path
    line: int
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line}"


def read_blocks() -> list[Block]:
    blocks = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for found in FENCE.finditer(text):
            line = text.count("\n", 0, found.start("text"))
            mark = found["mark"] or ""
            blocks.append(Block(path, line, found["language"], mark, found["text"]))
    return blocks


BLOCKS = read_blocks()
COMMANDS = [block for block in BLOCKS if block.language in RUN and block.mark not in NOT_RUN]
YAML = [block for block in BLOCKS if block.language in {"yaml", "yml"}]


def test_marks_are_known():
    for block in BLOCKS:
        assert MARKS.fullmatch(block.mark), str(block)
        assert block.language in {*RUN, "yaml", "text", "json", ""}, f"{block}: {block.language}"


def test_documents_have_no_block_that_nobody_takes():
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        fences = len(re.findall(r"^ *```", text, re.MULTILINE))
        assert fences == 2 * sum(block.path == path for block in BLOCKS), path.name
        marks = text.count("<!-- test:")
        assert marks == sum(block.path == path and block.mark != "" for block in BLOCKS), path.name


# --- YAML -----------------------------------------------------------------------------------


def file_of(block: Block) -> Path:
    found = re.match(r"# ((?:recipes|patches)/[\w./-]+\.yaml)\n", block.text)
    assert found, f"{block}: the first line must say which file this is"
    return Path(found[1])


@pytest.mark.parametrize("block", YAML, ids=str)
def test_yaml_block_is_valid(block, tmp_path, monkeypatch):
    path = tmp_path / file_of(block)
    path.parent.mkdir(parents=True)
    path.write_text(block.text, encoding="utf-8")
    if path.is_relative_to(tmp_path / "patches"):
        monkeypatch.setattr("tritonbuild.recipe.load.data_dir", lambda kind: tmp_path / kind)
        assert isinstance(load_patch(str(path.relative_to(tmp_path / "patches"))), Patch)
    else:
        load_file(path, RECIPE_KINDS[path.parent.name])


@pytest.fixture(scope="session")
def documented_recipes(tmp_path_factory):
    """All recipes of two pages in one folder, as a reader would have them."""
    folder = tmp_path_factory.mktemp("documented")
    for block in YAML:
        path = folder / file_of(block)
        pages = ("recipes.md", "add-a-board.md")
        if block.path.name in pages and path.is_relative_to(folder / "recipes"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(("--board", "nanopi-r6s", "--from", "wheel"), id="board"),
        pytest.param(("--board", "nanopi-r6c"), id="a board of one's own"),
        pytest.param(("--board", "nanopi-r6c", "--from", "wheel"), id="the same from wheels"),
        pytest.param(("--board", "nanopi-r6s", "--mirror", "office"), id="mirror"),
        pytest.param(("--board", "generic-arm64", "-c", "identity"), id="component"),
        pytest.param(
            (
                "--board",
                "orangepi5b",
                "--release",
                "r23.12-office",
                "--from",
                "wheel",
                "-c",
                "core",
            ),
            id="release",
        ),
    ],
)
def test_documented_recipes_come_to_plans(run_cli, documented_recipes, args):
    done = run_cli("plan", *args, cwd=documented_recipes)
    assert done.code == 0, done.stderr


def test_field_tables_are_those_of_the_models():
    path = Path(__file__).with_name("reference.py")
    spec = importlib.util.spec_from_file_location("reference", path)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    text = reference.DOCUMENT.read_text(encoding="utf-8")
    assert text == reference.refresh(text), "run `python tests/docs/reference.py`"
    for kind in (*RECIPE_KINDS, "patch"):
        assert f"<!-- fields of {kind} -->" in text


def test_every_shipped_kind_is_documented():
    text = (REPOSITORY / "docs/recipes.md").read_text(encoding="utf-8")
    for kind in RECIPE_KINDS:
        assert f"`{kind}/`" in text
        assert RecipeBook.open().names(kind)


# --- commands -------------------------------------------------------------------------------


def make_env(state_dir: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "TRITONBUILD_STATE_DIR": str(state_dir)}


@pytest.fixture(scope="session")
def built(tmp_path_factory, require_or_skip):
    """A folder from which orangepi5b was built from wheels; the cache is the user's own."""
    require_or_skip(shutil.which("mmdebstrap"), "needs mmdebstrap")
    folder = tmp_path_factory.mktemp("built")
    env = make_env(folder / "state")
    argv = ["tritonbuild", "build", "--board", "orangepi5b", "--os", "debian-12", "--from", "wheel"]
    done = subprocess.run(
        argv, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return folder


def folder_for(block: Block, request, tmp_path) -> tuple[Path, dict[str, str]]:
    if block.mark == "needs build":
        folder = request.getfixturevalue("built")
        return folder, make_env(folder / "state")
    return tmp_path, make_env(tmp_path / "state")


def marks_of(block: Block):
    marks = []
    if "smoke" in block.text:
        marks.append(pytest.mark.emulation)
    if block.mark == "needs build":
        marks.append(pytest.mark.network)
    return marks


@pytest.mark.parametrize(
    "block", [pytest.param(block, id=str(block), marks=marks_of(block)) for block in COMMANDS]
)
def test_command_block_runs(block, request, tmp_path, require_or_skip):
    if "smoke" in block.text:
        require_or_skip(shutil.which("bwrap"), "needs bubblewrap")
        binfmt = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists()
        require_or_skip(binfmt or os.uname().machine == "aarch64", "needs QEMU with binfmt")
    folder, env = folder_for(block, request, tmp_path)
    expected = int(block.mark.rpartition(" ")[2]) if block.mark.startswith("exits") else 0
    if block.language == "sh":
        script, shown = block.text, []
    else:
        lines = block.text.splitlines()
        script = "\n".join(line[2:] for line in lines if line.startswith("$ "))
        shown = [line for line in lines if not line.startswith("$ ")]
    done = subprocess.run(
        ["sh", "-euc", script],
        cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == expected, done.stdout
    rest = done.stdout
    for line in shown:
        assert line in rest, f"{line!r} is not in what follows:\n{rest}"
        rest = rest.partition(line)[2]


# --- what the pages promise to list ----------------------------------------------------------


def list_verbs() -> dict[str, set[str]]:
    """Return the options of each verb."""
    import typer.main

    from tritonbuild.cli.app import app

    group = typer.main.get_command(app)
    return {
        name: {
            option for parameter in verb.params for option in parameter.opts if option[:2] == "--"
        }
        for name, verb in group.commands.items()
    }


def test_every_verb_and_option_is_documented():
    pages = {
        name: (REPOSITORY / "docs" / f"{name}.md").read_text(encoding="utf-8")
        for name in ("cli", "render")
    }
    for verb, options in list_verbs().items():
        # Upstream's own switches have a page for themselves.
        text = pages["cli"] + (pages["render"] if verb == "render" else "")
        assert re.search(rf"^\| `{verb}\b", text, re.MULTILINE), f"docs/cli.md lacks {verb}"
        missing = {option for option in options if f"`{option}" not in text} - {"--help"}
        assert not missing, f"docs/cli.md lacks options of {verb}"


def test_every_variable_and_exit_code_is_documented():
    text = (REPOSITORY / "docs/cli.md").read_text(encoding="utf-8")
    for name in ENVIRONMENT:
        assert f"| `{name}` |" in text
    for found in vars(errors).values():
        if isinstance(found, type) and issubclass(found, errors.TritonBuildError):
            assert f"\n| {found.exit_code} | " in text


def test_words_that_troubleshooting_quotes_are_in_the_code():
    """Each heading quotes what is really printed: its fixed words stand in the sources."""
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in (REPOSITORY / "tritonbuild").rglob("*.py")
    )
    # Messages are put together from pieces: f"a {value} b" is looked for as `a ` and ` b`.
    joined = re.sub(r'"\s*\n\s*f?"', "", source)
    text = (REPOSITORY / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^### (.*)$", text, re.MULTILINE)
    assert len(quoted) > 20
    filled_in = r'mmdebstrap(?= not)|"[^"]*"|core\.TRITON_ENABLE_MALI_GPU=ON|OFF|debian bookworm|arm64|\bboard\b'
    from_elsewhere = ("Read-only file system", "Permission denied", "should be a")
    for words in [words for line in quoted for words in re.findall(r"`([^`]*)`", line)]:
        if words in from_elsewhere:
            continue
        for piece in re.split(filled_in, words):
            piece = piece.strip(" ;?,")  # noqa: PLW2901
            if len(piece) > 3:
                assert piece in joined, f"nothing prints {piece!r} ({words})"


def test_every_check_is_documented(feature_table):
    """Features have a row with their checks; what each check proves is in smoke.md."""
    names = {check.name for check in CHECKS}
    assert set(feature_table) <= names | {"rknn"}
    rest = {"ready", "server-metadata", "model-metadata", "still-ready", "stop"}
    refusals = {name for name in names if name.startswith("refuse-")}
    assert names - set(feature_table) == rest | refusals
    text = (REPOSITORY / "docs/smoke.md").read_text(encoding="utf-8")
    for name in names - refusals - {name for name in names if name.startswith("load-")}:
        assert f"`{name}`" in text, f"docs/smoke.md lacks {name}"
    for name in MODELS:
        assert f"`{name}`" in text, f"docs/smoke.md lacks the model {name}"


def test_links_lead_somewhere():
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://")):
                assert (path.parent / target).exists(), f"{path.name}: {target}"
