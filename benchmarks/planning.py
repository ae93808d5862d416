"""How long planning takes, for recipes of 10, 100 and 1,000 components."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from figures import Row, Table, in_ms, median, spread, time_call, time_command

from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Request
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import RecipeBook

if TYPE_CHECKING:
    from figures import Options

SIZES = (10, 100, 1000)
QUICK_SIZES = (3, 10)

# "independent": each component requires the core only; "chain": each requires the one before it.
SHAPES = ("independent", "chain")

# As much as a shipped backend has, so that a generated component costs what a real one does.
_COMPONENT = """\
schema: 1
name: {name}
summary: Component {name} of the planning benchmark
extends: backend
kind: backend
requires: [{requires}]
source:
  clone:
    repository: https://example.invalid/{name}_backend.git
    directory: {name}
  cmake_args:
    - {{name: TRITON_BUILD_ONNXRUNTIME_VERSION, from: release.onnxruntime_version}}
    - {{name: TRITON_ENABLE_EXTRA, type: BOOL, value: "ON", why: for the benchmark}}
  memory_per_job: 3GiB
  apt_packages:
    ubuntu-22.04: [cmake, git]
    debian-12: [cmake, git]
artefacts:
  source: [backends/{name}/libtriton_{name}.so]
"""

_BOARD = """\
schema: 1
name: {name}
summary: Board of the planning benchmark
soc: none
arch: arm64
cpu: {{cores: 8, model: none}}
memory: 8GiB
os: [debian-12]
release: r23.12
components: [core, {components}]
"""


def write_recipes(folder: Path, count: int, shape: str) -> str:
    """Write a board and `count` components below `folder`; return the board's name."""
    names = [f"made-{number:04d}" for number in range(count)]
    for kind in ("boards", "components"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    before = "core"
    for name in names:
        text = _COMPONENT.format(name=name, requires=before)
        (folder / "components" / f"{name}.yaml").write_text(text, encoding="utf-8")
        before = name if shape == "chain" else "core"
    # The last one of a chain needs all others, so naming it is enough, and the hardest case.
    wanted = names[-1:] if shape == "chain" else names
    board = f"made-{shape}-{count}"
    text = _BOARD.format(name=board, components=", ".join(wanted))
    (folder / "boards" / f"{board}.yaml").write_text(text, encoding="utf-8")
    return board


def measure_planning(options: Options) -> Table:
    """Measure `tritonbuild plan` and its two parts, reading recipes and planning."""
    rows = []
    for shape in SHAPES:
        for count in QUICK_SIZES if options.quick else SIZES:
            with tempfile.TemporaryDirectory(prefix="tritonbuild-bench-") as folder:
                rows.append(_measure_size(Path(folder), count, shape, options))
    notes = [
        "command: `tritonbuild plan --board B --recipes DIR` as a user runs it, start-up included.",
        "read: all recipes read and validated; plan: make_plan with the recipes in memory.",
        "plan_us_each stays the same where the time grows only as fast as the components do.",
    ]
    title = "plan time of a source build, generated components over the shipped recipes"
    return Table("plan", title, rows, notes=notes)


def _measure_size(folder: Path, count: int, shape: str, options: Options) -> Row:
    board = write_recipes(folder, count, shape)
    request = Request(board, provider=ProviderKind.SOURCE)
    command = [*options.tritonbuild, "plan", "--board", board, "--recipes", str(folder)]
    walls, reads, plans, steps = [], [], [], 0
    for _ in range(options.repeat_for(9)):
        walls.append(time_command(command))
        book = RecipeBook.open(folder)
        reads.append(time_call(partial(_read_all, book)))
        plans.append(time_call(partial(make_plan, book, request)))
        steps = len(make_plan(book, request).steps)
    if steps < 4 * count:
        msg = f"{count} components came to {steps} steps only"
        raise AssertionError(msg)
    return {
        "shape": shape,
        "components": count,
        "steps": steps,
        "command_ms": in_ms(median(walls)),
        "spread_ms": spread(walls, 1e3),
        "read_ms": in_ms(median(reads)),
        "plan_ms": in_ms(median(plans)),
        "plan_us_each": round(median(plans) / count * 1e6),
    }


def _read_all(book: RecipeBook) -> None:
    for kind in ("releases", "boards", "os", "mirrors", "components"):
        for name in book.names(kind):
            book.get(kind, name)
