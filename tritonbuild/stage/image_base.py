"""The system under the tree in a container image: the board's, as small as the tree allows."""

from __future__ import annotations

import stat
import tarfile
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tritonbuild.errors import HostError
from tritonbuild.executors.rootfs import find_root, make_root, root_spec_of
from tritonbuild.plan.root import plan_root
from tritonbuild.render.containers import ImageFacts
from tritonbuild.stage.members import add_members, make_file, make_info, open_tar
from tritonbuild.stage.naming import labels_of, version_of
from tritonbuild.stage.verified import packages_to_install, packages_used

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tritonbuild.executors.rootfs import Root, RootSpec
    from tritonbuild.plan.model import Plan
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.stage.members import Member

# What every image of ours does, whoever makes it.
ENTRYPOINT = ("/opt/tritonserver/bin/tritonserver",)
COMMAND = ("--model-repository=/models",)
PORTS = (8000, 8001, 8002)
PATH = "/opt/tritonserver/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Not root: whoever breaks out of the server is nobody.
USER = 1000

# What a root unpacked without its packages' scripts lacks, and programs ask for.
_ETC = {
    "etc/passwd": f"root:x:0:0:root:/root:/bin/sh\ntriton:x:{USER}:{USER}::/tmp:/bin/sh\n",
    "etc/group": f"root:x:0:\ntriton:x:{USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


def describe_image(plan: Plan) -> ImageFacts:
    """Return what an image of a build says of itself, and how it starts."""
    return ImageFacts(
        version=version_of(plan), user=USER, ports=PORTS, path=PATH,
        entrypoint=ENTRYPOINT, command=COMMAND, labels=labels_of(plan),
    )  # fmt: skip


def base_spec_of(plan: Plan, verified: Mapping[str, Any], book: RecipeBook) -> RootSpec:
    """Return the root that an image of a build stands on.

    The one that the tree was checked against, where that is one; else the packages that every
    image of the system has. In both cases with what the tree takes from the system besides.

    Args:
        plan: What was built.
        verified: What the ELF check found (`verify.json`).
        book: For the operating system's recipe.

    Raises:
        RecipeError: There is no recipe of the system.
    """
    for step in plan.steps:
        if step.id == "root":
            return root_spec_of(step).with_packages(packages_to_install(verified))
    # A native build is for the machine that it was made on.
    system = plan.machine.os if plan.machine else plan.selection.os
    selection = replace(plan.selection, arch=verified["arch"], os=system)
    spec = replace(root_spec_of(plan_root(book, selection)), bundled={})
    return spec.with_packages(packages_used(verified))


def get_base(spec: RootSpec, cache: Path, log: Path, builder: str | None = None) -> Root:
    """Return the root, made where the cache has none.

    Raises:
        HostError: It can neither be found nor made here.
    """
    root = find_root(spec, cache)
    if root:
        return root
    try:
        return make_root(spec, cache, log, builder)
    except HostError as err:
        err.hint = f"{err.hint}; the formats tar.zst and deb need no root"
        raise


def write_base(base: Path, path: Path, mtime: int) -> None:
    """Write a root as a tar, whole or not at all; the same root gives the same file anywhere.

    Args:
        base: The root.
        path: The tar.
        mtime: Time stamp of everything in it.
    """
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file, open_tar(file) as archive:
        add_members(archive, list_base(base, mtime))
    beside.replace(path)


def list_base(base: Path, mtime: int) -> Iterator[Member]:
    """Yield a root's files, sorted, all of them root's, with one of two modes.

    A root that an ordinary user unpacked has that user's umask in it, and what may set the user id
    has no place in an image like this one.
    """
    seen: dict[tuple[int, int], str] = {}
    for path in _walk(base):
        name = PurePosixPath(path.relative_to(base))
        status = path.lstat()
        if str(name) in _ETC:
            continue
        if stat.S_ISLNK(status.st_mode):
            info = make_info(name, mtime, kind=tarfile.SYMTYPE, mode=0o777)
            info.linkname = str(path.readlink())
            yield info, None
        elif stat.S_ISDIR(status.st_mode):
            mode = 0o1777 if str(name) in ("tmp", "var/tmp") else 0o755
            yield make_info(name, mtime, kind=tarfile.DIRTYPE, mode=mode), None
        elif stat.S_ISREG(status.st_mode):
            mode = 0o755 if status.st_mode & 0o100 else 0o644
            first = seen.setdefault((status.st_dev, status.st_ino), str(name))
            if first != str(name):
                info = make_info(name, mtime, kind=tarfile.LNKTYPE, mode=mode)
                info.linkname = first
                yield info, None
                continue
            info = make_info(name, mtime, kind=tarfile.REGTYPE, mode=mode)
            info.size = status.st_size
            yield info, path
    for file, text in _ETC.items():
        yield make_file(file, text.encode(), mtime)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield all that is in a folder, sorted, folders before what is in them."""
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
