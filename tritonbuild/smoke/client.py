"""Requests to a server in the KServe protocol, over HTTP with JSON or binary tensors, and gRPC.

https://github.com/kserve/kserve/tree/master/docs/predict-api/v2 and Triton's
extension_binary_data.md are the protocol.
"""

from __future__ import annotations

import json
import queue
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import requests
    from tritonclient.grpc import InferResult

# Emulated models take their time; a server that hangs must not hang us.
_ANSWER_TIMEOUT = 120

Json = Any

# struct's letter for each type that the checks send, all little-endian.
_FORMATS = {"FP32": "f", "INT32": "i", "UINT8": "B"}


@dataclass(frozen=True)
class Tensor:
    """An input or output: its type in the protocol's words, its shape and its flat values."""

    datatype: str
    shape: tuple[int, ...]
    data: tuple[Any, ...]

    def to_json(self, name: str) -> dict[str, Json]:
        """Return it as a part of a JSON request."""
        return {
            "name": name,
            "datatype": self.datatype,
            "shape": list(self.shape),
            "data": list(self.data),
        }

    def to_bytes(self) -> bytes:
        """Return its values as the binary extension sends them."""
        return struct.pack(f"<{len(self.data)}{_FORMATS[self.datatype]}", *self.data)


class AnswerError(Exception):
    """The server answered with an error, or with something that is not the protocol.

    Attributes:
        status: HTTP status; None over gRPC.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """One connection to a server; counts the inferences that were answered, by model."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answered: dict[str, int] = {}
        self._local = threading.local()
        self._lock = threading.Lock()

    def _session(self) -> requests.Session:
        """Return this thread's own connection: a Session is not made for several threads."""
        import requests

        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            # A proxy from the environment knows nothing of our loopback.
            self._local.session.trust_env = False
        session: requests.Session = self._local.session
        return session

    def get(self, path: str) -> requests.Response:
        """GET a path or a whole URL."""
        url = path if "://" in path else self.url + path
        return self._session().get(url, timeout=_ANSWER_TIMEOUT)

    def post(
        self, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """POST bytes to a path."""
        return self._session().post(
            self.url + path, data=body, headers=dict(headers or {}), timeout=_ANSWER_TIMEOUT
        )

    def get_json(self, path: str) -> Json:
        """GET a path's JSON.

        Raises:
            AnswerError: The status is not 200 or there is no JSON.
        """
        return parse_answer(self.get(path))

    def post_json(self, path: str, body: Json) -> Json:
        """POST JSON and return the answer's.

        Raises:
            AnswerError: The status is not 200 or there is no JSON.
        """
        return parse_answer(self.post(path, json.dumps(body).encode(), JSON_TYPE))

    def ask(self, model: str, body: Json) -> Json:
        """Ask a model with a request in the protocol's JSON and return the answer.

        Raises:
            AnswerError: It did not answer.
        """
        answer = self.post_json(f"/v2/models/{model}/infer", body)
        self.count(model)
        return answer

    @staticmethod
    def encode(inputs: Mapping[str, Tensor], parameters: Mapping[str, Json] | None = None) -> bytes:
        """Return a request as JSON.

        Args:
            inputs: The tensors.
            parameters: Parameters of the request, such as `sequence_id`.
        """
        return json.dumps(_make_body(inputs, parameters)).encode()

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Tensor],
        parameters: Mapping[str, Json] | None = None,
    ) -> dict[str, Tensor]:
        """Ask a model with JSON and return its outputs by name.

        Args:
            model: The model.
            inputs: The tensors.
            parameters: Parameters of the request, such as `sequence_id`.

        Raises:
            AnswerError: It did not answer with outputs.
        """
        answer = self.ask(model, _make_body(inputs, parameters))
        return {
            output["name"]: Tensor(
                output["datatype"], tuple(output["shape"]), tuple(output.get("data", ()))
            )
            for output in answer.get("outputs", ())
        }

    def infer_binary(self, model: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Ask a model with binary tensors both ways and return its outputs by name.

        Raises:
            AnswerError: It did not answer with outputs.
        """
        header, body = encode_binary(inputs)
        response = self.post(
            f"/v2/models/{model}/infer", header + body, {HEADER_LENGTH: str(len(header))}
        )
        if response.status_code != 200:
            parse_answer(response)
        outputs = _decode_binary(response)
        self.count(model)
        return outputs

    def count(self, model: str, times: int = 1) -> None:
        """Note that a model answered."""
        with self._lock:
            self.answered[model] = self.answered.get(model, 0) + times

    def load(self, model: str) -> None:
        """Load a model.

        Raises:
            AnswerError: The server could not; its reason is the message.
        """
        parse_answer(self.post(f"/v2/repository/models/{model}/load"))

    def unload(self, model: str) -> None:
        """Unload a model.

        Raises:
            AnswerError: The server refused.
        """
        parse_answer(self.post(f"/v2/repository/models/{model}/unload"))

    def list_models(self) -> list[dict[str, str]]:
        """Return name, version, state and reason of every model that the server knows.

        Raises:
            AnswerError: The server did not say.
        """
        found = parse_answer(self.post("/v2/repository/index"))
        return found if isinstance(found, list) else []

    def is_ready(self, model: str | None = None) -> bool:
        """Return whether the server, or a model of it, is ready."""
        path = f"/v2/models/{model}/ready" if model else "/v2/health/ready"
        return self.get(path).status_code == 200


HEADER_LENGTH = "Inference-Header-Content-Length"
JSON_TYPE = {"Content-Type": "application/json"}


def _make_body(
    inputs: Mapping[str, Tensor], parameters: Mapping[str, Json] | None
) -> dict[str, Json]:
    body: dict[str, Json] = {"inputs": [tensor.to_json(name) for name, tensor in inputs.items()]}
    return {**body, "parameters": dict(parameters)} if parameters else body


def parse_answer(response: requests.Response) -> Json:
    """Return an answer's JSON (None for an empty body).

    Raises:
        AnswerError: The status is not 200; the message is the server's `error` text.
    """
    try:
        answer = response.json() if response.content else None
    except ValueError:
        msg = f"HTTP {response.status_code} without JSON: {response.text[:200]!r}"
        raise AnswerError(msg, response.status_code) from None
    if response.status_code != 200:
        error = answer.get("error") if isinstance(answer, dict) else None
        msg = " ".join(str(error).split()) if error else f"HTTP {response.status_code}, no reason"
        raise AnswerError(msg, response.status_code)
    return answer


def encode_binary(inputs: Mapping[str, Tensor]) -> tuple[bytes, bytes]:
    """Return the JSON header and the tensors that follow it."""
    parts, entries = [], []
    for name, tensor in inputs.items():
        data = tensor.to_bytes()
        parts.append(data)
        entry = tensor.to_json(name)
        del entry["data"]
        entries.append({**entry, "parameters": {"binary_data_size": len(data)}})
    header = {"inputs": entries, "parameters": {"binary_data_output": True}}
    return json.dumps(header).encode(), b"".join(parts)


def decode_tensor(datatype: str, data: bytes) -> tuple[Any, ...]:
    """Return the flat values of a tensor in the binary extension's form."""
    letter = _FORMATS[datatype]
    return struct.unpack(f"<{len(data) // struct.calcsize(letter)}{letter}", data)


def _decode_binary(response: requests.Response) -> dict[str, Tensor]:
    length = int(response.headers.get(HEADER_LENGTH, "0"))
    if not 0 < length <= len(response.content):
        msg = f"no binary tensors in the answer ({HEADER_LENGTH}: {length})"
        raise AnswerError(msg, response.status_code)
    header = json.loads(response.content[:length])
    at = length
    outputs = {}
    for output in header["outputs"]:
        size = output["parameters"]["binary_data_size"]
        data = decode_tensor(output["datatype"], response.content[at : at + size])
        at += size
        outputs[output["name"]] = Tensor(output["datatype"], tuple(output["shape"]), data)
    return outputs


class GrpcClient:
    """A gRPC connection through `tritonclient`, which is an extra.

    Raises:
        ImportError: `tritonclient[grpc]` is not installed, or does not work here.
    """

    def __init__(self, address: str) -> None:
        import tritonclient.grpc as triton

        self._triton = triton
        # gRPC obeys proxy variables even for loopback.
        self._client = triton.InferenceServerClient(
            address, channel_args=[("grpc.enable_http_proxy", 0)]
        )

    def infer(self, model: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Ask a model and return its outputs by name.

        Raises:
            AnswerError: It did not answer with outputs.
        """
        from tritonclient.utils import InferenceServerException

        asked = self._encode(inputs)
        try:
            result = self._client.infer(model, asked, client_timeout=_ANSWER_TIMEOUT)
        except InferenceServerException as err:
            raise AnswerError(str(err)) from err
        return _decode_result(result)

    def stream(self, model: str, inputs: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Ask a model once over a stream and return the outputs of each of its answers.

        Raises:
            AnswerError: An answer is an error, or the last one does not come.
        """
        answers: queue.Queue[tuple[Any, Exception | None]] = queue.Queue()
        self._client.start_stream(lambda result, error: answers.put((result, error)))
        complete = False
        try:
            self._client.async_stream_infer(
                model, self._encode(inputs), enable_empty_final_response=True
            )
            outputs = list(_read_stream(answers))
            complete = True
        finally:
            # A stream that is cancelled as it ends keeps 2.41 from unloading the model, now and then.
            self._client.stop_stream(cancel_requests=not complete)
        return outputs

    def _encode(self, inputs: Mapping[str, Tensor]) -> list[Any]:
        import numpy as np
        from tritonclient.utils import triton_to_np_dtype

        asked = []
        for name, tensor in inputs.items():
            entry = self._triton.InferInput(name, list(tensor.shape), tensor.datatype)
            dtype = triton_to_np_dtype(tensor.datatype)
            entry.set_data_from_numpy(np.array(tensor.data, dtype=dtype).reshape(tensor.shape))
            asked.append(entry)
        return asked

    def get_version(self) -> str:
        """Return the server's version.

        Raises:
            AnswerError: The server did not answer.
        """
        from tritonclient.utils import InferenceServerException

        try:
            metadata = self._client.get_server_metadata(client_timeout=_ANSWER_TIMEOUT)
        except InferenceServerException as err:
            raise AnswerError(str(err)) from err
        return str(metadata.version)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _read_stream(
    answers: queue.Queue[tuple[Any, Exception | None]],
) -> Iterator[dict[str, Tensor]]:
    """Yield the outputs of each answer until the one that says that it is the last."""
    while True:
        try:
            result, error = answers.get(timeout=_ANSWER_TIMEOUT)
        except queue.Empty:
            msg = f"no last answer within {_ANSWER_TIMEOUT} s"
            raise AnswerError(msg) from None
        if error is not None:
            raise AnswerError(str(error)) from error
        response = result.get_response()
        if response.outputs:
            yield _decode_result(result)
        if response.parameters["triton_final_response"].bool_param:
            return


def _decode_result(result: InferResult) -> dict[str, Tensor]:
    outputs = {}
    for output in result.get_response().outputs:
        values: Sequence[Any] = result.as_numpy(output.name).reshape(-1).tolist()
        outputs[output.name] = Tensor(output.datatype, tuple(output.shape), tuple(values))
    return outputs
