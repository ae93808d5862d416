"""The steps of a `--from source` plan, done."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import shutil
import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import tritonbuild
from tritonbuild.arch import Arch
from tritonbuild.console import terminal
from tritonbuild.engine.diagnose import describe_step_failure
from tritonbuild.engine.durable import flush, is_spoilt, note_end, note_start
from tritonbuild.engine.progress import StepProgress
from tritonbuild.engine.series import check_patches
from tritonbuild.engine.state import read_durations
from tritonbuild.engine.systems import (
    are_step_compilers_there,
    is_step_root_there,
    make_step_compilers,
    make_step_root,
)
from tritonbuild.engine.toolchain import make_environment, read_epoch
from tritonbuild.engine.verify import forget_check, is_tree_intact, verify_tree
from tritonbuild.engine.workplace import get_root_of, make_workplace
from tritonbuild.errors import SourceError
from tritonbuild.executors.native import run_build_script, run_script
from tritonbuild.paths import cache_dir, make_dir, write_text
from tritonbuild.plan.model import Command, StepKind
from tritonbuild.render.bash import format_functions
from tritonbuild.render.script import render_script
from tritonbuild.sources.lock import Lock, find_lock, format_lock, read_lock
from tritonbuild.sources.rank import choose_mirrors
from tritonbuild.sources.resolve import (
    bring_sources,
    is_intact,
    make_git_environment,
    wanted_of,
)
from tritonbuild.stage.assemble import merge_trees
from tritonbuild.stage.host import read_host_libraries
from tritonbuild.stage.libraries import SystemLibraries
from tritonbuild.stage.patchelf import get_patchelf, read_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tritonbuild.console import RunningStep
    from tritonbuild.engine.jobs import JobPool
    from tritonbuild.engine.workplace import Workplace
    from tritonbuild.executors.native import ScriptResult
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan, Step
    from tritonbuild.recipe.failures import FailureRule
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import Mirror

Outputs = dict[str, Any]

_SCRIPTS = (
    StepKind.FETCH,
    StepKind.PATCH,
    StepKind.CONFIGURE,
    StepKind.BUILD,
    StepKind.INSTALL,
)


@dataclass(frozen=True)
class Outside:
    """How what comes from outside is got.

    Attributes:
        cache: The user's cache.
        choose_mirrors: Returns where to look, in order, with upstream's own addresses. Asked only
            when something is to be fetched: to choose may mean to measure.
        lock: What was locked before; None takes what is there now.
        offline: Folder that holds everything; None asks the network.
        allow_dirty: Take local checkouts as they are.
    """

    cache: Path
    choose_mirrors: Callable[[], Sequence[Mirror]] = tuple
    lock: Lock | None = None
    offline: Path | None = None
    allow_dirty: bool = False


def make_outside(
    plan: Plan,
    book: RecipeBook,
    *,
    lock_path: Path | None,
    offline: Path | None,
    allow_dirty: bool,
) -> Outside:
    """Return how a build gets what comes from outside.

    Args:
        plan: The plan.
        book: The recipes, for its mirror.
        lock_path: The lock; None takes ./tritonbuild.lock where there is one.
        offline: What `fetch` wrote; None asks the network.
        allow_dirty: Take local checkouts as they are.

    Raises:
        SourceError: The lock cannot be read.
    """
    wanted = wanted_of(plan.find_step("sources"))
    return Outside(
        make_dir(cache_dir()),
        lambda: choose_mirrors(book, plan.selection.mirror, wanted),
        find_lock(lock_path),
        offline.resolve() if offline else None,
        allow_dirty,
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
    ) -> None:
        self._plan = plan
        self._ws = ws
        self._outside = outside
        self._use_ccache = use_ccache
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
        # What the functions do that its commands call.
        deciding = [command for command in step.commands if not command.incidental]
        found = {"tritonbuild's functions": "\n".join(format_functions(deciding))}
        if step.kind is StepKind.FETCH:
            found["its sources"] = _describe_sources(self._require_lock(), step.component)
        if step.kind in (StepKind.CONFIGURE, StepKind.BUILD):
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

    def _read_own_lock(self) -> Lock | None:
        """Return what this build was resolved to before: a branch that moved changes nothing here."""
        try:
            return read_lock(self._ws.source_lock_path)
        except SourceError:
            return None

    def _tools(self) -> dict[str, str]:
        return {
            "tritonbuild": tritonbuild.__version__,
            "patchelf": read_version(get_patchelf()),
        }

    def is_intact(self, step: Step, outputs: Outputs) -> bool:
        """Return whether what a step left is still there, as far as a quick look tells."""
        if step.kind is StepKind.SOURCES:
            if self._plan.selection.checkouts:
                return False  # only a look tells whether somebody worked in them
            path = self._ws.source_lock_path
            if not path.is_file() or _digest(path) != outputs.get("lock"):
                return False
            return is_intact(self._require_lock(), self._ws.sources_dir)
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
            return bool(_list_tree(Path(str(step.details["tree"]))) == outputs.get("files"))
        if step.kind in (StepKind.FETCH, StepKind.CONFIGURE):
            mark = _read_mark(Path(str(step.details["folder"])))
            is_same = mark is not None and mark == outputs.get("mark")
            return is_same and not is_spoilt(self._ws, step)
        return True

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
            return {"root": str(make_step_root(step, name, self._ws, cache).folder)}
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
        assert step.kind in _SCRIPTS, step.kind
        return self._run_script(step, name, shown)

    def _bring_sources(self, step: Step, name: str, shown: RunningStep) -> Outputs:
        offline = self._outside.offline
        self._lock = bring_sources(
            wanted_of(step),
            store=self._ws.sources_dir,
            cache=self._outside.cache,
            mirrors=() if offline else self._outside.choose_mirrors(),
            # What `fetch` wrote has a lock of its own.
            lock=self._outside.lock or (None if offline else self._read_own_lock()),
            offline=offline or False,
            allow_dirty=self._outside.allow_dirty,
            log=self._ws.logs_dir / f"{name}.log",
            report=shown.progress,
            # Of a lock of ours nobody expects that it holds a component that is new.
            tell_unlocked=self._outside.lock is not None or offline is not None,
        )
        write_text(self._ws.source_lock_path, format_lock(self._lock))
        return {"lock": _digest(self._ws.source_lock_path)}

    def _run_script(self, step: Step, name: str, shown: RunningStep) -> Outputs:
        environment = make_environment(
            self._plan,
            self._ws,
            step,
            self._get_place().toolchain,
            make_git_environment(self._require_lock(), self._ws.sources_dir),
        )
        if step.kind is StepKind.CONFIGURE:
            step = self._with_seeds(step)
        script = self._ws.scripts_dir / f"{name}.sh"
        log = self._ws.logs_dir / f"{name}.log"
        write_text(script, render_script(step, name, environment), executable=True)
        note_start(self._ws, step)
        try:
            with StepProgress(shown, expected_seconds=self._durations.get(step.id)) as progress:
                result = self._execute(step, script, log, progress)
        finally:
            note_end(self._ws, step)
        if result.returncode != 0:
            self._note_failure(name, script, log, result)
            raise describe_step_failure(
                step=name,
                title=step.title,
                kind=step.kind,
                returncode=result.returncode,
                log=log,
                script=script,
                entry=None if self._get_place().sandbox.root is None else self._ws.entry_path,
                rules=self._rules,
            )
        self._forget_failure(name)
        if step.kind is StepKind.INSTALL:
            return {"files": _list_tree(Path(str(step.details["tree"])))}
        if step.kind in (StepKind.FETCH, StepKind.CONFIGURE):
            return {"mark": _mark(Path(str(step.details["folder"])))}
        return {}

    def _execute(self, step: Step, script: Path, log: Path, progress: StepProgress) -> ScriptResult:
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
                    sandbox=place.sandbox,
                )  # fmt: skip
            if step.kind is StepKind.CONFIGURE:
                # Its checks compile, too, one at a time.
                stack.enter_context(
                    self._pool.implicit(lambda: progress.note("waits for a free job"))
                )
            return run_script(
                script, log=log, environment={}, watch=progress.feed, started=progress.follow,
                sandbox=place.sandbox,
            )  # fmt: skip

    def _with_seeds(self, step: Step) -> Step:
        """Put archives where CMake's own download would put them, right before it runs."""
        commands: list[Command] = []
        for archive in self._require_lock().archives:
            if archive.component == step.component and archive.seed is not None:
                folder = str(PurePosixPath(archive.seed).parent)
                note = f"{archive.name} is here already: CMake checks it and downloads nothing"
                source = str(self._ws.sources_dir / archive.file)
                commands += [
                    Command(("mkdir", "-p", folder), note=note),
                    Command(("cp", source, archive.seed), note=note),
                ]
        last = len(step.commands) - 1
        return replace(step, commands=(*step.commands[:last], *commands, step.commands[last]))

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
        parts: Any = step.details["parts"]
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
            sources=_list_sources(self._require_lock()),
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


