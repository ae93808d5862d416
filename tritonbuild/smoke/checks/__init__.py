"""What the smoke test asks a server, and what it must answer: one `Check` a question.

A module has a theme. The order is that of the run: what the server was started with comes first,
then models in the order in which they are loaded meanwhile. `batched` and `instances` send several
requests at once and wait until nothing is being loaded: a load keeps other requests of the same
thread of the server waiting.
"""

from __future__ import annotations

from tritonbuild.smoke.checks import (
    basics,
    in_process,
    observing,
    protocol,
    python_models,
    refusals,
    repository,
    scheduling,
)

# What is asked over and over where memory is watched; all of it was asked before.
QUESTIONS = (basics.HTTP_JSON, basics.HTTP_BINARY, basics.ONNX)

CHECKS = (
    basics.READY,
    basics.HTTP_JSON,
    basics.ONNX,
    basics.METADATA,
    basics.MODEL_METADATA,
    basics.HTTP_BINARY,
    basics.GRPC,
    basics.GRPC_ONNX,
    repository.LOADS["affine_auto"],
    basics.ONNX_AUTO,
    protocol.CLASSIFICATION,
    protocol.SHARED_MEMORY,
    observing.TRACE,
    repository.LOADS["pipeline"],
    scheduling.ENSEMBLE,
    python_models.BLS,
    scheduling.SEQUENCE,
    scheduling.CACHE,
    python_models.DECOUPLED,
    python_models.DECOUPLED_HTTP,
    in_process.C_API,
    repository.LOADS["batched"],
    repository.LOADS["instances"],
    scheduling.BATCHED,
    scheduling.INSTANCES,
    observing.METRICS,
    *refusals.REFUSALS,
    repository.BROKEN_MODEL,
    repository.AGENT,
    repository.UNLOAD,
    repository.RELOAD,
    basics.STILL_READY,
    repository.STOP,
)
