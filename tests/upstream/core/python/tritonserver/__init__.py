# SPDX-License-Identifier: Apache-2.0
"""The stand-in's in-process API: which backend interface the library has, and nothing else."""

from tritonserver.triton_bindings import api_version

__all__ = ["api_version"]
