"""What an RKNN model file says of itself, read without the vendor's library.

The file begins with `RKNN`, padded to 8 bytes, then little-endian 64-bit numbers: the version of the
format and the length of the model. From format 2 on the header is 64 bytes long, 24 before. After
the model come the length of a JSON text and the text itself.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritonbuild.errors import SmokeTestError

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"RKNN\0\0\0\0"
_HEADER = struct.Struct("<8sQQ")
_LENGTH = struct.Struct("<Q")
_LONG_HEADER = 64
# Models tell their inputs and outputs in some kilobytes.
_JSON_LIMIT = 16 << 20


@dataclass(frozen=True)
class ModelFacts:
    """What a model file says of itself.

    Attributes:
        format: Version of the file's format.
        toolkit: Version of the toolkit that made it, such as 1.5.2; None where it is not told.
        platforms: Systems on chips that it is for; empty where they are not told.
    """

    format: int
    toolkit: str | None
    platforms: tuple[str, ...]


def read_model(path: Path) -> ModelFacts:
    """Return what a model file says of itself.

    Raises:
        SmokeTestError: It is no RKNN model, or it is cut off.
    """
    hint = "fetch the model again; git may have left a pointer of git-lfs in its place"
    with path.open("rb") as file:
        start = file.read(_HEADER.size)
        if not start.startswith(_MAGIC[:4]) or len(start) < _HEADER.size:
            msg = f"{path.name} is no RKNN model: it begins with {start[:16]!r}"
            raise SmokeTestError(msg, hint=hint)
        _, version, length = _HEADER.unpack(start)
        begin = _LONG_HEADER if version > 1 else _HEADER.size
        size = path.stat().st_size
        if begin + length > size:
            msg = f"{path.name} is cut off: {size} bytes are there, {begin + length} are announced"
            raise SmokeTestError(msg, hint=hint)
        file.seek(begin + length)
        tail = file.read(_LENGTH.size)
        text = b""
        if len(tail) == _LENGTH.size:
            text = file.read(min(_LENGTH.unpack(tail)[0], _JSON_LIMIT))
    told = _parse(text)
    found = re.match(r"\d+(\.\d+)+", str(told.get("version", "")))
    platforms = told.get("target_platform", ())
    if isinstance(platforms, str):
        platforms = [platforms]
    return ModelFacts(version, found[0] if found else None, tuple(str(one) for one in platforms))


def _parse(text: bytes) -> dict[str, Any]:
    """Return the JSON text's content; what cannot be read tells nothing."""
    try:
        content = json.loads(text.rstrip(b"\0"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
