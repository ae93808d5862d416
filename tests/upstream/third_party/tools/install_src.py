#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Copy a third-party project's sources to where the container build packs them from."""

import argparse
import shutil
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--src", required=True, type=Path)
    parser.add_argument("--dest", type=Path)
    parser.add_argument("--dest-basename")
    args = parser.parse_args()
    if args.dest is None:
        return
    target = args.dest / (args.dest_basename or args.src.name)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(args.src, target, ignore=shutil.ignore_patterns(".git"), symlinks=True)


if __name__ == "__main__":
    main()
