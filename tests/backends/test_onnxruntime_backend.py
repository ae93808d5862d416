# SPDX-License-Identifier: Apache-2.0
"""The onnxruntime backend, through a real server, over HTTP and gRPC."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_models
import pytest
import requests
import tritonclient.grpc as triton_grpc
from http_client import HttpClient, HttpError
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One server with the good models loaded, the bad ones waiting in the repository."""
    repository = tmp_path_factory.mktemp("models")
    names = onnx_models.good_repository(repository)
    onnx_models.bad_repository(repository)
    loads = [f"--load-model={name}" for name in names]
    with serve(repository, "--model-control-mode=explicit", *loads) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Any) -> HttpClient:
    return HttpClient(server.http)


class GrpcClient:
    """The same ``infer`` as HttpClient's, over gRPC."""

    def __init__(self, address: str) -> None:
        self._client = triton_grpc.InferenceServerClient(address)

    def infer(
        self, model: str, inputs: dict[str, np.ndarray], outputs: list[str] | None = None
    ) -> dict[str, np.ndarray]:
        tensors = []
        for name, array in inputs.items():
            tensor = triton_grpc.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        wanted = [triton_grpc.InferRequestedOutput(name) for name in outputs] if outputs else None
        result = self._client.infer(model, tensors, outputs=wanted)
        return {o.name: result.as_numpy(o.name) for o in result.get_response().outputs}

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def grpc(server: Any) -> Iterator[GrpcClient]:
    client = GrpcClient(server.grpc)
    yield client
    client.close()


def counts(http: HttpClient, model: str) -> tuple[int, int]:
    """Return (inferences, executions) of a model."""
    stats = http.get(f"v2/models/{model}/stats")["model_stats"][0]
    return stats["inference_count"], stats["execution_count"]


def sample(datatype: str, shape: tuple[int, ...]) -> np.ndarray:
    dtype = np.dtype(triton_to_np_dtype(datatype))
    size = int(np.prod(shape))
    if dtype.kind == "b":
        values: Any = np.arange(size) % 2 == 0
    elif dtype.kind == "f":
        values = np.resize(np.array([np.finfo(dtype).max, -0.5, np.inf, 0.1]), size)
    else:
        info = np.iinfo(dtype)
        values = np.resize(np.array([info.max, info.min, 1], dtype=dtype), size)
    return np.asarray(values).astype(dtype).reshape(shape)


# --- types -------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("model", ["types", "strings"])
def test_every_numeric_type_passes_both_ways(
    model: str, protocol: str, request: pytest.FixtureRequest
) -> None:
    client = request.getfixturevalue(protocol)
    inputs = {f"in_{t}": sample(t, (2, 3)) for t in onnx_models.NUMERIC}
    if model == "strings":
        inputs["in_BYTES"] = np.array([[b"a"], [b"b"]], dtype=np.object_)
    result = client.infer(model, inputs)
    for datatype in onnx_models.NUMERIC:
        got = result[f"out_{datatype}"]
        assert got.dtype == inputs[f"in_{datatype}"].dtype
        np.testing.assert_array_equal(got, inputs[f"in_{datatype}"])


def string_result(client: Any, values: np.ndarray) -> np.ndarray:
    numbers = {f"in_{t}": sample(t, (values.shape[0], 1)) for t in onnx_models.NUMERIC}
    return client.infer("strings", {"in_BYTES": values, **numbers}, ["out_BYTES"])["out_BYTES"]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_strings_pass_both_ways(protocol: str, request: pytest.FixtureRequest) -> None:
    texts = ["", "plain", "größe 東京 🚀", "zero\0inside", "ends in zero\0", " x " * 400]
    values = np.array([text.encode() for text in texts], dtype=np.object_).reshape(2, 3)
    got = string_result(request.getfixturevalue(protocol), values)
    assert got.shape == (2, 3)
    assert got.reshape(-1).tolist() == values.reshape(-1).tolist()


def test_bytes_which_are_not_utf8_are_a_clean_error(http: HttpClient) -> None:
    with pytest.raises(HttpError, match="UTF-8") as caught:
        string_result(http, np.array([[b"\xff\0"]], dtype=np.object_))
    assert ".py" not in str(caught.value)


