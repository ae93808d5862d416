"""From wheels, an archive, or what was built, to one /opt/tritonserver tree that can be moved."""

from __future__ import annotations

import os
import re
import shutil
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonbuild.errors import AssembleError, HostError, SourceError
from tritonbuild.paths import data_dir, make_dir, write_text
from tritonbuild.sources.tarball import Tarball
from tritonbuild.sources.wheel import WheelArchive
from tritonbuild.stage.runpath import set_run_paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Files that templates/backends/<name>/ holds for people and tests, not for the server.
_NOT_TEMPLATES = shutil.ignore_patterns("__pycache__", "*.pyc", "README*")


@dataclass
class Assembly:
    """A tree in the making.

    Attributes:
        tree: The future /opt/tritonserver.
        python: Python version of the board.
        origins: Where each file came from, by its path in the tree.
        programs: Files that a layout gives the run bit.
    """

    tree: Path
    python: str
    origins: dict[str, str] = field(default_factory=dict)
    programs: set[str] = field(default_factory=set)

    def claim(self, target: str, origin: str) -> Path:
        """Return where a file goes, and note whose it is.

        Raises:
            AssembleError: Something else is there already.
        """
        if target in self.origins:
            msg = f"{target} comes from {origin} and from {self.origins[target]}"
            raise AssembleError(msg, hint="give one of them another folder in its layout")
        path = self.tree / target
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            msg = f"{target} from {origin} wants a folder where a file is"
            raise AssembleError(msg, hint="give one of them another folder in its layout") from None
        if path.is_dir():
            msg = f"{target} from {origin} is a folder already"
            raise AssembleError(msg, hint="give it another folder in its layout")
        self.origins[target] = origin
        return path


def assemble_tree(
    parts: Sequence[Mapping[str, Any]],
    *,
    python: str,
    wheels: Mapping[str, Path],
    bundled: Mapping[Path, str],
    triton_version: str,
    stage_dir: Path,
    patchelf: Path,
) -> dict[str, str]:
    """Assemble the tree from wheels and put it in place of the one that was there.

    Args:
        parts: `parts` of the plan's assemble step: layout, templates and artefacts of each
            component.
        python: Python version of the board, such as `3.11`.
        wheels: File of each distribution.
        bundled: Libraries that travel in `lib`, and where each comes from.
        triton_version: What the file TRITON_VERSION says.
        stage_dir: The stage; the tree is `opt/tritonserver` in it.
        patchelf: The patchelf program.

    Returns:
        Where each file came from, by its path in the tree.

    Raises:
        AssembleError: A layout matches nothing, two files want one place, or an artefact is
            missing.
        HostError: There is no room.
        SourceError: A wheel is damaged or hostile.
    """
    archives = {name: WheelArchive(path) for name, path in wheels.items()}
    try:
        size = sum(archive.size for archive in archives.values())
        with _new_tree(stage_dir, size, python) as assembly:
            for part in parts:
                _lay_out(assembly, part, archives)
                _make_links(assembly, part)
                _copy_templates(assembly, part)
            for path, origin in bundled.items():
                shutil.copyfile(path, assembly.claim(f"lib/{path.name}", origin))
            write_text(assembly.claim("TRITON_VERSION", "release"), triton_version + "\n")
            set_run_paths(assembly.tree, patchelf)
            _check_artefacts(assembly, parts)
    finally:
        for archive in archives.values():
            archive.close()
    return assembly.origins


# What no server is without.
_SERVER = "bin/tritonserver"


def unpack_tree(
    archive: Path,
    parts: Sequence[Mapping[str, Any]],
    *,
    triton_version: str,
    stage_dir: Path,
    patchelf: Path,
) -> dict[str, str]:
    """Unpack a ready-made tree in place of the one that was there, whatever its folder is called.

    Args:
        archive: A tar archive.
        parts: `parts` of the plan's assemble step: the artefacts of each component.
        triton_version: The version that it must be of, where its TRITON_VERSION says one.
        stage_dir: The stage; the tree is `opt/tritonserver` in it.
        patchelf: The patchelf program.

    Returns:
        Where each file came from, by its path in the tree.

    Raises:
        SourceError: The archive is damaged, hostile, holds no server, or one of another version.
        AssembleError: An artefact of a component is missing.
        HostError: There is no room.
    """
    tarball = Tarball(archive)
    try:
        places = _find_places(tarball)
        _check_version(tarball, places, triton_version)
        with _new_tree(stage_dir, tarball.size) as assembly:
            for name in tarball.names:
                _unpack(tarball, name, places, assembly)
            if "TRITON_VERSION" not in assembly.origins:
                path = assembly.claim("TRITON_VERSION", "release")
                write_text(path, triton_version + "\n")
            set_run_paths(assembly.tree, patchelf)
            _check_artefacts(assembly, parts)
    finally:
        tarball.close()
    return assembly.origins


