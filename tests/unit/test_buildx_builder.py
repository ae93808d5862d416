"""Which builder builds, by what `docker` says of it.

`docker` is a stand-in that prints recorded answers: no machine has all of these builders.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tritonbuild.arch import Arch
from tritonbuild.errors import HostError
from tritonbuild.executors import buildx as module
from tritonbuild.executors.buildx import find_builder
from tritonbuild.executors.sandbox import Binfmt

OLD = """\
Name:          default
Driver:        docker
Last Activity: 2026-11-27 08:17:23 +0000 UTC

Nodes:
Name:             default
Endpoint:         default
Status:           running
BuildKit version: v0.8+unknown
Platforms:        linux/amd64, linux/arm64, linux/386
"""
NO_ARM64 = OLD.replace(" linux/arm64,", "")
# The first machine's platforms were named when the builder was made.
FARM = """\
Name:          farm
Driver:        docker-container
Last Activity: 2026-11-27 08:17:23 +0000 UTC

Nodes:
Name:                  farm0
Endpoint:              unix:///var/run/docker.sock
Status:                running
BuildKit daemon flags: --allow-insecure-entitlement=network.host
BuildKit version:      v0.12.5
Platforms:             linux/amd64*, linux/amd64/v2, linux/386

Name:                  farm1
Endpoint:              ssh://board
Status:                running
BuildKit version:      v0.12.5
Platforms:             linux/arm64*, linux/arm/v7, linux/arm/v6
"""
NO_ENGINE = """\
Name:          default
Driver:        
Last Activity: 2026-11-27 08:20:56 +0000 UTC
Error:         Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?

Nodes:
"""


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Return what makes a `docker` of answers: beginning of the arguments -> (code, text)."""

    def make(**answers: tuple[int, str]) -> None:
        usual = {
            "buildx version": (0, "github.com/docker/buildx 0.13.1"),
            "context inspect": (1, "[]"),
        }
        program = tmp_path / "bin" / "docker"
        program.parent.mkdir(exist_ok=True)
        lines = ["#!/bin/bash"]
        for words, (code, text) in (
            answers | {key: usual[key] for key in usual if key not in answers}
        ).items():
            (tmp_path / f"{words}.txt").write_text(text)
            lines.append(
                f'if [[ "$* " = "{words} "* ]]; then cat "{tmp_path}/{words}.txt"; exit {code}; fi'
            )
        program.write_text("\n".join([*lines, "exit 99", ""]))
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(module, "find_binfmt", lambda _arch: None)
    return make


INSPECT = "buildx inspect --bootstrap"
CONTEXT = "context inspect"


def test_engine_that_emulates(docker):
    docker(**{INSPECT: (0, OLD)})
    builder = find_builder(None, Arch.ARM64)
    assert (builder.driver, builder.native, builder.is_context) == ("docker", False, False)
    assert builder.build(Arch.ARM64, Path())[:4] == [
        "docker", "buildx", "build", "--platform=linux/arm64",
    ]  # fmt: skip
    assert str(builder) == "Docker's usual builder"


def test_machine_of_several_that_needs_no_emulation(docker):
    docker(**{f"{INSPECT} farm": (0, FARM)})
    builder = find_builder("farm", Arch.ARM64)
    assert (builder.driver, builder.native) == ("docker-container", True)
    assert builder.build(Arch.ARM64, Path())[
        : len(["docker", "buildx", "build", "--builder", "farm"])
    ] == ["docker", "buildx", "build", "--builder", "farm"]
    assert builder.docker == ["docker"], "it hands its images to the engine here"


def test_context_is_entered(docker):
    docker(**{f"{INSPECT} board": (0, OLD), f"{CONTEXT} board": (0, "[{}]")})
    builder = find_builder("board", Arch.ARM64)
    assert builder.build(Arch.ARM64, Path())[:7] == [
        "docker", "--context", "board", "buildx", "build", "--builder", "board",
    ]  # fmt: skip
    assert builder.docker == ["docker", "--context", "board"]


@pytest.mark.parametrize(
    ("name", "code", "answer", "said", "hint"),
    [
        (None, 0, NO_ARM64, "cannot run programs for linux/arm64; it knows linux/amd64, linux/386",
         "qemu-user-static"),
        ("farm", 0, FARM.replace("linux/arm64*, ", ""), "builder farm cannot run", "--builder"),
        (None, 0, NO_ENGINE, "no Docker engine answers: Cannot connect", "start Docker"),
        ("far", 1, 'ERROR: no builder "far" found', "there is no builder far", "buildx ls"),
        ("x", 1, "ERROR: something new", "cannot use builder x: something new", "inspect"),
        (None, 1, "", "cannot use its builder: no answer", "inspect"),
    ],
)  # fmt: skip
def test_builder_that_cannot_build(docker, name, code, answer, said, hint):
    docker(**{INSPECT: (code, answer)})
    with pytest.raises(HostError) as caught:
        find_builder(name, Arch.ARM64)
    assert said in caught.value.message
    assert hint in caught.value.hint


def test_client_without_buildx(docker):
    docker(**{"buildx version": (1, "docker: 'buildx' is not a docker command.")})
    with pytest.raises(HostError, match="no buildx") as caught:
        find_builder(None, Arch.ARM64)
    assert "docker-buildx" in caught.value.hint


# --- QEMU outside of the container ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "host", "refused"),
    [
        ("", "unix:///var/run/docker.sock", True),
        ("PO", "unix:///var/run/docker.sock", True),
        ("PF", "unix:///var/run/docker.sock", False),
        # Of another machine's kernel nothing is known.
        ("", "ssh://board", False),
    ],
)
def test_kernel_that_looks_for_qemu_in_the_container(
    docker, monkeypatch, tmp_path, flags, host, refused
):
    docker(**{INSPECT: (0, OLD), CONTEXT: (0, f"{host}\n")})
    rule = Binfmt(tmp_path / "qemu-aarch64", True, "/usr/bin/qemu-aarch64-static", flags)
    monkeypatch.setattr(module, "find_binfmt", lambda _arch: rule)
    if not refused:
        find_builder(None, Arch.ARM64)
        return
    with pytest.raises(HostError) as caught:
        find_builder(None, Arch.ARM64)
    assert f"{rule.path} has flags {flags or 'none'}, and without F" in caught.value.message
    assert "doctor --fix" in caught.value.hint


def test_builder_in_a_container_of_its_own_brings_its_qemu(docker, monkeypatch, tmp_path):
    farm = FARM.replace("linux/arm64*", "linux/arm64").replace("linux/amd64*", "linux/amd64")
    docker(**{INSPECT: (0, farm.replace("linux/arm64, ", "linux/arm/v7, linux/arm64, "))})
    rule = Binfmt(tmp_path / "qemu-aarch64", True, "/usr/bin/qemu-aarch64-static", "")
    monkeypatch.setattr(module, "find_binfmt", lambda _arch: rule)
    assert not find_builder("farm", Arch.ARM64).native
