#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: SIM102 - the lines that patches edit are those of the original
"""Write the Dockerfile that compiles ONNX Runtime; here, one that could only be looked at."""

import argparse
import os
import platform
from pathlib import Path

FLAGS = argparse.Namespace()


def target_platform():
    if FLAGS.target_platform is not None:
        return FLAGS.target_platform
    return platform.system().lower()


def dockerfile_common():
    return f"""
ARG BASE_IMAGE={FLAGS.triton_container}
ARG ONNXRUNTIME_VERSION={FLAGS.ort_version}
ARG ONNXRUNTIME_REPO=https://github.com/microsoft/onnxruntime
ARG ONNXRUNTIME_BUILD_CONFIG={FLAGS.ort_build_config}

FROM ${{BASE_IMAGE}}
WORKDIR /workspace
"""


def dockerfile_for_linux(output_file):
    df = dockerfile_common()
    df += """
# Ensure apt-get won't prompt for selecting options
ENV DEBIAN_FRONTEND=noninteractive

# The Onnx Runtime dockerfile is the collection of steps in
# https://github.com/microsoft/onnxruntime/tree/master/dockerfiles

RUN apt-get update && apt-get install -y --no-install-recommends \\
        build-essential \\
        git \\
        python3-dev
"""
    df += """
ARG ONNXRUNTIME_VERSION
ARG ONNXRUNTIME_REPO
ARG ONNXRUNTIME_BUILD_CONFIG

RUN git clone -b rel-${ONNXRUNTIME_VERSION} --recursive ${ONNXRUNTIME_REPO} onnxruntime
"""
    ep_flags = ""
    if FLAGS.enable_gpu:
        ep_flags = "--use_cuda"

    if target_platform() == "igpu":
        ep_flags += " --skip_tests --cmake_extra_defines 'onnxruntime_BUILD_UNIT_TESTS=OFF'"

    if os.name == "posix":
        if os.getuid() == 0:
            ep_flags += " --allow_running_as_root"

    df += f"""
WORKDIR /workspace/onnxruntime
ARG COMMON_BUILD_ARGS="--config ${{ONNXRUNTIME_BUILD_CONFIG}} --skip_submodule_sync --parallel"
RUN ./build.sh ${{COMMON_BUILD_ARGS}} --update --build {ep_flags}
"""
    Path(output_file).write_text(df, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--triton-container", required=True)
    parser.add_argument("--ort-version", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--enable-gpu", action="store_true")
    parser.add_argument("--ort-build-config", default="Release")
    parser.add_argument("--target-platform", choices=["linux", "windows", "igpu"])
    FLAGS = parser.parse_args()
    dockerfile_for_linux(FLAGS.output)
