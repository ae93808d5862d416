"""package: the tree as one file that is the same each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from tritonbuild.cli.options import Json, Recipes, WorkDir, open_book, open_workspace

if TYPE_CHECKING:
    from pathlib import Path

    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan
    from tritonbuild.stage.deb import Control
    from tritonbuild.stage.members import Package
    from tritonbuild.stage.oci import ImageSpec

FORMATS = ("tar.zst", "deb", "oci")


def package(
    work_dir: WorkDir = None,
    formats: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--format",
            metavar="FORMAT",
            show_default=False,
            help="tar.zst, deb, or oci (a container image); repeat it for more [tar.zst].",
            autocompletion=lambda incomplete: [f for f in FORMATS if f.startswith(incomplete)],
        ),
    ] = None,
    recipes: Recipes = None,
    as_json: Json = False,
) -> None:
    """Pack the last build, byte for byte the same each time. Needs a build."""
    import json

    from tritonbuild.console import terminal
    from tritonbuild.engine.lock import hold
    from tritonbuild.stage.naming import name_of

    chosen = check_formats(formats or ["tar.zst"])
    ws, plan = open_workspace(work_dir)
    _warn_of_other_machine(plan, recipes)
    made: dict[str, Package] = {}
    with hold(ws, "package"):
        for one in chosen:
            suffix = "oci.tar" if one == "oci" else one
            with terminal.step(f"pack {name_of(plan)}.{suffix}"):
                made[one] = _make(one, ws, plan, recipes)
    if as_json:
        contents = [_describe(one, package) for one, package in made.items()]
        terminal.output(json.dumps(contents if len(contents) > 1 else contents[0], indent=2))
        return
    for one, package in made.items():
        _print(one, package, ws, plan)


def _warn_of_other_machine(plan: Plan, recipes: Path | None) -> None:
    """Say that a trial build is for the machine that made it, not for the board it is named after."""
    from tritonbuild.console import terminal

    chosen, book = plan.selection, open_book(recipes)
    if chosen.board not in book.names("boards"):
        return
    board = book.board(chosen.board)
    if board.arch != chosen.arch or chosen.os not in board.os:
        terminal.warning(
            f"this tree is for {chosen.arch} with {chosen.os}; {chosen.board} cannot run it"
        )


def check_formats(formats: list[str]) -> list[str]:
    """Return each format once.

    Raises:
        UsageError: One is not known.
    """
    from tritonbuild.errors import UsageError
    from tritonbuild.recipe.load import suggest

    for one in formats:
        if one not in FORMATS:
            msg = f'--format: unknown value "{one}"{suggest(one, FORMATS)}'
            raise UsageError(msg, hint=f"known: {', '.join(FORMATS)}")
    return list(dict.fromkeys(formats))


def _make(one: str, ws: Workspace, plan: Plan, recipes: Path | None) -> Package:
    from tritonbuild.stage.naming import name_of
    from tritonbuild.stage.package import make_package
    from tritonbuild.stage.verified import read_verified

    name = name_of(plan)
    date = str(plan.find_step("assemble").details["date"])
    if one == "tar.zst":
        return make_package(ws, name=name, date=date)
    verified = read_verified(ws)
    if one == "deb":
        from tritonbuild.stage.deb import make_deb

        return make_deb(ws, name=name, date=date, control=_make_control(plan, verified))
    from tritonbuild.paths import cache_dir, make_dir
    from tritonbuild.stage.image_base import base_spec_of, get_base
    from tritonbuild.stage.oci import make_image

    spec = base_spec_of(plan, verified, open_book(recipes))
    base = get_base(spec, make_dir(cache_dir()), ws.logs_dir / "package-root.log")
    return make_image(
        ws, name=name, date=date, base=base.tree, spec=_make_image_spec(plan, verified)
    )


def _make_control(plan: Plan, verified: dict[str, Any]) -> Control:
    from tritonbuild.stage.deb import Control, depends_on

    chosen = plan.selection
    details = plan.find_step("assemble").details
    # A python backend from a wheel is made for one Python, and takes its library from the board.
    python = str(details["python"]) if "python" in details else None
    return Control(
        version=str(details["triton_version"]),
        arch=str(verified["arch"]),
        depends=depends_on(verified, python if "python" in chosen.components else None),
        summary="NVIDIA Triton Inference Server",
        description=(
            f"Triton {details['triton_version']} ({chosen.release}) for {chosen.board} with "
            f"{chosen.os}, from {chosen.provider}, with: {', '.join(chosen.components)}. "
            "Made by tritonbuild; everything is in /opt/tritonserver."
        ),
    )


def _make_image_spec(plan: Plan, verified: dict[str, Any]) -> ImageSpec:
    from tritonbuild.stage.naming import labels_of, tag_of, version_of
    from tritonbuild.stage.oci import ImageSpec

    return ImageSpec(
        tag=tag_of(plan),
        arch=str(verified["arch"]),
        version=version_of(plan),
        labels=labels_of(plan),
    )


def _describe(one: str, made: Package) -> dict[str, Any]:
    return {
        "format": one,
        "path": str(made.path),
        "sha256": made.sha256,
        "size": made.size,
        "unpacked_size": made.unpacked_size,
        "files": made.files,
        "manifest": str(made.manifest_path),
    }


def _print(one: str, made: Package, ws: Workspace, plan: Plan) -> None:
    """Print what was made, and say how it gets onto the board."""
    from tritonbuild.console import terminal

    terminal.output(f"{made.path}\n{made.sha256}  {made.size / 1e6:.1f} MB, {made.files} files")
    if one == "deb":
        terminal.info(f"on the board, as root: apt-get install -y ./{made.path.name}")
    elif one == "oci":
        from tritonbuild.stage.naming import tag_of

        terminal.info(f"on the board: docker load -i {made.path.name}")
        terminal.info(
            f"              docker run --rm -p 8000-8002:8000-8002 -v MODELS:/models {tag_of(plan)}"
        )
    else:
        from tritonbuild.stage.verified import packages_to_install, read_verified

        to_install = ["zstd", *packages_to_install(read_verified(ws))]
        terminal.info(f"on the board, as root: apt-get install -y {' '.join(to_install)}")
        terminal.info(f"                       tar --zstd -xf {made.path.name} -C /")
