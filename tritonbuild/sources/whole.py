"""Whether a packed file is whole, by what it holds itself: for those whose checksum nobody knows."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import zipfile
import zlib
from typing import TYPE_CHECKING

from tritonbuild import proc

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_BLOCK = 1 << 18


def find_damage(path: Path, name: str) -> str | None:
    """Return why a file cannot be whole, None where nothing speaks against it.

    What a server sends without saying how much it is may be cut short and look complete.

    Args:
        path: The file.
        name: What it is called: its ending says what it is; kinds that Python cannot read pass.

    Raises:
        OSError: It cannot be read.
    """
    try:
        if name.lower().endswith(".zip"):
            return _find_damaged_member(path)
        with path.open("rb") as source, contextlib.ExitStack() as stack:
            unpacked = _open(source, name.lower(), stack)
            while unpacked is not None and unpacked.read(_BLOCK):
                proc.check_stopping()
    except (EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as err:
        return str(err)
    except OSError as err:
        if err.errno is None:  # gzip and bz2 raise such for what they read
            return str(err)
        raise
    return None


def _find_damaged_member(path: Path) -> str | None:
    with zipfile.ZipFile(path) as packed:
        name = packed.testzip()
    return f"the checksum of {name} in it is wrong" if name else None


def _open(
    source: BinaryIO, name: str, stack: contextlib.ExitStack
) -> gzip.GzipFile | lzma.LZMAFile | bz2.BZ2File | None:
    if name.endswith((".tar.gz", ".tgz")):
        return stack.enter_context(gzip.GzipFile(fileobj=source))
    if name.endswith((".tar.xz", ".txz")):
        return stack.enter_context(lzma.LZMAFile(source))
    if name.endswith((".tar.bz2", ".tbz2")):
        return stack.enter_context(bz2.BZ2File(source))
    return None
