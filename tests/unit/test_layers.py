"""The shape of the code: layers, the one door for processes, and other rules that hold everywhere.

Each rule is a function over a module's syntax tree, and each is shown to see what it forbids.
"""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import tritonbuild
from tritonbuild import errors

PACKAGE = Path(tritonbuild.__file__).parent
CHECKOUT = PACKAGE.parent

# Imports go down only. Within a layer packages may use each other, without circles.
LAYERS = (
    {"errors", "arch", "console", "proc", "record", "paths"},
    {"recipe", "plan", "render"},
    {
        "sources",
        "patches",
        "executors",
        "engine",
        "stage",
        "smoke",
        "hosts",
        "deploy",
        "doctor",
        "report",
    },
    {"cli", "__main__"},
)
LAYER_OF = {part: number for number, parts in enumerate(LAYERS) for part in parts}

# Who alone may use what.
ONLY = {
    "typer": {"cli"},
    "click": {"cli"},
    "rich": {"cli", "console"},
    "subprocess": {"proc"},
    "pty": {"proc"},
    "multiprocessing": {"proc"},
}
# Imported where they are used: each costs more than all of `--help` may take.
HEAVY = {"requests", "urllib3", "jinja2", "docker", "git", "elftools", "zstandard", "rich", "numpy"}
OUR_ERRORS = {name for name, found in vars(errors).items() if isinstance(found, type)}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 80


class Import(NamedTuple):
    """One import.

    Attributes:
        name: Full name of the module, or of what is taken from it.
        line: Where it stands.
        typing: It is for type checkers only.
        top: It happens when the module is imported.
    """

    name: str
    line: int
    typing: bool
    top: bool


def find_imports(tree: ast.AST) -> list[Import]:
    """Return every import of a module, in order."""
    found: list[Import] = []

    def visit(node: ast.AST, *, typing: bool, top: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(name.name, node.lineno, typing, top) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.extend(
                Import(f"{node.module}.{name.name}", node.lineno, typing, top)
                for name in node.names
            )
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                visit(child, typing=True, top=top)
            for child in node.orelse:
                visit(child, typing=typing, top=top)
            return
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, typing=typing, top=top and not inside)

    visit(tree, typing=False, top=True)
    return found


def part_of(name: str) -> str | None:
    """Return the package of ours that a full name belongs to, None for others and the version."""
    parts = name.split(".")
    if parts[0] != "tritonbuild" or len(parts) == 1 or parts[1].startswith("__version"):
        return None
    return parts[1]


def check_imports(tree: ast.AST, part: str) -> list[str]:
    """Return imports that go up, that are another's to use, or that come too early."""
    faults = []
    for name, line, typing, top in find_imports(tree):
        ours = part_of(name)
        outer = name.split(".")[0]
        if ours is not None and LAYER_OF[ours] > LAYER_OF[part]:
            faults.append(f"{line}: {part} must not know {ours}: imports go down only")
        if outer in ONLY and part not in ONLY[outer] and not typing:
            faults.append(f"{line}: only {', '.join(sorted(ONLY[outer]))} may import {outer}")
        if outer in HEAVY and top and not typing:
            faults.append(f"{line}: {outer} is slow to import: do it where it is used")
    return faults


_STARTS_PROCESSES = re.compile(
    r"os\.(system|popen|fork\w*|exec\w+|spawn\w+|posix_spawn\w*)|asyncio\.create_subprocess_\w+"
)
_EXITS = {"sys.exit", "os._exit", "exit", "quit", "SystemExit"}
_ENVIRONMENT = {"os.environ", "os.getenv"}
# Read by the module that its specification speaks to.
_STANDARD_VARIABLES = re.compile(r'os\.environ\.get\("SOURCE_DATE_EPOCH"\)')


def check_calls(tree: ast.AST, part: str) -> list[str]:
    """Return calls that belong into another module."""
    faults = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if _STARTS_PROCESSES.fullmatch(name) and part != "proc":
                faults.append(f"{node.lineno}: {name}: only proc starts processes")
            if name == "print":
                faults.append(f"{node.lineno}: print: console says things")
            if any(
                key.arg == "shell" and ast.unparse(key.value) != "False" for key in node.keywords
            ):
                faults.append(f"{node.lineno}: shell=: programs get argument lists")
        if (
            isinstance(node, ast.Name | ast.Attribute)
            and ast.unparse(node) in _EXITS
            and part != "cli"
        ):
            faults.append(f"{node.lineno}: {ast.unparse(node)}: only cli ends the process")
    return faults


def check_environment(source: str, part: str) -> list[str]:
    """Return where the environment is read: what it may say is listed in paths."""
    if part in {"cli", "paths", "proc", "record", "console"}:
        return []
    return [
        f"{number}: the environment is read in paths, and passed on"
        for number, line in enumerate(source.splitlines(), 1)
        if any(name in line for name in _ENVIRONMENT) and not _STANDARD_VARIABLES.search(line)
    ]


def check_shape(tree: ast.Module, part: str, lines: int) -> list[str]:
    """Return functions and modules that are too long, and errors of ours that live elsewhere."""
    faults = []
    if lines > MAX_MODULE_LINES:
        faults.append(f"1: {lines} lines; at most {MAX_MODULE_LINES}")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                faults.append(f"{node.lineno}: {node.name} has {length} lines")
        if isinstance(node, ast.ClassDef) and part != "errors":
            bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
            if bases & OUR_ERRORS:
                faults.append(f"{node.lineno}: {node.name}: errors are defined in errors.py")
    return faults