def _describe_sources(lock: Lock, component: str | None) -> str:
    """Return what a component is made from, exactly; nothing of the others."""
    mine = [dataclasses.asdict(one) for one in lock.repositories if one.component == component]
    archives = [dataclasses.asdict(one) for one in lock.archives if one.component == component]
    return json.dumps([mine, archives], sort_keys=True)


def _list_sources(lock: Lock) -> list[dict[str, Any]]:
    """Return what everything is made from, for the manifest: no path of this machine."""
    repositories = [
        {
            "component": one.component,
            "repository": "local checkout" if one.checkout else one.repository,
            "ref": one.ref,
            "commit": one.commit,
            **({"dirty": one.dirty} if one.dirty else {}),
        }
        for one in lock.repositories
    ]
    archives = [
        {
            "component": one.component,
            "name": one.name,
            "url": "local file" if one.url.startswith("file:") else one.url,
            "sha256": one.sha256,
        }
        for one in lock.archives
    ]
    return [*repositories, *archives]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _list_tree(tree: Path) -> str:
    """Return a checksum over names, modes, sizes and times: whether somebody touched a tree."""
    digest = hashlib.sha256()
    for path in sorted(tree.rglob("*")):
        status = path.lstat()
        if not path.is_dir() or path.is_symlink():
            digest.update(
                f"{path.relative_to(tree)} {status.st_mode} {status.st_size} "
                f"{status.st_mtime_ns}\n".encode()
            )
    return digest.hexdigest()


def _find_mark(folder: Path) -> Path:
    """Return where a folder's mark is: not where it would count as a change of the sources."""
    return (
        folder / ".git" / "tritonbuild" if (folder / ".git").is_dir() else folder / ".tritonbuild"
    )


def _mark(folder: Path) -> str:
    """Mark a folder that a script made anew, and return the mark.

    It goes with the folder: who deletes it, or runs the script by hand, takes away what later steps
    did in it.
    """
    mark = secrets.token_hex(8)
    write_text(_find_mark(folder), mark + "\n")
    return mark


def _read_mark(folder: Path) -> str | None:
    try:
        return _find_mark(folder).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None


def remove_stale_trees(plan: Plan, ws: Workspace) -> None:
    """Delete what components installed that are in the plan no more."""
    known = set(plan.selection.components)
    for path in ws.trees_dir.iterdir() if ws.trees_dir.is_dir() else ():
        if path.name not in known:
            shutil.rmtree(path)
            terminal.detail(f"removed {path}: not in this plan")