def _find_places(tarball: Tarball) -> dict[str, str]:
    """Return where in the tree each member goes.

    The folder around `bin` is the tree. What lies beside that folder (clients, say) comes along.

    Raises:
        SourceError: There is no server in the archive.
    """
    servers = [name for name in tarball.names if f"/{name}".endswith(f"/{_SERVER}")]
    if not servers:
        tops = sorted({name.split("/")[0] for name in tarball.names})
        shown = ", ".join(tops[:8]) + (", ..." if len(tops) > 8 else "")
        msg = f"{tarball.path.name} holds no {_SERVER}, only {shown or 'nothing'}"
        hint = "an archive of the server is wanted, not one of its sources or clients"
        raise SourceError(msg, hint=hint)
    inner = min(servers, key=lambda name: name.count("/")).removesuffix(_SERVER)
    outer = inner.rstrip("/").rpartition("/")[0]
    around = f"{outer}/" if outer else ""
    return {
        name: name.removeprefix(inner if name.startswith(inner) else around)
        for name in tarball.names
    }


def _check_version(tarball: Tarball, places: Mapping[str, str], wanted: str) -> None:
    for name, place in places.items():
        if place == "TRITON_VERSION":
            found = tarball.read_text(name).strip()
            if found != wanted:
                msg = f"{tarball.path.name} is Triton {found!r}, not {wanted}"
                raise SourceError(msg, hint="take the archive of the release, or another --release")


def _unpack(tarball: Tarball, name: str, places: Mapping[str, str], assembly: Assembly) -> None:
    target = places[name]
    path = assembly.claim(target, tarball.path.name)
    link, twin = tarball.link_of(name), tarball.twin_of(name)
    if link is not None:
        path.symlink_to(link)
        return
    if twin is not None:
        shutil.copyfile(assembly.tree / places[twin], path)
    else:
        tarball.extract(name, path)
    # Of other rights nothing is kept: some archives have libraries that only their owner may read.
    path.chmod(0o755 if tarball.is_executable(name) or target == _SERVER else 0o644)


def merge_trees(
    parts: Sequence[Mapping[str, Any]], *, stage_dir: Path, patchelf: Path
) -> dict[str, str]:
    """Assemble the tree from what each component installed, in place of the one that was there.

    Args:
        parts: `parts` of the plan's assemble step: the tree and the artefacts of each component.
        stage_dir: The stage; the tree is `opt/tritonserver` in it.
        patchelf: The patchelf program.

    Returns:
        Which component each file came from, by its path in the tree.

    Raises:
        AssembleError: Two components want one place, or an artefact is missing.
        HostError: There is no room.
    """
    trees = {str(part["component"]): Path(part["tree"]) for part in parts}
    size = sum(
        path.lstat().st_size
        for tree in trees.values()
        for path in tree.rglob("*")
        if not path.is_dir()
    )
    with _new_tree(stage_dir, size) as assembly:
        for component, tree in trees.items():
            for source in sorted(tree.rglob("*")):
                if source.is_symlink() or not source.is_dir():
                    name = source.relative_to(tree).as_posix()
                    _copy_installed(source, assembly.claim(name, component))
        set_run_paths(assembly.tree, patchelf)
        _check_artefacts(assembly, parts)
    return assembly.origins


def _copy_installed(source: Path, target: Path) -> None:
    """Copy a file, or a link as a link; of its rights only whether it can be run is kept."""
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    shutil.copyfile(source, target)
    target.chmod(0o755 if source.stat().st_mode & stat.S_IXUSR else 0o644)