def test_json_requests_work(server: Any) -> None:
    body = {"inputs": [{"name": "X", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    answer = requests.post(f"{server.http}/v2/models/bare/infer", json=body, timeout=60)
    assert answer.json()["outputs"][0]["data"] == [2.0, 4.0, 6.0]


# --- configuration -----------------------------------------------------------------------


def test_no_config_is_completed_from_the_model(http: HttpClient) -> None:
    config = http.get("v2/models/bare/config")
    assert config["backend"] == "onnxruntime"
    assert config["max_batch_size"] == 4
    assert "dynamic_batching" in config
    assert [(t["name"], t["data_type"], t["dims"]) for t in config["input"]] == [
        ("X", "TYPE_FP32", [3])
    ]
    assert [(t["name"], t["data_type"], t["dims"]) for t in config["output"]] == [
        ("Y", "TYPE_FP32", [3])
    ]


def test_partial_inputs_are_completed(http: HttpClient) -> None:
    config = http.get("v2/models/optional/config")
    assert config["max_batch_size"] == 0
    assert {t["name"]: t["optional"] for t in config["input"]} == {"SCALE": True, "X": False}


def test_optional_input_uses_its_default(http: HttpClient) -> None:
    x = np.array([1, 2], dtype=np.float32)
    assert http.infer("optional", {"X": x})["Y"].tolist() == [10, 20]
    scale = np.array([3, 4], dtype=np.float32)
    assert http.infer("optional", {"X": x, "SCALE": scale})["Y"].tolist() == [3, 8]


def test_external_data_custom_file_name_and_version(http: HttpClient) -> None:
    got = http.infer("external", {"X": np.ones(2048, dtype=np.float32)})["Y"]
    np.testing.assert_array_equal(got, np.arange(2048) + 1)
    assert http.get("v2/models/external/stats")["model_stats"][0]["version"] == "3"


def test_scalars_are_dims_1(http: HttpClient) -> None:
    one = http.infer("scalar", {"X": np.array([4], dtype=np.float32)})["Y"]
    assert one.tolist() == [8]
    many = http.infer("scalars", {"X": np.array([[4], [5]], dtype=np.float32)})["Y"]
    assert many.tolist() == [[8], [10]]
    assert http.get("v2/models/scalars/config")["input"][0]["dims"] == [1]


def test_listed_scalars_keep_the_dims_of_the_config(http: HttpClient) -> None:
    """A list with dims [1] and no reshape: alone, and as a part of a joined run."""
    assert http.get("v2/models/listed_scalars")["outputs"][0]["shape"] == [-1, 1]
    inputs = [{"X": np.array([[i], [9]], dtype=np.float32)} for i in range(3)]
    before = counts(http, "listed_scalars")
    results = together(http, "listed_scalars", inputs)
    assert counts(http, "listed_scalars")[1] - before[1] < 3
    results.append(http.infer("listed_scalars", inputs[0]))
    for given, got in zip([*inputs, inputs[0]], results, strict=True):
        assert got["Y"].tolist() == (given["X"] * 2).tolist()


def test_session_options_are_accepted_and_foreign_ones_mentioned(
    server: Any, http: HttpClient
) -> None:
    got = http.infer("tuned", {"X": np.ones((2, 3), dtype=np.float32)})["Y"]
    np.testing.assert_array_equal(got, np.full((2, 3), 2))
    assert "model 'tuned': these parameters have no effect: owner" in server.log()


def test_two_instances_answer(http: HttpClient) -> None:
    """Without an instance_group Triton gives an onnxruntime model two CPU instances."""
    assert http.get("v2/models/bare/config")["instance_group"][0]["count"] == 2

    def one(value: int) -> np.ndarray:
        return http.infer("bare", {"X": np.full((1, 3), value, np.float32)})["Y"]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(one, range(24)))
    for value, got in enumerate(results):
        np.testing.assert_array_equal(got, np.full((1, 3), 2 * value))


# --- batching and shapes -----------------------------------------------------------------


def together(http: HttpClient, model: str, inputs: list[dict[str, np.ndarray]]) -> list[Any]:
    """Send the requests at once; return each one's result or its exception."""

    def one(arrays: dict[str, np.ndarray]) -> Any:
        try:
            return http.infer(model, arrays)
        except HttpError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(len(inputs)) as pool:
        return list(pool.map(one, inputs))


def test_requests_are_joined_into_one_run(http: HttpClient) -> None:
    before = counts(http, "joined")
    inputs = [{"X": np.full((2, 3), i, dtype=np.float32)} for i in range(4)]
    results = together(http, "joined", inputs)
    for given, got in zip(inputs, results, strict=True):
        np.testing.assert_array_equal(got["Y"], given["X"] * 2)
    after = counts(http, "joined")
    assert after[0] - before[0] == 8
    assert after[1] - before[1] < 4


def test_one_wrong_request_does_not_spoil_its_batch(server: Any, http: HttpClient) -> None:
    before = counts(http, "lookup")
    indices = [1, 99, 3, 4]
    results = together(http, "lookup", [{"INDEX": np.array([[i]], np.int64)} for i in indices])
    for index, got in zip(indices, results, strict=True):
        if index == 99:
            assert "out of data bounds" in str(got)
            assert "picker" in str(got)
            assert ".cc" not in str(got)
            assert ".py" not in str(got)
        else:
            assert got["VALUE"].tolist() == [[index * 10]]
    assert counts(http, "lookup")[1] - before[1] <= 2
    assert got_metrics(server, "nv_inference_request_success", "lookup") == 3
    assert got_metrics(server, "nv_inference_request_failure", "lookup") == 1


def got_metrics(server: Any, metric: str, model: str) -> int:
    lines = requests.get(f"{server.metrics}/metrics", timeout=60).text.splitlines()
    found = [x for x in lines if x.startswith(metric + "{") and f'model="{model}"' in x]
    return int(float(found[0].split()[-1]))


def test_outputs_without_a_batch_dimension_are_not_joined(server: Any, http: HttpClient) -> None:
    inputs = [{"X": np.full((2, 3), i, dtype=np.float32)} for i in range(3)]
    results = together(http, "positive", inputs)
    for value, got in enumerate(results):
        np.testing.assert_array_equal(got["P"], np.full((2 if value else 0, 3), value))
    assert "model 'positive': an output's first dimension is not the batch" in server.log()


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (1, 200, 300)])
def test_dynamic_shapes(http: HttpClient, shape: tuple[int, ...]) -> None:
    a = np.random.default_rng(0).random(shape, dtype=np.float32)
    result = http.infer("dynamic", {"A": a, "B": a})
    np.testing.assert_array_equal(result["SUM"], a + a)
    np.testing.assert_array_equal(result["DIFF"], a - a)


