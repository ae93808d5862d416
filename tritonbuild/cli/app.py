"""The verbs, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from tritonbuild.cli import (
    build,
    ci,
    deploy,
    doctor,
    fetch,
    lock,
    logs,
    models,
    package,
    patch,
    planning,
    recipes,
    render,
    serve,
    shell,
    smoke,
)

app = typer.Typer(
    name="tritonbuild",
    help="From a recipe to a running, tested NVIDIA Triton Inference Server on an ARM board.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from tritonbuild import __version__
        from tritonbuild.console import terminal

        terminal.output(f"tritonbuild {__version__}")
        raise typer.Exit


@app.callback()
def configure(
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Say more: commands, too.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only what is wrong.")] = False,
    version: Annotated[  # noqa: ARG001  (the callback does it)
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Set how much is said."""
    from tritonbuild.console import terminal

    terminal.configure(verbosity=-1 if quiet else verbose)


for verb in (
    recipes.list_recipes,
    recipes.show,
    recipes.check,
    recipes.schema,
    planning.plan,
    render.render,
    lock.lock,
    fetch.fetch,
    build.build,
    smoke.smoke,
    models.fetch_models,
    serve.serve,
    package.package,
    deploy.deploy,
    patch.patch,
    logs.logs,
    shell.shell,
    doctor.doctor,
    ci.ci,
):
    name = {"list_recipes": "list"}.get(verb.__name__, verb.__name__.replace("_", "-"))
    app.command(name)(verb)
