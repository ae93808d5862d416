"""The steps of a build in BuildKit's containers: its context, each component, and the image."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.arch import Arch
from tritonbuild.console import terminal
from tritonbuild.engine.marks import list_tree
from tritonbuild.engine.scripts import make_script
from tritonbuild.engine.toolchain import read_epoch
from tritonbuild.engine.workplace import find_plan_compilers, get_root_of
from tritonbuild.executors.arrange import link_file
from tritonbuild.executors.buildx import find_builder
from tritonbuild.paths import data_dir, hash_file, make_dir, write_text
from tritonbuild.plan.layout import CCACHE_DIR, HOME
from tritonbuild.plan.model import Command, Step, StepKind
from tritonbuild.render.containers import (
    RUNTIME,
    TREES,
    render_bake,
    render_dockerfile,
)
from tritonbuild.render.script import render_script
from tritonbuild.sources.part import write_part
from tritonbuild.stage.image_base import (
    base_spec_of,
    describe_image,
    get_base,
    write_base,
)
from tritonbuild.stage.naming import tag_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from tritonbuild.engine.toolchain import Toolchain
    from tritonbuild.executors.buildx import Builder, BuildxOptions
    from tritonbuild.executors.compilers import Compilers
    from tritonbuild.executors.rootfs import Root
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.sources.lock import Lock


class ContainerBuild:
    """What one run of `build` does with BuildKit."""

    def __init__(
        self, plan: Plan, ws: Workspace, book: RecipeBook, cache: Path, options: BuildxOptions
    ) -> None:
        self._plan = plan
        self._ws = ws
        self._book = book
        self._cache = cache
        self._options = options
        self._context = ws.context_dir
        self._builder: Builder | None = None

    def get_builder(self) -> Builder:
        """Return the builder, asked once.

        Raises:
            HostError: There is none that can build for the board.
        """
        if self._builder is None:
            self._builder = find_builder(self._options.builder, Arch(self._plan.selection.arch))
        return self._builder

    @property
    def builder_name(self) -> str | None:
        """The builder that was named, if one was."""
        return self._options.builder

    @property
    def makes_image(self) -> bool:
        """Whether an image is wanted."""
        return self._options.image

    def describe_image(self) -> str:
        """Return what decides where the image goes."""
        return str(self._options)

    # --- the context --------------------------------------------------------------------------

    def write_context(self, step: Step, toolchain: Toolchain, lock: Lock) -> None:
        """Write what BuildKit is given: systems, compilers, tools, sources, scripts, Dockerfile."""
        root = get_root_of(self._plan, "build-root", self._cache)
        compilers = find_plan_compilers(self._plan, root, self._cache)
        make_dir(self._context)
        self._write_root("build-root", root)
        self._link_compilers(compilers)
        run_step = (data_dir("templates") / "containers" / "run_step.py").read_text("utf-8")
        write_text(self._context / "tools" / "run_step.py", run_step)
        trees: Any = step.details["trees"]
        for name in trees:
            self._write_sources(name, lock)
        for one in step.scripts:
            text = make_script(self._plan, one, one.id, home=HOME, toolchain=toolchain, lock=lock)
            write_text(self._context / "scripts" / f"{one.id}.sh", text, executable=True)
        self._write_dockerfile(toolchain, lock)

    def _write_dockerfile(self, toolchain: Toolchain, lock: Lock) -> None:
        root = get_root_of(self._plan, "build-root", self._cache)
        compilers = find_plan_compilers(self._plan, root, self._cache)
        dockerfile = render_dockerfile(
            self._plan,
            accelerated=compilers is not None,
            ccache_dir=CCACHE_DIR if toolchain.ccache else None,
            facts=describe_image(self._plan),
        )
        write_text(self._context / "Dockerfile", dockerfile)
        write_text(
            self._context / "docker-bake.json",
            render_bake(self._plan, tag=self._tag, network=self._network_of(lock)),
        )

    def write_image(
        self, toolchain: Toolchain, lock: Lock, verified: Mapping[str, Any], log: Path
    ) -> None:
        """Write the system and the tree that the image is made of."""
        make_dir(self._context)
        self._write_dockerfile(toolchain, lock)
        spec = base_spec_of(self._plan, verified, self._book)
        self._write_root("runtime-root", get_base(spec, self._cache, log, self._options.builder))
        stage = self._context / "stage"
        shutil.rmtree(stage, ignore_errors=True)
        shutil.copytree(self._ws.tritonserver_dir, stage, symlinks=True, copy_function=link_file)

    def read_image_id(self) -> str | None:
        """Return the id of the image that the engine has under our name.

        None where it has none; what was pushed, or is not wanted, is not looked for.
        """
        if self._options.push or not self._options.image:
            return None
        argv = ["image", "inspect", "--format", "{{.Id}}", self._tag]
        said = proc.capture([*self.get_builder().docker, *argv])
        return said.output.strip() if said.returncode == 0 else None

    def is_image_there(self, known: object) -> bool:
        """Return whether the image that an earlier run made is still what its name means.

        Args:
            known: What `read_image_id` said then.
        """
        return self._options.push or not self._options.image or known == self.read_image_id()

    @property
    def cache_to(self) -> list[str]:
        """Where BuildKit's layers are kept, besides in the builder."""
        return list(self._options.cache_to)

    def _write_root(self, name: str, root: Root) -> None:
        """Write a root as a tar for the context, if that one is not there."""
        archive, note = self._context / f"{name}.tar", self._context / f"{name}.txt"
        # A root that was deleted and made anew may have newer packages in the same place.
        content = f"{root.tree}\n{hash_file(root.packages_path)}\n{read_epoch(self._plan)}\n"
        if archive.is_file() and _read(note) == content + _describe_file(archive):
            return
        note.unlink(missing_ok=True)
        write_base(root.tree, archive, read_epoch(self._plan))
        write_text(note, content + _describe_file(archive))

    def _write_sources(self, name: str, lock: Lock) -> None:
        """Write a component's sources, if they are not there as they were written."""
        folder = self._context / "sources" / name
        note = folder.with_name(f"{name}.txt")
        if folder.is_dir() and _read(note) != list_tree(folder):
            shutil.rmtree(folder)
        write_part(self._ws.sources_dir, lock, name, folder, seen_as=HOME / "sources")
        write_text(note, list_tree(folder))

    def _link_compilers(self, compilers: Compilers | None) -> None:
        """Have the compilers in the context: links to the cache's files, or copies."""
        target, note = self._context / "native", self._context / "native.txt"
        content = f"{compilers.folder if compilers else None}\n"
        if _read(note) == content + list_tree(target):
            return
        note.unlink(missing_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        if compilers:
            shutil.copytree(compilers.tree, target, symlinks=True, copy_function=link_file)
        write_text(note, content + list_tree(target))

    # --- commands -----------------------------------------------------------------------------

    def make_script(self, name: str, output: Path, lock: Lock) -> str:
        """Return the script that builds all components, and say how their programs run.

        Args:
            name: `NN-<step>`.
            output: Folder that gets what each installs.
            lock: What the sources were resolved to.
        """
        builder = self.get_builder()
        arch = self._plan.selection.arch
        if not builder.native:
            terminal.info(f"{builder} has no {arch} machine: QEMU runs {arch} programs there")
        network = self._network_of(lock)
        more = [f"--output=type=local,dest={output}"]
        more += [f"--cache-to={one}" for one in self._options.cache_to]
        return self._make_script(name, self._build(TREES, network, *more))

    def make_image_script(self, name: str) -> str:
        """Return the script that makes the image."""
        where = "--push" if self._options.push else "--load"
        return self._make_script(name, self._build(RUNTIME, "none", f"--tag={self._tag}", where))

    def _network_of(self, lock: Lock) -> str:
        """Return what scripts see: nothing, where nothing is left for CMake to fetch."""
        return self.get_builder().network if lock.notes else "none"

    @property
    def _tag(self) -> str:
        return self._options.tag or tag_of(self._plan)

    def _build(self, stage: str, network: str, *more: str) -> list[str]:
        cached = [f"--cache-from={one}" for one in self._options.cache_from]
        return self.get_builder().build(
            Arch(self._plan.selection.arch), self._context,
            f"--network={network}", f"--target={stage}", *cached, *more,
        )  # fmt: skip

    def _make_script(self, name: str, argv: list[str]) -> str:
        step = Step(name, StepKind.CONTAINER, "", "", commands=(Command(tuple(argv)),))
        return render_script(step, name, {})


def _read(note: Path) -> str | None:
    return note.read_text("utf-8") if note.is_file() else None


def _describe_file(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}\n"
