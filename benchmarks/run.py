"""Measure tritonbuild on this machine: `make bench`, or this file with options.

    python benchmarks/run.py [--only NAME...] [--json FILE] [--repeat N] [--quick]

What is measured, how, and what was measured: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from commands import measure_commands
from executors import measure_executors
from figures import Options, Table
from inference import measure_inference
from machine import describe_machine
from machines import measure_machines
from planning import measure_planning
from source import measure_source
from start import measure_start

from tritonbuild.console import terminal
from tritonbuild.errors import TritonBuildError
from tritonbuild.paths import write_text

if TYPE_CHECKING:
    from collections.abc import Callable

MEASUREMENTS: dict[str, Callable[[Options], Table]] = {
    "cli": measure_commands,
    "plan": measure_planning,
    "start": measure_start,
    "inference": measure_inference,
    "source": measure_source,
    "executors": measure_executors,
    "machines": measure_machines,
}

# Version of what --json writes.
VERSION = 1


def main() -> int:
    """Measure what was asked for; return 1 where something could not be measured."""
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, unwind)
    script = Path(sys.executable).with_name("tritonbuild")
    command = (str(script),) if script.exists() else (sys.executable, "-m", "tritonbuild")
    options = Options(command, arguments.repeat, arguments.quick)
    terminal.configure(verbosity=-1)
    machine = describe_machine()
    for name, fact in machine.items():
        print(f"{name:12} {fact}")
    names = list(dict.fromkeys(arguments.only or MEASUREMENTS))
    tables = [table for name in names if (table := measure(name, options))]
    print_aims(tables)
    if arguments.json:
        write_text(arguments.json, format_json(machine, tables, quick=options.quick))
    return 0 if len(tables) == len(names) else 1


def measure(name: str, options: Options) -> Table | None:
    """Measure and print one table; None where this machine lacks something, which is said."""
    load = os.getloadavg()[0]
    print(f"\n… measuring: {name}", file=sys.stderr, flush=True)
    try:
        table = MEASUREMENTS[name](options)
    except TritonBuildError as err:
        terminal.error(err)
        return None
    table.notes.append(f"Load of the machine before it: {load:.2f}.")
    print_table(table)
    return table


def unwind(number: int, _frame: object) -> NoReturn:
    """End as Ctrl-C does: servers stop, temporary folders go."""
    raise SystemExit(128 + number)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description="Measure tritonbuild on this machine.")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, metavar="NAME",
                        help=f"measure only these: {', '.join(MEASUREMENTS)}")  # fmt: skip
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures to a file, too"
    )
    parser.add_argument(
        "--repeat", type=_parse_count, metavar="N", help="rounds of each measurement"
    )
    parser.add_argument("--quick", action="store_true",
                        help="only show that everything works; the figures mean nothing")  # fmt: skip
    return parser.parse_args()


def _parse_count(text: str) -> int:
    count = int(text)
    if count < 1:
        msg = "at least 1"
        raise ValueError(msg)
    return count


def print_table(table: Table) -> None:
    """Print a measurement's figures."""
    print(f"\n{table.name}: {table.title}\n", flush=True)
    columns = list(table.rows[0])
    rows = [["" if row.get(c) is None else str(row[c]) for c in columns] for row in table.rows]
    terminal.table([column.replace("_", " ") for column in columns], rows)
    for note in table.notes:
        print(f"  {note}")


def print_aims(tables: list[Table]) -> None:
    """Print which aims are met."""
    aims = [aim for table in tables for aim in table.aims]
    if not aims:
        return
    print("\naims\n", flush=True)
    rows = [
        (aim.what, f"{aim.measured:g} {aim.unit}", f"< {aim.limit:g} {aim.unit}",
         "met" if aim.met else "NOT MET")
        for aim in aims
    ]  # fmt: skip
    terminal.table(("what", "measured", "aim", "verdict"), rows)


def format_json(machine: dict[str, str], tables: list[Table], *, quick: bool) -> str:
    """Return the figures as `--json` writes them."""
    content = {
        "version": VERSION,
        "quick": quick,
        "machine": machine,
        "measurements": {table.name: asdict(table) for table in tables},
        "aims": [{**asdict(aim), "met": aim.met} for table in tables for aim in table.aims],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
