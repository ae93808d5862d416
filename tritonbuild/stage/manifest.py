"""What is in a tree: every file with its checksum and where it came from.

A manifest holds no time and no path of the machine that made it, so two builds of one plan give
the same text. It speaks of files and links; empty folders and `__pycache__` are not part of a
tree's content.
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonbuild.errors import AssembleError
from tritonbuild.paths import hash_file, write_text
from tritonbuild.plan.model import StepKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tritonbuild.plan.model import Plan

# The manifest's own name where it lies in a tree; it does not list itself.
MANIFEST_NAME = "manifest.json"

MANIFEST_VERSION = 1

# What Python leaves behind when it runs from the tree.
_LEFT_OUT = "__pycache__"

# What the manifest takes over from the plan's fetch steps. The index's address is not among it:
# it says nothing about the file, and may carry a password.
_PINNED = ("distribution", "filename", "sha256", "python", "license")


def make_manifest(
    tree: Path,
    *,
    plan: Plan,
    origins: Mapping[str, str],
    tools: Mapping[str, str],
    system: Mapping[str, str],
    sources: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the manifest of a tree.

    Args:
        tree: The /opt/tritonserver tree.
        plan: What it was made by.
        origins: Where each file came from, by its path in the tree.
        tools: Version of each tool that was used.
        system: Version of each package that the tree was checked against.
        sources: What it was built from: repositories with commits, archives with checksums.

    Raises:
        AssembleError: The tree holds something that is neither a file, a folder nor a link, or a
            link that leads out of it.
    """
    files = [
        {"path": name, **entry, "origin": origins.get(name)}
        for name, entry in scan_tree(tree).items()
    ]
    return {
        "version": MANIFEST_VERSION,
        "tritonbuild": plan.tritonbuild,
        "selection": _describe_selection(plan),
        "release": _describe_release(plan),
        "wheels": _list_wheels(plan),
        "sources": [dict(source) for source in sources],
        "patches": _list_patches(plan),
        "tools": dict(sorted(tools.items())),
        "system": dict(sorted(system.items())),
        "files": files,
    }


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest; the same content always gives the same bytes."""
    write_text(path, format_manifest(manifest))


def format_manifest(manifest: Mapping[str, Any]) -> str:
    """Return a manifest as text."""
    return json.dumps(manifest, indent=2, sort_keys=True) + "\n"


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        AssembleError: It is not there, or is not one that this version understands.
    """
    hint = "run `tritonbuild build` again"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        msg = f"cannot read {path}: {err.strerror}"
        raise AssembleError(msg, hint=hint) from err
    except ValueError as err:
        msg = f"{path} is not a manifest: {err}"
        raise AssembleError(msg, hint=hint) from err
    version = manifest.get("version") if isinstance(manifest, dict) else None
    if version != MANIFEST_VERSION or not isinstance(manifest.get("files"), list):
        msg = f"{path} is not a manifest of version {MANIFEST_VERSION}"
        raise AssembleError(msg, hint=hint)
    return dict(manifest)


