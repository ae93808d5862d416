"""doctor: what this machine has and lacks for a build, or a board to run it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritonbuild.cli.options import DEFAULT_TO, Choice, Json, NewWorkDir, OnHost, takes_choice

if TYPE_CHECKING:
    from tritonbuild.doctor import Finding
    from tritonbuild.plan.model import Machine, Plan


@takes_choice(
    without=("mirror", "jobs", "settings", "source", "accelerate"),
    defaults={"board": "generic-arm64", "provider": "wheel"},
)
def doctor(
    choice: Choice,
    work_dir: NewWorkDir = None,
    fix: Annotated[bool, typer.Option("--fix", help="Run the commands that mend it.")] = False,
    host: OnHost = None,
    as_json: Json = False,
) -> None:
    """Say what this machine lacks for a build, or a board to run it. Needs nothing."""
    from os import geteuid

    from tritonbuild.arch import Arch
    from tritonbuild.doctor import examine, make_needs, mend
    from tritonbuild.executors.place import runs_directly
    from tritonbuild.paths import cache_dir
    from tritonbuild.plan.make import make_plan

    plan = make_plan(choice.book, choice.request, machine=_presume_machine(choice))
    if host is not None:
        _stop_if_lacking(_print(_examine_board(host, choice, plan, fix=fix), as_json), name=host)
        return
    needs = make_needs(
        plan,
        native=Arch.native(),
        direct=runs_directly(Arch(plan.selection.arch), plan.selection.os),
        is_root=geteuid() == 0,
        work_dir=work_dir or Path("build") / plan.selection.work_name,
        cache=cache_dir(),
    )
    findings = mend(needs) if fix else examine(needs)
    _stop_if_lacking(_print(findings, as_json))


def _examine_board(host: str, choice: Choice, plan: Plan, *, fix: bool) -> list[Finding]:
    """Return what a board has and lacks for what a plan builds.

    Raises:
        UsageError: With `--fix`: a board's system is its owner's to change.
        HostError: It cannot be reached.
    """
    from pathlib import PurePosixPath

    from tritonbuild.console import terminal
    from tritonbuild.doctor import judge_board
    from tritonbuild.errors import UsageError
    from tritonbuild.hosts.facts import read_facts
    from tritonbuild.hosts.ssh import connect
    from tritonbuild.plan.npu import find_npu

    if fix:
        msg = "--fix does not go with --host"
        raise UsageError(msg, hint="run what stands under `to mend` on the board, as root")
    with terminal.step(f"look at {host}"), connect(host) as board:
        facts = read_facts(board, PurePosixPath(DEFAULT_TO))
    chosen = plan.selection
    system = choice.book.operating_system(chosen.os)
    recipe = choice.book.board(chosen.board)
    npu = find_npu(choice.book, recipe)
    return judge_board(facts, plan, recipe, system, folder=DEFAULT_TO, npu=npu)


def _presume_machine(choice: Choice) -> Machine | None:
    """Return this machine for `--executor native`: doctor is asked before compilers are there.

    Without that word the plan is for a machine like the board.
    """
    from tritonbuild.arch import Arch
    from tritonbuild.executors.place import host_system
    from tritonbuild.plan.model import Executor, Machine
    from tritonbuild.recipe.fields import ProviderKind

    native, system = Arch.native(), host_system()
    is_source = choice.request.provider is ProviderKind.SOURCE
    wanted = choice.request.executor is Executor.NATIVE and is_source
    if not wanted or native is None or system not in choice.book.names("os"):
        return None
    known = choice.book.operating_system(system)
    versions = (known.gcc or "0", known.cmake or "0", known.glibc, known.python)
    # Nobody has looked at its programs yet: an old one is a finding, and no reason to give up.
    return Machine(native.value, system, *versions, f"os/{system}")


def _to_json(finding: Finding) -> dict[str, object]:
    return {
        "tool": finding.tool,
        "status": finding.status.value,
        "found": finding.found,
        "needed": finding.needed,
        "why": finding.why,
        "fix": list(finding.fix) if finding.fix else None,
        "by_hand": finding.by_hand,
    }


def _print(findings: list[Finding], as_json: bool) -> list[Finding]:
    """Print findings, as a table or as JSON, and return them."""
    import json
    import shlex

    from tritonbuild.console import terminal

    if as_json:
        terminal.output(json.dumps([_to_json(finding) for finding in findings], indent=2))
        return findings
    rows = [(f.tool, f.status.value, f.found, f.needed, f.why) for f in findings]
    terminal.table(("TOOL", "STATUS", "FOUND", "NEEDED", "WHY"), rows)
    fixes = {shlex.join(f.fix): f.tool for f in findings if f.fix and f.status != "ok"}
    if fixes:
        terminal.output("\nto mend:")
        for command, tool in fixes.items():
            terminal.output(f"  {command}    # {tool}")
    return findings


def _stop_if_lacking(findings: list[Finding], *, name: str | None = None) -> None:
    """Fail when something that a build, or a board by that name, cannot do without is missing.

    Raises:
        HostError: Names what is missing.
    """
    from tritonbuild.errors import HostError

    lacking = [finding for finding in findings if finding.stops]
    if not lacking:
        return
    msg = f"{name or 'this machine'} lacks: {', '.join(finding.tool for finding in lacking)}"
    if name:
        raise HostError(msg, hint="NEEDED says what has to be there, `to mend` what brings it")
    if any(finding.fix and not finding.by_hand for finding in lacking):
        hint = "`tritonbuild doctor --fix` with the same options installs what can be installed"
    elif any(finding.fix for finding in lacking):
        hint = "what stands under `to mend` has to be run by hand"
    else:
        hint = "nothing can be installed for that: NEEDED says what has to be there"
    if any(finding.tool == "machine" for finding in lacking):
        hint += "; --executor emulated builds for the board on this machine"
    raise HostError(msg, hint=hint)
