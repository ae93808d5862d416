"""What is left of a program that ran: the record beside its log, and the words for its failure."""

from __future__ import annotations

import json
import os
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild.paths import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tritonbuild.proc import Result


def describe_failure(argv: Sequence[str], result: Result, log: Path | None) -> str:
    """Return what failed, how, and the last lines that it said."""
    code = result.returncode
    how = f"exit code {code}"
    if code < 0:
        known = -code in set(signal.Signals)
        how = f"signal {signal.Signals(-code).name if known else -code}"
    lines = [f"{Path(argv[0]).name} failed with {how}", f"  command: {shlex.join(argv)}"]
    tail = result.output.rstrip().splitlines()[-15:]
    lines += [f"  | {line}" for line in tail]
    if log:
        lines.append(f"  log: {log}")
    return "\n".join(lines)


def write_twin(
    log: Path,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None,
    returncode: int,
    seconds: float,
) -> None:
    """Write what ran, how and how it ended beside its log, as JSON.

    Args:
        env: The environment as it was (see `make_env`).
    """
    # Only what was set for the child, not what the user's shell happened to hold: an index
    # address may carry a password.
    shown = {key: value for key, value in env.items() if os.environ.get(key) != value}
    twin = {
        "argv": list(argv),
        "cwd": str(cwd or Path.cwd()),
        "env": shown,
        "returncode": returncode,
        "seconds": round(seconds, 3),
    }
    write_text(log.with_suffix(".json"), json.dumps(twin, indent=2) + "\n")
