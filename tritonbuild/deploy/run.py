"""A deploy from start to end, and the way back."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tritonbuild.console import terminal
from tritonbuild.deploy import check
from tritonbuild.deploy.board import Board, State
from tritonbuild.deploy.layout import Contents
from tritonbuild.deploy.service import (
    check_place,
    check_port,
    check_unit,
    has_unit,
    install_service,
    restart_service,
    stop_service,
    wait_for_service,
)
from tritonbuild.errors import AssembleError, HostError, NothingToDoError, SmokeTestError
from tritonbuild.hosts.facts import read_facts
from tritonbuild.hosts.model import Sent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import PurePosixPath

    from tritonbuild.deploy.layout import Build, Layout
    from tritonbuild.hosts.facts import Facts
    from tritonbuild.hosts.model import Host
    from tritonbuild.recipe.model import Board as BoardRecipe

# apt-get on a slow board, with lists to fetch.
_APT_TIMEOUT = 1800.0


@dataclass(frozen=True)
class Wishes:
    """What the user wants of a deploy.

    Attributes:
        keep: Versions that stay on the board, with the one that runs.
        install_packages: Install what the tree needs of the board's system.
        service: Make a systemd service; None makes one where that can be.
    """

    keep: int = 3
    install_packages: bool = False
    service: bool | None = None


@dataclass(frozen=True)
class Outcome:
    """What a deploy, or the way back, came to.

    Attributes:
        host: The board.
        link: What is used there.
        version: The version that it leads to now.
        previous: The version that it led to before.
        files: Files that were sent; the others were there.
        size: Bytes that were sent.
        total: Bytes of the whole tree.
        seconds: How long it took.
        installed: Packages that were installed.
        removed: Versions that were removed.
        service: How the service stands: `ready`, `running`, or `none`.
        smoke: Whether the server was asked on the board before it was switched to.
    """

    host: str
    link: str
    version: str
    previous: str | None
    files: int = 0
    size: int = 0
    total: int = 0
    seconds: float = 0.0
    installed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    service: str = "none"
    smoke: bool = False

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps({**asdict(self), "seconds": round(self.seconds, 1)}, indent=2)


def deploy(
    host: Host,
    build: Build,
    layout: Layout,
    wishes: Wishes,
    *,
    recipe: BoardRecipe | None,
    prove: Callable[[PurePosixPath, tuple[str, ...]], None] | None,
) -> Outcome:
    """Bring a build to a board, prove it there, and let it run; what ran before does until then.

    Args:
        host: The board.
        build: What is brought.
        layout: Where to.
        wishes: What the user wants.
        recipe: The board's recipe, for its service's devices.
        prove: Asks the tree at a path there, with what stands before commands that need root,
            whether it works; None leaves that out.

    Raises:
        HostError: The board cannot take it, or the connection was lost.
        AssembleError: What arrived is not what was sent.
        SmokeTestError: The server does not work there: what ran before runs on.
    """
    started = time.monotonic()
    with terminal.step(f"look at {host.name}"):
        facts = read_facts(host, layout.link)
        board, missing, service = _check(host, facts, build, layout, wishes, recipe)
    with board.hold():
        state = board.read_state()
        if missing:
            _install(board, missing)
        name, sent = _bring(board, build, state)
        if prove:
            prove(layout.versions_dir / name, board.prefix)
        board.switch(name)
        stands = "none"
        if service:
            stands = _start(board, facts, recipe, state)
        elif facts.systemd and name != state.current and has_unit(host, layout):
            terminal.warning(f"{layout.unit} runs what it ran until it is started anew")
        removed = board.prune(wishes.keep)
    return Outcome(
        host.name, str(layout.link), name, state.current, sent.files, sent.size, build.measure(),
        time.monotonic() - started, missing, removed, stands, prove is not None,
    )  # fmt: skip


def _check(
    host: Host,
    facts: Facts,
    build: Build,
    layout: Layout,
    wishes: Wishes,
    recipe: BoardRecipe | None,
) -> tuple[Board, tuple[str, ...], bool]:
    """Check everything that can be checked; return the board, what to install, and the service."""
    check.check_machine(facts, build, recipe, host.name)
    state = Board(host, layout).read_state()
    check.check_target(state, layout, host.name)
    service = _wants_service(facts, wishes.service, host.name)
    if service:
        check_place(layout)
        check_unit(host, layout)
        check_port(host, facts, layout)
    needed = check.find_missing_packages(host, facts, build.packages)
    if wishes.install_packages and "rsync" not in facts.programs:
        needed = (*needed, "rsync")
    if needed and not wishes.install_packages:
        msg = f"{host.name} lacks packages that the tree needs: {' '.join(needed)}"
        hint = f"--install-packages installs them; or, as root: apt-get install {' '.join(needed)}"
        raise HostError(msg, hint=hint)
    why = f"write to {layout.link.parent}"
    if facts.writable and (service or needed):
        why = "make a service" if service else "install packages"
    needs_root = service or bool(needed) or facts.writable is not True
    prefix = check.check_rights(facts, host.name, needs_root=needs_root, why=why)
    check.check_programs(facts, host.name, installs=wishes.install_packages)
    board = Board(host, layout, prefix)
    board.check_programs()
    if build.name not in state.complete:
        needed_room = build.measure(_list_there(board, state)) - state.arrived
        check.check_room(facts, max(needed_room, 0), layout, host.name)
    return board, needed, service


def _wants_service(facts: Facts, wish: bool | None, name: str) -> bool:
    """Return whether there will be a service.

    Raises:
        HostError: One is wanted, and the board has no systemd.
    """
    if wish and not facts.systemd:
        msg = f"{name} is not run by systemd, so there can be no service"
        raise HostError(msg, hint="deploy with --no-service, and start the server by other means")
    if wish is None and not facts.systemd:
        terminal.warning(f"{name} is not run by systemd: no service is made")
    return bool(facts.systemd) if wish is None else wish


def _list_there(board: Board, state: State) -> frozenset[str]:
    """Return the checksums of the files of the version that runs, as its manifest has them."""
    if state.current is None:
        return frozenset()
    path = board.layout.versions_dir / state.current / "manifest.json"
    try:
        files = json.loads(board.host.run(["cat", str(path)]).output)["files"]
        return frozenset(entry["sha256"] for entry in files if "sha256" in entry)
    except (ValueError, KeyError, TypeError):
        return frozenset()


def _install(board: Board, packages: tuple[str, ...]) -> None:
    """Install packages of the board's distribution.

    Raises:
        HostError: apt-get failed.
    """
    apt = [*board.prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    install = [*apt, "install", "-y", "--no-install-recommends", *packages]
    with terminal.step(f"install on {board.host.name}: {' '.join(packages)}"):
        answer = board.host.run(install, timeout=_APT_TIMEOUT)
        if answer.returncode != 0:
            # The lists are missing, or too old to name files that still exist.
            board.host.run([*apt, "update"], timeout=_APT_TIMEOUT)
            answer = board.host.run(install, timeout=_APT_TIMEOUT)
        if answer.returncode != 0:
            msg = f"{board.host.name}: apt-get install {' '.join(packages)} failed: {answer.said}"
            raise HostError(msg, hint="run it on the board, and see what it says")


def _bring(board: Board, build: Build, state: State) -> tuple[str, Sent]:
    """Bring a tree to the board, if it is not there; return the version's name and what was sent."""
    name = build.name
    if name in state.complete:
        with terminal.step(f"check {name}, which is on {board.host.name} already"):
            if board.verify(build.contents, name) is None:
                return name, Sent(0, 0)
        terminal.warning(f"{name} on {board.host.name} is damaged: it is sent again")
    # What runs is not replaced in its place, whole or not.
    taken = state.complete | {state.current}
    numbered = (f"{build.name}.{number}" for number in range(1, len(taken) + 2))
    name = next(one for one in (name, *numbered) if one not in taken)
    base = state.current if state.current in state.complete else None
    with terminal.step(f"send {name} to {board.host.name}"):
        sent = board.send(build, base)
    with terminal.step(f"check what arrived on {board.host.name}"):
        board.finish(build, name)
    return name, sent


