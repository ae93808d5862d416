"""The steps of a `--from archive` plan, done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tritonbuild.engine.outside import are_sources_there, bring_outside, digest_lock
from tritonbuild.engine.ready import (
    list_bundled,
    make_board_root,
    tool_versions,
    verify_against_root,
)
from tritonbuild.engine.systems import is_step_root_there
from tritonbuild.engine.verify import forget_check, is_tree_intact
from tritonbuild.plan.model import StepKind
from tritonbuild.sources.lock import format_lock, list_sources, read_lock
from tritonbuild.stage.assemble import unpack_tree
from tritonbuild.stage.patchelf import get_patchelf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonbuild.console import RunningStep
    from tritonbuild.engine.outside import Outside
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan, Step

Outputs = dict[str, Any]


class ArchiveRunner:
    """Does root, sources, assemble and verify (see `tritonbuild.engine.run.StepRunner`)."""

    def __init__(self, plan: Plan, ws: Workspace, outside: Outside) -> None:
        self._plan = plan
        self._ws = ws
        self._outside = outside

    def inputs(self, step: Step) -> dict[str, str]:
        """Return what the lock says and the versions of the tools."""
        if step.kind is StepKind.SOURCES:
            lock = self._outside.lock
            return {"tritonbuild.lock": format_lock(lock) if lock else ""}
        if step.kind in (StepKind.ASSEMBLE, StepKind.VERIFY):
            return {"the tools": json.dumps(tool_versions())}
        return {}

    def is_intact(self, step: Step, outputs: Outputs) -> bool:
        """Return whether the root, archive, tree or report that a step left is still there."""
        if step.kind is StepKind.ROOT:
            return is_step_root_there(step, outputs["root"], self._outside.cache)
        if step.kind is StepKind.SOURCES:
            return are_sources_there(self._ws, outputs["lock"])
        if step.kind is StepKind.ASSEMBLE:
            return is_tree_intact(self._ws)
        return self._ws.verify_path.is_file() and self._ws.manifest_path.is_file()

    def run(
        self, step: Step, name: str, needed: Mapping[str, Outputs], shown: RunningStep
    ) -> Outputs:
        """Do a step."""
        if step.kind is StepKind.ROOT:
            return make_board_root(self._plan, step, name, self._ws, self._outside.cache)
        if step.kind is StepKind.SOURCES:
            bring_outside(step, name, self._ws, self._outside, shown.progress)
            return {"lock": digest_lock(self._ws)}
        if step.kind is StepKind.ASSEMBLE:
            return self._assemble(step)
        return self._verify(step, needed)

    def _assemble(self, step: Step) -> Outputs:
        forget_check(self._ws)
        details: dict[str, Any] = step.details
        lock = read_lock(self._ws.source_lock_path)
        file = next(one.file for one in lock.archives if one.name == details["name"])
        origins = unpack_tree(
            self._ws.sources_dir / file,
            details["parts"],
            triton_version=details["triton_version"],
            stage_dir=self._ws.stage_dir,
            patchelf=get_patchelf(),
        )
        return {"origins": origins}

    def _verify(self, step: Step, needed: Mapping[str, Outputs]) -> Outputs:
        details: dict[str, Any] = step.details
        return verify_against_root(
            self._plan,
            self._ws,
            step,
            needed,
            installable={**list_bundled(step), **details["libraries"]},
            runtime_packages=self._find_missing_modules(details["runtime_packages"]),
            sources=list_sources(read_lock(self._ws.source_lock_path)),
        )

    def _find_missing_modules(self, wanted: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        """Return the Python modules that the archive does not bring, and the package of each."""
        backends = self._ws.tritonserver_dir / "backends"
        return {
            module: package
            for component, modules in wanted.items()
            for module, package in modules.items()
            if not (backends / component / module).exists()
        }
