"""The tree of host compilers that is put into a root of another architecture.

It needs nothing but Python, because it also runs in containers that have no tritonbuild:
`python3 arrange.py SOURCE BOARD TREE TRIPLET GCC`.
"""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# In the tree: compilers, assemblers and linkers under all names that builds call them by.
NAMES = "compilers"

# What of GCC's own folder are programs, or are loaded by them.
_PROGRAMS = (
    "cc1", "cc1plus", "collect2", "g++-mapper-server", "lto-wrapper", "lto1", "liblto_plugin.so",
    "libcc1.so", "plugin",
)  # fmt: skip


def arrange(source: Path, board: Path, tree: Path, triplet: str, gcc: str) -> None:
    """Make the tree: programs of the host, and links into the board's root to all else.

    Args:
        source: A root of the host's architecture that has the cross compiler.
        board: The root that it is for, which has the same GCC.
        tree: What is made; it must not be there.
        triplet: Such as `aarch64-linux-gnu`.
        gcc: Major version of GCC.

    Raises:
        FileNotFoundError: The board's root has another GCC.
    """
    _copy_programs(source, tree, triplet)
    own = tree / "usr" / "lib" / "gcc-cross" / triplet / gcc
    for path in list(own.iterdir()):
        if path.name not in _PROGRAMS:
            _remove(path)
    of_root = PurePosixPath("/usr/lib/gcc") / triplet / gcc
    for name in _list_names(board, of_root):
        if name not in _PROGRAMS:
            (own / name).symlink_to(of_root / name)
    # The C library's and Linux's headers and libraries of the cross compiler's own.
    for name in ("include", "lib"):
        _remove(tree / "usr" / triplet / name)
    _link_headers(board, tree / "usr" / triplet / "include" / "c++" / gcc, triplet, gcc)
    names = tree / NAMES
    names.mkdir()
    for name, program in _name_programs(tree, triplet, gcc):
        (names / name).symlink_to(PurePosixPath("..") / "usr" / "bin" / program)


def _copy_programs(source: Path, tree: Path, triplet: str) -> None:
    """Copy the cross compiler, ccache, and the libraries that they are linked to."""
    for part in ("lib/gcc-cross", triplet, "lib/x86_64-linux-gnu", "lib64", "lib/bfd-plugins"):
        if (source / "usr" / part).is_dir():
            # Links to files where that can be, not copies: nobody changes either of them.
            shutil.copytree(
                source / "usr" / part, tree / "usr" / part, symlinks=True, copy_function=link_file
            )
    # Libraries name each other by way of these, too.
    for name in ("lib", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")
    programs = tree / "usr" / "bin"
    programs.mkdir()
    for program in (*(source / "usr" / "bin").glob(f"{triplet}-*"), source / "usr/bin/ccache"):
        if program.is_symlink():
            (programs / program.name).symlink_to(program.readlink())
        else:
            link_file(str(program), str(programs / program.name))


def _link_headers(board: Path, folder: Path, triplet: str, gcc: str) -> None:
    """Let the C++ library's headers be the root's own.

    GCC names a header by where a link leads, if that is shorter; so even `__FILE__` is the same.
    """
    folder.mkdir(parents=True)
    headers = PurePosixPath("/usr/include/c++") / gcc
    for name in _list_names(board, headers):
        (folder / name).symlink_to(headers / name)
    (folder / triplet).symlink_to(PurePosixPath("/usr/include") / triplet / "c++" / gcc)


def _list_names(root: Path, folder: PurePosixPath) -> list[str]:
    path = root / folder.relative_to("/")
    if not path.is_dir():
        raise FileNotFoundError(str(folder))
    return sorted(each.name for each in path.iterdir())


def _name_programs(tree: Path, triplet: str, gcc: str) -> Iterator[tuple[str, str]]:
    """Yield the names that builds call each program by: with triplet and version, and without."""
    prefix, suffix = f"{triplet}-", f"-{gcc}"
    given: set[str] = set()
    for path in sorted((tree / "usr" / "bin").glob(f"{prefix}*")):
        short = path.name[len(prefix) :]
        for full in (path.name, short):
            for name in (full, full.removesuffix(suffix)):
                # The root's own GCC would find this linker in PATH, which cannot load its plugin.
                if name not in given and not name.startswith("ld"):
                    given.add(name)
                    yield name, path.name
    yield "ccache", "ccache"
    yield "cc", f"{prefix}gcc{suffix}"
    yield "c++", f"{prefix}g++{suffix}"


def link_file(source: str, target: str) -> None:
    """Give a file another name, or copy it where that cannot be."""
    try:
        Path(target).hardlink_to(source)
    except OSError:  # another file system, or one that has no hard links
        shutil.copy2(source, target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()


if __name__ == "__main__":
    import sys

    given = sys.argv[1:]
    arrange(Path(given[0]), Path(given[1]), Path(given[2]), given[3], given[4])
