# SPDX-License-Identifier: Apache-2.0
"""What the Python-based backends of this tree share.

Everything here works on the model configuration as the python backend hands it over: a
``dict`` in the JSON form of Triton's ``ModelConfig`` message (``max_batch_size``,
``input``, ``output``, ``parameters``, ``instance_group``, ...).
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import traceback
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

import triton_python_backend_utils as pb_utils

Config = Dict[str, Any]
Dims = Tuple[int, ...]

NO_TYPE = "TYPE_INVALID"  # what the configuration says where it says no data_type
STAND_IN_TYPE = "TYPE_FP32"  # for a tensor of a model which cannot be loaded anyway

_TRUE = frozenset({"1", "true"})
_FALSE = frozenset({"0", "false"})


class ModelLoadError(Exception):
    """The model cannot be loaded; the message is one sentence for the model's owner."""


@contextlib.contextmanager
def load_errors(config: Config) -> Iterator[None]:
    """Report any failure of ``initialize`` as one sentence, with the details in the log.

    The stub reports a Python exception as the text which pybind11 makes of it:
    ``<class>: <message>`` and then an ``At:`` section with our source files and lines.
    It passes that text on as a C string, so a NUL at the end of the message is where the
    report ends.  That keeps the traceback out of the model's status.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001  # whatever it is, the model's owner needs to know
        msg = model_sentence(config["name"], _reason(error)) + "\0"
        raise ModelLoadError(msg) from None


@contextlib.contextmanager
def completion_errors(config: Config) -> Iterator[None]:
    """Swallow any failure of ``auto_complete_config``; ``initialize`` has to find it again.

    The python backend 2.41 must not be told of a failure in ``auto_complete_config``: it
    then calls ``waitpid(0)``, which waits for *any* of the server's children.  As soon as
    another model's stub is alive, the load (and the client's request for it) hangs until
    some stub ends.  A failure in ``initialize`` has no such trouble.

    Inputs and outputs which are still incomplete get a type and dims, whatever they are:
    the core would refuse them, before ``initialize`` can say what the real trouble is.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001  # see above
        _reason(error)
    for entry in [*config["input"], *config["output"]]:
        if entry.get("data_type", NO_TYPE) == NO_TYPE:
            entry["data_type"] = STAND_IN_TYPE
        if not entry.get("dims"):
            entry["dims"] = [-1]


def _reason(error: Exception) -> str:
    """Return the reason of a failed load; an unexpected one leaves its traceback in the log."""
    if isinstance(error, ModelLoadError):
        return str(error)
    pb_utils.Logger.log_error(traceback.format_exc())
    return f"unexpected {type(error).__name__}: {one_line(str(error))}"


def model_sentence(model_name: str, text: str) -> str:
    """Return ``text`` with the model's name in front."""
    return f"model '{model_name}': {text}"


def one_line(text: str) -> str:
    """Return ``text`` with every run of white space as one blank."""
    return " ".join(text.split())


def error_response(message: str, code: Any = None) -> Any:
    """Return a response which carries only an error; ``code`` is a ``TritonError`` code."""
    error_code = pb_utils.TritonError.INTERNAL if code is None else code
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, error_code))


def request_failure(model_name: str, error: Exception) -> Any:
    """Return the error response for an unexpected ``error``; its traceback goes to the log."""
    pb_utils.Logger.log_error(traceback.format_exc())
    text = f"the run failed: unexpected {type(error).__name__}: {one_line(str(error))}"
    return error_response(model_sentence(model_name, text))


# --- the model's files -------------------------------------------------------------------


def model_file(config: Config, default_name: str) -> Path:
    """Return the path of the model's file for this model version.

    ``pb_utils.get_model_dir()`` is the only official source which is there in both
    ``auto_complete_config`` and ``initialize``: the former gets no repository path.  For a
    Python-based backend it is the version directory (``<repository>/<model>/<version>``).
    As in Triton's own backends, a directory of the expected name is taken to hold a file
    of the default name.
    """
    name = str(config.get("default_model_filename") or default_name)
    path = Path(pb_utils.get_model_dir()) / name
    if path.is_dir():
        path /= default_name
    if not path.is_file():
        msg = f"there is no file '{path}'"
        raise ModelLoadError(msg)
    return path


# --- parameters --------------------------------------------------------------------------


def parameters(config: Config) -> Dict[str, str]:
    """Return the configuration's ``parameters`` as name -> ``string_value``."""
    found: Mapping[str, Any] = config.get("parameters") or {}
    return {name: str(value.get("string_value", "")) for name, value in found.items()}


