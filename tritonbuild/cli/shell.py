"""shell: a step's environment, to try things in."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from tritonbuild.cli.options import WorkDir, complete_step, open_workspace

if TYPE_CHECKING:
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Step

# Reads the environment from $1, then becomes what follows.
_RUN = '. "$1" && shift && exec "$@"'


def shell(
    step: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            help="A step's number, id, or how its id begins.", autocompletion=complete_step
        ),
    ] = None,
    command: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="What to run instead of an interactive shell, after `--`."),
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Take the step that failed last.")
    ] = False,
    work_dir: WorkDir = None,
) -> None:
    """Open a shell with the environment and in the folder of a step. Needs a build."""
    import tempfile

    from tritonbuild import proc
    from tritonbuild.engine.history import find_step, find_step_name, require_failure
    from tritonbuild.engine.workplace import find_sandbox
    from tritonbuild.errors import NothingToDoError, UsageError
    from tritonbuild.paths import cache_dir

    ws, plan = open_workspace(work_dir)
    if failed:
        # What stands after `--` is all command then.
        command = [*([step] if step else []), *(command or [])]
        name = require_failure(plan, ws).name
    elif step is None:
        msg = "say which step: by name, or --failed"
        raise UsageError(msg, hint="`tritonbuild logs` lists the steps")
    else:
        name = find_step_name(plan, step)
    script = ws.scripts_dir / f"{name}.sh"
    if not script.is_file():
        msg = f"{name} has no script: it has not run yet, or started no program"
        raise NothingToDoError(msg, hint="`tritonbuild logs` says which steps have run")
    if not command and not sys.stdin.isatty():
        msg = "an interactive shell needs a terminal"
        raise UsageError(msg, hint=f"give a command: tritonbuild shell {name} -- env")
    folder = find_folder(ws, find_step(plan, name))
    sandbox = find_sandbox(plan, ws, cache_dir())
    with tempfile.TemporaryDirectory(prefix="tritonbuild-shell-") as temporary:
        rc_file = Path(temporary) / "environment"
        place = sandbox.with_bind(Path(temporary), PurePosixPath(temporary))
        place = place.with_folder(PurePosixPath(folder))
        header = read_environment(script)
        if command:
            rc_file.write_text("\n".join(header) + "\n", encoding="utf-8")
            argv = ["bash", "--noprofile", "--norc", "-c", _RUN, "bash", str(rc_file), *command]
            code = proc.run_visible(place.argv(argv), env=proc.make_env(), cwd=folder, as_data=True)
            raise typer.Exit(code if code >= 0 else 128 - code)
        banner = _make_banner(name, script, ws.logs_dir / f"{name}.log")
        rc_file.write_text("\n".join([*header, *banner]) + "\n", encoding="utf-8")
        argv = ["bash", "--noprofile", "--rcfile", str(rc_file), "-i"]
        proc.run_visible(place.argv(argv), env=proc.make_env(), cwd=folder, as_data=True)


def read_environment(script: Path) -> list[str]:
    """Return the lines of a step's script that make its environment.

    They stand above a marker, and are exports, the umask and changes of folder only.
    """
    from tritonbuild.render.script import END_OF_ENVIRONMENT

    lines = script.read_text(encoding="utf-8").splitlines()
    if END_OF_ENVIRONMENT not in lines:
        return []
    header = lines[: lines.index(END_OF_ENVIRONMENT)]
    return [line for line in header if line.split(" ", 1)[0] in ("export", "umask", "cd")]


def find_folder(ws: Workspace, step: Step) -> Path:
    """Return the folder in which a step works, as far as it is there yet."""
    folders = [command.argv[1] for command in step.commands if command.argv[:1] == ("cd",)]
    named = step.details.get("folder")
    for folder in [*reversed(folders), *([named] if named else [])]:
        if Path(str(folder)).is_dir():
            return Path(str(folder))
    return ws.root


def _make_banner(name: str, script: Path, log: Path) -> list[str]:
    """Return what an interactive shell says first, and its prompt."""
    from tritonbuild.render.bash import quote

    says = [
        f"The environment of {name}.",
        f"  script: {script}",
        f"  log:    {log}",
        f"`bash {quote(str(script))}` runs the step by hand; `exit` leaves this shell.",
    ]
    return [
        *(f"printf '%s\\n' {quote(line)} >&2" for line in says),
        f"PS1={quote(f'({name}) ')}'\\W \\$ '",
    ]