def find_faults(source: str, part: str) -> list[str]:
    """Return every breach of a rule in a module of one of our packages, as `line: what`."""
    tree = ast.parse(source)
    lines = len(source.splitlines())
    return [
        *check_imports(tree, part),
        *check_calls(tree, part),
        *check_environment(source, part),
        *check_shape(tree, part, lines),
    ]


MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of_file(path: Path) -> str:
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "errors" if name == "__init__" else name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_keeps_the_rules(path: Path) -> None:
    part = part_of_file(path)
    assert part in LAYER_OF, f"say in LAYERS where {part} belongs"
    assert path.stem not in VAGUE_NAMES, "a module is named for what it does"
    faults = find_faults(path.read_text(encoding="utf-8"), part)
    assert not faults, "\n".join(f"{path}:{fault}" for fault in faults)


def test_packages_do_not_import_each_other_in_circles() -> None:
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        part = part_of_file(path)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = {part_of(found.name) for found in find_imports(tree) if not found.typing}
        graph.setdefault(part, set()).update(used - {part, None})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as err:
        pytest.fail(f"circle: {' -> '.join(err.args[1])}")


@pytest.mark.parametrize(
    ("part", "source", "expected"),
    [
        pytest.param("plan", "import tritonbuild.cli", "1: plan must not know cli", id="up"),
        pytest.param("recipe", "from tritonbuild import stage", "recipe must not", id="up-from"),
        pytest.param(
            "errors", "def f():\n    from tritonbuild.proc import run\n    import tritonbuild.plan.x",
            "3: errors must not know plan", id="up-inside-function",
        ),
        pytest.param(
            "plan", "if TYPE_CHECKING:\n    from tritonbuild.smoke import x",
            "2: plan must not know smoke", id="up-for-types",
        ),
        pytest.param("engine", "import subprocess", "only proc may import", id="subprocess"),
        pytest.param("cli", "from subprocess import run", "only proc may", id="subprocess-from"),
        pytest.param("stage", "import os\nos.system('x')", "2: os.system", id="os-system"),
        pytest.param("stage", "os.execvp('x', [])", "os.execvp: only proc", id="exec"),
        pytest.param("proc", "run('x', shell=True)", "shell=", id="shell"),
        pytest.param("smoke", "print('x')", "print", id="print"),
        pytest.param("smoke", "def f():\n    import typer", "only cli may import typer", id="typer"),
        pytest.param("stage", "def f():\n    import rich.table", "cli, console", id="rich"),
        pytest.param("stage", "import requests", "slow to import", id="heavy"),
        pytest.param("stage", "import sys\nsys.exit(3)", "2: sys.exit", id="exit"),
        pytest.param("proc", "raise SystemExit(1)", "only cli ends", id="system-exit"),
        pytest.param("stage", "os.environ.get('X')", "environment", id="environ"),
        pytest.param("stage", "class Bad(errors.HostError): ...", "errors.py", id="error-class"),
        pytest.param("stage", "x = 1\n" * 501, "501 lines", id="long-module"),
        pytest.param("stage", "def f():\n" + "    x = 1\n" * 80, "f has 81 lines", id="long-function"),
    ],
)  # fmt: skip
def test_rule_sees_what_it_forbids(part: str, source: str, expected: str) -> None:
    faults = find_faults(source, part)
    assert len(faults) == 1, faults
    assert expected in faults[0]


@pytest.mark.parametrize(
    ("part", "source"),
    [
        pytest.param("cli", "import typer\nimport tritonbuild.smoke.run\nraise SystemExit(2)"),
        pytest.param("proc", "import subprocess\nsubprocess.run(['x'], shell=False)"),
        pytest.param(
            "stage", "def f():\n    import zstandard\n    from tritonbuild.sources import x"
        ),
        pytest.param("console", "if TYPE_CHECKING:\n    from rich.console import Console"),
        pytest.param("recipe", "from tritonbuild import __version__\nimport tritonbuild"),
    ],
)
def test_rule_allows_what_is_meant(part: str, source: str) -> None:
    assert find_faults(source, part) == []


# Written apart, so that this file does not itself say what must not be said.
REGISTRIES = ("pypi" + ".org", "pythonhosted" + ".org", "deb.debian" + ".org", "npmjs" + ".org")


def find_registries(text: str) -> list[str]:
    """Return the package registries that a text names."""
    return [host for host in REGISTRIES if host in text]


@pytest.mark.parametrize("folder", ["recipes", "patches", "templates", "docs", "tritonbuild"])
def test_registries_are_left_to_the_users_settings(folder: str) -> None:
    """pip and apt know where to go: from the user, who may have a mirror."""
    paths = [
        path
        for path in (CHECKOUT / folder).rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".onnx", ".png"}
    ]
    named = {path: find_registries(path.read_text(encoding="utf-8")) for path in paths}
    assert not {path: hosts for path, hosts in named.items() if hosts}


def test_registries_are_found_in_text() -> None:
    assert find_registries("url: https://pypi" + ".org/simple") == ["pypi" + ".org"]
