# SPDX-License-Identifier: Apache-2.0
"""A small thread-safe client of Triton's HTTP protocol with its binary tensor extension.

``tritonclient.http`` runs on greenlets, which cannot be shared between threads.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import requests
from tritonclient.utils import (
    deserialize_bytes_tensor,
    np_to_triton_dtype,
    serialize_byte_tensor,
    triton_to_np_dtype,
)

TIMEOUT = 120.0
LENGTH = "Inference-Header-Content-Length"


class HttpError(Exception):
    """The server's error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class HttpClient:
    """Talks to the server at ``base`` (``http://host:port``)."""

    def __init__(self, base: str) -> None:
        self._base = base

    def get(self, path: str) -> Any:
        return self._json(requests.get(f"{self._base}/{path}", timeout=TIMEOUT))

    def post(self, path: str, body: Any = None) -> Any:
        return self._json(requests.post(f"{self._base}/{path}", json=body or {}, timeout=TIMEOUT))

    def infer(
        self, model: str, inputs: dict[str, np.ndarray], outputs: list[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Return the outputs of one request; all tensors are binary, both ways."""
        blobs = [_encode(array) for array in inputs.values()]
        entries = [
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": np_to_triton_dtype(array.dtype),
                "parameters": {"binary_data_size": len(blob)},
            }
            for (name, array), blob in zip(inputs.items(), blobs, strict=True)
        ]
        request: dict[str, Any] = {"inputs": entries, "parameters": {"binary_data_output": True}}
        if outputs:
            binary = {"binary_data": True}
            request["outputs"] = [{"name": name, "parameters": binary} for name in outputs]
        head = json.dumps(request).encode()
        answer = requests.post(
            f"{self._base}/v2/models/{model}/infer",
            data=b"".join([head, *blobs]),
            headers={LENGTH: str(len(head))},
            timeout=TIMEOUT,
        )
        if not answer.ok:
            self._json(answer)
        # Without the header there is no binary data: every output is empty.
        return _decode(answer.content, int(answer.headers.get(LENGTH, len(answer.content))))

    @staticmethod
    def _json(answer: requests.Response) -> Any:
        if not answer.ok:
            raise HttpError(answer.status_code, answer.json()["error"])
        return answer.json() if answer.content else None


def _encode(array: np.ndarray) -> bytes:
    if array.dtype == np.object_:
        return bytes(serialize_byte_tensor(array).item()) if array.size else b""
    return array.tobytes()


def _decode(content: bytes, head_size: int) -> dict[str, np.ndarray]:
    found, at = {}, head_size
    for output in json.loads(content[:head_size])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        blob, at = content[at : at + size], at + size
        if output["datatype"] == "BYTES":
            array = deserialize_bytes_tensor(blob)
        else:
            array = np.frombuffer(blob, triton_to_np_dtype(output["datatype"]))
        found[output["name"]] = array.reshape(output["shape"])
    return found