def test_large_outputs_are_right_when_read_in_place(http: HttpClient) -> None:
    """From 4 MiB on the outputs are views of ONNX Runtime's memory, from the second run on."""
    for seed in range(3):
        a = np.random.default_rng(seed).random((1, 1100, 1000), dtype=np.float32)
        result = http.infer("dynamic", {"A": a, "B": a})
        np.testing.assert_array_equal(result["SUM"], a + a)
        np.testing.assert_array_equal(result["DIFF"], a - a)


def test_only_the_requested_output_is_returned(http: HttpClient) -> None:
    a = np.ones((1, 2, 2), dtype=np.float32)
    assert list(http.infer("dynamic", {"A": a, "B": a}, ["DIFF"])) == ["DIFF"]


# --- errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "needle"),
    [
        ({"X": np.ones((1, 4), np.float32)}, "unexpected shape for input 'X'"),
        ({"X": np.ones((1, 3), np.int32)}, "data-type"),
        ({"X": np.ones((5, 3), np.float32)}, "batch-size must be <= 4"),
        ({"Z": np.ones((1, 3), np.float32)}, "'Z'"),
    ],
)
def test_wrong_input_is_refused_and_the_server_goes_on(
    http: HttpClient, inputs: dict[str, np.ndarray], needle: str
) -> None:
    with pytest.raises(HttpError, match=needle) as caught:
        http.infer("bare", inputs)
    assert caught.value.status == 400
    test_two_instances_answer(http)


def test_input_which_only_the_model_can_refuse(http: HttpClient) -> None:
    a = np.ones((1, 2, 3), dtype=np.float32)
    with pytest.raises(HttpError) as caught:
        http.infer("dynamic", {"A": a, "B": np.ones((1, 2, 4), dtype=np.float32)})
    message = str(caught.value)
    assert message.startswith("model 'dynamic': the run failed: ")
    assert "adder" in message or "subtractor" in message
    assert "3 by 4" in message
    assert "/onnxruntime" not in message
    assert "\n" not in message
    assert http.infer("dynamic", {"A": a, "B": a})["SUM"].tolist() == (a + a).tolist()


@pytest.fixture(scope="module")
def load_errors(http: HttpClient) -> dict[str, str]:
    """Try to load every bad model, several at a time; return the errors."""

    def load(name: str) -> str:
        try:
            http.post(f"v2/repository/models/{name}/load")
        except HttpError as error:
            return str(error)
        return "it loaded"

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return dict(zip(onnx_models.BAD, pool.map(load, onnx_models.BAD), strict=True))


@pytest.mark.parametrize("name", list(onnx_models.BAD))
def test_bad_model_says_why(name: str, load_errors: dict[str, str], http: HttpClient) -> None:
    index = {entry["name"]: entry for entry in http.post("v2/repository/index")}
    for message in (load_errors[name], index[name]["reason"]):
        for part in onnx_models.BAD[name][2]:
            assert part in message
        assert "At:" not in message
        assert ".py" not in message
        assert "\n" not in message.strip()


def test_config_is_checked_without_auto_complete(serve: Any, tmp_path: Path) -> None:
    for name in ("bad_type", "bad_dims"):
        proto, config, _ = onnx_models.BAD[name]
        onnx_models.place(tmp_path, name, proto, onnx_models.BACKEND + config)
    onnx_models.place(
        tmp_path, "good", onnx_models.double(), onnx_models.BACKEND + onnx_models._io()
    )
    options = ("--disable-auto-complete-config", "--exit-on-error=false")
    with serve(tmp_path, *options) as running:
        models = HttpClient(running.http).post("v2/repository/index")
    index = {entry["name"]: entry for entry in models}
    assert index["good"]["state"] == "READY"
    for name in ("bad_type", "bad_dims"):
        for part in onnx_models.BAD[name][2]:
            assert part in index[name]["reason"]
