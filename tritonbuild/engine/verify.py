"""The last step of every build: the tree is checked, and its manifest says that it was."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tritonbuild.arch import Arch
from tritonbuild.console import terminal
from tritonbuild.errors import TritonBuildError
from tritonbuild.paths import write_text
from tritonbuild.stage.elf import check_tree, raise_if_bad
from tritonbuild.stage.manifest import (
    check_manifest,
    make_manifest,
    read_manifest,
    write_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan
    from tritonbuild.stage.elf import ElfReport, Problem
    from tritonbuild.stage.libraries import SystemLibraries


def is_tree_intact(ws: Workspace) -> bool:
    """Return whether the tree is, byte for byte, the one that was checked."""
    try:
        manifest = read_manifest(ws.manifest_path)
        return not check_manifest(ws.tritonserver_dir, manifest)
    except (TritonBuildError, OSError):
        return False


def forget_check(ws: Workspace) -> None:
    """Let nobody take a tree for checked that is being made, or checked, anew."""
    ws.manifest_path.unlink(missing_ok=True)
    ws.verify_path.unlink(missing_ok=True)


def verify_tree(
    plan: Plan,
    ws: Workspace,
    *,
    system: SystemLibraries,
    installable: Mapping[str, str],
    origins: Mapping[str, str],
    tools: Mapping[str, str],
    versions: Mapping[str, str],
    always_there: Collection[str] | None = None,
    runtime_packages: Mapping[str, str] | None = None,
    sources: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Check every ELF file of the tree, write verify.json and the manifest; return the outputs.

    Args:
        plan: What was built.
        ws: Where.
        system: What the system has for programs to load.
        installable: Libraries that can be installed on the board, and the package of each.
        origins: Where each file of the tree came from.
        tools: Version of each tool that was used.
        versions: Version of each package of the system.
        always_there: Packages that every image of the system has: what else the tree takes from
            the system has to be installed on the board. None where `system` is such an image.
        runtime_packages: What the board needs that no ELF file tells of, and the package of each.
        sources: What was built from: repositories with commits, archives with checksums.

    Raises:
        AssembleError: The tree would not work on the board.
    """
    forget_check(ws)
    report = check_tree(
        ws.tritonserver_dir,
        arch=Arch(plan.selection.arch),
        system=system,
        installable=installable,
    )
    report = _set_aside(report, plan.selection.components)
    if always_there is not None:
        more = {
            library: package
            for library, package in report.system_libraries.items()
            if package and package not in always_there
        }
        more |= {
            what: package
            for what, package in (runtime_packages or {}).items()
            if package not in always_there
        }
        report = replace(report, to_install={**report.to_install, **more})
    write_text(ws.verify_path, report.to_json())
    raise_if_bad(report)
    for package in sorted(set(report.to_install.values())):
        libraries = sorted(name for name, own in report.to_install.items() if own == package)
        terminal.warning(f"{', '.join(libraries)}: not in the tree; install {package} on the board")
    manifest = make_manifest(
        ws.tritonserver_dir,
        plan=plan,
        origins=origins,
        tools=tools,
        system=versions,
        sources=sources,
    )
    write_manifest(ws.manifest_path, manifest)
    return {"files": report.files, "source": report.source}


_BACKEND = re.compile(r"backends/([^/]+)/")


def _set_aside(report: ElfReport, components: Collection[str]) -> ElfReport:
    """Return a report without the problems of backends that nobody asked for, which are told.

    An archive has every backend that its makers built. One that lacks its libraries does not load,
    and the server runs without it.
    """
    kept: list[Problem] = []
    aside: dict[str, list[Problem]] = {}
    for problem in report.problems:
        found = _BACKEND.match(problem.file)
        if found and found[1] not in components:
            aside.setdefault(found[1], []).append(problem)
        else:
            kept.append(problem)
    for backend, problems in aside.items():
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        terminal.warning(
            f"the {backend} backend, which was not asked for, will not load: {problems[0].what}{more}"
        )
    return replace(report, problems=tuple(kept))
