"""The steps of a `--from wheel` plan, done."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonbuild import proc
from tritonbuild.engine.ready import (
    list_bundled,
    make_board_root,
    tool_versions,
    verify_against_root,
)
from tritonbuild.engine.systems import is_step_root_there
from tritonbuild.engine.verify import forget_check, is_tree_intact
from tritonbuild.executors.rootfs import Root
from tritonbuild.paths import data_dir, hash_file, write_text
from tritonbuild.plan.model import StepKind
from tritonbuild.sources.wheel import (
    Wheel,
    download_argv,
    fetch_wheel,
    get_kept_path,
    requirement_of,
)
from tritonbuild.stage.assemble import assemble_tree
from tritonbuild.stage.patchelf import get_patchelf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonbuild.console import RunningStep
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan, Step

Outputs = dict[str, Any]


class WheelRunner:
    """Does root, fetch, assemble and verify (see `tritonbuild.engine.run.StepRunner`)."""

    def __init__(self, plan: Plan, ws: Workspace, cache: Path) -> None:
        self._plan = plan
        self._ws = ws
        self._cache = cache
        self._tools = tool_versions()

    def inputs(self, step: Step) -> dict[str, str]:
        """Return the versions of the tools, and checksums of the templates that go into the tree."""
        if step.kind not in (StepKind.ASSEMBLE, StepKind.VERIFY):
            return {}
        digest = hashlib.sha256()
        for part in step.details.get("parts", ()):  # type: ignore[attr-defined]
            for relative in part["templates"]:
                for path in sorted((data_dir("templates") / relative).glob("*")):
                    if path.is_file():
                        digest.update(f"{path.name} {hash_file(path)}\n".encode())
        return {"the tools": json.dumps(self._tools), "the templates": digest.hexdigest()}

    def is_intact(self, step: Step, outputs: Outputs) -> bool:
        """Return whether the root, wheel, tree or report that a step left is still there."""
        if step.kind is StepKind.ROOT:
            return is_step_root_there(step, outputs["root"], self._cache)
        if step.kind is StepKind.FETCH:
            path = Path(outputs["path"])
            kept = path == get_kept_path(wheel_of(step), self._cache)
            return kept and path.is_file() and hash_file(path) == step.details["sha256"]
        if step.kind is StepKind.ASSEMBLE:
            return is_tree_intact(self._ws)
        return self._ws.verify_path.is_file() and self._ws.manifest_path.is_file()

    def run(
        self, step: Step, name: str, needed: Mapping[str, Outputs], shown: RunningStep
    ) -> Outputs:
        """Do a step."""
        del shown  # none of them takes long
        if step.kind is StepKind.ROOT:
            return make_board_root(self._plan, step, name, self._ws, self._cache)
        if step.kind is StepKind.FETCH:
            return self._fetch(step, name)
        if step.kind is StepKind.ASSEMBLE:
            return self._assemble(step, needed)
        return verify_against_root(
            self._plan, self._ws, step, needed, installable=list_bundled(step)
        )

    def _fetch(self, step: Step, name: str) -> Outputs:
        wheel = wheel_of(step)
        requirements = Path("requirements.txt")
        pin = proc.format_argv(["printf", "%s\\n", requirement_of(wheel)])
        fetch = proc.format_argv(download_argv(wheel, requirements, Path("wheels")))
        self._write_script(name, [f"{pin} > {requirements}", fetch])
        return {"path": str(fetch_wheel(wheel, cache=self._cache, log=self._log(name)))}

    def _assemble(self, step: Step, needed: Mapping[str, Outputs]) -> Outputs:
        forget_check(self._ws)
        details: dict[str, Any] = step.details
        wheels = {
            str(self._plan.find_step(other).details["distribution"]): Path(outputs["path"])
            for other, outputs in needed.items()
            if other.startswith("fetch-")
        }
        folder = needed["root"]["root"]
        bundled = _find_bundled(Root(Path(folder)), details["bundled"]) if folder else {}
        origins = assemble_tree(
            details["parts"],
            python=details["python"],
            wheels=wheels,
            bundled=bundled,
            triton_version=details["triton_version"],
            stage_dir=self._ws.stage_dir,
            patchelf=get_patchelf(),
        )
        outputs: Outputs = {"origins": origins}
        if not folder:
            outputs["incomplete"] = needed["root"]["incomplete"]
        return outputs

    def _log(self, name: str) -> Path:
        return self._ws.logs_dir / f"{name}.log"

    def _write_script(self, name: str, lines: list[str]) -> None:
        path = self._ws.scripts_dir / f"{name}.sh"
        write_text(path, "\n".join(["#!/bin/sh", "set -e", *lines]) + "\n", executable=True)


def wheel_of(step: Step) -> Wheel:
    """Return what a plan's fetch step asks for."""
    details: dict[str, Any] = step.details
    return Wheel(
        distribution=details["distribution"],
        filename=details["filename"],
        sha256=details["sha256"],
        python=details["python"],
        index=details["index"],
    )


def _find_bundled(root: Root, bundled: Mapping[str, list[str]]) -> dict[Path, str]:
    return {
        root.find_bundled(package, library): f"package {package}"
        for package, libraries in bundled.items()
        for library in libraries
    }
