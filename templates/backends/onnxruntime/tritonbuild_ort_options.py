# SPDX-License-Identifier: Apache-2.0
"""Session options, run options and execution providers from the model configuration.

The names are those of Triton's C++ onnxruntime backend where it has one (its README,
"Model Config Options"): the parameters ``intra_op_thread_count``, ``inter_op_thread_count``,
``execution_mode``, ``enable_mem_arena``, ``enable_mem_pattern``,
``memory.enable_memory_arena_shrinkage``, ``session.*``; ``optimization.graph.level`` and
``optimization.execution_accelerators``.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Tuple

import onnxruntime as ort
import triton_python_backend_utils as pb_utils
from tritonbuild_common import (
    Config,
    ModelLoadError,
    check_parameter_names,
    did_you_mean,
    instance_count,
    listing,
    model_sentence,
    parameters,
    parse_bool,
    parse_int,
    usable_cores,
)

CPU_PROVIDER = "CPUExecutionProvider"
PROVIDERS = "execution_providers"
ARENA = "enable_mem_arena"
SHRINKAGE = "memory.enable_memory_arena_shrinkage"

# Keys of these prefixes are passed on as session configuration entries.
SESSION_PREFIXES = ("session.", "optimization.", "mlas.", "ep.")

# The C++ backend's parameters which mean nothing in a CPU-only build or where each instance
# is a process of its own.
NOT_APPLICABLE = (
    "arena_extend_strategy",
    "cudnn_conv_algo_search",
    "do_copy_in_default_stream",
    "gpu_mem_limit",
    "share_session_between_instances",
)

# The python backend's own parameters; it handles them before this backend starts.
PYTHON_BACKEND = ("EXECUTION_ENV_PATH", "FORCE_CPU_ONLY_INPUT_TENSORS")

# Names from elsewhere (mostly ONNX Runtime's own) for what has another name here.
OTHER_NAMES = {
    "intra_op_num_threads": "parameter 'intra_op_thread_count'",
    "inter_op_num_threads": "parameter 'inter_op_thread_count'",
    "enable_cpu_mem_arena": "parameter 'enable_mem_arena'",
    "providers": f"parameter '{PROVIDERS}'",
    "level": "optimization { graph { level: ... } }",
    "graph_optimization_level": "optimization { graph { level: ... } }",
}

# Session configuration keys of ONNX Runtime 1.16, to notice a misspelt one: ONNX Runtime
# itself ignores a key it does not know.
SESSION_KEYS = (
    "session.disable_aot_function_inlining",
    "session.disable_cpu_ep_fallback",
    "session.disable_double_qdq_remover",
    "session.disable_prepacking",
    "session.disable_quant_qdq",
    "session.disable_specified_optimizers",
    "session.dynamic_block_base",
    "session.enable_quant_qdq_cleanup",
    "session.force_spinning_stop",
    "session.inter_op.allow_spinning",
    "session.intra_op.allow_spinning",
    "session.intra_op_thread_affinities",
    "session.load_model_format",
    "session.optimized_model_external_initializers_file_name",
    "session.optimized_model_external_initializers_min_size_in_bytes",
    "session.qdqisint8allowed",
    "session.save_model_format",
    "session.set_denormal_as_zero",
    "session.strict_shape_type_inference",
    "session.use_device_allocator_for_initializers",
    "session.use_env_allocators",
    "session.use_ort_model_bytes_directly",
    "session.use_ort_model_bytes_for_initializers",
)

_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}

_MODES = (ort.ExecutionMode.ORT_SEQUENTIAL, ort.ExecutionMode.ORT_PARALLEL)

# cpu_execution_accelerator names -> execution provider.
_ACCELERATORS = {
    "acl": "ACLExecutionProvider",
    "armnn": "ArmNNExecutionProvider",
    "dnnl": "DnnlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}

Provider = Tuple[str, Dict[str, str]]  # name and options


class SessionPlan(NamedTuple):
    """All that is needed to open a session and to run it."""

    options: Any  # onnxruntime.SessionOptions
    providers: List[Provider]
    run_options: Any  # onnxruntime.RunOptions, or None for the defaults


def session_plan(config: Config) -> SessionPlan:
    """Return the session's settings; raises ModelLoadError for a wrong one."""
    given = parameters(config)
    options = ort.SessionOptions()
    options.graph_optimization_level = _graph_level(config)
    threads = default_threads(config)
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = threads
    providers = _providers(config, given)
    _check_names(config["name"], given, [name for name, _ in providers])
    for name, text in given.items():
        setter = _SETTERS.get(name)
        if setter is not None:
            setter(options, name, text)
        elif name.startswith(SESSION_PREFIXES):
            options.add_session_config_entry(name, text)
    return SessionPlan(options, providers, _run_options(given))


def metadata_plan(config: Config) -> SessionPlan:
    """Return settings which open a session as cheaply as possible, to read its signature."""
    plan = session_plan(config)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_prepacking", "1")
    return SessionPlan(options, plan.providers, None)


