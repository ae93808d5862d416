"""smoke: the proof that the assembled server answers."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from tritonbuild.cli.options import (
    DEFAULT_TO,
    Json,
    OnHost,
    Recipes,
    To,
    WorkDir,
    open_finished,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tritonbuild.arch import Arch
    from tritonbuild.deploy.layout import Layout
    from tritonbuild.executors.sandbox import Sandbox
    from tritonbuild.hosts.model import Host
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan
    from tritonbuild.smoke.board import OnBoard
    from tritonbuild.smoke.run import SmokeReport
    from tritonbuild.smoke.server import Place


def smoke(
    work_dir: WorkDir = None,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds until the server must be ready.")
    ] = 120,
    http_port: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, max=65535, help="Port for HTTP [a free one]."),
    ] = None,
    model: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(metavar="DIR", help="Ask a model of your own, too; repeatable."),
    ] = None,
    soak: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=1, metavar="SECONDS", help="Ask over and over, and watch the memory."),
    ] = None,
    soak_requests: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, metavar="N", help="The same, until so many requests were answered."),
    ] = None,
    rknn: Annotated[
        bool,
        typer.Option(
            "--rknn", help="Prove the board's NPU instead, by Rockchip's yolov5 demo; builds it."
        ),
    ] = False,
    recorded: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="FILE", help="For --rknn: judge what the demo printed; - is standard input."
        ),
    ] = None,
    soc: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="For --recorded: where it ran, such as rk3588."),
    ] = None,
    demo: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="DIR", help="For --rknn: a demo that is built already, its install folder."
        ),
    ] = None,
    preflight: Annotated[
        bool, typer.Option(help="For --rknn: stop where the NPU is known not to work.")
    ] = True,
    recipes: Recipes = None,
    host: OnHost = None,
    to: To = DEFAULT_TO,
    as_json: Json = False,
) -> None:
    """Start the last build's server, here or on a board, ask it, stop it. Needs a build."""
    from tritonbuild.cli.npu import NpuOptions, check_npu_options, smoke_npu

    asked = NpuOptions(
        work_dir, recipes, recorded, soc, demo, preflight, timeout, http_port, host, to, as_json
    )
    check_npu_options(asked, rknn=rknn)
    if rknn:
        smoke_npu(asked)
    else:
        extra = Extra(tuple(model or ()), soak, soak_requests)
        _smoke_server(work_dir, timeout, http_port, extra, host=host, to=to, as_json=as_json)


@dataclass(frozen=True)
class Extra:
    """What is asked on top of the usual.

    Attributes:
        models: Folders of the user's models.
        seconds: How long the server is asked over and over.
        requests: How often.
    """

    models: tuple[Path, ...]
    seconds: float | None
    requests: int | None


def _smoke_server(
    work_dir: Path | None,
    timeout: float,
    http_port: int | None,
    extra: Extra,
    *,
    host: str | None,
    to: str,
    as_json: bool,
) -> None:
    """Ask the server that a build assembled."""
    from tritonbuild.arch import Arch
    from tritonbuild.console import terminal
    from tritonbuild.engine.lock import hold
    from tritonbuild.smoke.here import InSandbox
    from tritonbuild.smoke.run import run_smoke
    from tritonbuild.smoke.soak import Soak

    ws, plan = open_finished(work_dir)
    with contextlib.ExitStack() as stack:
        place: Place
        if host is not None:
            place, how = stack.enter_context(open_board(host, to, ws)), f"on {host}"
        else:
            sandbox = find_sandbox(ws, plan)
            place, how = InSandbox(sandbox), describe_place(sandbox, Arch(plan.selection.arch))
        stack.enter_context(hold(ws, "smoke"))
        step = stack.enter_context(terminal.step(f"run the server {how} and ask it"))
        is_soaked = extra.seconds or extra.requests
        report = run_smoke(
            ws, plan, place=place, timeout=timeout, http_port=http_port, own_models=extra.models,
            soak=Soak(extra.seconds, extra.requests) if is_soaked else None,
        )  # fmt: skip
        step.failed = not report.passed
    _print(report, as_json=as_json)
    report.raise_if_failed()
    terminal.info(
        f"Triton {report.server_version}: ready after {report.ready_seconds:.1f} s, first right "
        f"answer after {report.first_answer_seconds:.1f} s, all checks in {report.seconds:.1f} s"
    )


def find_sandbox(ws: Workspace, plan: Plan) -> Sandbox:
    """Return how the board's programs are started on this machine, with the packages they need.

    Raises:
        HostError: They cannot be.
    """
    from tritonbuild.executors.place import find_place
    from tritonbuild.paths import cache_dir
    from tritonbuild.stage.verified import packages_to_install, read_verified

    packages = packages_to_install(read_verified(ws))
    return find_place(plan, cache_dir(), packages=packages, log=ws.logs_dir / "smoke-root.log")


@contextlib.contextmanager
def open_board(address: str, to: str, ws: Workspace) -> Iterator[OnBoard]:
    """Connect to a board to which this build was deployed.

    Raises:
        UsageError: It has another build there.
        HostError: It cannot be reached.
    """
    from tritonbuild.deploy.layout import Layout
    from tritonbuild.hosts.facts import read_facts
    from tritonbuild.hosts.ssh import connect
    from tritonbuild.smoke.board import OnBoard

    layout = Layout.parse(to)
    with connect(address) as host:
        _check_same(host, ws, layout)
        # As deploy proves it: beside a service that runs there already.
        yield OnBoard(host, layout.link, read_facts(host).root_prefix or ())


def _check_same(host: Host, ws: Workspace, layout: Layout) -> None:
    """Make sure that a board has this build: answers are compared with what its plan says."""
    from tritonbuild.errors import UsageError

    path = layout.link / "manifest.json"
    there = host.run(["cat", str(path)])
    # What a login shell says stands before it.
    if there.returncode == 0 and there.output.endswith(ws.manifest_path.read_text("utf-8")):
        return
    what = "has another build" if there.returncode == 0 else "has no build of tritonbuild's"
    msg = f"{layout.link} on {host.name} {what}"
    raise UsageError(msg, hint=f"run `tritonbuild deploy {host.name}` first, or say --work-dir")


def _print(report: SmokeReport, *, as_json: bool) -> None:
    from tritonbuild.console import terminal

    if as_json:
        terminal.output(report.to_json())
        return
    rows = [(r.name, r.status, f"{r.seconds:.2f}", r.detail) for r in report.results]
    terminal.table(("CHECK", "STATUS", "SECONDS", "DETAIL"), rows)


def describe_place(place: Sandbox, arch: Arch) -> str:
    """Return how the server is started, for people."""
    from tritonbuild.executors.sandbox import needs_root

    if place.root is None:
        return "directly on this machine"
    return "under QEMU in the board's root" if needs_root(arch) else "in the board's root"
