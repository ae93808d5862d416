"""What one component takes of a build's sources, in a folder that can be moved to another machine."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild.errors import HostError
from tritonbuild.paths import make_dir, write_text
from tritonbuild.sources.address import file_url, view_path_of
from tritonbuild.sources.lock import describe_sources
from tritonbuild.sources.view import make_self_contained

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    from tritonbuild.sources.lock import Lock


def write_part(
    store: Path, lock: Lock, component: str, target: Path, *, seen_as: PurePosixPath
) -> None:
    """Write a component's sources, whole; nothing is written where they are there already.

    Args:
        store: What `bring_sources` filled.
        lock: What it was resolved to.
        component: The component.
        target: The folder; beside it, `<name>.json` says what is in it.
        seen_as: Where scripts will see it.

    Raises:
        HostError: It cannot be written.
    """
    note = target.with_name(f"{target.name}.json")
    content = describe_sources(lock, component) + "\n"
    if target.is_dir() and note.is_file() and note.read_text(encoding="utf-8") == content:
        return
    make_dir(target.parent)
    note.unlink(missing_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as name:
            folder = Path(name) / "part"
            _fill(store, lock, component, folder, seen_as)
            if target.exists():
                target.rename(Path(name) / "old")
            folder.rename(target)
        write_text(note, content)
    except OSError as err:
        msg = f"cannot write {target}: {err.strerror}"
        raise HostError(msg, hint="is the disk full?") from err


def _fill(store: Path, lock: Lock, component: str, folder: Path, seen_as: PurePosixPath) -> None:
    folder.mkdir()
    for address in _list_addresses(lock, component):
        path = view_path_of(address)
        view = folder / "git" / path
        if not view.is_dir():
            # Not linked: git packs what it finds in place.
            shutil.copytree(store / "git" / path, view, symlinks=True)
            make_self_contained(view)
    for archive in lock.archives:
        if archive.component == component:
            copy = folder / archive.file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(store / archive.file, copy)
    config = (store / "gitconfig").read_text(encoding="utf-8")
    write_text(folder / "gitconfig", _move(config, store, folder, seen_as))


def _move(config: str, store: Path, folder: Path, seen_as: PurePosixPath) -> str:
    """Return git's settings for a part: it has its own repositories and knows of no others."""
    here, there = file_url(store.absolute()), file_url(seen_as)
    kept = []
    for section in re.split(r"^(?=\[)", config, flags=re.MULTILINE):
        found = re.match(rf'\[url "{re.escape(here)}/(.+)"\]', section)
        if found is None or (folder / f"{found[1]}.git").is_dir():
            kept.append(section.replace(f'"{here}/', f'"{there}/'))
    return "".join(kept)


def _list_addresses(lock: Lock, component: str) -> list[str]:
    found: list[str] = []
    for one in lock.repositories:
        if one.component == component:
            found += [one.repository, *(each.repository for each in one.submodules)]
    return found
