"""The steps of a `--from source` plan, done."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import tritonbuild
from tritonbuild import proc
from tritonbuild.arch import Arch
from tritonbuild.console import terminal
from tritonbuild.engine.diagnose import describe_step_failure
from tritonbuild.engine.durable import flush, is_spoilt, note_end, note_start
from tritonbuild.engine.machines import Machines
from tritonbuild.engine.marks import list_tree, mark_folder, read_mark
from tritonbuild.engine.outside import are_sources_there, bring_outside, digest_lock
from tritonbuild.engine.progress import StepProgress
from tritonbuild.engine.scripts import make_script
from tritonbuild.engine.series import check_patches
from tritonbuild.engine.stages import StageLogs
from tritonbuild.engine.state import read_durations
from tritonbuild.engine.systems import (
    are_step_compilers_there,
    is_step_root_there,
    make_step_compilers,
    make_step_root,
)
from tritonbuild.engine.toolchain import read_epoch
from tritonbuild.engine.verify import forget_check, is_tree_intact, verify_tree
from tritonbuild.engine.workplace import get_root_of, make_workplace
from tritonbuild.executors.native import run_build_script, run_script
from tritonbuild.paths import make_dir, write_text
from tritonbuild.plan.layout import SourceLayout
from tritonbuild.plan.model import StepKind
from tritonbuild.render.bash import format_functions
from tritonbuild.render.containers import stage_of
from tritonbuild.sources.lock import (
    Lock,
    describe_sources,
    format_lock,
    list_sources,
    read_lock,
)
from tritonbuild.stage.assemble import merge_trees
from tritonbuild.stage.host import read_host_libraries
from tritonbuild.stage.libraries import SystemLibraries
from tritonbuild.stage.patchelf import get_patchelf, read_version
from tritonbuild.stage.verified import read_verified

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tritonbuild.console import RunningStep
    from tritonbuild.engine.containers import ContainerBuild
    from tritonbuild.engine.jobs import JobPool
    from tritonbuild.engine.outside import Outside
    from tritonbuild.engine.workplace import Workplace
    from tritonbuild.executors.native import ScriptResult
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan, Step
    from tritonbuild.recipe.failures import FailureRule

Outputs = dict[str, Any]

_SCRIPTS = (
    StepKind.FETCH,
    StepKind.PATCH,
    StepKind.CONFIGURE,
    StepKind.BUILD,
    StepKind.INSTALL,
)


class SourceRunner:
    """Does every step of a source build (see `tritonbuild.engine.run.StepRunner`)."""

    def __init__(
        self,
        plan: Plan,
        ws: Workspace,
        outside: Outside,
        pool: JobPool,
        rules: tuple[FailureRule, ...],
        *,
        use_ccache: bool,
        containers: ContainerBuild | None = None,
        machines: Machines = Machines(),  # noqa: B008  (frozen)
    ) -> None:
        self._plan = plan
        self._ws = ws
        self._containers = containers
        # The work directory, as scripts see it.
        layout = SourceLayout.of_build(plan.selection.executor, PurePosixPath(ws.root))
        self._home = layout.work_dir or PurePosixPath(ws.root)
        self._outside = outside
        self._use_ccache = use_ccache
        self._machines = machines
        self._place: Workplace | None = None
        self._alone = threading.Lock()
        self._pool = pool
        self._rules = rules
        self._lock: Lock | None = None
        self._durations = read_durations(ws.durations_path)
        self._guard = threading.Lock()
        self._has_failed = False

    # --- what decides a result ----------------------------------------------------------------

    def inputs(self, step: Step) -> dict[str, str]:
        """Return the commits, tools and templates that decide a step's result."""
        if step.kind is StepKind.SOURCES:
            lock = self._outside.lock
            return {"tritonbuild.lock": format_lock(lock) if lock else ""}
        if step.kind is StepKind.CHECK:
            return {"its sources": format_lock(self._require_lock())}
        if step.kind in (StepKind.ASSEMBLE, StepKind.VERIFY):
            return {"the tools": json.dumps(self._tools())}
        if step.kind is StepKind.IMAGE:
            assert self._containers
            return {"its name and place": self._containers.describe_image()}
        # What the functions do that its commands call.
        commands = [*step.commands, *(command for one in step.scripts for command in one.commands)]
        deciding = [command for command in commands if not command.incidental]
        found = {"tritonbuild's functions": "\n".join(format_functions(deciding))}
        if step.kind is StepKind.FETCH:
            found["its sources"] = describe_sources(self._require_lock(), step.component)
        if step.kind is StepKind.CONTAINER:
            found["its sources"] = format_lock(self._require_lock())
        if step.kind in (StepKind.CONFIGURE, StepKind.BUILD, StepKind.CONTAINER):
            found["the toolchain"] = self._get_place().toolchain.description
            found["SOURCE_DATE_EPOCH"] = str(read_epoch(self._plan))
        return found

    def _get_place(self) -> Workplace:
        """Return where scripts run; asked once the steps are done that unpack systems."""
        with self._guard:
            if self._place is None:
                self._place = make_workplace(
                    self._plan, self._ws, self._outside.cache, use_ccache=self._use_ccache
                )
                self._place.write_entry(self._ws)
            return self._place

    def _require_lock(self) -> Lock:
        if self._lock is None:  # the step that made it was kept
            self._lock = read_lock(self._ws.source_lock_path)
        return self._lock

    def _tools(self) -> dict[str, str]:
        return {
            "tritonbuild": tritonbuild.__version__,
            "patchelf": read_version(get_patchelf()),
        }

    def is_intact(self, step: Step, outputs: Outputs) -> bool:
        """Return whether what a step left is still there, as far as a quick look tells."""
        if step.kind is StepKind.SOURCES:
            return self._are_sources_intact(outputs)
        if step.kind is StepKind.ROOT:
            return is_step_root_there(step, outputs["root"], self._outside.cache)
        if step.kind is StepKind.COMPILERS:
            folder = outputs["compilers"]
            return are_step_compilers_there(self._plan, step, folder, self._outside.cache)
        if step.kind is StepKind.ASSEMBLE:
            return is_tree_intact(self._ws)
        if step.kind is StepKind.VERIFY:
            return self._ws.verify_path.is_file() and self._ws.manifest_path.is_file()
        if step.kind is StepKind.INSTALL:
            return list_tree(self._locate(step.details["tree"])) == str(outputs.get("files"))
        if step.kind is StepKind.CONTAINER:
            assert self._containers
            filled = set(self._containers.cache_to) <= set(outputs.get("caches", ()))
            return filled and self._list_trees(step) == outputs.get("files")
        if step.kind is StepKind.IMAGE:
            assert self._containers
            return self._containers.is_image_there(outputs.get("image"))
        if step.kind in (StepKind.FETCH, StepKind.CONFIGURE):
            mark = read_mark(self._locate(step.details["folder"]))
            is_same = mark is not None and mark == outputs.get("mark")
            return is_same and not is_spoilt(self._ws, step)
        return True

    def _are_sources_intact(self, outputs: Outputs) -> bool:
        if self._plan.selection.checkouts:
            return False  # only a look tells whether somebody worked in them
        return are_sources_there(self._ws, str(outputs.get("lock")))

    # --- doing it -----------------------------------------------------------------------------

    def run(
        self, step: Step, name: str, needed: Mapping[str, Outputs], shown: RunningStep
    ) -> Outputs:
        """Do a step; all that it left is on the disk then."""
        outputs = self._do(step, name, needed, shown)
        flush()
        return outputs

    def _do(
        self, step: Step, name: str, needed: Mapping[str, Outputs], shown: RunningStep
    ) -> Outputs:
        cache = self._outside.cache
        if step.kind is StepKind.ROOT:
            builder = self._containers.builder_name if self._containers else None
            return {"root": str(make_step_root(step, name, self._ws, cache, builder).folder)}
        if step.kind is StepKind.COMPILERS:
            return make_step_compilers(self._plan, step, name, self._ws, cache)
        if step.kind is StepKind.SOURCES:
            return self._bring_sources(step, name, shown)
        if step.kind is StepKind.CHECK:
            return check_patches(step, self._require_lock(), self._ws.sources_dir)
        if step.kind is StepKind.ASSEMBLE:
            return self._assemble(step)
        if step.kind is StepKind.VERIFY:
            return self._verify(step, needed)
        if step.kind is StepKind.CONTAINER:
            return self._run_containers(step, name, shown)
        if step.kind is StepKind.IMAGE:
            return self._make_image(step, name, shown)
        assert step.kind in _SCRIPTS, step.kind
        return self._run_script(step, name, shown)

    def _bring_sources(self, step: Step, name: str, shown: RunningStep) -> Outputs:
        self._lock = bring_outside(step, name, self._ws, self._outside, shown.progress)
        return {"lock": digest_lock(self._ws)}

    def _locate(self, path: object) -> Path:
        """Return where something is on this machine that scripts see in their work directory."""
        return self._ws.root / PurePosixPath(str(path)).relative_to(self._home)

    def _run_script(self, step: Step, name: str, shown: RunningStep) -> Outputs:
        toolchain = self._get_place().toolchain
        more = self._machines.make_environment(self._plan, self._ws, step, toolchain)
        text = make_script(
            self._plan, step, name,
            home=self._home, toolchain=toolchain, lock=self._require_lock(),
            more=more, secrets=self._machines.get_secrets(self._ws),
        )  # fmt: skip
        note_start(self._ws, step)
        try:
            self._run_text(step, name, text, shown)
        finally:
            note_end(self._ws, step)
        if step.kind is StepKind.INSTALL:
            return {"files": list_tree(self._locate(step.details["tree"]))}
        if step.kind in (StepKind.FETCH, StepKind.CONFIGURE):
            return {"mark": mark_folder(self._locate(step.details["folder"]))}
        return {}

    def _run_text(
        self,
        step: Step,
        name: str,
        text: str,
        shown: RunningStep,
        stages: StageLogs | None = None,
    ) -> None:
        """Run a script of a step, and tell of its failure; that of a stage by the stage's own log."""
        script = self._ws.scripts_dir / f"{name}.sh"
        log = self._ws.logs_dir / f"{name}.log"
        write_text(script, text, executable=True)
        with StepProgress(shown, expected_seconds=self._durations.get(step.id)) as progress:
            watch = stages.watch(progress.feed) if stages else progress.feed
            result = self._execute(step, script, log, progress, watch)
        if result.returncode != 0:
            self._note_failure(name, script, log, result)
            raise describe_step_failure(
                step=name,
                title=step.title,
                kind=step.kind,
                returncode=result.returncode,
                log=(stages.failed_log if stages else None) or log,
                script=script,
                entry=None if self._get_place().sandbox.root is None else self._ws.entry_path,
                rules=self._rules,
            )
        self._forget_failure(name)

    # --- in containers ------------------------------------------------------------------------

    def _run_containers(self, step: Step, name: str, shown: RunningStep) -> Outputs:
        """Build all components in containers; what each installs comes whole or not at all."""
        containers = self._containers
        assert containers
        lock = self._require_lock()
        shown.progress("writes what BuildKit is given")
        containers.write_context(step, self._get_place().toolchain, lock)
        for leftover in self._ws.root.glob(".trees-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        trees: Any = step.details["trees"]
        logs = {stage_of(one): self._ws.logs_dir / f"{name}-{one}.log" for one in trees}
        with (
            tempfile.TemporaryDirectory(dir=self._ws.root, prefix=".trees-") as folder,
            StageLogs(logs, {stage_of(one): one for one in trees}) as stages,
        ):
            output = Path(folder) / "new"
            self._run_text(step, name, containers.make_script(name, output, lock), shown, stages)
            make_dir(self._ws.trees_dir)
            for component, path in trees.items():
                tree = self._locate(path)
                if tree.exists():
                    tree.rename(Path(folder) / component)
                (output / component).rename(tree)
        return {"files": self._list_trees(step), "caches": containers.cache_to}

    def _list_trees(self, step: Step) -> dict[str, str]:
        trees: Any = step.details["trees"]
        return {name: list_tree(self._locate(path)) for name, path in trees.items()}

    def _make_image(self, step: Step, name: str, shown: RunningStep) -> Outputs:
        containers = self._containers
        assert containers
        if containers.makes_image:
            verified = read_verified(self._ws)
            shown.progress("writes the system that serves")
            containers.write_image(
                self._get_place().toolchain, self._require_lock(), verified,
                self._ws.logs_dir / f"{name}-root.log",
            )  # fmt: skip
            self._run_text(step, name, containers.make_image_script(name), shown)
        return {"image": containers.read_image_id()}

    def _execute(
        self,
        step: Step,
        script: Path,
        log: Path,
        progress: StepProgress,
        watch: Callable[[str], None],
    ) -> ScriptResult:
        """Run a script; what compiles shares the job tokens."""
        place = self._get_place()
        with ExitStack() as stack:
            if step.kind is StepKind.BUILD:
                if not place.toolchain.shares_jobs:
                    progress.note("waits for its turn")
                    stack.enter_context(self._alone)
                jobs = next(j.count for j in self._plan.jobs if j.component == step.component)
                return run_build_script(
                    script, log=log, pool=self._pool, jobs=jobs, progress=progress,
                    sandbox=place.sandbox, helpers=self._machines.jobs,
                )  # fmt: skip
            if step.kind is StepKind.CONFIGURE:
                # Its checks compile, too, one at a time.
                stack.enter_context(
                    self._pool.implicit(lambda: progress.note("waits for a free job"))
                )
            # In containers compilers share tokens of their own: their machine may be another one.
            asks_buildkit = step.kind in (StepKind.CONTAINER, StepKind.IMAGE)
            environment = proc.read_environment(proc.GITHUB_CACHE) if asks_buildkit else {}
            return run_script(
                script, log=log, environment=environment, watch=watch, started=progress.follow,
                sandbox=place.sandbox,
            )  # fmt: skip

    def _note_failure(self, name: str, script: Path, log: Path, result: ScriptResult) -> None:
        """Note which step failed: of several the first, which is the one that is told of."""
        with self._guard:
            if self._has_failed:
                return
            self._has_failed = True
        content = {
            "step": name,
            "returncode": result.returncode,
            "script": str(script),
            "log": str(log),
        }
        write_text(self._ws.failed_path, json.dumps(content, indent=2) + "\n")

    def _forget_failure(self, name: str) -> None:
        with self._guard:
            try:
                failed = json.loads(self._ws.failed_path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return
            if failed.get("step") == name:
                self._ws.failed_path.unlink(missing_ok=True)

    def _assemble(self, step: Step) -> Outputs:
        forget_check(self._ws)
        said: Any = step.details["parts"]
        parts = [{**part, "tree": str(self._locate(part["tree"]))} for part in said]
        origins = merge_trees(parts, stage_dir=self._ws.stage_dir, patchelf=get_patchelf())
        return {"origins": origins}

    def _verify(self, step: Step, needed: Mapping[str, Outputs]) -> Outputs:
        details: dict[str, Any] = step.details
        system, packages, always_there = self._read_system(details)
        return verify_tree(
            self._plan,
            self._ws,
            system=system,
            installable={},
            origins=needed["assemble"]["origins"],
            tools={**self._tools(), "toolchain": self._get_place().toolchain.compiler},
            versions={name: packages[name] for name in sorted(always_there & set(packages))},
            always_there=always_there,
            runtime_packages=details["runtime_packages"],
            sources=list_sources(self._require_lock()),
        )

    def _read_system(
        self, details: dict[str, Any]
    ) -> tuple[SystemLibraries, dict[str, str], set[str]]:
        """Return what the tree is linked to, the versions of it, and what every image has."""
        arch = Arch(self._plan.selection.arch)
        if self._plan.selection.runs_in_root:
            root = get_root_of(self._plan, "build-root", self._outside.cache)
            base = get_root_of(self._plan, "root", self._outside.cache)
            system = SystemLibraries.from_root(root.tree, root.packages_path, arch)
            return system, root.read_versions(), set(base.read_versions())
        record = self._ws.root / "system.json"
        system = read_host_libraries(arch, record)
        packages = json.loads(record.read_text(encoding="utf-8"))["packages"]
        versions = {name: str(one["version"]) for name, one in packages.items()}
        return system, versions, set(details["base_libraries"].values())


def remove_stale_trees(plan: Plan, ws: Workspace) -> None:
    """Delete what components installed that are in the plan no more."""
    known = set(plan.selection.components)
    for path in ws.trees_dir.iterdir() if ws.trees_dir.is_dir() else ():
        if path.name not in known:
            shutil.rmtree(path)
            terminal.detail(f"removed {path}: not in this plan")
