"""Models of the user's in the smoke test: asked with made-up values, their answers held to their own word."""

from __future__ import annotations

import math
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from tritonbuild.errors import UsageError
from tritonbuild.smoke.client import AnswerError, Tensor
from tritonbuild.smoke.models import MODELS, copy_model
from tritonbuild.smoke.trial import Check, Trial, check_equal, fail, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tritonbuild.smoke.client import Client

# What the server takes for a model's name and we for a part of an address.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def check_own_models(folders: Sequence[Path]) -> None:
    """Refuse folders that are no models, before a server is started.

    Raises:
        UsageError: One is none, or has the name of another model.
    """
    seen = set(MODELS)
    for folder in folders:
        name = folder.resolve().name
        if not (folder / "config.pbtxt").is_file():
            msg = f"--model {folder}: there is no config.pbtxt in it"
            raise UsageError(msg, hint="name the folder of one model, with config.pbtxt and 1/")
        if not _NAME.fullmatch(name) or name in seen:
            why = "is a model of the smoke test already" if name in seen else "cannot be a name"
            msg = f"--model {folder}: {name} {why}"
            raise UsageError(msg, hint="rename the folder, and `name` in its config.pbtxt")
        seen.add(name)


def write_own_models(models_dir: Path, folders: Sequence[Path]) -> list[str]:
    """Copy models into the smoke test's repository; return their names.

    Raises:
        HostError: The repository cannot be written.
    """
    names = []
    for folder in folders:
        source = folder.resolve()
        copy_model(source, models_dir / source.name)
        names.append(source.name)
    return names


def make_own_checks(names: Sequence[str]) -> tuple[Check, ...]:
    """Return a check for each of the user's models."""
    return tuple(
        Check(f"model-{name}", f"{name} answers as its config says", partial(_run_own, name))
        for name in names
    )


def _run_own(name: str, trial: Trial) -> str:
    said = ask_own(trial.client, name)
    trial.note_answer()
    return said


def ask_own(client: Client, name: str) -> str:
    """Ask a model with values of the types and shapes that it wants; return what came.

    Raises:
        AnswerError: It did not answer.
        CheckFailedError: Its outputs are not those that it announces.
    """
    try:
        about = client.get_json(f"/v2/models/{name}")
    except AnswerError as err:
        raise AnswerError(_explain(client, name) or str(err), err.status) from err
    inputs = {one["name"]: _make_tensor(one) for one in about["inputs"]}
    outputs = client.infer(name, inputs)
    for one in about["outputs"]:
        _check_output(outputs.get(one["name"]), one)
    return ", ".join(
        f"{key} {value.datatype}{list(value.shape)} = {shorten(list(value.data[:4]))}"
        for key, value in outputs.items()
    )


def _explain(client: Client, name: str) -> str | None:
    """Return why a model is not there, as the server tells."""
    reasons = [one.get("reason") for one in client.list_models() if one.get("name") == name]
    found = next((reason for reason in reasons if reason), None)
    return f"{name} could not be loaded: {' '.join(found.split())}" if found else None


def _make_tensor(about: dict[str, Any]) -> Tensor:
    """Return small numbers that are not all the same; where any size will do, 1."""
    shape = tuple(max(int(size), 1) for size in about["shape"])
    kind = str(about["datatype"])
    count = math.prod(shape)
    data: tuple[Any, ...]
    if kind == "BYTES":
        data = ("",) * count
    elif kind == "BOOL":
        data = tuple(at % 2 == 0 for at in range(count))
    elif kind.startswith(("FP", "BF")):
        data = tuple(at % 7 / 8 for at in range(count))
    else:
        data = tuple(at % 7 for at in range(count))
    return Tensor(kind, shape, data)


def _check_output(got: Tensor | None, about: dict[str, Any]) -> None:
    name = about["name"]
    if got is None:
        fail(f"an output {name}", "none")
    check_equal(f"{name} of type", about["datatype"], got.datatype)
    wanted = [int(size) for size in about["shape"]]
    fits = len(wanted) == len(got.shape) and all(
        size in (-1, other) for size, other in zip(wanted, got.shape, strict=True)
    )
    if not fits:
        fail(f"{name} of shape {wanted}", str(list(got.shape)))
    check_equal(f"{name} with values", math.prod(got.shape), len(got.data))
    bad = [value for value in got.data if isinstance(value, float) and not math.isfinite(value)]
    if bad:
        fail(f"{name} with finite numbers", f"{len(bad)} that are not")
