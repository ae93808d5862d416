"""fetch-models: a model out of a wheel of the test's own, through the real pip."""

from __future__ import annotations

import hashlib
import json
import zipfile

import pytest

NAME = "tiny_model-1.0-py3-none-any.whl"
CONFIG = 'backend: "onnxruntime"\noutput [ { label_filename: "labels.txt" } ]\n'


@pytest.fixture
def world(cli, tmp_path):
    """Return a function that writes recipe and wheel, and one that runs the verb."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / NAME, "w") as archive:
        archive.writestr("tiny_model/weights.onnx", b"weights")
        archive.writestr(
            "tiny_model-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
        )
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256((wheels / NAME).read_bytes()).hexdigest()
    cache = tmp_path / "cache"

    def fetch(*names, sha256=digest, member="tiny_model/weights.onnx", output="out"):
        recipe = {
            "name": "tiny", "summary": "a tiny model", "distribution": "tiny-model",
            "license": "MIT", "wheel": {"filename": NAME, "sha256": sha256},
            "files": {"1/model.onnx": member}, "labels": ["cat", "dog"], "config": CONFIG,
        }  # fmt: skip
        folder = tmp_path / "mine" / "models"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tiny.yaml").write_text(json.dumps(recipe))
        return cli(
            "fetch-models", "--output", tmp_path / output, "--recipes", folder.parent,
            *(names or ("tiny",)), cwd=tmp_path, TRITONBUILD_CACHE_DIR=str(cache),
            PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels),
        )  # fmt: skip

    fetch.folder = tmp_path
    return fetch


def test_model_repository_has_what_triton_wants(world):
    done = world()
    assert done.code == 0, done.text
    model = world.folder / "out" / "models" / "tiny"
    files = {str(p.relative_to(model)): p.read_bytes() for p in model.rglob("*") if p.is_file()}
    assert files == {
        "1/model.onnx": b"weights",
        "config.pbtxt": CONFIG.encode(),
        "labels.txt": b"cat\ndog\n",
    }
    assert [path.name for path in (world.folder / "out" / "models").iterdir()] == ["tiny"]
    assert (world.folder / "out" / "image_client.py").is_file()
    assert list((world.folder / "out" / "images").iterdir())


def test_second_run_needs_no_index_and_changes_nothing(world):
    assert world().code == 0
    (world.folder / "wheels" / NAME).unlink()
    done = world()
    assert done.code == 0, done.text
    assert "is there already" in done.err


def test_changed_model_is_not_overwritten(world):
    assert world().code == 0
    config = world.folder / "out" / "models" / "tiny" / "config.pbtxt"
    config.write_text("mine")
    done = world()
    assert done.code == 2
    assert "is there already, and is another model" in done.err
    assert config.read_text() == "mine"


@pytest.mark.parametrize(
    ("changed", "code", "message"),
    [
        pytest.param({"sha256": "0" * 64}, 5, "is not what the recipe pins", id="checksum"),
        pytest.param({"member": "tiny_model/gone.onnx"}, 5, "has no file tiny_model/", id="member"),
    ],
)
def test_model_that_does_not_arrive_leaves_nothing(world, changed, code, message):
    done = world(**changed)
    assert done.code == code
    assert message in done.err
    assert list((world.folder / "out" / "models").iterdir()) == []


def test_unknown_model_is_named(world):
    done = world("tinyy")
    assert done.code == 2
    assert 'unknown example model "tinyy"; did you mean "tiny"?' in done.err
