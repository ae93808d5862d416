"""The steps that unpack systems: the board's own, the one to build in, and host compilers for it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from tritonbuild.arch import Arch
from tritonbuild.plan.layout import HOST_PROGRAMS
from tritonbuild.plan.model import Step, StepKind
from tritonbuild.plan.packages import bundled_packages_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tritonbuild.plan.model import Selection
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import OperatingSystem


# What every build calls; on a machine of the user's, `doctor` asks for these one by one.
_TOOLS = (
    "build-essential", "ca-certificates", "ccache", "cmake", "git", "ninja-build", "python3-dev"
)  # fmt: skip


# Where the board's root is mounted beside the programs of a cross build.
SYSROOT = PurePosixPath("/sysroot")
# In the place of an architecture: that of whatever machine builds.
BUILD_MACHINE = "build-machine"
# Compilers of the machine that builds, under all names that builds call them by.
COMPILERS = HOST_PROGRAMS / "compilers"
# Only for this one does Debian have cross compilers that are taken.
_HOST = Arch.AMD64
# Packages without -dev that are there for what is built, not for what builds.
_LIBRARIES = ("python3-numpy",)


def plan_root(book: RecipeBook, selection: Selection) -> Step:
    """Return the step that unpacks what every image of the board's system has."""
    system = book.operating_system(selection.os)
    return Step(
        id="root",
        kind=StepKind.ROOT,
        title=f"unpack {system.summary} for {selection.arch}",
        why="the tree is checked against the board's own libraries, and smoke runs the server there",
        details=_describe_root(
            book,
            selection,
            system,
            system.base_packages,
            bundled_packages_of(book, selection, system),
        ),
    )


def plan_build_root(book: RecipeBook, selection: Selection, packages: Iterable[str]) -> Step:
    """Return the step that unpacks the board's system with what a build needs.

    Args:
        book: The recipes.
        selection: What is built.
        packages: Debian packages of the build.
    """
    system = book.operating_system(selection.os)
    every = sorted({*system.base_packages, *_TOOLS, *packages})
    return Step(
        id="build-root",
        kind=StepKind.ROOT,
        title=f"unpack {system.summary} for {selection.arch} with what the build needs",
        why="scripts run there as they would on the board",
        details=_describe_root(book, selection, system, every, {}),
    )


def plan_tools_root(book: RecipeBook, selection: Selection, packages: Iterable[str]) -> Step:
    """Return the step that unpacks the board's system for the machine that builds: its programs.

    Args:
        book: The recipes.
        selection: What is built.
        packages: Debian packages of the build; those that are not libraries are programs.
    """
    system = book.operating_system(selection.os)
    programs = {name for name in packages if not name.endswith("-dev") and name not in _LIBRARIES}
    tools = {name for name in _TOOLS if not name.endswith("-dev")}
    multiarch = Arch(selection.arch).to_multiarch()
    # The cross compiler itself is mounted; its assembler's libraries are looked for here.
    tools.add(f"binutils-{multiarch.replace('_', '-')}")
    every = sorted({*system.base_packages, *tools, *programs})
    details = _describe_root(book, selection, system, every, {})
    details["mirror"] = _find_archive(book, selection, system, _HOST)
    details.pop("image", None)  # it is the board's system
    # The cross compiler looks for these where the board's system has them.
    links = {
        f"{folder}/{multiarch}": f"{SYSROOT}/{folder}/{multiarch}"
        for folder in ("usr/lib/gcc", "usr/include")
    }
    return Step(
        id="tools-root",
        kind=StepKind.ROOT,
        title=f"unpack {system.summary} for this machine, with what builds",
        why="the programs that build are those of the board's system, at this machine's speed",
        details=details | {"arch": BUILD_MACHINE, "links": links, "alternatives": {
            link: target for link, target in system.alternatives.items() if "{" not in link
        }},
    )  # fmt: skip


def plan_compilers(book: RecipeBook, selection: Selection) -> Step:
    """Return the step that brings host programs which compile for the board, and checks them."""
    system = book.operating_system(selection.os)
    assert system.gcc is not None
    return Step(
        id="compilers",
        kind=StepKind.COMPILERS,
        title=f"unpack compilers of {system.summary} that run on this machine",
        why="they do what the root's own do under QEMU, some eight times as fast",
        needs=("build-root",),
        details={
            "accelerate": selection.accelerate,
            "distribution": system.distribution,
            "suite": system.suite,
            "gcc": system.gcc.partition(".")[0],
            "mirror": _find_archive(book, selection, system, _HOST),
        },
    )


def _describe_root(
    book: RecipeBook,
    selection: Selection,
    system: OperatingSystem,
    packages: Iterable[str],
    bundled: Mapping[str, Sequence[str]],
) -> dict[str, object]:
    multiarch = Arch(selection.arch).to_multiarch()
    image = {"image": selection.base_image} if selection.base_image else {}
    return {
        **image,
        "distribution": system.distribution,
        "suite": system.suite,
        "arch": selection.arch,
        "packages": list(packages),
        "bundled": {name: list(libraries) for name, libraries in bundled.items()},
        "mirror": _find_archive(book, selection, system, Arch(selection.arch)),
        "alternatives": {
            link.replace("{multiarch}", multiarch): target.replace("{multiarch}", multiarch)
            for link, target in system.alternatives.items()
        },
    }


def _find_archive(
    book: RecipeBook, selection: Selection, system: OperatingSystem, arch: Arch
) -> str | None:
    """Return the address of the distribution's archive; None for what mmdebstrap knows."""
    if selection.mirror not in book.names("mirrors"):  # `auto` measures hosts of sources
        return None
    apart = system.distribution == "ubuntu" and arch is Arch.AMD64
    return book.mirror(selection.mirror).apt.get("ubuntu-amd64" if apart else system.distribution)
