"""The steps of `--from source`: what comes from outside, then each component's stages, then a tree.

The commands are build.py's (`tritonbuild.plan.upstream`). In a work directory sources come from
one place that was filled and checked before, CMake writes for Ninja, and each stage can be run
again from the start.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from tritonbuild.errors import RecipeError
from tritonbuild.plan import upstream
from tritonbuild.plan.conditions import holds
from tritonbuild.plan.frame import frame_stages
from tritonbuild.plan.model import Command, Step, StepKind
from tritonbuild.plan.select import AUTO_MIRROR, find_variant, lineage
from tritonbuild.recipe.component import GitClone
from tritonbuild.recipe.load import load_patch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tritonbuild.plan.layout import SourceLayout
    from tritonbuild.plan.model import Flag, JobCount, Machine, Selection
    from tritonbuild.plan.options import SourceOptions
    from tritonbuild.recipe.component import Component, SourceProvider
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.patch import Patch

# The branch that a local checkout's state gets in the build's own copy.
CHECKOUT_REF = "tritonbuild-checkout"

# What an adjustment adds to instead of replacing it.
_ADDED_TO = ("CFLAGS", "CXXFLAGS", "LDFLAGS")


def plan_source_steps(
    book: RecipeBook,
    selection: Selection,
    flags: dict[str, tuple[Flag, ...]],
    jobs: tuple[JobCount, ...],
    layout: SourceLayout,
    machine: Machine,
    options: SourceOptions,
) -> tuple[Step, ...]:
    """Return fetch, patch, configure, build and install of each component, in order.

    In a work directory, what comes from outside is fetched and all patches are checked before, and
    the tree is assembled and verified after.

    Raises:
        RecipeError: A component or the release lacks what a source build needs.
    """
    parts = [
        Part(book, selection, book.component(job.component), flags, job.count, layout, machine,
              options)
        for job in jobs
    ]  # fmt: skip
    stages = [step for part in parts for step in part.plan_stages()]
    if layout.work_dir is None:
        return tuple(stages)
    return frame_stages(book, selection, parts, stages)


# Names the image that the onnxruntime backend compiles ONNX Runtime in.
_IMAGE_FLAG = "TRITON_BUILD_CONTAINER"

# In an adjustment's environment, the folder that an archive is unpacked to.
_ARCHIVE_FOLDER = re.compile(r"\{archive\.([a-z0-9][a-z0-9._-]*)\}")


class Part:
    """One component of a source build, with everything that is decided about it."""

    def __init__(
        self,
        book: RecipeBook,
        selection: Selection,
        component: Component,
        flags: dict[str, tuple[Flag, ...]],
        jobs: int,
        layout: SourceLayout,
        machine: Machine,
        options: SourceOptions,
    ) -> None:
        if component.source is None:
            msg = f"component {component.name} does not come from source"
            raise RecipeError(msg, hint="leave it out, or give its recipe a `source`")
        self.name = component.name
        self.component = component
        self.source: SourceProvider = component.source
        self.folders = book.folders
        self.release = book.release(selection.release)
        self.arch = selection.arch
        self.mirror = selection.mirror
        # Which one `auto` will mean is not known yet.
        self.registries = None if self.mirror == AUTO_MIRROR else book.mirror(self.mirror)
        self.flags = flags[component.name]
        self.jobs = jobs
        self.layout = layout
        self.machine = machine
        self.options = options
        board = book.board(selection.board)
        self.board_environment = board.environment if options.board_switches else {}
        self.variant = find_variant(component, selection.variants)
        self.own_archives = selection.archives
        self.checkout = selection.checkouts.get(component.name)
        self.clone = self._make_clone()
        self.adjustments = [
            one
            for each in lineage(book, component)
            if each.source
            for one in each.source.adjustments
            # A container that builds has what it lacks from its Dockerfile.
            if holds(one.when, machine) and (layout.fetch_server or not one.archives)
        ]

    def _make_clone(self) -> GitClone:
        if self.component.kind == "core":
            return GitClone(
                repository=self.release.server_repository, directory="server", options=()
            )
        if self.source.clone is None:
            msg = f"component {self.name}: a backend needs source.clone"
            raise RecipeError(msg, hint="say which repository it is built from")
        return self.source.clone

    @property
    def tag(self) -> str:
        """What of its repository is checked out."""
        return CHECKOUT_REF if self.checkout else self.clone.tag or self.release.tag

    @property
    def source_dir(self) -> PurePosixPath:
        """The component's own sources, which patches are relative to."""
        if self.component.kind == "core":
            return self.layout.server_dir
        return self.layout.build_dir / self.clone.directory

    @property
    def work(self) -> PurePosixPath:
        """CMake's build folder."""
        if self.component.kind == "core":
            return self.layout.build_dir / "tritonserver" / "build"
        return self.source_dir / (self.source.subdirectory or "") / "build"

    @property
    def is_upstream(self) -> bool:
        """Whether its commands have the form of upstream's script."""
        return self.layout.work_dir is None

    @property
    def environment(self) -> dict[str, str]:
        """Variables that the board and the adjustments of this machine set."""
        found = dict(self.board_environment)
        for adjustment in self.adjustments:
            for name, text in adjustment.environment.items():
                value = _ARCHIVE_FOLDER.sub(
                    lambda match: str(self.layout.archive_dir(match[1])), text
                )
                before = found.get(name)
                found[name] = f"{before} {value}" if before and name in _ADDED_TO else value
        return found

    def archives(self) -> Iterator[tuple[str, str, str | None]]:
        """Yield name, address and checksum of the archives that are unpacked."""
        for name in self._list_archives():
            own = self.own_archives.get(name)
            if own is not None:
                yield name, own.address, own.sha256
                continue
            pin = self.release.archives.get(name)
            file = pin.files.get(self.arch) if pin else None  # type: ignore[call-overload]
            if file is None:
                msg = f"{self.release.name} has no archive of {name} for {self.arch}"
                hint = f"add it under archives: in releases/{self.release.name}.yaml"
                raise RecipeError(msg, hint=hint)
            yield name, file.url, file.sha256

    def _list_archives(self) -> dict[str, str]:
        """Return the archives that are unpacked, by name, and what each is for."""
        note = "ready-made, instead of a container build"
        found = dict.fromkeys(self.variant.archives if self.variant else (), note)
        for one in self.adjustments:
            found |= dict.fromkeys(one.archives, one.why)
        return found

    def images(self) -> Iterator[str]:
        """Yield the container images that CMake's own container build starts from."""
        if self.variant and self.variant.needs_docker:
            for flag in self.flags:
                if flag.name == _IMAGE_FLAG:
                    yield flag.value

    def _near(self, flag: Flag) -> Flag:
        """Return a flag; one that names an image for `docker build` names the mirror's."""
        if flag.name != _IMAGE_FLAG or self.registries is None:
            return flag
        return replace(flag, value=self.registries.rewrite_image(flag.value) or flag.value)

    def patches(self, moment: str) -> Iterator[tuple[str, Patch]]:
        """Yield name and content of the patches of a moment that this build needs."""
        relatives = (*self.source.patches, *(self.variant.patches if self.variant else ()))
        for relative in relatives:
            patch = load_patch(relative, self.folders)
            wanted = patch.mirror is None or patch.mirror == self.mirror
            needed = patch.when is None or holds(patch.when, self.machine)
            if patch.after == moment and wanted and needed:
                yield relative, patch

    def digest(self, moment: str) -> list[dict[str, object]]:
        """Return the patches of a moment as data: what they change decides a step's result."""
        return [
            {
                "patch": relative,
                "summary": patch.summary,
                "changes": [list(change) for change in patch.changes],
            }
            for relative, patch in self.patches(moment)
        ]

    # --- stages -------------------------------------------------------------------------------

    def plan_stages(self) -> list[Step]:
        """Return the component's steps, each of which needs the one before it."""
        chained: list[Step] = []
        libraries = tuple(f"{StepKind.INSTALL}-{name}" for name in self.source.libraries)
        for step in (
            self._fetch(),
            *self._patch("fetch"),
            *(() if self.source.copies else self._compile()),
            self._install(),
        ):
            before = (chained[-1].id,) if chained else libraries
            chained.append(replace(step, needs=before))
        return chained

    def _compile(self) -> Iterator[Step]:
        yield self._configure()
        yield from self._patch("configure")
        yield self._build()

    def _step(
        self, kind: StepKind, title: str, why: str, commands: tuple[Command, ...], **more: object
    ) -> Step:
        return Step(
            f"{kind}-{self.name}", kind, title, why, self.name, commands=commands,
            environment=self.environment, details=dict(more),
        )  # fmt: skip

    def _fetch(self) -> Step:
        what = {"core": "server's", "program": "program's", "library": f"{self.name}'s"}.get(
            self.component.kind, f"{self.name} backend's"
        )
        if self.is_upstream:
            commands = self._fetch_as_upstream()
            return self._step(
                StepKind.FETCH, f"fetch the {what} sources, {self.tag}",
                "the core is built from the server's own repository"
                if self.component.kind == "core" else self.component.summary,
                commands,
            )  # fmt: skip
        folder = str(self.source_dir)
        options = tuple(o for o in self.clone.options if not o.startswith("--depth"))
        step = self._step(
            StepKind.FETCH, f"check out the {what} sources, {self.tag}", self.component.summary,
            (
                Command(("rm", "-fr", folder)),
                Command(("mkdir", "-p", str(self.source_dir.parent))),
                # Of a checkout, too: its state is a branch of what git has under this address, in
                # containers and roots as well, which see no folders of the user's.
                Command(("git", "clone", *(options or ("--recursive",)), "-b", self.tag, "--",
                         self.clone.repository, folder)),
                *upstream.prepare(
                    self.source, self._target_machine, self.layout.build_dir, self._library_trees
                ),
                *self._unpack(),
            ),
            patches=self.digest("fetch"), folder=folder,
        )  # fmt: skip
        return replace(step, after=("sources", "check-patches"))

    def _fetch_as_upstream(self) -> tuple[Command, ...]:
        if self.component.kind == "core":
            fetch = self.layout.fetch_server
            server = upstream.fetch_server(self.release, self.layout.server_dir) if fetch else ()
            return (*server, *self._unpack())
        return (
            *upstream.fetch_repository(
                self.clone, self.tag, self.layout.build_dir, force=self.options.force_clone
            ),
            *upstream.prepare(self.source, self._target_machine, trees=self._library_trees),
            *self._unpack(),
        )

    @property
    def _library_trees(self) -> dict[str, str]:
        return {name: str(self.layout.tree_of(name)) for name in self.source.libraries}

    @property
    def _target_machine(self) -> str:
        return self.options.machine_for(self.arch)

    def _unpack(self) -> Iterator[Command]:
        notes = self._list_archives()
        for name, url, sha256 in self.archives():
            note = notes[name]
            path = self.layout.archive_path(name, _file_name_of(url))
            if self.is_upstream or self.layout.downloads:
                near = self.registries.rewrite_archive(url) if self.registries else None
                address = (near if self.layout.downloads else None) or url
                argv = ("tritonbuild_download", address, sha256 or "-", str(path))
                yield Command(argv, note=note)
            unpack = ("tritonbuild_unpack", str(path), str(self.layout.archive_dir(name)))
            yield Command(unpack, note=note)

    def _patch(self, moment: str) -> Iterator[Step]:
        for relative, patch in self.patches(moment):
            note = f"patches/{relative}: {patch.summary}"
            # All of a patch at once: it is made whole or not at all.
            words = [
                word
                for change in patch.changes
                for word in (
                    str(self._locate(change.file, moment)), change.where, change.old, change.new
                )
            ]  # fmt: skip
            commands = (Command(("tritonbuild_edit", *words), note=note),)
            # Components may share a patch, and their steps may not share an id.
            stem = relative.removesuffix(".yaml").removeprefix(f"{self.name}/")
            identifier = re.sub(r"[^A-Za-z0-9-]", "-", f"patch-{self.name}-{stem}")
            yield Step(
                identifier, StepKind.PATCH, patch.summary, patch.why, self.name, commands=commands
            )

    def _locate(self, file: str, moment: str) -> PurePosixPath:
        """Return where a patch's file lies; `build/` is CMake's build folder, wherever that is."""
        if moment == "configure" and file.startswith("build/"):
            return self.work / file.removeprefix("build/")
        return self.source_dir / file

    def _configure(self) -> Step:
        where = str(self.layout.server_dir) if self.component.kind == "core" else ".."
        if self.source.cmake_dir:
            where = str(self.source_dir / self.source.cmake_dir)
        extra = tuple(
            _format_argument(arg.name, arg.type, arg.value or "")
            for one in self.adjustments
            for arg in one.cmake_args
        )
        arguments = (*(self._near(flag).to_argument() for flag in self.flags), *extra, where)
        commands = upstream.configure(self.work, arguments)
        details: dict[str, object] = {}
        if not self.is_upstream:
            commands = (
                Command(("rm", "-fr", str(self.work), str(self.work.parent / "install"))),
                *(replace(command, argv=("cmake", "-G", "Ninja", *arguments))
                  if command.cmake else command for command in commands),
            )  # fmt: skip
            details = {"patches": self.digest("configure"), "folder": str(self.work)}
        return self._step(
            StepKind.CONFIGURE, f"configure {self.name}",
            "cmake looks at the machine and fetches nested sources", commands, **details,
        )  # fmt: skip

    def _build(self) -> Step:
        target = self.source.target
        commands = upstream.make(self.jobs, verbose=self.options.verbose, target=target)
        if not self.is_upstream:
            commands = (
                Command(("cd", str(self.work))),
                Command(("tritonbuild_ninja", str(self.jobs), target), incidental=True),
            )
        # The command itself is no part of the key: it holds the number of jobs.
        details: dict[str, object] = {} if target == "install" else {"target": target}
        return self._step(
            StepKind.BUILD, f"build {self.name} with {self.jobs} jobs",
            "compile, and install below the build folder", commands, **details,
        )  # fmt: skip

    def _install(self) -> Step:
        tree = self.layout.tree_of(self.name)
        prefix = self.layout.install_prefix_of(self.name)
        if self.source.tree:
            title = f"copy {self.name} into the tree"
            places = {"sources": self.source_dir, "build": self.work, "install": prefix}
            commands = upstream.install_parts(self.source, places, tree)
        elif self.component.kind == "core":
            title = "copy the core into the tree"
            commands = upstream.install_core(prefix, tree, self.layout.server_dir)
            if self.options.collect_sources:
                commands += upstream.collect_sources(self.work, tree, self.layout.server_dir)
        else:
            title = f"copy {self.name} into the tree"
            commands = (
                *upstream.install_component(self.component, self.source_dir, prefix, tree),
                *self._install_libraries(tree / "backends" / self.name),
            )
        details: dict[str, object] = {}
        if not self.is_upstream:
            commands = (Command(("rm", "-fr", str(tree))), *commands)
            details = {"tree": str(tree)}
        return self._step(
            StepKind.INSTALL, title, "what the board needs of what was built", commands, **details
        )

    def _install_libraries(self, folder: PurePosixPath) -> Iterator[Command]:
        for pattern in self.variant.libraries if self.variant else ():
            name, _, inside = pattern.partition("/")
            source = self.layout.archive_dir(name) / inside
            # Options may stand last for GNU's cp; links stay links.
            yield Command(
                ("cp", str(source), str(folder), "-P"),
                glob=True,
                note="upstream installs these only when it built them in a container",
            )


def _file_name_of(url: str) -> str:
    """Return the name under which an archive of this address is kept (`sources.archive.name_of`)."""
    return unquote(PurePosixPath(urlsplit(url).path).name)


def _format_argument(name: str, kind: str | None, value: str) -> str:
    return f"-D{name}:{kind}={value}" if kind else f"-D{name}={value}"