def check_manifest(tree: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Compare a tree with its manifest; return what differs, sorted, empty when nothing does.

    Raises:
        AssembleError: The tree holds something that no manifest could list.
    """
    expected = {
        entry["path"]: {key: value for key, value in entry.items() if key not in ("path", "origin")}
        for entry in manifest["files"]
    }
    found = scan_tree(tree)
    differences = [(name, f"missing: {name}") for name in expected.keys() - found.keys()]
    differences += [(name, f"added: {name}") for name in found.keys() - expected.keys()]
    for name in expected.keys() & found.keys():
        before, now = expected[name], found[name]
        keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
        if keys:
            differences.append((name, f"changed: {name} ({', '.join(keys)})"))
    return [text for _, text in sorted(differences)]


def scan_tree(tree: Path) -> dict[str, dict[str, Any]]:
    """Return what each file and link of a tree is, sorted by path.

    A file has `size` in bytes, `mode` (0755 if its owner may run it, else 0644: the rest is the
    umask's) and `sha256`; a link has `link`, its target.

    Raises:
        AssembleError: The tree holds something that is neither a file, a folder nor a link, or a
            link that leads out of it.
    """
    found: dict[str, dict[str, Any]] = {}
    to_hash: list[tuple[str, Path]] = []
    base = Path(os.path.realpath(tree))
    for path in sorted(_walk(base), key=lambda path: path.parts):
        name = str(path.relative_to(base))
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            found[name] = {"link": check_link(base, path)}
        elif stat.S_ISREG(status.st_mode):
            mode = "0755" if status.st_mode & stat.S_IXUSR else "0644"
            found[name] = {"size": status.st_size, "mode": mode}
            to_hash.append((name, path))
        else:
            msg = f"{name} is neither a file, a folder nor a link"
            raise AssembleError(msg, hint=f"delete {path}, it cannot go to a board")
    # hashlib lets other threads run; the work is reading and hashing, so cores are the limit.
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        digests = pool.map(hash_file, [path for _, path in to_hash])
        for (name, _), digest in zip(to_hash, digests, strict=True):
            found[name]["sha256"] = digest
    return found


def check_link(tree: Path, path: Path) -> str:
    """Return a link's target.

    Args:
        tree: The tree; resolved.
        path: The link.

    Raises:
        AssembleError: It leads out of the tree, now or when the tree is moved.
    """
    target = str(path.readlink())
    name = path.relative_to(tree)
    # Both the text (`../../tritonserver/lib` comes back in, but only while the tree is called so)
    # and what it comes to through other links.
    direct = os.path.normpath(name.parent / target)
    final = Path(os.path.realpath(path))
    if target.startswith("/") or direct.split("/")[0] == ".." or not final.is_relative_to(tree):
        msg = f"the link {name} leads out of the tree, to {target}"
        raise AssembleError(msg, hint="make it relative to a file of the tree, or a file itself")
    return target


def _walk(folder: Path) -> Iterator[Path]:
    """Yield everything of a tree that is no folder, in no order."""
    top = str(folder)
    for where, folders, names in os.walk(folder, onerror=_refuse_folder):
        parent = Path(where)
        yield from (parent / name for name in folders if (parent / name).is_symlink())
        folders[:] = [name for name in folders if name != _LEFT_OUT]
        own = MANIFEST_NAME if where == top else None
        yield from (parent / name for name in names if name != own)


def _refuse_folder(err: OSError) -> None:
    msg = f"cannot read the folder {err.filename}: {err.strerror}"
    raise AssembleError(msg, hint="run `tritonbuild build` first")


def _describe_selection(plan: Plan) -> dict[str, Any]:
    """Return the selection without paths of this machine."""
    selection = dataclasses.asdict(plan.selection)
    own = {
        "checkouts": sorted(plan.selection.checkouts),
        "archives": sorted(plan.selection.archives),
    }
    return selection | own


def _list_patches(plan: Plan) -> list[str]:
    return [
        f"{series['component']}: {patch['patch']}"
        for step in plan.steps
        if step.kind is StepKind.CHECK
        for series in step.details["series"]  # type: ignore[attr-defined]
        for patch in series["patches"]
    ]


def _describe_release(plan: Plan) -> dict[str, Any]:
    steps = [step for step in plan.steps if step.kind is StepKind.ASSEMBLE]
    details: dict[str, object] = steps[0].details if steps else {}
    known = {key: details[key] for key in ("triton_version", "date", "python") if key in details}
    return {"name": plan.selection.release} | known


def _list_wheels(plan: Plan) -> list[dict[str, Any]]:
    return [
        {key: step.details.get(key) for key in _PINNED}
        for step in plan.steps
        if step.kind is StepKind.FETCH and "sha256" in step.details
    ]
