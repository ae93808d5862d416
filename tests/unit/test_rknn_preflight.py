"""What is looked at before a model runs on an NPU, on boards that are folders of files."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import pytest

from tritonbuild.errors import SmokeTestError
from tritonbuild.hosts.facts import Device, Facts, NpuFacts
from tritonbuild.plan.npu import find_npu_of
from tritonbuild.recipe.load import RecipeBook
from tritonbuild.smoke.rknn.model_file import ModelFacts, read_model
from tritonbuild.smoke.rknn.preflight import examine_npu, read_library_version

NPU = NpuFacts(
    soc="xunlong,orangepi-5b rockchip,rk3588",
    driver="0.8.2",
    driver_from="/sys/kernel/debug/rknpu/version",
    library="/usr/lib/librknnrt.so",
    library_version="1.5.2",
    devices=(Device("/dev/dri/renderD129", readable=True, writable=True),),
)
GOOD = Facts(kernel="5.10.110-rockchip-rk3588", npu=NPU)
LIBRARIES = {"backend": ("/usr/lib/librknnrt.so", "1.5.2")}
MODEL = ModelFacts(6, "1.5.2", ("rk3588",))


def examine(facts=GOOD, libraries=LIBRARIES, model=MODEL, soc="rockchip,rk3588"):
    """Return what is found that is not right, and all of it by what it is about."""
    npu = find_npu_of(RecipeBook.open(), soc)
    assert npu is not None
    found = examine_npu(npu, facts, libraries=libraries, model=model)
    return {one.what: one for one in found}, {
        one.what: one.status for one in found if one.status != "pass"
    }


def with_npu(**changed) -> Facts:
    return replace(GOOD, npu=replace(NPU, **changed))


def test_board_of_the_guide_is_right():
    found, wrong = examine()
    assert wrong == {}
    assert found["npu-soc"].detail == "rk3588, 3 cores"
    told = "0.8.2 (/sys/kernel/debug/rknpu/version), kernel 5.10.110-rockchip-rk3588"
    assert found["npu-driver"].detail == told
    assert (
        found["npu-library-backend"].detail
        == "librknnrt.so 1.5.2 of the backend (/usr/lib/librknnrt.so)"
    )


@pytest.mark.parametrize(
    ("facts", "what", "status", "words"),
    [
        (with_npu(soc=None), "npu-soc", "fail", "there is no device tree"),
        (with_npu(soc="raspberrypi,5-model-b brcm,bcm2712"), "npu-soc", "fail", "no rk3588 here"),
        (with_npu(soc="rockchip,rk3568"), "npu-soc", "warn", "this is a rk3568, the build is for a rk3588"),
        (with_npu(driver=None), "npu-driver", "warn", "cannot be read"),
        (with_npu(devices=()), "npu-device", "fail", "neither /dev/dri/renderD* nor /dev/rknpu"),
        (
            with_npu(devices=(Device("/dev/dri/renderD129", readable=True, writable=False),)),
            "npu-device", "fail", "may not open /dev/dri/renderD129",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_board_is_told_with_its_fix(facts, what, status, words):
    found, wrong = examine(facts)
    assert wrong == {what: status}
    assert words in found[what].detail
    assert found[what].fix


@pytest.mark.parametrize(
    ("driver", "kernel", "words"),
    [
        ("0.9.2", "5.10.160", "cores 1 and 2"),
        ("0.9.3", "5.10.160", "bound to cores"),
        ("0.8.2", "6.1.43-rockchip", "than core 0"),
        ("0.8.2", "5.10.160", None),
        ("0.8.8", "5.10.160", None),
        ("0.9.6", "6.1.75", None),
        ("0.9.8", "6.1.99", None),
    ],
)
def test_known_combinations_are_named(driver, kernel, words):
    found, wrong = examine(replace(with_npu(driver=driver), kernel=kernel))
    if words is None:
        assert wrong == {}
    else:
        assert wrong == {"npu-trouble-1": "warn"}
        assert words in found["npu-trouble-1"].detail
        assert "https://github.com/" in found["npu-trouble-1"].detail


def test_combinations_are_of_their_soc():
    facts = replace(with_npu(driver="0.9.2", soc="rockchip,rk3568"), kernel="5.10.160")
    assert examine(facts, soc="rockchip,rk3568", model=None)[1] == {}


def test_library_has_to_be_there_and_to_read_the_model():
    found, wrong = examine(libraries={"backend": ("", None)})
    assert wrong == {"npu-library-backend": "fail"}
    found, wrong = examine(libraries={"demo": ("/lib/x.so", "1.4.0")})
    assert wrong == {"npu-model": "fail"}
    assert "reads none newer than its own" in found["npu-model"].detail
    assert "1.5.2 or newer" in found["npu-model"].fix
    assert examine(libraries={"demo": ("/lib/x.so", "2.3.2")})[1] == {}
    assert examine(libraries={"demo": ("/x.so", None)})[1] == {"npu-library-demo": "warn"}


def test_model_is_for_one_soc():
    found, wrong = examine(model=ModelFacts(6, "1.5.2", ("rk3566",)))
    assert wrong == {"npu-model": "fail"}
    assert found["npu-model"].detail == "it is for rk3566, not for rk3588"
    assert examine(model=ModelFacts(6, None, ()))[1] == {}


# --- files --------------------------------------------------------------------------------------


def make_model(body: bytes, told: bytes, *, form: int = 6) -> bytes:
    header = struct.pack("<8sQQ", b"RKNN", form, len(body))
    header = header.ljust(64, b"\0") if form > 1 else header
    return header + body + struct.pack("<Q", len(told)) + told


def test_model_says_who_made_it_and_for_what(tmp_path):
    path = tmp_path / "model.rknn"
    told = {"version": "1.5.2-c6b7b351(compiler version: 1.5.2)", "target_platform": ["rk3588"]}
    path.write_bytes(make_model(b"x" * 100, json.dumps(told).encode()))
    assert read_model(path) == ModelFacts(6, "1.5.2", ("rk3588",))
    path.write_bytes(make_model(b"x" * 100, json.dumps(told).encode(), form=1))
    assert read_model(path) == ModelFacts(1, "1.5.2", ("rk3588",))


@pytest.mark.parametrize("told", [b"", b"{", b"[]", b'{"version": null}', b"\xff\xfe"])
def test_model_that_tells_nothing_is_still_one(tmp_path, told):
    path = tmp_path / "model.rknn"
    path.write_bytes(make_model(b"x", told))
    assert read_model(path) == ModelFacts(6, None, ())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no RKNN model"),
        (b"RKNN", "is no RKNN model"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is no RKNN model"),
        (make_model(b"x" * 100, b"{}")[:120], "is cut off: 120 bytes are there, 164 are announced"),
    ],
)
def test_what_is_no_whole_model_is_told(tmp_path, content, words):
    path = tmp_path / "model.rknn"
    path.write_bytes(content)
    with pytest.raises(SmokeTestError, match=words):
        read_model(path)


def test_version_of_a_library_stands_in_it(tmp_path):
    path = tmp_path / "librknnrt.so"
    path.write_bytes(b"\x7fELF\0librknnrt version: 1.5.2 (c6b7b351a@2023-08-23T15:28:22)\0")
    assert read_library_version(path) == "1.5.2"
    path.write_bytes(b"\x7fELF\0")
    assert read_library_version(path) is None
    path.write_bytes(b"")
    assert read_library_version(path) is None
