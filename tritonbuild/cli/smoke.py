"""smoke: the proof that the assembled server answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from tritonbuild.cli.options import Json, WorkDir, open_workspace

if TYPE_CHECKING:
    from tritonbuild.arch import Arch
    from tritonbuild.executors.sandbox import Sandbox
    from tritonbuild.smoke.run import SmokeReport


def smoke(
    work_dir: WorkDir = None,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds until the server must be ready.")
    ] = 120,
    http_port: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, max=65535, help="Port for HTTP [a free one]."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start the last build's server, ask it over HTTP and gRPC, stop it. Needs a build."""
    import json

    from tritonbuild.arch import Arch
    from tritonbuild.console import terminal
    from tritonbuild.engine.lock import hold
    from tritonbuild.errors import UsageError
    from tritonbuild.executors.place import find_place
    from tritonbuild.paths import cache_dir
    from tritonbuild.smoke.run import run_smoke

    ws, plan = open_workspace(work_dir)
    if not ws.manifest_path.is_file():
        msg = f"{ws.root} has no finished build"
        raise UsageError(msg, hint="run `tritonbuild build` first; it goes on where it stopped")
    verified = json.loads(ws.verify_path.read_text(encoding="utf-8"))
    packages = set(verified["to_install"].values()) - {""}
    place = find_place(plan, cache_dir(), packages=packages, log=ws.logs_dir / "smoke-root.log")
    how = describe_place(place, Arch(plan.selection.arch))
    with hold(ws, "smoke"), terminal.step(f"run the server {how} and ask it") as step:
        report = run_smoke(ws, plan, sandbox=place, timeout=timeout, http_port=http_port)
        step.failed = not report.passed
    _print(report, as_json=as_json)
    report.raise_if_failed()
    terminal.info(
        f"Triton {report.server_version}: ready after {report.ready_seconds:.1f} s, first right "
        f"answer after {report.first_answer_seconds:.1f} s, all checks in {report.seconds:.1f} s"
    )


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