def parse_int(name: str, text: str, allowed: Optional[Iterable[int]] = None) -> int:
    """Return the whole number ``text``; it has to be one of ``allowed``, or >= 0."""
    try:
        value = int(text.strip())
    except ValueError:
        msg = f"parameter '{name}' has to be a whole number, not '{text}'"
        raise ModelLoadError(msg) from None
    choices = None if allowed is None else sorted(allowed)
    if choices is None and value < 0:
        msg = f"parameter '{name}' has to be 0 or more, not {value}"
        raise ModelLoadError(msg)
    if choices is not None and value not in choices:
        msg = f"parameter '{name}' has to be one of {listing(choices)}, not {value}"
        raise ModelLoadError(msg)
    return value


def parse_bool(name: str, text: str) -> bool:
    """Return the truth value ``text``: 1, 0, true or false in any case."""
    value = text.strip().lower()
    if value not in _TRUE | _FALSE:
        msg = f"parameter '{name}' has to be 1, 0, true or false, not '{text}'"
        raise ModelLoadError(msg)
    return value in _TRUE


def listing(items: Iterable[object]) -> str:
    """Return ``items`` as a readable list."""
    return ", ".join(str(item) for item in items) or "none"


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return a hint naming the entry of ``known`` which is close to ``name``, or ''."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f"; did you mean '{close[0]}'?" if close else ""


def check_parameter_names(given: Iterable[str], known: Sequence[str]) -> List[str]:
    """Refuse misspelt parameter names; return the names which are simply unknown.

    Triton's ``parameters`` is open to any key (people keep notes for other tools there),
    so a name which resembles nothing is for the caller to ignore.  A name close to one of
    ours is a slip, and ignoring it would silently run with other settings.
    """
    unknown = [name for name in given if name not in known]
    for name in unknown:
        hint = did_you_mean(name, known)
        if hint:
            msg = f"unknown parameter '{name}'{hint}"
            raise ModelLoadError(msg)
    return unknown


def backend_option(backend: str, key: str) -> Optional[str]:
    """Return the server's ``--backend-config`` value of ``key`` for ``backend``.

    The python backend does not pass these on to a Python-based backend.  The stub is a
    child of the server, so the server's command line says them; a server embedded in
    another program has none, which gives None.
    """
    try:
        words = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode().split("\0")
    except (OSError, UnicodeDecodeError):
        return None
    text = " ".join(words)
    value = None
    for scope in ("", re.escape(backend) + ","):  # the backend's own setting wins
        pattern = rf"--backend-config[= ]{scope}{re.escape(key)}=(\S+)"
        for match in re.finditer(pattern, text):
            value = match.group(1)
    return value


# --- instances and cores -----------------------------------------------------------------


def instance_count(config: Config) -> int:
    """Return how many instances (stub processes) the configuration asks for, at least 1."""
    groups = config.get("instance_group") or []
    return max(1, sum(int(group.get("count", 1)) for group in groups))


def instance_index(instance_name: str) -> int:
    """Return the number at the end of an instance's name (``<group>_<number>``), else 0."""
    match = re.search(r"_(\d+)$", instance_name)
    return int(match.group(1)) if match else 0


def usable_cores() -> int:
    """Return the number of CPU cores this process may use.

    The smaller of the scheduler's affinity mask and the control group's CPU quota (a
    container started with ``--cpus 2`` sees every core in the mask).
    """
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no cgroup v2, or a quota of "max"
    return max(1, cores)


# --- what the configuration asks of a backend --------------------------------------------


def refuse_decoupled(config: Config) -> None:
    """Raise ModelLoadError for a decoupled model: these backends return one response each."""
    if (config.get("model_transaction_policy") or {}).get("decoupled"):
        msg = (
            "config.pbtxt sets model_transaction_policy { decoupled: true }, which this backend "
            "does not support: it gives one response to each request"
        )
        raise ModelLoadError(msg)


# --- tensors in the configuration --------------------------------------------------------


def backend_dims(entry: Mapping[str, Any]) -> Dims:
    """Return the dims of an input/output entry as the backend sees them.

    Without the batch dimension.  With a ``reshape`` the core converts between the ``dims``
    which the client sees and the ``reshape.shape`` which the backend gets and gives.
    """
    reshape = entry.get("reshape")
    dims = reshape.get("shape", []) if reshape is not None else entry.get("dims", [])
    return tuple(int(dim) for dim in dims)


def sequence_controls(config: Config) -> List[str]:
    """Return the names of the inputs which the sequence batcher adds to each request."""
    batching = config.get("sequence_batching") or {}
    return [str(control["name"]) for control in batching.get("control_input") or []]


def has_scheduler(config: Config) -> bool:
    """Tell whether the configuration chooses a scheduler."""
    return any(config.get(key) is not None for key in ("dynamic_batching", "sequence_batching"))