def default_threads(config: Config) -> int:
    """Return the number of intra-op threads of one instance where none is configured.

    ONNX Runtime alone would start one thread per core in every session.  Each instance is
    a process with a session of its own and knows nothing of the others: two instances on
    four cores would be eight threads, which spin while they wait and take the cores from
    each other.  So the cores are shared out.
    """
    return max(1, usable_cores() // instance_count(config))


def _graph_level(config: Config) -> Any:
    graph = (config.get("optimization") or {}).get("graph") or {}
    level = int(graph.get("level", 0))
    if level not in _LEVELS:
        msg = f"optimization.graph.level has to be one of {listing(sorted(_LEVELS))}, not {level}"
        raise ModelLoadError(msg)
    return _LEVELS[level]


def _run_options(given: Mapping[str, str]) -> Any:
    if SHRINKAGE not in given:
        return None
    if not parse_bool(ARENA, given.get(ARENA, "1")):
        msg = f"parameter '{SHRINKAGE}' needs the arena, but '{ARENA}' switches it off"
        raise ModelLoadError(msg)
    options = ort.RunOptions()
    options.add_run_config_entry(SHRINKAGE, given[SHRINKAGE])
    return options


# --- parameters --------------------------------------------------------------------------


def _set_intra_op(options: Any, name: str, text: str) -> None:
    count = parse_int(name, text)
    if count:  # 0 is "pick a default", which is ours
        options.intra_op_num_threads = count


def _set_inter_op(options: Any, name: str, text: str) -> None:
    count = parse_int(name, text)
    if count:
        options.inter_op_num_threads = count


def _set_mode(options: Any, name: str, text: str) -> None:
    options.execution_mode = _MODES[parse_int(name, text, allowed=(0, 1))]


def _set_arena(options: Any, name: str, text: str) -> None:
    options.enable_cpu_mem_arena = parse_bool(name, text)


def _set_pattern(options: Any, name: str, text: str) -> None:
    options.enable_mem_pattern = parse_bool(name, text)


_SETTERS: Dict[str, Callable[[Any, str, str], None]] = {
    "intra_op_thread_count": _set_intra_op,
    "inter_op_thread_count": _set_inter_op,
    "execution_mode": _set_mode,
    ARENA: _set_arena,
    "enable_mem_pattern": _set_pattern,
}


def _check_names(model_name: str, given: Mapping[str, str], providers: List[str]) -> None:
    for name in given:
        if name in OTHER_NAMES:
            msg = f"unknown parameter '{name}'; use {OTHER_NAMES[name]}"
            raise ModelLoadError(msg)
        if name.startswith(SESSION_PREFIXES) and name not in SESSION_KEYS:
            hint = did_you_mean(name, SESSION_KEYS)
            if hint:
                msg = f"unknown session option '{name}'{hint}"
                raise ModelLoadError(msg)
    known = [*_SETTERS, PROVIDERS, SHRINKAGE, *NOT_APPLICABLE, *PYTHON_BACKEND]
    passed_on = (*SESSION_PREFIXES, *(f"{provider}." for provider in providers))
    plain = [name for name in given if not name.startswith(passed_on)]
    unknown = check_parameter_names(plain, known)
    ignored = unknown + [name for name in plain if name in NOT_APPLICABLE]
    if ignored:
        pb_utils.Logger.log_warn(
            model_sentence(model_name, f"these parameters have no effect: {listing(ignored)}")
        )


# --- execution providers -----------------------------------------------------------------


def _providers(config: Config, given: Mapping[str, str]) -> List[Provider]:
    """Return the providers in order of preference, the CPU provider last.

    From the parameter ``execution_providers`` (a comma separated list) and from
    ``optimization.execution_accelerators``; ONNX Runtime itself only warns about one
    which it lacks and runs without it.
    """
    chosen: Dict[str, Dict[str, str]] = {}
    for name in (part.strip() for part in given.get(PROVIDERS, "").split(",")):
        if name:
            options = {
                key[len(name) + 1 :]: value
                for key, value in given.items()
                if key.startswith(f"{name}.")
            }
            chosen[name] = options
    chosen.update(_accelerators(config))
    for name in chosen:
        _check_provider(name)
    chosen.setdefault(CPU_PROVIDER, {})
    return list(chosen.items())


def _accelerators(config: Config) -> Dict[str, Dict[str, str]]:
    accelerators = (config.get("optimization") or {}).get("execution_accelerators") or {}
    gpu = accelerators.get("gpu_execution_accelerator")
    if gpu:
        names = listing(entry.get("name") for entry in gpu)
        msg = f"gpu_execution_accelerator ({names}) is set, but this ONNX Runtime is CPU only"
        raise ModelLoadError(msg)
    found = {}
    for entry in accelerators.get("cpu_execution_accelerator") or []:
        name = str(entry.get("name", ""))
        if name not in _ACCELERATORS:
            msg = f"unknown cpu_execution_accelerator '{name}'; known: {listing(_ACCELERATORS)}"
            raise ModelLoadError(msg)
        found[_ACCELERATORS[name]] = dict(entry.get("parameters") or {})
    return found


def _check_provider(name: str) -> None:
    available = ort.get_available_providers()
    if name not in available:
        msg = (
            f"execution provider '{name}' is not in this ONNX Runtime {ort.__version__}; "
            f"available: {listing(available)}{did_you_mean(name, available)}"
        )
        raise ModelLoadError(msg)
