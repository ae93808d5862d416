"""Look at the host, and mend what it lacks."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.console import terminal
from tritonbuild.doctor.model import apt_argv
from tritonbuild.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tritonbuild.doctor.model import Finding, Need

# Installing QEMU may show that its kernel rule is missing, and that one the mount: two rounds more.
_ROUNDS = 4

_APT_INSTALL = apt_argv()


def examine(needs: Iterable[Need]) -> list[Finding]:
    """Look at this machine, need by need."""
    return [need.examine() for need in needs]


def mend(needs: Sequence[Need]) -> list[Finding]:
    """Run the commands that mend what stops a build, look again, and return what is left.

    Commands that need root get `sudo` in front where tritonbuild does not run as root.

    Raises:
        HostError: A command needs root and there is no sudo, there is no apt-get, or a command
            failed; what is to be run by hand is in the hint.
    """
    tried: set[tuple[str, ...]] = set()
    findings = examine(needs)
    for _ in range(_ROUNDS):
        commands = [argv for argv in collect_fixes(findings) if argv not in tried]
        if not commands:
            break
        _announce(commands)
        for argv in commands:
            tried.add(argv)
            _run(argv)
        findings = examine(needs)
    return findings


def collect_fixes(findings: Iterable[Finding]) -> list[tuple[str, ...]]:
    """Return the commands to run, each once, all packages in one `apt-get install`, that one first.

    Warnings, and what is to be done by hand, are left alone.
    """
    packages: dict[str, None] = {}
    others: dict[tuple[str, ...], None] = {}
    for finding in findings:
        if not finding.stops or finding.by_hand or finding.fix is None:
            continue
        if finding.fix[: len(_APT_INSTALL)] == _APT_INSTALL:
            packages.update(dict.fromkeys(finding.fix[len(_APT_INSTALL) :]))
        else:
            others[finding.fix] = None
    return [*([apt_argv(*packages)] if packages else []), *others]


def _announce(commands: Sequence[tuple[str, ...]]) -> None:
    """Say what will be installed; `run_visible` shows each command itself."""
    for argv in commands:
        if argv[: len(_APT_INSTALL)] == _APT_INSTALL:
            terminal.info(f"installing Debian packages: {' '.join(argv[len(_APT_INSTALL) :])}")


def _run(argv: tuple[str, ...]) -> None:
    if argv[0] == sys.executable:
        _run_checked(list(argv))
        return
    prefix = _root_prefix(argv)
    if argv[0] != "apt-get":
        _run_checked([*prefix, *argv])
        return
    # debconf would otherwise ask questions, and a pipe has nobody to answer.
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive"]
    if has_package_lists() and proc.run_visible([*apt, *argv]) == 0:
        return
    # The lists are missing (a fresh machine), or too old to name files that still exist.
    _run_checked([*apt, "apt-get", "update"])
    _run_checked([*apt, *argv])


def _run_checked(argv: list[str]) -> None:
    code = proc.run_visible(argv)
    if code != 0:
        msg = f"`{shlex.join(argv)}` failed with exit code {code}"
        raise HostError(msg, hint="mend what it says above, then run doctor --fix again")


def _root_prefix(argv: tuple[str, ...]) -> list[str]:
    """Return what stands before a command that needs root.

    Raises:
        HostError: It cannot be run from here.
    """
    line = shlex.join(argv)
    if proc.find_tool(argv[0]) is None:
        msg = f"{argv[0]} not found, so this cannot be done from here: {line}"
        raise HostError(msg, hint="install the same things by this system's own means")
    if os.geteuid() == 0:
        return []
    if proc.find_tool("sudo") is None:
        msg = "this needs root, and there is no sudo"
        raise HostError(msg, hint=f"as root, run: {line}")
    return ["sudo"]


def has_package_lists(folder: Path = Path("/var/lib/apt/lists")) -> bool:
    """Whether apt knows any package; images of Debian come without lists."""
    return any(folder.glob("*_Packages*"))
