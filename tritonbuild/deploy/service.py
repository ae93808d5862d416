"""The server as a systemd service of a board."""

from __future__ import annotations

import contextlib
import time
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


def check_unit(host: Host, layout: Layout) -> None:
    """Make sure that nothing of the service's name is on a board that deploy did not make.

    Raises:
        HostError: There is: a unit, in whatever folder, or what another program keeps.
    """
    if has_unit(host, layout):
        return
    hint = "move it away, say another --to, or deploy with --no-service"
    unit = f"{layout.service}.service"
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
    return f"/etc/systemd/system/{layout.service}.service"


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
        msg = f"{board.host.name}: {name}.service does not start: {answer.said}"
        raise SmokeTestError(msg, hint=f"`journalctl -u {name}` there says more")


def restart_service(board: Board) -> None:
    """Start the service anew.

    Raises:
        SmokeTestError: It does not start.
    """
    unit = f"{board.layout.service}.service"
    answer = board.host.run([*board.prefix, "systemctl", "restart", unit], timeout=_START_TIMEOUT)
    if answer.returncode != 0:
        msg = f"{board.host.name}: {unit} does not start: {answer.said}"
        raise SmokeTestError(msg, hint=f"`journalctl -u {unit}` there says more")


def wait_for_service(board: Board) -> str:
    """Wait until the service says that it is ready; return how it stands.

    Returns:
        `ready`, or `running` where it did not answer on the usual port in time: its settings may
        say another one.

    Raises:
        SmokeTestError: It ended.
    """
    import requests

    unit = f"{board.layout.service}.service"
    port = pick_ports().http
    deadline = time.monotonic() + _READY_TIMEOUT
    state = ""
    with board.host.forward(port, _HTTP_PORT), requests.Session() as session:
        session.trust_env = False
        while time.monotonic() < deadline:
            state = board.host.run(["systemctl", "is-active", unit]).output.strip()
            if state not in ("active", "activating", "reloading"):
                raise _explain_end(board, unit, state)
            with contextlib.suppress(requests.RequestException):
                url = f"http://127.0.0.1:{port}/v2/health/ready"
                if session.get(url, timeout=2).status_code == 200:
                    return "ready"
            time.sleep(0.5)
    if state == "activating":
        raise _explain_end(board, unit, "it ends and is started again")
    return "running"


def _explain_end(board: Board, unit: str, state: str) -> SmokeTestError:
    log = board.host.run(
        [*board.prefix, "journalctl", "-u", unit, "-n", "15", "--no-pager", "-o", "cat"]
    )
    lines = [f"  | {line}" for line in log.output.strip().splitlines()[-15:]]
    msg = "\n".join([f"{board.host.name}: {unit} does not stay up: {state}", *lines])
    return SmokeTestError(msg, hint=f"`journalctl -u {unit}` there says more")
