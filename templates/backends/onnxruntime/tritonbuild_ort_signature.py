# SPDX-License-Identifier: Apache-2.0
"""The ONNX model's inputs and outputs, and the model configuration checked against them.

The rules are those of Triton's C++ onnxruntime backend (``AutoCompleteConfig``,
``ValidateInputs``, ``ValidateOutputs``), except that a partial list of inputs is completed.
Dims are tuples of int with -1 for a dimension which may vary.
"""

# zip(strict=) is of Python 3.10; boards have 3.8.
# ruff: noqa: B905

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import triton_python_backend_utils as pb_utils
import tritonbuild_ort_types as types
from tritonbuild_common import (
    NO_TYPE,
    STAND_IN_TYPE,
    Config,
    Dims,
    ModelLoadError,
    backend_dims,
    did_you_mean,
    has_scheduler,
    listing,
    refuse_decoupled,
    sequence_controls,
)


class TensorSpec(NamedTuple):
    """One input or output of the ONNX model."""

    name: str
    onnx_type: str
    dims: Dims  # with the batch dimension, where the model has one

    @property
    def data_type(self) -> str:
        """The config.pbtxt type; a load error for a type which cannot be shared."""
        found = types.triton_type(self.onnx_type)
        if found is None:
            msg = (
                f"'{self.name}' is a {self.onnx_type} in the ONNX model, "
                "a type the python backend and ONNX Runtime's Python API do not share"
            )
            raise ModelLoadError(msg)
        return found

    @property
    def can_batch(self) -> bool:
        """Whether the first dimension can be the batch dimension."""
        return bool(self.dims) and self.dims[0] == -1


class Signature(NamedTuple):
    """The inputs and outputs of the ONNX model by name, in the model's order."""

    inputs: Dict[str, TensorSpec]
    optional_inputs: Dict[str, TensorSpec]  # inputs with a default (an initializer)
    outputs: Dict[str, TensorSpec]

    @property
    def unbatched(self) -> Optional[TensorSpec]:
        """The first tensor which forbids batching, None if the model can batch."""
        tensors = [*self.inputs.values(), *self.outputs.values()]
        return next((spec for spec in tensors if not spec.can_batch), None)


def read_signature(session: Any) -> Signature:
    """Return the signature of an ``onnxruntime.InferenceSession``."""
    return Signature(
        inputs=_specs(session.get_inputs()),
        optional_inputs=_specs(session.get_overridable_initializers()),
        outputs=_specs(session.get_outputs()),
    )


def _specs(nodes: List[Any]) -> Dict[str, TensorSpec]:
    specs = {}
    for node in nodes:
        # ONNX Runtime gives a name or None for a dimension which is not fixed.
        dims = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in node.shape)
        specs[node.name] = TensorSpec(node.name, node.type, dims)
    return specs


# --- completing --------------------------------------------------------------------------


def is_complete(config: Config) -> bool:
    """Tell whether inputs and outputs are all given with type and dims.

    Then, as in the C++ backend, there is nothing to complete and the model need not be
    read before an instance does.
    """
    entries = [*config["input"], *config["output"]]
    lists_given = bool(config["input"]) and bool(config["output"])
    return lists_given and all(
        entry.get("dims") and entry.get("data_type", NO_TYPE) != NO_TYPE for entry in entries
    )


def complete_config(model_config: Any, signature: Signature, default_batch_size: int) -> None:
    """Complete ``model_config`` (a ``pb_utils.ModelConfig``) from the ONNX model.

    As far as it can be done: check_config() reports what is wrong.
    """
    config = model_config.as_dict()
    _complete_batching(model_config, signature, default_batch_size)
    batching = config["max_batch_size"] > 0
    controls = sequence_controls(config)
    wanted = [spec for name, spec in signature.inputs.items() if name not in controls]
    given = {entry["name"] for entry in config["input"]}
    wanted += [spec for name, spec in signature.optional_inputs.items() if name in given]
    _complete_tensors(config, "input", wanted, batching)
    # A list of outputs is a choice of outputs, so only an empty one is filled.
    listed = {entry["name"] for entry in config["output"]}
    outputs = [spec for spec in signature.outputs.values() if not listed or spec.name in listed]
    _complete_tensors(config, "output", outputs, batching)


def _complete_batching(model_config: Any, signature: Signature, default_batch_size: int) -> None:
    config = model_config.as_dict()
    if signature.unbatched is not None:
        return  # check_config() reports a max_batch_size which contradicts this
    if config["max_batch_size"] == 0 and not _lists_batch_dimension(config, signature):
        model_config.set_max_batch_size(default_batch_size)
        pb_utils.Logger.log_info(
            f"model '{config['name']}': max_batch_size set to {default_batch_size}, because the "
            "model's first dimension is dynamic and config.pbtxt sets none"
        )
    if config["max_batch_size"] > 1 and not has_scheduler(config):
        model_config.set_dynamic_batching()


def _lists_batch_dimension(config: Config, signature: Signature) -> bool:
    """Tell whether some dims in the configuration are those of the model, batch included."""
    return any(
        len(backend_dims(entry)) == len(spec.dims)
        for entry, spec in _entries(config, signature)
        if entry.get("dims") or entry.get("reshape")
    )


def _entries(config: Config, signature: Signature) -> List[Tuple[Dict[str, Any], TensorSpec]]:
    """Return the configuration's entries which the model knows, with what it says of them."""
    inputs = {**signature.inputs, **signature.optional_inputs}
    pairs = [(entry, inputs.get(entry["name"])) for entry in config["input"]]
    pairs += [(entry, signature.outputs.get(entry["name"])) for entry in config["output"]]
    return [(entry, spec) for entry, spec in pairs if spec is not None]


