"""deploy: the tree onto a board, over ssh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from tritonbuild.cli.options import (
    DEFAULT_TO,
    Json,
    Recipes,
    To,
    WorkDir,
    open_book,
    open_finished,
)

if TYPE_CHECKING:
    from pathlib import Path, PurePosixPath

    from tritonbuild.deploy.layout import Layout
    from tritonbuild.deploy.run import Outcome, Wishes
    from tritonbuild.hosts.model import Host
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan

# What goes with a build only.
_NOT_BACK = ("work_dir", "keep", "install_packages", "service", "smoke", "recipes")


def deploy(
    context: typer.Context,
    board: Annotated[
        str,
        typer.Argument(
            help="user@board, a name of ssh's settings, or ssh://user@board:port.",
            show_default=False,
        ),
    ],
    work_dir: WorkDir = None,
    to: To = DEFAULT_TO,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Let the version run again that ran before.")
    ] = False,
    keep: Annotated[
        int, typer.Option(min=1, help="Versions that stay on the board, with the one that runs.")
    ] = 3,
    install_packages: Annotated[
        bool,
        typer.Option("--install-packages", help="Install what the tree needs, by apt-get there."),
    ] = False,
    service: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option(
            "--service/--no-service",
            help="Make a systemd service and start it anew [where systemd runs the board].",
        ),
    ] = None,
    smoke: Annotated[
        bool,
        typer.Option("--smoke/--no-smoke", help="Ask the server there before it is switched to."),
    ] = True,
    recipes: Recipes = None,
    as_json: Json = False,
) -> None:
    """Bring the last build to a board over ssh, beside what runs there, and switch. Needs a build."""
    from tritonbuild.console import terminal
    from tritonbuild.deploy.layout import Layout
    from tritonbuild.deploy.run import Wishes, roll_back
    from tritonbuild.hosts.ssh import connect

    layout = Layout.parse(to)
    if rollback:
        _refuse_idle(context)
        with connect(board) as host:
            outcome = roll_back(host, layout)
    else:
        wishes = Wishes(keep, install_packages, service)
        outcome = _deploy(board, layout, wishes, work_dir, recipes, smoke=smoke)
    if as_json:
        terminal.output(outcome.to_json())
    else:
        _print(outcome, rollback=rollback)


def _refuse_idle(context: typer.Context) -> None:
    """Refuse options that would do nothing on the way back.

    Raises:
        UsageError: One was given.
    """
    from tritonbuild.errors import UsageError

    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in _NOT_BACK and source is not None and source.name == "COMMANDLINE":
            off = parameter.secondary_opts and not context.params[parameter.name]
            name = (parameter.secondary_opts if off else parameter.opts)[0]
            msg = f"{name} does nothing with --rollback"
            hint = "leave it out: going back needs no build, and starts a service of ours anew"
            raise UsageError(msg, hint=hint)


def _deploy(
    address: str,
    layout: Layout,
    wishes: Wishes,
    work_dir: Path | None,
    recipes: Path | None,
    *,
    smoke: bool,
) -> Outcome:
    from tritonbuild.console import terminal
    from tritonbuild.deploy.layout import read_build
    from tritonbuild.deploy.run import deploy as run_deploy
    from tritonbuild.engine.lock import hold
    from tritonbuild.hosts.ssh import connect

    ws, plan = open_finished(work_dir)
    book = open_book(recipes)
    known = plan.selection.board in book.names("boards")
    with hold(ws, "deploy"):
        with terminal.step("check the tree against its manifest"):
            build = read_build(ws, plan)
        with connect(address) as host:

            def prove(tree: PurePosixPath, prefix: tuple[str, ...]) -> None:
                _prove(host, ws, plan, tree, prefix)

            return run_deploy(
                host, build, layout, wishes, prove=prove if smoke else None,
                recipe=book.board(plan.selection.board) if known else None,
            )  # fmt: skip


def _prove(
    host: Host, ws: Workspace, plan: Plan, tree: PurePosixPath, prefix: tuple[str, ...]
) -> None:
    """Ask a server on the board everything.

    Raises:
        SmokeTestError: It does not work there.
    """
    from tritonbuild.console import terminal
    from tritonbuild.smoke.board import OnBoard
    from tritonbuild.smoke.run import run_smoke

    with terminal.step(f"run the server on {host.name} and ask it") as step:
        report = run_smoke(ws, plan, place=OnBoard(host, tree, prefix))
        step.failed = not report.passed
    report.raise_if_failed()


def _print(outcome: Outcome, *, rollback: bool) -> None:
    from tritonbuild.console import terminal

    terminal.output(f"{outcome.host}:{outcome.link} is {outcome.version}")
    changed = outcome.previous not in (None, outcome.version)
    before = f", before it was {outcome.previous}" if changed else ""
    if not rollback:
        terminal.info(
            f"sent {outcome.files} files, {outcome.size / 1e6:.1f} MB of "
            f"{outcome.total / 1e6:.1f} MB, in {outcome.seconds:.0f} s{before}"
        )
        if changed:
            terminal.info(f"the way back: tritonbuild deploy {outcome.host} --rollback")
    if outcome.service == "running":
        terminal.warning("the service runs, and did not say on its port that it is ready")
