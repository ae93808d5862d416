"""serve: the assembled server with the user's own models, in the foreground."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritonbuild.cli.options import WorkDir, open_finished

if TYPE_CHECKING:
    from tritonbuild.paths import Workspace
    from tritonbuild.smoke.server import Server


def serve(
    models: Annotated[Path, typer.Argument(help="The model repository.")],
    work_dir: WorkDir = None,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds until the server must be ready.")
    ] = 300,
    http_port: Annotated[int, typer.Option(min=1, max=65535, help="Port for HTTP.")] = 8000,
    grpc_port: Annotated[int, typer.Option(min=1, max=65535, help="Port for gRPC.")] = 8001,
    metrics_port: Annotated[int, typer.Option(min=1, max=65535, help="Port for metrics.")] = 8002,
) -> None:
    """Run the last build's server with your models on loopback, until Ctrl-C. Needs a build."""
    from tritonbuild.arch import Arch
    from tritonbuild.cli.smoke import describe_place, find_sandbox
    from tritonbuild.console import terminal
    from tritonbuild.engine.lock import hold
    from tritonbuild.errors import UsageError
    from tritonbuild.smoke.here import InSandbox
    from tritonbuild.smoke.run import read_subject
    from tritonbuild.smoke.server import Ports, check_ports, run_server

    ws, plan = open_finished(work_dir)
    if not models.is_dir():
        msg = f"{models}: there is no model repository"
        raise UsageError(msg, hint="`tritonbuild fetch-models --output DIR` makes one")
    ports = Ports(http_port, grpc_port, metrics_port)
    check_ports(ports)
    sandbox = find_sandbox(ws, plan)
    place = InSandbox(sandbox)
    place.check(ws.tritonserver_dir)
    how = describe_place(sandbox, Arch(plan.selection.arch))
    log = ws.logs_dir / "serve.log"
    with hold(ws, "serve"):
        terminal.info(f"running the server {how}; its log is {log}")
        with run_server(
            place, ws.tritonserver_dir, models.resolve(), load=None, log=log, timeout=timeout,
            ports=ports, without=read_subject(plan).without,
        ) as server:  # fmt: skip
            _wait(server, ws)


def _wait(server: Server, ws: Workspace) -> None:
    """Say where the server is, and wait until it or the user ends this.

    Raises:
        SmokeTestError: The server ended by itself.
    """
    from tritonbuild.console import terminal
    from tritonbuild.errors import SmokeTestError
    from tritonbuild.smoke.server import tail_log

    terminal.info(
        f"ready after {server.ready_seconds:.1f} s: HTTP on {server.http_url}, gRPC on "
        f"{server.grpc_address}, metrics on {server.metrics_url}; Ctrl-C stops it"
    )
    with contextlib.suppress(KeyboardInterrupt):
        how = server.wait()
        lines = [f"the server ended: {how}", *(f"  | {line}" for line in tail_log(server.log))]
        raise SmokeTestError("\n".join(lines), hint=f"log: {server.log}")
    # Ctrl-C is how this ends: requests that are under way are answered first.
    server.ask_to_stop(40)
    terminal.info(f"stopped; the tree is as it was: {ws.tritonserver_dir}")
