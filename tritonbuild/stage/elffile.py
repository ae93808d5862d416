"""What one ELF file says about itself: machine, libraries, run paths, symbol versions.

Only the headers, the dynamic table and the version tables are read, never the symbols, so that a
file of any size takes about a millisecond.
"""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pathlib import Path

    from elftools.elf.elffile import ELFFile

_NUMBERED = re.compile(r"([A-Z]+)_(\d+(?:\.\d+)*)")

# glibc 2.36 and newer have this name for objects with packed relative relocations (ld.so refuses
# to load such an object without it); it is the one name that stands for a number.
_NAMED = {"GLIBC_ABI_DT_RELR": ("GLIBC", "2.36")}

_TEXTS = ("DT_NEEDED", "DT_RPATH", "DT_RUNPATH")

# elf.h: the base definition is the library's own name; of a weak version that is missing, the
# loader only warns.
_VER_FLG_BASE = 1
_VER_FLG_WEAK = 2


@dataclass(frozen=True)
class NeededVersion:
    """A symbol version that a file needs from a library.

    Attributes:
        library: Name of the library, as in DT_NEEDED.
        name: Version, such as `GLIBC_2.34`.
    """

    library: str
    name: str


@dataclass(frozen=True)
class ElfFile:
    """What the dynamic loader would look at.

    Attributes:
        machine: pyelftools' name (`EM_AARCH64`), with a remark where it is not 64-bit and
            little-endian.
        interpreter: PT_INTERP, None for libraries and static programs.
        needed: DT_NEEDED, in order.
        rpath: Entries of DT_RPATH; empty where DT_RUNPATH is there, which makes glibc ignore it.
        runpath: Entries of DT_RUNPATH, None where there is none.
        needed_versions: Symbol versions without which it does not load.
        defined_versions: Symbol versions that it has for others.
    """

    machine: str
    interpreter: str | None
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...] | None
    needed_versions: tuple[NeededVersion, ...]
    defined_versions: frozenset[str]


def read_elf(path: Path) -> ElfFile:
    """Return what an ELF file says about itself.

    Raises:
        ValueError: It is not an ELF file, or is damaged.
    """
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError
    from elftools.elf.elffile import ELFFile

    with (
        path.open("rb") as source,
        mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        try:
            # It reads, seeks and tells, which is all that pyelftools asks of a file.
            return _read(ELFFile(cast("IO[bytes]", content)))
        except (
            ELFError, ConstructError, ValueError, LookupError, AttributeError, TypeError,
            AssertionError, OverflowError,
        ) as err:  # fmt: skip
            # Whatever a table with nonsense in it makes pyelftools trip over.
            msg = f"not a readable ELF file: {str(err) or type(err).__name__}"
            raise ValueError(msg) from err


def parse_version(name: str) -> tuple[str, tuple[int, ...]] | None:
    """Split `GLIBC_2.34` into its prefix and a number to compare; None for other names."""
    if name in _NAMED:
        prefix, number = _NAMED[name]
        return prefix, parse_number(number)
    match = _NUMBERED.fullmatch(name)
    return (match[1], parse_number(match[2])) if match else None


def parse_number(text: str) -> tuple[int, ...]:
    """Turn `2.34` into something that compares as a number does: 2.4 < 2.34."""
    return tuple(int(part) for part in text.split("."))


def _read(elf: ELFFile) -> ElfFile:
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.segments import InterpSegment

    interpreter: str | None = None
    needed: list[str] = []
    paths: dict[str, tuple[str, ...]] = {}
    has_versions = False
    for segment in elf.iter_segments():
        if isinstance(segment, InterpSegment):
            interpreter = segment.get_interp_name()
        elif isinstance(segment, DynamicSegment):
            for tag in segment.iter_tags():
                kind = tag.entry.d_tag
                # pyelftools gives these tags their text as an attribute: `needed`, `rpath`, ...
                text = str(getattr(tag, kind[3:].lower(), "")) if kind in _TEXTS else ""
                if kind == "DT_NEEDED":
                    needed.append(text)
                elif kind in _TEXTS:
                    paths[kind] = tuple(text.split(":")) if text else ()
                has_versions = has_versions or kind in ("DT_VERNEED", "DT_VERDEF")
    needs, defines = _read_versions(elf, has_versions)
    runpath = paths.get("DT_RUNPATH")
    return ElfFile(
        machine=_describe_machine(elf),
        interpreter=interpreter,
        needed=tuple(needed),
        rpath=paths.get("DT_RPATH", ()) if runpath is None else (),
        runpath=runpath,
        needed_versions=tuple(needs),
        defined_versions=frozenset(defines),
    )


def _describe_machine(elf: ELFFile) -> str:
    if elf.elfclass == 64 and elf.little_endian:
        return str(elf["e_machine"])
    order = "little" if elf.little_endian else "big"
    return f"{elf['e_machine']} ({elf.elfclass}-bit, {order}-endian)"


def _read_versions(elf: ELFFile, expected: bool) -> tuple[list[NeededVersion], list[str]]:
    from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection

    needs: list[NeededVersion] = []
    defines: list[str] = []
    found = False
    for section in elf.iter_sections() if expected else ():
        if isinstance(section, GNUVerNeedSection):
            found = True
            for library, versions in section.iter_versions():
                needs += [
                    NeededVersion(str(library.name), version.name)
                    for version in versions
                    if not version["vna_flags"] & _VER_FLG_WEAK
                ]
        elif isinstance(section, GNUVerDefSection):
            found = True
            # The first name is the version's own, the others are those that it inherits.
            defines += [
                next(names).name
                for version, names in section.iter_versions()
                if not version["vd_flags"] & _VER_FLG_BASE
            ]
    if expected and not found:
        msg = "it has symbol versions but no section headers to find them by"
        raise ValueError(msg)
    return needs, defines
