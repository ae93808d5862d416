"""The server as a systemd service of a board."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild.errors import HostError, SmokeTestError
from tritonbuild.paths import data_dir
from tritonbuild.render.template import render_template
from tritonbuild.smoke.server import pick_ports

if TYPE_CHECKING:
    from tritonbuild.deploy.board import Board
    from tritonbuild.deploy.layout import Layout
    from tritonbuild.hosts.facts import Facts
    from tritonbuild.hosts.model import Host
    from tritonbuild.recipe.model import Board as BoardRecipe

# Whom the service runs as; made where there is no such user.
USER = "tritonserver"

# Who may use an accelerator's device files, by distribution.
_GROUPS = ("render", "video")

# Port on which the service tells whether it is ready, unless its settings say another.
_HTTP_PORT = 8000
_HTTP_OPTION = re.compile(r"^[^#\n]*--http-port[= ](\d+)", re.MULTILINE)

# How each of our units begins.
_MARK = "^# made by tritonbuild"

_READY_TIMEOUT = 60.0
_START_TIMEOUT = 120.0


def render_unit(
    board: Board, facts: Facts, groups: tuple[str, ...], recipe: BoardRecipe | None
) -> str:
    """Return the unit's text.

    Args:
        board: The installation.
        facts: What the board is: its device files.
        groups: Groups of the board that may use device files.
        recipe: The board's recipe; None where it is not known any more.
    """
    accelerator = "none"
    if recipe and recipe.cuda:
        accelerator = "gpu"
    elif (recipe and recipe.npu) or facts.npu.driver:
        accelerator = "npu"
    own = [device.path for device in facts.npu.devices if device.path.startswith("/dev/rknpu")]
    return render_template(
        "systemd/tritonserver.service.j2",
        {
            "name": board.layout.service,
            "link": board.layout.link,
            "user": USER,
            "groups": groups if accelerator != "none" else (),
            "accelerator": accelerator,
            "devices": own,
        },
    )


# What the unit's ProtectHome and PrivateTmp hide.
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")


def check_place(layout: Layout) -> None:
    """Make sure that the service, which sees no home and no temporary folders, sees the tree.

    Raises:
        HostError: It does not.
    """
    if any(layout.link.is_relative_to(folder) for folder in _HIDDEN):
        msg = (
            f"the service cannot see {layout.link}: homes and temporary folders are hidden from it"
        )
        raise HostError(
            msg, hint="deploy with --no-service, or say another --to, such as /opt/tritonserver"
        )


def check_unit(host: Host, layout: Layout) -> None:
    """Make sure that nothing of the service's name is on a board that deploy did not make.

    Raises:
        HostError: There is: a unit, in whatever folder, or what another program keeps.
    """
    if has_unit(host, layout):
        return
    hint = "move it away, say another --to, or deploy with --no-service"
    unit = layout.unit
    # Units of the system's packages are elsewhere; one of ours would override them. systemd may
    # not have read what somebody put into our folder.
    known = host.run(["systemctl", "cat", unit]).returncode == 0
    if known or host.run(["test", "-e", _unit_path(layout)]).returncode == 0:
        msg = f"{unit} on {host.name} is there, and deploy did not make it"
        raise HostError(msg, hint=hint)
    # systemd gives a StateDirectory, with all that is in it, to the service's user.
    state = f"/var/lib/{layout.service}"
    there = host.run(["sh", "-c", '[ ! -e "$1" ] || stat -c "owner=%U" "$1"', "sh", state])
    if there.returncode != 0 or (
        "owner=" in there.output and f"owner={USER}\n" not in there.output
    ):
        msg = f"{state} on {host.name} is there, and not the service's"
        raise HostError(msg, hint=hint)


def has_unit(host: Host, layout: Layout) -> bool:
    """Return whether a board has the service, made by deploy."""
    return host.run(["grep", "-q", _MARK, _unit_path(layout)]).returncode == 0


def _unit_path(layout: Layout) -> str:
    return f"/etc/systemd/system/{layout.unit}"


def install_service(board: Board, facts: Facts, recipe: BoardRecipe | None) -> None:
    """Write the unit, make its user, and start it anew with the version that is current.

    Raises:
        SmokeTestError: systemd does not start it.
    """
    said = board.host.run(["getent", "group", *_GROUPS]).output
    groups = tuple(name for name in _GROUPS if f"\n{name}:" in f"\n{said}")
    script = (data_dir("templates") / "deploy" / "service.sh").read_text(encoding="utf-8")
    name = board.layout.service
    answer = board.host.run(
        [*board.prefix, "sh", "-c", script, "service", name, USER],
        given=render_unit(board, facts, groups, recipe),
        timeout=_START_TIMEOUT,
    )
    if answer.returncode != 0:
        msg = f"{board.host.name}: {board.layout.unit} does not start: {answer.said}"
        raise SmokeTestError(msg, hint=f"`journalctl -u {name}` there says more")


def restart_service(board: Board) -> None:
    """Start the service anew.

    Raises:
        SmokeTestError: It does not start.
    """
    unit = board.layout.unit
    answer = board.host.run([*board.prefix, "systemctl", "restart", unit], timeout=_START_TIMEOUT)
    if answer.returncode != 0:
        msg = f"{board.host.name}: {unit} does not start: {answer.said}"
        raise SmokeTestError(msg, hint=f"`journalctl -u {unit}` there says more")


def check_port(host: Host, facts: Facts, layout: Layout) -> None:
    """Make sure that the service's port is free, or the service's own.

    Raises:
        HostError: Another program listens there: the service could not, and would be taken for it.
    """
    port = _read_port(host, layout)
    if port not in (facts.ports or ()):
        return
    unit = layout.unit
    if has_unit(host, layout) and host.run(["systemctl", "is-active", unit]).returncode == 0:
        return
    msg = f"port {port} of {host.name} is taken, and not by {unit}"
    hint = (
        f"stop what listens there, or write into {_settings_path(layout)} there: "
        f'TRITONSERVER_ARGS="--http-port={port + 1000}"; the other ports are --grpc-port and '
        "--metrics-port"
    )
    raise HostError(msg, hint=hint)


def _settings_path(layout: Layout) -> str:
    return f"/etc/default/{layout.service}"


def _read_port(host: Host, layout: Layout) -> int:
    """Return the HTTP port that the service's settings say."""
    found = _HTTP_OPTION.findall(host.run(["cat", _settings_path(layout)]).output)
    return int(found[-1]) if found else _HTTP_PORT


