"""What is known to go wrong on an NPU, looked at before a model runs on it."""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tritonbuild.hosts.npu import find_trouble
from tritonbuild.plan.conditions import is_within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tritonbuild.hosts.facts import Facts
    from tritonbuild.plan.npu import BoardNpu
    from tritonbuild.smoke.rknn.model_file import ModelFacts

# A library that is older cannot read a file of this format: librknnrt 1.4.0 and 1.5.0 say `Invalid
# RKNN model version 6` of what the toolkit 1.5.2 made.
# https://github.com/rockchip-linux/rknn-toolkit2/issues/212
# https://github.com/leafqycc/rknn-cpp-Multithreading/issues/19
_FORMATS = {6: "1.5.2"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: What it is.
        status: `fail` where a model cannot run, `warn` where it may not.
        detail: What was found.
        fix: What mends it; None where nothing has to.
    """

    what: str
    status: Literal["pass", "warn", "fail"]
    detail: str
    fix: str | None = None


def examine_npu(
    npu: BoardNpu,
    facts: Facts,
    *,
    libraries: Mapping[str, tuple[str, str | None]],
    model: ModelFacts | None,
) -> tuple[Finding, ...]:
    """Return what there is to say of a board's NPU.

    Args:
        npu: The NPU that the board should have.
        facts: What was found on the board.
        libraries: For whom each vendor's library is, `demo` or `backend`: its path there, and its
            version where it says one.
        model: The model that will run, where it is known.
    """
    found = [
        _examine_soc(npu, facts),
        _examine_driver(facts),
        _examine_devices(facts),
        *(_examine_library(npu, who, *told) for who, told in libraries.items()),
    ]
    if model is not None:
        found += _examine_model(npu, model, libraries)
    found += tell_trouble(npu, facts, libraries)
    return tuple(found)


def read_library_version(path: Path) -> str | None:
    """Return the version that a librknnrt.so says it has, None where it says none."""
    if not path.stat().st_size:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = re.search(rb"librknnrt version: (\d+(?:\.\d+)+)", content)
        return found[1].decode() if found else None


def _examine_soc(npu: BoardNpu, facts: Facts) -> Finding:
    here = npu.family.find_soc(facts.npu.soc or "")
    if here is None:
        found = f"it says {facts.npu.soc}" if facts.npu.soc else "there is no device tree"
        return Finding(
            "npu-soc", "fail", f"no {npu.name} here: {found}",
            "run this on the board, or name it with --host user@board",
        )  # fmt: skip
    name, soc = here
    if name != npu.name:
        return Finding(
            "npu-soc", "warn", f"this is a {name}, the build is for a {npu.name}",
            "build for this board; models are for one system on a chip",
        )  # fmt: skip
    return Finding("npu-soc", "pass", f"{name}, {soc.cores} core{'s' * (soc.cores > 1)}")


def _examine_driver(facts: Facts) -> Finding:
    kernel = f"kernel {facts.kernel}" if facts.kernel else "unknown kernel"
    if facts.npu.driver is None:
        return Finding(
            "npu-driver", "warn", f"its version cannot be read; {kernel}",
            "as root, `cat /sys/kernel/debug/rknpu/version` says it; without such a file the kernel "
            "may have no driver",
        )  # fmt: skip
    where = f" ({facts.npu.driver_from})" if facts.npu.driver_from else ""
    return Finding("npu-driver", "pass", f"{facts.npu.driver}{where}, {kernel}")


def _examine_devices(facts: Facts) -> Finding:
    devices = facts.npu.devices
    if not devices:
        return Finding(
            "npu-device", "fail", "there is neither /dev/dri/renderD* nor /dev/rknpu",
            "boot a kernel with the NPU driver; in a container, pass on /dev/dri",
        )  # fmt: skip
    usable = [one.path for one in devices if one.readable and one.writable]
    if not usable:
        names = ", ".join(one.path for one in devices)
        return Finding(
            "npu-device", "fail", f"this user may not open {names}",
            "add the user to the groups `render` and `video`, and log in again",
        )  # fmt: skip
    return Finding("npu-device", "pass", ", ".join(usable))


def _examine_library(npu: BoardNpu, who: str, path: str, version: str | None) -> Finding:
    what = f"npu-library-{who}"
    if not path:
        return Finding(
            what, "fail", f"there is no {npu.family.library} for the {who}",
            f"install {npu.family.library} of the vendor's runtime as /usr/lib/{npu.family.library}",
        )  # fmt: skip
    if version is None:
        return Finding(
            what, "warn", f"{path} of the {who} does not tell its version", "compare it by hand"
        )
    return Finding(what, "pass", f"{npu.family.library} {version} of the {who} ({path})")


def _examine_model(
    npu: BoardNpu, model: ModelFacts, libraries: Mapping[str, tuple[str, str | None]]
) -> Iterator[Finding]:
    made = f"made by toolkit {model.toolkit}" if model.toolkit else "of an unknown toolkit"
    told = f"file format {model.format}, {made}"
    platforms = [name.lower() for name in model.platforms]
    if platforms and not any(npu.name.startswith(name) or name == npu.name for name in platforms):
        yield Finding(
            "npu-model", "fail", f"it is for {', '.join(platforms)}, not for {npu.name}",
            f"convert it again with target_platform={npu.name}",
        )  # fmt: skip
        return
    needed = _FORMATS.get(model.format) or model.toolkit
    for who, (_, version) in libraries.items():
        if version and needed and is_within(f"<{needed}", version):
            yield Finding(
                "npu-model", "fail",
                f"{told}; {npu.family.library} {version} of the {who} reads none newer than its own",
                f"use {npu.family.library} {needed} or newer, or convert the model with a toolkit "
                f"{version}",
            )  # fmt: skip
            return
    yield Finding("npu-model", "pass", told)


def tell_trouble(
    npu: BoardNpu, facts: Facts, libraries: Mapping[str, tuple[str, str | None]]
) -> Iterator[Finding]:
    """Yield what is known to fail together."""
    versions = [version for _, version in libraries.values() if version]
    for number, one in enumerate(find_trouble(npu, facts, versions), start=1):
        threads = ", ".join(one.upstream)
        yield Finding(f"npu-trouble-{number}", "warn", f"{one.problem} ({threads})", one.fix)
