"""How long the command line takes to start, against an interpreter that does nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from figures import Aim, Row, Table, in_ms, median, ratio, spread, time_command

if TYPE_CHECKING:
    from figures import Options

BARE = "python -c pass"

_COMMANDS = (
    ("--version",),
    ("--help",),
    ("list",),
    ("plan", "--board", "orangepi5b"),
    ("plan", "--board", "orangepi5b", "--from", "wheel"),
)

# Below these, in milliseconds, on two cores.
_LIMITS = {"tritonbuild --version": 100, "tritonbuild plan --board orangepi5b": 300}


def measure_commands(options: Options) -> Table:
    """Run each command in turn, round after round, so that a busy moment hits all of them."""
    commands = {BARE: [sys.executable, "-c", "pass"]}
    for arguments in _COMMANDS:
        commands[" ".join(("tritonbuild", *arguments))] = [*options.tritonbuild, *arguments]
    for argv in commands.values():
        time_command(argv)  # bytecode is written and files are read once
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    repeat = options.repeat_for(21)
    for _ in range(repeat):
        for name, argv in commands.items():
            seconds[name].append(time_command(argv))
    bare = median(seconds[BARE])
    rows: list[Row] = [
        {
            "command": name,
            "median_ms": in_ms(median(values)),
            "spread_ms": spread(values, 1e3),
            "x_bare_python": ratio(median(values), bare),
        }
        for name, values in seconds.items()
    ]
    aims = [Aim(name, "ms", in_ms(median(seconds[name])), limit) for name, limit in _LIMITS.items()]
    notes = [f"{repeat} rounds, commands in turn; spread is lowest - highest."]
    return Table("cli", "start-up of the command line", rows, aims, notes)