def stop_service(board: Board) -> None:
    """Stop the service, and start it no more when the board starts; its unit stays."""
    unit = board.layout.unit
    board.host.run([*board.prefix, "systemctl", "disable", "--now", unit], timeout=_START_TIMEOUT)


@dataclass(frozen=True)
class _Run:
    """How systemd sees the service at one moment.

    Attributes:
        state: Its ActiveState.
        pid: Process of the server, `0` where there is none.
        restarts: How often it has been started again by itself.
    """

    state: str
    pid: str
    restarts: int

    def follows(self, before: _Run | None) -> bool:
        """Return whether it may be the same server that was seen before."""
        if before is None:
            return True
        return self.restarts <= before.restarts and before.pid in ("0", self.pid)


def _ask_systemd(board: Board, unit: str) -> _Run:
    said = board.host.run(
        ["systemctl", "show", "-p", "ActiveState", "-p", "MainPID", "-p", "NRestarts", unit]
    ).output
    found = dict(line.partition("=")[::2] for line in said.splitlines())
    restarts = found.get("NRestarts", "")
    return _Run(
        found.get("ActiveState", "").strip() or "unknown",
        found.get("MainPID", "0").strip(),
        int(restarts) if restarts.strip().isdigit() else 0,
    )


def wait_for_service(board: Board) -> str:
    """Wait until the service says that it is ready; return how it stands.

    Returns:
        `ready`, or `running` where it did not answer on its port in time.

    Raises:
        SmokeTestError: It ended, whether or not it was started again since.
    """
    unit = board.layout.unit
    here = pick_ports().http
    deadline = time.monotonic() + _READY_TIMEOUT
    before: _Run | None = None
    answered = False
    with board.host.forward(here, _read_port(board.host, board.layout)):
        while time.monotonic() < deadline:
            now = _ask_systemd(board, unit)
            if now.state not in ("active", "activating", "reloading"):
                raise _explain_end(board, unit, now.state)
            if not now.follows(before):
                raise _explain_end(board, unit, "it ends and is started again")
            # Nobody else's answer: it is the server that was there before it, too.
            if answered and now.pid != "0":
                return "ready"
            before = now
            answered = now.pid != "0" and _is_ready(here)
            time.sleep(0.5)
    if before is None or before.state == "activating":
        raise _explain_end(board, unit, "it is not up yet")
    return "running"


def _is_ready(port: int) -> bool:
    import requests

    with requests.Session() as session, contextlib.suppress(requests.RequestException):
        session.trust_env = False
        url = f"http://127.0.0.1:{port}/v2/health/ready"
        return session.get(url, timeout=2).status_code == 200
    return False


def _explain_end(board: Board, unit: str, state: str) -> SmokeTestError:
    log = board.host.run(
        [*board.prefix, "journalctl", "-u", unit, "-n", "15", "--no-pager", "-o", "cat"]
    )
    lines = [f"  | {line}" for line in log.output.strip().splitlines()[-15:]]
    msg = "\n".join([f"{board.host.name}: {unit} does not stay up: {state}", *lines])
    return SmokeTestError(msg, hint=f"`journalctl -u {unit}` there says more")