def _complete_tensors(config: Config, key: str, specs: List[TensorSpec], batching: bool) -> None:
    """Complete the entries of ``config[key]``, and add those which are missing.

    On the dict itself: ``ModelConfig.add_input`` refuses dims which merely narrow the
    model's, and a ``reshape``, which a batched scalar needs.
    """
    entries = {entry["name"]: entry for entry in config[key]}
    for spec in specs:
        entry = entries.get(spec.name)
        if entry is None:
            entry = {"name": spec.name}
            config[key].append(entry)
        if entry.get("data_type", NO_TYPE) == NO_TYPE:
            entry["data_type"] = types.triton_type(spec.onnx_type) or STAND_IN_TYPE
        if not entry.get("dims"):
            _complete_dims(entry, spec.dims[1:] if batching else spec.dims, batching)


def _complete_dims(entry: Dict[str, Any], dims: Dims, batching: bool) -> None:
    """Set ``dims``; a scalar is dims [1], as Triton has no empty dims.

    With batching the reshape to [] tells the core so; without, Triton refuses an empty
    reshape and the backend itself drops and adds the dimension.
    """
    entry["dims"] = list(dims) or [1]
    if not dims and batching:
        entry["reshape"] = {"shape": []}


# --- checking ----------------------------------------------------------------------------


def check_config(config: Config, signature: Signature) -> None:
    """Raise ModelLoadError where the configuration contradicts the ONNX model."""
    _check_unsupported(config)
    _check_names(config, signature)
    _check_batching(config, signature)
    batching = config["max_batch_size"] > 0
    inputs = {**signature.inputs, **signature.optional_inputs}
    for entry in config["input"]:
        _check_tensor("input", entry, inputs[entry["name"]], batching)
    for entry in config["output"]:
        _check_tensor("output", entry, signature.outputs[entry["name"]], batching)
    given = {entry["name"] for entry in config["input"]} | set(sequence_controls(config))
    missing = [name for name in signature.inputs if name not in given]
    if missing:
        msg = (
            f"the ONNX model needs the inputs {listing(missing)}, which config.pbtxt does not list"
        )
        raise ModelLoadError(msg)
    if not config["output"]:
        msg = f"config.pbtxt lists no output; the ONNX model has {listing(signature.outputs)}"
        raise ModelLoadError(msg)


def _check_unsupported(config: Config) -> None:
    refuse_decoupled(config)
    for key in ("batch_input", "batch_output"):
        if config.get(key):
            msg = f"config.pbtxt uses {key}, which this backend does not support"
            raise ModelLoadError(msg)
    if (config.get("sequence_batching") or {}).get("state"):
        msg = "config.pbtxt uses sequence_batching.state, which this backend does not support"
        raise ModelLoadError(msg)


def _check_names(config: Config, signature: Signature) -> None:
    inputs = [*signature.inputs, *signature.optional_inputs]
    for kind, known in (("input", inputs), ("output", list(signature.outputs))):
        for entry in config[kind]:
            if entry["name"] not in known:
                msg = (
                    f"config.pbtxt lists {kind} '{entry['name']}', but the ONNX model has "
                    f"{listing(known)}{did_you_mean(entry['name'], known)}"
                )
                raise ModelLoadError(msg)
    for name in sequence_controls(config):
        if name not in inputs:
            msg = f"sequence_batching names control '{name}', but the ONNX model has {listing(inputs)}"
            raise ModelLoadError(msg)


def _check_batching(config: Config, signature: Signature) -> None:
    if config["max_batch_size"] > 0:
        for _entry, spec in _entries(config, signature):
            if not spec.can_batch:
                what = (
                    f"has dims {list(spec.dims)}, without a dynamic first dimension"
                    if spec.dims
                    else "is a scalar or of unknown rank"
                )
                msg = (
                    f"config.pbtxt sets max_batch_size {config['max_batch_size']}, but the ONNX "
                    f"model cannot batch: '{spec.name}' {what}"
                )
                raise ModelLoadError(msg)


def _check_tensor(kind: str, entry: Mapping[str, Any], spec: TensorSpec, batching: bool) -> None:
    if entry["data_type"] != spec.data_type:
        msg = (
            f"config.pbtxt gives {kind} '{spec.name}' the data_type {entry['data_type']}, but the "
            f"ONNX model has {spec.data_type}"
        )
        raise ModelLoadError(msg)
    if kind == "output" and not spec.dims:
        return  # of unknown rank, perhaps: ONNX Runtime gives [] for it as for a scalar
    model_dims = spec.dims[1:] if batching else spec.dims
    dims = backend_dims(entry)
    if not _dims_agree(dims, model_dims):
        has = f"has {list(model_dims)}{' after the batch dimension' if batching else ''}"
        if not spec.dims:
            has = (
                "gives none: it is a scalar there (dims [1]), or of unknown rank, which this "
                "backend does not support for an input"
            )
        msg = (
            f"config.pbtxt gives {kind} '{spec.name}' the dims {list(dims)}, but the ONNX model "
            f"{has}"
        )
        raise ModelLoadError(msg)


def _dims_agree(dims: Dims, model_dims: Dims) -> bool:
    if not model_dims:
        return dims in ((), (1,))  # a scalar is dims [1]
    same_rank = len(dims) == len(model_dims)
    return same_rank and all(want in (-1, got) for got, want in zip(dims, model_dims))
