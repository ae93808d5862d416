"""The smoke test's model repository, and which of its models a build can serve."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild.errors import HostError
from tritonbuild.paths import data_dir, make_dir

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Model:
    """One model of the repository.

    Attributes:
        needs: Components without which it cannot be served.
        at_start: Loaded when the server starts; the others are loaded while it runs, which is
            quicker to the first answer and tries the repository's own interface.
        onnx: Gets a copy of affine.onnx as its version 1.
    """

    name: str
    needs: tuple[str, ...]
    at_start: bool = False
    onnx: bool = False


MODELS = {
    model.name: model
    for model in (
        Model("add_sub", ("python",), at_start=True),
        Model("affine", ("onnxruntime",), at_start=True, onnx=True),
        Model("affine_auto", ("onnxruntime",), onnx=True),
        Model("normalize", ("python",)),
        Model("pipeline", ("ensemble", "python", "onnxruntime")),
        Model("batched", ("python",)),
        Model("instances", ("python",)),
        Model("broken", ("python",)),
        Model("bls", ("python",)),
        Model("running_sum", ("python",)),
        Model("cached", ("python",)),
        Model("countdown", ("python",)),
        Model("sealed", ("python", "checksum")),
        Model("tampered", ("python", "checksum")),
    )
}

_ROOM = "the work directory must be writable and have room"

# The numbers in affine.onnx (templates/smoke/make_affine.py): Y = X WEIGHTS + BIAS.
WEIGHTS = ((1.0, -0.5, 0.25), (2.0, 0.75, -1.0), (-1.5, 1.0, 0.5), (0.5, -2.0, 1.25))
BIAS = (0.5, -1.0, 2.0)


def compute_affine(rows: Iterable[Sequence[float]]) -> tuple[float, ...]:
    """Return what affine.onnx should answer for rows of 4 numbers, flat."""
    answers = []
    for row in rows:
        for column, bias in enumerate(BIAS):
            products = (x * weights[column] for x, weights in zip(row, WEIGHTS, strict=True))
            answers.append(sum(products) + bias)
    return tuple(answers)


def find_missing(names: Iterable[str], components: Iterable[str]) -> list[str]:
    """Return the components that models need and a build has not, in the models' order."""
    built = set(components)
    needed = dict.fromkeys(part for name in names for part in MODELS[name].needs)
    return [part for part in needed if part not in built]


def write_models(
    folder: Path, components: Iterable[str], *, template: Path | None = None
) -> tuple[str, ...]:
    """Write a fresh model repository and return the names of its models.

    Args:
        folder: Where; what is there already is removed.
        components: The build's components; models that need others are left out.
        template: Folder to copy from; the shipped one where it is None.

    Raises:
        HostError: The folder cannot be written.
    """
    source = template or data_dir("templates") / "smoke"
    names = tuple(name for name in MODELS if not find_missing([name], components))
    make_dir(folder.parent)
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        for name in names:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source / "models" / name, folder / name, ignore=ignored)
            # Triton wants a version folder even where it stays empty, as an ensemble's does.
            (folder / name / "1").mkdir(exist_ok=True)
            if MODELS[name].onnx:
                shutil.copyfile(source / "affine.onnx", folder / name / "1" / "model.onnx")
    except OSError as err:
        msg = f"cannot write the smoke test's models to {folder}: {err}"
        raise HostError(msg, hint=_ROOM) from err
    return names


def copy_model(source: Path, target: Path) -> None:
    """Copy a model into a repository.

    Args:
        source: The model's folder.
        target: What it becomes, whose own folder need not be there yet.

    Raises:
        HostError: It cannot be read, or not be written there.
    """
    try:
        shutil.copytree(source, target)
    except OSError as err:
        msg = f"cannot copy the model {source}: {err}"
        raise HostError(msg, hint=_ROOM) from err
