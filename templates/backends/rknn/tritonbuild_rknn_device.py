# SPDX-License-Identifier: Apache-2.0
"""The board's NPU: is it there, is its runtime library there, which core for which instance.

The paths are those the RKNN runtime itself uses: it reads the SoC's name from the device
tree and reaches the NPU through the DRM render node (or ``/dev/rknpu`` of older kernels).
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from tritonbuild_common import ModelLoadError, instance_index, listing

DEVICE_TREE = Path("/proc/device-tree/compatible")
LIBRARY = "librknnrt.so"
LIBRARY_PATH = Path("/usr/lib") / LIBRARY  # the only place where RKNNLite looks
OTHER_DIRECTORIES = ("/usr/lib/aarch64-linux-gnu", "/usr/local/lib", "/lib64", "/usr/lib64")

# SoC -> number of NPU cores (Rockchip's data sheets).
NPU_CORES: Dict[str, int] = {
    "rk3562": 1,
    "rk3566": 1,
    "rk3568": 1,
    "rk3576": 2,
    "rk3588": 3,
    "rv1126b": 1,
}

# RKNNLite's core masks: NPU_CORE_AUTO, NPU_CORE_0, NPU_CORE_1, NPU_CORE_2.
CORE_AUTO = 0
CORE_MASKS = (1, 2, 4)


class Npu(NamedTuple):
    """The NPU of this board."""

    soc: str
    cores: int


def find_npu() -> Npu:
    """Return the board's NPU; raises ModelLoadError saying what is missing."""
    npu = _read_soc()
    nodes = [*Path("/dev/dri").glob("renderD*"), *Path("/dev").glob("rknpu*")]
    if not nodes:
        msg = (
            f"this {npu.soc} has neither a /dev/dri/renderD* nor a /dev/rknpu node; enable the "
            "RKNPU driver of the kernel, and pass /dev/dri on to a container"
        )
        raise ModelLoadError(msg)
    _check_library()
    return npu


def _read_soc() -> Npu:
    try:
        compatible = DEVICE_TREE.read_bytes().decode("ascii", "replace")
    except OSError:
        compatible = ""
    # NUL separated "vendor,name" entries; the SoC is among them, e.g. "rockchip,rk3588s".
    names = [entry.partition(",")[2] for entry in compatible.split("\0")]
    for soc, cores in NPU_CORES.items():
        if any(name.startswith(soc) for name in names):
            return Npu(soc, cores)
    msg = (
        f"there is no Rockchip NPU here: {DEVICE_TREE} names none of {listing(NPU_CORES)}; the "
        "rknn backend runs on such a board only (in a container, pass on "
        "/proc/device-tree/compatible)"
    )
    raise ModelLoadError(msg)


def _check_library() -> None:
    if LIBRARY_PATH.is_file():
        return
    elsewhere = [Path(name) / LIBRARY for name in OTHER_DIRECTORIES]
    found = [path for path in elsewhere if path.is_file()]
    if found:
        msg = f"RKNNLite needs {LIBRARY_PATH}, but the library is {found[0]}; make a link to it"
    else:
        msg = (
            f"there is no {LIBRARY_PATH}; install {LIBRARY} from the rknpu2 runtime of the same "
            "version as rknn-toolkit-lite2 (airockchip/rknn-toolkit2, rknpu2/runtime/Linux)"
        )
    raise ModelLoadError(msg)


def core_mask(setting: str, npu: Npu, instance_name: str, device_id: Optional[int]) -> int:
    """Return RKNNLite's core mask for one instance.

    ``setting`` is the parameter ``core_mask``: '' (spread over all cores), 'auto' (the
    driver chooses at each run) or a list such as '0,2' (spread over these).
    ``device_id`` is the ``gpus`` entry of a KIND_GPU instance group, as in the C++ backend,
    and goes before the spreading.  The instances do not know each other, so the number in
    the instance's name chooses: instance 0 takes the first core, and so on.
    """
    if npu.cores == 1 or setting == "auto":
        if setting not in ("", "auto", "0"):
            msg = f"parameter 'core_mask' is '{setting}', but the {npu.soc} has a single NPU core"
            raise ModelLoadError(msg)
        return CORE_AUTO  # a mask is an error on a SoC with one core
    if not setting and device_id is not None:
        return CORE_MASKS[_checked_core(str(device_id), npu)]
    words = setting.split(",") if setting else [str(core) for core in range(npu.cores)]
    cores: List[int] = [_checked_core(word, npu) for word in words]
    return CORE_MASKS[cores[instance_index(instance_name) % len(cores)]]


def _checked_core(word: str, npu: Npu) -> int:
    known = [str(core) for core in range(npu.cores)]
    if word.strip() not in known:
        msg = (
            f"parameter 'core_mask' (or gpus) has '{word}'; the {npu.soc} takes 'auto' or a list "
            f"of {listing(known)}"
        )
        raise ModelLoadError(msg)
    return int(word)