@contextmanager
def _new_tree(stage_dir: Path, size: int, python: str = "") -> Iterator[Assembly]:
    """Let the block fill a tree, which then takes the place of the one that is there.

    The new tree is complete before the old one goes, so that a crash leaves one of the two.
    """
    new, old = stage_dir.with_name("stage.new"), stage_dir.with_name("stage.old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        _check_room(stage_dir.parent, size)
        yield Assembly(make_dir(new / "opt" / "tritonserver"), python)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if stage_dir.exists():
        stage_dir.replace(old)
    new.replace(stage_dir)
    shutil.rmtree(old, ignore_errors=True)


def _check_room(folder: Path, size: int) -> None:
    """Refuse to start what cannot end: patchelf writes files anew, so half as much again.

    Raises:
        HostError: The disk is too full.
    """
    needed = size + size // 2
    free = shutil.disk_usage(folder).free
    if free < needed:
        msg = f"no room on disk: the tree needs {needed >> 20} MiB, {folder} has {free >> 20} MiB"
        raise HostError(msg, hint="free some space, or choose another --work-dir")


def _lay_out(
    assembly: Assembly, part: Mapping[str, Any], archives: Mapping[str, WheelArchive]
) -> None:
    for rule in part["layout"]:
        archive = archives[rule["wheel"]]
        pattern = _compile_glob(rule["files"].replace("{python}", assembly.python))
        names = [name for name in archive.names if pattern.fullmatch(name)]
        if not names:
            msg = f"{part['component']}: {archive.path.name} has no file like {rule['files']}"
            raise AssembleError(msg, hint="the layout in the component's recipe does not fit")
        for name in names:
            kept = name.split("/")[rule["strip"] :]
            if not kept:
                msg = f"{part['component']}: strip: {rule['strip']} leaves nothing of {name}"
                raise AssembleError(msg, hint="the layout in the component's recipe does not fit")
            target = "/".join([rule["to"], *kept])
            path = assembly.claim(target, archive.path.name)
            archive.extract(name, path, executable=rule["executable"])
            if rule["executable"]:
                assembly.programs.add(target)


def _make_links(assembly: Assembly, part: Mapping[str, Any]) -> None:
    for name, glob in part["links"].items():
        pattern = _compile_glob(glob)
        found = [target for target in assembly.origins if pattern.fullmatch(target)]
        if len(found) != 1:
            msg = f"{part['component']}: {len(found)} files of the tree are like {glob}, not one"
            raise AssembleError(msg, hint=f"{name} is to link to it: mend the component's recipe")
        link = assembly.claim(name, assembly.origins[found[0]])
        link.symlink_to(os.path.relpath(assembly.tree / found[0], link.parent))


def _compile_glob(glob: str) -> re.Pattern[str]:
    """Turn a glob into an expression: `*` stays within a folder, `**` spans folders."""
    parts = re.split(r"(\*\*|\*|\?)", glob)
    meaning = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meaning.get(part, re.escape(part)) for part in parts))


def _copy_templates(assembly: Assembly, part: Mapping[str, Any]) -> None:
    for relative in part["templates"]:
        source = data_dir("templates") / relative
        ignored = _NOT_TEMPLATES(str(source), [path.name for path in source.iterdir()])
        for path in sorted(source.iterdir()):
            if path.name not in ignored and path.is_file():
                target = f"backends/{part['component']}/{path.name}"
                shutil.copyfile(path, assembly.claim(target, f"templates/{relative}"))


def _check_artefacts(assembly: Assembly, parts: Sequence[Mapping[str, Any]]) -> None:
    """Check that each component left what it promises.

    What lies in `bin` is a program, and what a layout says is one; a licence is not.

    Raises:
        AssembleError: A file is missing, empty, or lacks its run bit.
    """
    problems = []
    for part in parts:
        for artefact in part["artefacts"]:
            path = assembly.tree / artefact
            is_program = artefact.startswith("bin/") or artefact in assembly.programs
            if not path.is_file() or (path.stat().st_size == 0 and path.suffix != ".py"):
                problems.append(f"{part['component']}: {artefact} is missing")
            elif is_program and not path.stat().st_mode & stat.S_IXUSR:
                problems.append(f"{part['component']}: {artefact} cannot be run")
    if problems:
        raise AssembleError("\n".join(problems), hint="mend the layout in the component's recipe")
