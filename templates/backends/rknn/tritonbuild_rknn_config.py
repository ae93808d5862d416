# SPDX-License-Identifier: Apache-2.0
"""The model configuration of an RKNN model.

The parameter names ``want_float``, ``pass_through`` and ``flag`` and their defaults are
those of the C++ rknn backend (zjd1988/rknn_backend); ``data_format`` and ``core_mask`` are
this backend's own.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Tuple

import numpy as np
import triton_python_backend_utils as pb_utils
from tritonbuild_common import (
    Config,
    ModelLoadError,
    check_parameter_names,
    listing,
    model_sentence,
    parameters,
    parse_bool,
    parse_int,
    refuse_decoupled,
)

WANT_FLOAT = "want_float"
PASS_THROUGH = "pass_through"
FLAG = "flag"
DATA_FORMAT = "data_format"
CORE_MASK = "core_mask"
KNOWN = (WANT_FLOAT, PASS_THROUGH, FLAG, DATA_FORMAT, CORE_MASK)

# What RKNNLite.inference() takes.
INPUT_TYPES: Dict[str, type] = {
    "TYPE_UINT8": np.uint8,
    "TYPE_INT8": np.int8,
    "TYPE_INT16": np.int16,
    "TYPE_FP16": np.float16,
    "TYPE_FP32": np.float32,
}
OUTPUT_TYPES = ("TYPE_FP32",)

_FORMATS = {"FORMAT_NHWC": "nhwc", "FORMAT_NCHW": "nchw", "FORMAT_NONE": ""}

EXAMPLE = (
    'input [ { name: "images" data_type: TYPE_UINT8 dims: [ 1, 640, 640, 3 ] } ] '
    'output [ { name: "output" data_type: TYPE_FP32 dims: [ 1, 255, 80, 80 ] } ]'
)


class Output(NamedTuple):
    """One output in config.pbtxt."""

    name: str
    dims: Tuple[int, ...]  # without the batch dimension of max_batch_size


class Settings(NamedTuple):
    """What the configuration says, checked."""

    inputs: List[str]  # in the model's order
    outputs: List[Output]  # in the model's order
    batching: bool  # max_batch_size is 1: shapes have a leading 1
    data_format: List[str]  # per input: "nhwc" or "nchw"; [] leaves it to RKNNLite
    pass_through: bool
    core_mask: str  # the parameter's text


def read_settings(config: Config) -> Settings:
    """Return the settings; raises ModelLoadError where RKNNLite cannot do it."""
    given = parameters(config)
    refuse_decoupled(config)
    _check_parameters(config, given)
    _check_tensors(config)
    return Settings(
        inputs=[str(entry["name"]) for entry in config["input"]],
        outputs=[
            Output(str(entry["name"]), tuple(int(dim) for dim in entry["dims"]))
            for entry in config["output"]
        ],
        batching=config["max_batch_size"] > 0,
        data_format=_data_format(config, given),
        pass_through=parse_bool(PASS_THROUGH, given.get(PASS_THROUGH, "0")),
        core_mask=given.get(CORE_MASK, "").strip(),
    )


def _check_parameters(config: Config, given: Mapping[str, str]) -> None:
    ignored = check_parameter_names(given, KNOWN)
    if ignored:
        text = f"these parameters have no effect: {listing(ignored)}"
        pb_utils.Logger.log_warn(model_sentence(config["name"], text))
    if not parse_bool(WANT_FLOAT, given.get(WANT_FLOAT, "1")):
        msg = (
            f"parameter '{WANT_FLOAT}' is off, but RKNNLite always gives outputs as float32; "
            "leave it out and give the outputs data_type TYPE_FP32"
        )
        raise ModelLoadError(msg)
    if parse_int(FLAG, given.get(FLAG, "0")) != 0:
        msg = f"parameter '{FLAG}' is {given[FLAG]}, but RKNNLite cannot pass flags to rknn_init"
        raise ModelLoadError(msg)


def _check_tensors(config: Config) -> None:
    if not config["input"] or not config["output"]:
        msg = (
            "config.pbtxt has to list all inputs and outputs in the RKNN model's order (RKNNLite "
            f"does not tell them), for example: {EXAMPLE}"
        )
        raise ModelLoadError(msg)
    if config["max_batch_size"] > 1:
        msg = (
            f"max_batch_size is {config['max_batch_size']}, but an RKNN model has a fixed batch: "
            "set 1 (or 0, with the batch as the first of the dims)"
        )
        raise ModelLoadError(msg)
    for kind, allowed in (("input", list(INPUT_TYPES)), ("output", list(OUTPUT_TYPES))):
        for entry in config[kind]:
            if entry["data_type"] not in allowed:
                msg = (
                    f"{kind} '{entry['name']}' has data_type {entry['data_type']}; RKNNLite has "
                    f"{listing(allowed)} for {kind}s"
                )
                raise ModelLoadError(msg)


def _data_format(config: Config, given: Mapping[str, str]) -> List[str]:
    """Return 'nhwc' or 'nchw' for each input: the parameter's, else the input's ``format``."""
    text = given.get(DATA_FORMAT, "").strip().lower()
    if text and text not in ("nhwc", "nchw"):
        msg = f"parameter '{DATA_FORMAT}' has to be nhwc or nchw, not '{given[DATA_FORMAT]}'"
        raise ModelLoadError(msg)
    formats = [text or _input_format(entry) for entry in config["input"]]
    return [name or "nhwc" for name in formats] if any(formats) else []


def _input_format(entry: Mapping[str, Any]) -> str:
    return _FORMATS.get(str(entry.get("format", "FORMAT_NONE")), "")