def _start(board: Board, facts: Facts, recipe: BoardRecipe | None, state: State) -> str:
    """Start the service with the new version; go back to what was before if it does not stay up."""
    link, unit = board.layout.link, board.layout.unit
    with terminal.step(f"start {unit} on {board.host.name}"):
        had_service = has_unit(board.host, board.layout)
        try:
            install_service(board, facts, recipe)
            return wait_for_service(board)
        except SmokeTestError as err:
            notes = [err.message]
            if not had_service:
                stop_service(board)
                notes.append(f"  {unit} is switched off: there was none before")
            if state.current is None:
                notes.append(f"  {link} leads to {board.read_state().current} nevertheless")
            else:
                board.switch(state.current, back=True)
                notes.append(f"  {link} is {state.current} again")
                if had_service:
                    # What is told is why the new one failed.
                    with contextlib.suppress(SmokeTestError):
                        restart_service(board)
            raise SmokeTestError("\n".join(notes), hint=err.hint) from err


def roll_back(host: Host, layout: Layout) -> Outcome:
    """Let the version run again that ran before the one that runs now.

    Raises:
        NothingToDoError: There is none.
        AssembleError: It is not what it was.
        HostError: The board cannot be changed.
    """
    started = time.monotonic()
    with terminal.step(f"look at {host.name}"):
        facts = read_facts(host, layout.link)
        state = Board(host, layout).read_state()
        check.check_target(state, layout, host.name)
        _require_previous(state, layout, host.name)
        has_service = has_unit(host, layout)
        prefix = check.check_rights(
            facts, host.name, needs_root=has_service or facts.writable is not True,
            why=f"change {layout.link}",
        )  # fmt: skip
    board = Board(host, layout, prefix)
    with board.hold():
        state = board.read_state()
        previous = _require_previous(state, layout, host.name)
        _check_previous(board, previous)
        board.switch(previous, back=True)
        stands = "none"
        if has_service and facts.systemd:
            with terminal.step(f"start {layout.unit} on {host.name}"):
                restart_service(board)
                stands = wait_for_service(board)
    return Outcome(
        host.name, str(layout.link), previous, state.current,
        seconds=time.monotonic() - started, service=stands,
    )  # fmt: skip


def _check_previous(board: Board, name: str) -> None:
    """Make sure that a version is still what was sent once.

    Raises:
        AssembleError: It is not.
    """
    path = board.layout.versions_dir / name / "manifest.json"
    with terminal.step(f"check {name} on {board.host.name}"):
        try:
            contents = Contents.parse(board.host.run(["cat", str(path)]).output)
            differences = board.verify(contents, name)
        except ValueError as err:
            differences = f"  | {path}: {err}"
    if differences:
        msg = f"{name} on {board.host.name} is damaged:\n{differences}"
        hint = f"deploy that version again: it is sent anew. {board.layout.link} stays what it is"
        raise AssembleError(msg, hint=hint)


def _require_previous(state: State, layout: Layout, name: str) -> str:
    if state.current is None:
        msg = f"nothing was deployed to {layout.link} on {name}"
        raise NothingToDoError(msg, hint="say --to where it was deployed elsewhere")
    if state.previous is None:
        msg = f"{name} has no version from before {state.current}"
        raise NothingToDoError(msg, hint="deploy keeps as many as --keep says")
    return state.previous
