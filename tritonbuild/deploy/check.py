"""Whether a board can take a tree: everything that can be known before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonbuild.console import terminal
from tritonbuild.doctor.model import parse_version
from tritonbuild.errors import HostError
from tritonbuild.plan.jobs import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tritonbuild.deploy.board import State
    from tritonbuild.deploy.layout import Build, Layout
    from tritonbuild.hosts.facts import Facts
    from tritonbuild.hosts.model import Host
    from tritonbuild.recipe.model import Board as BoardRecipe

# Of the tree's size, for names and folders, and for what the board writes meanwhile.
_MARGIN = 32 << 20


def check_machine(facts: Facts, build: Build, recipe: BoardRecipe | None, name: str) -> None:
    """Make sure that the board can run the tree.

    Args:
        facts: What the board is.
        build: The build whose tree it is.
        recipe: The board that it was built for, where its recipe is known.
        name: What the board is called.

    Raises:
        HostError: It cannot.
    """
    arch = str(build.verified["arch"])
    if facts.arch is not None and facts.arch.value != arch:
        msg = f"this tree is for {arch}, and {name} is {facts.arch} ({facts.machine})"
        raise HostError(msg, hint="build for the board: `tritonbuild list boards`")
    if facts.arch is None and facts.machine:
        msg = f"this tree is for {arch}, and the programs of {name} ({facts.machine}) are not"
        raise HostError(msg, hint="a 64-bit system must be installed on the board")
    needed = build.glibc
    if needed and facts.glibc and parse_version(facts.glibc) < parse_version(needed):
        msg = f"this tree needs glibc {needed}, and {name} has {facts.glibc} ({facts.os_name})"
        raise HostError(msg, hint="build with the --os that the board runs")
    if recipe and recipe.l4t and facts.gpu.l4t and not facts.gpu.has_l4t(recipe.l4t):
        msg = (
            f"this tree is for {recipe.name}, whose Jetson Linux is {recipe.l4t}, and {name} has "
            f"{facts.gpu.l4t}: CUDA's libraries go with one JetPack"
        )
        raise HostError(msg, hint="build for the board that has it: `tritonbuild list boards`")
    _warn(facts, build, recipe, name)


def _warn(facts: Facts, build: Build, recipe: BoardRecipe | None, name: str) -> None:
    """Say what may well be right, and is not what the tree was made for."""
    chosen = build.plan.selection
    if facts.os and facts.os != chosen.os:
        terminal.warning(f"this tree was checked against {chosen.os}; {name} runs {facts.os}")
    python = build.manifest.get("release", {}).get("python")
    if python and "python" in chosen.components:
        found = parse_version(facts.python or "")[:2]
        if found != parse_version(python)[:2]:
            terminal.warning(
                f"the python backend is made for Python {python}; {name} has {facts.python or 'none'}"
            )
    if recipe and recipe.l4t and not facts.gpu.l4t:
        terminal.warning(f"this tree is for {recipe.name}; no Jetson Linux was found on {name}")
    if "rknn" in chosen.components and facts.npu.library is None:
        terminal.warning(f"{name} has no librknnrt.so: its NPU cannot be used")


def check_target(state: State, layout: Layout, name: str) -> None:
    """Make sure that nothing is in the place that is not ours.

    Raises:
        HostError: There is.
    """
    link, versions = layout.link, layout.versions_dir
    if state.link == "folder":
        msg = f"{link} on {name} is a real folder, which deploy did not make"
        hint = f"move it away (mv {link} {link}.old), remove its package, or say another --to"
        raise HostError(msg, hint=hint)
    if state.link == "foreign":
        msg = f"{link} on {name} is a link that deploy did not make"
        raise HostError(msg, hint="remove the link, or say another --to")
    if state.next_link == "foreign":
        msg = f"{link}.next on {name} is there, and not deploy's, which needs that name to switch"
        raise HostError(msg, hint="move it away, or say another --to")
    if state.store == "foreign":
        msg = f"{versions} on {name} is there, and not deploy's"
        raise HostError(msg, hint="move it away, or say another --to")


def check_programs(facts: Facts, name: str, *, installs: bool) -> None:
    """Make sure that the board has what deploy runs there.

    Args:
        facts: What the board is.
        name: What it is called.
        installs: Whether packages may be installed: then rsync need not be there yet.

    Raises:
        HostError: Something is missing.
    """
    needed = {"flock": "util-linux", "sha256sum": "coreutils", "rsync": "rsync"}
    if installs:
        del needed["rsync"]
    missing = {tool: package for tool, package in needed.items() if tool not in facts.programs}
    if missing:
        msg = f"{name} lacks {', '.join(missing)}"
        raise HostError(
            msg, hint=f"on the board, as root: apt-get install {' '.join(missing.values())}"
        )


def check_rights(facts: Facts, name: str, *, needs_root: bool, why: str) -> tuple[str, ...]:
    """Return what stands before commands that change the board.

    Raises:
        HostError: Root is needed, and there is no way to it.
    """
    if not needs_root:
        return ()
    if facts.root_prefix is None:
        msg = f"{facts.user or 'the user'} may not {why} on {name}, and `sudo -n true` fails there"
        raise HostError(
            msg,
            hint="deploy as root, let the user use sudo without a password, or choose a folder of "
            "theirs: --to /home/USER/tritonserver --no-service",
        )
    return facts.root_prefix


def check_room(facts: Facts, needed: int, layout: Layout, name: str) -> None:
    """Make sure that there is room for what will be sent.

    Raises:
        HostError: There is not.
    """
    if facts.free is not None and facts.free < needed + _MARGIN:
        msg = (
            f"{name} has {format_size(facts.free)} free for {layout.versions_dir}, and "
            f"{format_size(needed + _MARGIN)} are needed"
        )
        raise HostError(msg, hint="free some space there, or say another --to")


def find_missing_packages(host: Host, facts: Facts, packages: Sequence[str]) -> tuple[str, ...]:
    """Return the Debian packages that a board lacks; those that it cannot be asked about, too."""
    if not packages:
        return ()
    if "dpkg-query" not in facts.programs:
        terminal.warning(f"{host.name} has no dpkg; it must have: {' '.join(packages)}")
        return ()
    said = host.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\\n", *packages]
    ).output
    there = {line.split(" ", 1)[1] for line in said.splitlines() if line.startswith("installed ")}
    return tuple(name for name in packages if name not in there)
