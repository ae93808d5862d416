"""package: the tree as one file that is the same each time."""

from __future__ import annotations

from tritonbuild.cli.options import Json, WorkDir, open_workspace


def package(work_dir: WorkDir = None, as_json: Json = False) -> None:
    """Pack the last build as tar.zst, byte for byte the same each time. Needs a build."""
    import json

    from tritonbuild.console import terminal
    from tritonbuild.engine.lock import hold
    from tritonbuild.stage.package import make_package

    ws, plan = open_workspace(work_dir)
    chosen = plan.selection
    details = plan.find_step("assemble").details
    name = "-".join(
        ("tritonserver", str(details["triton_version"]), chosen.board, chosen.os, chosen.provider)
    )
    with hold(ws, "package"), terminal.step(f"pack {name}.tar.zst"):
        made = make_package(ws, name=name, date=str(details["date"]))
    if as_json:
        content = {
            "path": str(made.path),
            "sha256": made.sha256,
            "size": made.size,
            "unpacked_size": made.unpacked_size,
            "files": made.files,
            "manifest": str(made.manifest_path),
        }
        terminal.output(json.dumps(content, indent=2))
        return
    terminal.output(f"{made.path}\n{made.sha256}  {made.size / 1e6:.1f} MB, {made.files} files")
    verified = json.loads(ws.verify_path.read_text(encoding="utf-8"))
    to_install = ["zstd", *sorted(set(verified["to_install"].values()))]
    terminal.info(f"on the board, as root: apt-get install -y {' '.join(to_install)}")
    terminal.info(f"                       tar --zstd -xf {made.path.name} -C /")
