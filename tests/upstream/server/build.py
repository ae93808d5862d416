#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""As much of build.py as patches edit: the two Dockerfiles that fetch Boost.

tritonbuild renders what the original would write and never calls it.
"""

import sys
from pathlib import Path


def dockerfile_buildbase():
    return """
FROM ubuntu:22.04
# Boost's headers, newer than the distribution's
RUN wget -O /tmp/boost.tar.gz \\
        @BOOST_180_URL@ && \\
    (cd /tmp && tar xzf boost.tar.gz)
"""


def dockerfile_final():
    return """
FROM ubuntu:22.04
RUN wget -O /tmp/boost.tar.gz \\
        @BOOST_180_URL@ && \\
    (cd /tmp && tar xzf boost.tar.gz)
COPY build/install tritonserver
"""


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "Dockerfile.buildbase").write_text(dockerfile_buildbase(), encoding="utf-8")
    (folder / "Dockerfile").write_text(dockerfile_final(), encoding="utf-8")
