"""smoke --rknn: the proof that the board's NPU works."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild.cli.options import DEFAULT_TO, open_finished

if TYPE_CHECKING:
    from pathlib import Path

    from tritonbuild.hosts.model import Host
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan
    from tritonbuild.plan.npu import BoardNpu
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.smoke.rknn.place import DemoPlace
    from tritonbuild.smoke.rknn.run import RknnReport
    from tritonbuild.smoke.server import Place


@dataclass(frozen=True)
class NpuOptions:
    """What `smoke --rknn` was asked for.

    Attributes:
        work_dir: The build; None takes the last one.
        recipes: Folder of the user's recipes.
        recorded: What a run of the demo printed; nothing is run then. `-` is standard input.
        soc: System on a chip of that run.
        demo: Folder of a demo that was built elsewhere.
        preflight: Stop where the preflight finds that no model can run.
        timeout: Seconds until the server must be ready.
        http_port: Port for HTTP, which goes with a server alone.
        host: The board, over ssh; None is this machine.
        to: Where the server is used on it.
        as_json: Print the report as JSON.
    """

    work_dir: Path | None
    recipes: Path | None
    recorded: str | None
    soc: str | None
    demo: Path | None
    preflight: bool
    timeout: float
    http_port: int | None
    host: str | None
    to: str
    as_json: bool


def check_npu_options(options: NpuOptions, *, rknn: bool) -> None:
    """Refuse options that would do nothing.

    Raises:
        UsageError: There are such.
    """
    from tritonbuild.errors import UsageError

    given = {
        "--recorded": options.recorded is not None,
        "--demo": options.demo is not None,
        "--no-preflight": not options.preflight,
        "--recipes": options.recipes is not None,
    }
    names = [name for name, is_given in given.items() if is_given]
    if names and not rknn:
        msg = f"{names[0]} is for smoke --rknn"
        raise UsageError(msg, hint=f"add --rknn, or leave {names[0]} out")
    if options.soc and options.recorded is None:
        msg = "--soc says where a recorded run was made"
        raise UsageError(msg, hint="add --recorded FILE, or leave --soc out")
    if options.http_port is not None and rknn:
        msg = "--http-port does not go with --rknn"
        raise UsageError(msg, hint="leave it out: a free port is taken")
    if options.to != DEFAULT_TO and options.host is None:
        msg = "--to says where a tree is on a board"
        raise UsageError(msg, hint="add --host BOARD, or leave --to out")
    given |= {"--host": options.host is not None, "--work-dir": options.work_dir is not None}
    for name in ("--demo", "--no-preflight", "--host", "--work-dir"):
        if options.recorded is not None and given[name]:
            msg = f"{name} does not go with --recorded: nothing is run"
            raise UsageError(msg, hint=f"leave {name} out")


def smoke_npu(options: NpuOptions) -> None:
    """Prove that the NPU works, or that a recorded run did; print what was found.

    Raises:
        SmokeTestError: It does not.
        UsageError: There is no NPU to ask, or no build.
    """
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.smoke.rknn.run import judge_recorded

    book = RecipeBook.open(options.recipes)
    if options.recorded is not None:
        npu = _find_soc(book, options.soc)
        demo = npu.family.demo if npu else book.npu("rknpu").demo
        report = judge_recorded(demo, _read_recorded(options.recorded), npu)
    else:
        from tritonbuild.engine.lock import hold

        ws, plan = open_finished(options.work_dir)
        board_npu = _require_npu(book, plan)
        with hold(ws, "smoke --rknn"):
            report = _prove(book, ws, plan, board_npu, options)
    _print(report, as_json=options.as_json)
    report.raise_if_failed()


def _find_soc(book: RecipeBook, soc: str | None) -> BoardNpu | None:
    """Return the NPU that a recorded run is of, None where nothing was said of it.

    Raises:
        UsageError: No recipe tells of that system on a chip.
    """
    from tritonbuild.errors import UsageError
    from tritonbuild.plan.npu import find_npu_of

    if soc is None:
        return None
    found = find_npu_of(book, soc.lower())
    if found is None:
        known = [name for kind in book.names("npus") for name in book.npu(kind).socs]
        msg = f"--soc {soc}: no recipe tells of such an NPU"
        raise UsageError(msg, hint=f"known: {', '.join(known)}")
    return found


def _require_npu(book: RecipeBook, plan: Plan) -> BoardNpu:
    """Return the NPU of a plan's board.

    Raises:
        UsageError: It has none, or the build has nothing for it.
    """
    from tritonbuild.errors import UsageError
    from tritonbuild.plan.npu import find_npu

    chosen = plan.selection
    npu = find_npu(book, book.board(chosen.board))
    if npu is None:
        msg = f"{chosen.board} has no NPU that a recipe tells of"
        raise UsageError(msg, hint="--rknn is for boards with a Rockchip NPU, such as orangepi5b")
    if "rknn" not in chosen.components:
        msg = "this build has no rknn backend"
        raise UsageError(msg, hint="build with --component rknn, too")
    return npu


def _read_recorded(recorded: str) -> str:
    """Return what is in a file or comes in; editors may have put a byte order mark before it."""
    import sys
    from pathlib import Path

    from tritonbuild.errors import UsageError

    try:
        content = sys.stdin.buffer.read() if recorded == "-" else Path(recorded).read_bytes()
    except OSError as err:
        msg = f"{recorded} cannot be read: {err.strerror}"
        raise UsageError(msg, hint="--recorded takes a file with what the demo printed") from None
    return content.decode("utf-8-sig", errors="replace")


def _prove(
    book: RecipeBook, ws: Workspace, plan: Plan, npu: BoardNpu, options: NpuOptions
) -> RknnReport:
    """Look at the board, build the demo, run it and judge it."""
    from tritonbuild.console import terminal
    from tritonbuild.hosts.facts import read_facts
    from tritonbuild.paths import write_text
    from tritonbuild.smoke.rknn.demo import build_demo, find_demo
    from tritonbuild.smoke.rknn.run import run_checks

    with contextlib.ExitStack() as stack:
        host, place, servers = _open_places(stack, ws, plan, options)
        facts = read_facts(host)
        demo = find_demo(npu, options.demo) if options.demo else build_demo(book, plan, ws, npu)
        step = stack.enter_context(terminal.step(f"run rknn_yolov5_demo on {host.name}"))
        report = run_checks(
            ws, plan, npu, demo, facts, place=place, servers=servers,
            must_pass=options.preflight, timeout=options.timeout,
        )  # fmt: skip
        step.failed = not report.passed
    write_text(ws.root / "rknn.json", report.to_json())
    return report


def _open_places(
    stack: contextlib.ExitStack, ws: Workspace, plan: Plan, options: NpuOptions
) -> tuple[Host, DemoPlace, Place]:
    """Return the machine with the NPU, and where the demo and servers are started on it."""
    from tritonbuild.cli.smoke import find_sandbox, open_board
    from tritonbuild.hosts.here import Here
    from tritonbuild.smoke.here import InSandbox
    from tritonbuild.smoke.rknn.place import InPlace, OnHost

    if options.host is not None:
        board = stack.enter_context(open_board(options.host, options.to, ws))
        return board.host, OnHost(board.host), board
    sandbox = find_sandbox(ws, plan)
    return Here(), InPlace(sandbox, ws.root / "smoke" / "rknn-run"), InSandbox(sandbox)


def _print(report: RknnReport, *, as_json: bool) -> None:
    from tritonbuild.console import terminal

    for result in report.results:
        if result.status == "warn":
            hint = report.hints.get(result.name)
            terminal.warning(f"{result.name}: {result.detail}" + (f"; {hint}" if hint else ""))
    if as_json:
        terminal.output(report.to_json())
        return
    rows = [(r.name, r.status, f"{r.seconds:.2f}", r.detail) for r in report.results]
    terminal.table(("CHECK", "STATUS", "SECONDS", "DETAIL"), rows)
