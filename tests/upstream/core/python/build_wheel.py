#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write tritonserver-VERSION-py3-none-any.whl; equal inputs give equal bytes."""

import argparse
import base64
import hashlib
import zipfile
from pathlib import Path


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", required=True)
    parser.add_argument("--dest-dir", required=True, type=Path)
    parser.add_argument("--binding-path", required=True, type=Path)
    args = parser.parse_args()
    info = f"tritonserver-{args.version}.dist-info"
    package = Path(__file__).parent / "tritonserver" / "__init__.py"
    metadata = f"Metadata-Version: 2.1\nName: tritonserver\nVersion: {args.version}\n"
    wheel = "Wheel-Version: 1.0\nGenerator: standin\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {
        "tritonserver/__init__.py": package.read_bytes(),
        "tritonserver/triton_bindings.so": args.binding_path.read_bytes(),
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": wheel.encode(),
    }
    record = [f"{name},sha256={encode(data)},{len(data)}" for name, data in files.items()]
    record.append(f"{info}/RECORD,,")
    files[f"{info}/RECORD"] = ("\n".join(record) + "\n").encode()
    args.dest_dir.mkdir(parents=True, exist_ok=True)
    target = args.dest_dir / f"tritonserver-{args.version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
