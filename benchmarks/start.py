"""How long it takes from a command to the first right answer of the server."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from figures import Aim, Row, Table, median, run_command, spread

from tritonbuild.errors import SmokeTestError
from tritonbuild.executors.place import find_place
from tritonbuild.paths import Workspace
from tritonbuild.plan.model import Plan, read_plan
from tritonbuild.smoke.client import Client, Tensor
from tritonbuild.smoke.here import InSandbox
from tritonbuild.smoke.models import MODELS, compute_affine, write_models
from tritonbuild.smoke.server import run_server

if TYPE_CHECKING:
    from figures import Options

TARGET = ("--board", "orangepi5b", "--os", "debian-12", "--from", "wheel")
ASKED = "affine"
STARTS_TIMEOUT = 240.0

_STEPS = ("root", "fetch", "assemble", "verify")
_INPUT = (1.0, 2.0, 3.0, 4.0)


class _Run:
    """A cache, a work directory and a memory of builds that nobody else uses."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.cache = folder / "cache"
        self.ws = Workspace(folder / "work")
        self._options = options
        self._env = {
            "TRITONBUILD_CACHE_DIR": str(self.cache),
            "TRITONBUILD_STATE_DIR": str(folder / "state"),
            # Otherwise the second cold start would find the first one's downloads at pip.
            "PIP_NO_CACHE_DIR": "1",
        }

    def measure(self, state: str) -> dict[str, float | str]:
        """Build what is left to build, start the server, ask it; return seconds by part."""
        started = time.perf_counter()
        command = [*self._options.tritonbuild, "--quiet", "build", *TARGET, "--json"]
        said = run_command([*command, "--work-dir", str(self.ws.root)], env=self._env)
        built = time.perf_counter()
        ready, answered = answer_once(self.ws, self.cache)
        seconds: dict[str, float | str] = {"state": state, "build": built - started}
        seconds |= _sum_steps(json.loads(said)["steps"])
        # Stopping the server does not count.
        total = built - started + answered
        seconds |= {"server_ready": ready, "first_answer": answered, "total": total}
        return seconds


def _sum_steps(steps: list[dict[str, object]]) -> dict[str, float]:
    """Return the seconds of each kind of step; the fetches run side by side, so their longest."""
    found = dict.fromkeys(_STEPS, 0.0)
    for step in steps:
        kind = str(step["name"]).split("-")[1]
        if step["status"] == "done":
            found[kind] = max(found[kind], float(str(step["seconds"])))
    return found


def open_build(ws: Workspace) -> Plan:
    """Return the plan of a finished build."""
    return read_plan(ws.plan_path.read_text(encoding="utf-8"), str(ws.plan_path))


def answer_once(ws: Workspace, cache: Path) -> tuple[float, float]:
    """Start the server of a build and ask its ONNX model once, over HTTP.

    Returns:
        Seconds from before the server's start until it was ready, and until its answer, which is
        compared with the right one.

    Raises:
        SmokeTestError: It did not start, or answered wrongly.
    """
    started = time.perf_counter()
    plan = open_build(ws)
    models = ws.root / "bench-models"
    names = write_models(models, plan.selection.components)
    load = [name for name in names if MODELS[name].at_start]
    log = ws.logs_dir / "bench-server.log"
    place = find_place(plan, cache, packages=(), log=log)
    tree = ws.tritonserver_dir
    with run_server(
        InSandbox(place), tree, models, load=load, log=log, timeout=STARTS_TIMEOUT
    ) as server:
        ready = time.perf_counter() - started
        answer = Client(server.http_url).infer(ASKED, {"X": Tensor("FP32", (1, 4), _INPUT)})
        answered = time.perf_counter() - started
    expected = compute_affine([_INPUT])
    if answer["Y"].data != expected:
        msg = f"{ASKED} answered {answer['Y'].data}, not {expected}"
        raise SmokeTestError(msg, hint="`tritonbuild smoke` says more")
    return ready, answered


def measure_start(options: Options) -> Table:
    """Measure a start from nothing, one with downloads and root kept, and one with all built."""
    runs: dict[str, list[dict[str, float | str]]] = {}
    for _ in range(options.repeat_for(1)):
        with tempfile.TemporaryDirectory(prefix="tritonbuild-bench-") as folder:
            run = _Run(options, Path(folder))
            _add(runs, run.measure("cold: nothing here"))
            for round_ in range(options.repeat_for(3)):
                run.ws = Workspace(Path(folder) / f"again-{round_}")
                _add(runs, run.measure("cached: wheels and root here"))
            for _ in range(options.repeat_for(5)):
                _add(runs, run.measure("warm: all built"))
    rows = [_summarize(state, found) for state, found in runs.items()]
    warm = median([float(run["total"]) for run in runs["warm: all built"]])
    return Table(
        name="start",
        title=f"to the first right answer: build {' '.join(TARGET)}, start the server, ask",
        rows=rows,
        aims=[Aim("warm start to first right answer", "s", round(warm, 2), 20)],
        notes=[
            "total: from the start of `tritonbuild build` to the answer of an ONNX model over HTTP.",
            "root and fetch run side by side, and so do the fetches (the longest one is shown).",
            "ready and answer: from the server's start, two models loaded (python, onnxruntime).",
            "Cold depends on the network: 80 MB of wheels, and the Debian packages of a 160 MB root.",
        ],
    )


def _add(runs: dict[str, list[dict[str, float | str]]], run: dict[str, float | str]) -> None:
    runs.setdefault(str(run.pop("state")), []).append(run)


def _summarize(state: str, runs: list[dict[str, float | str]]) -> Row:
    def middle(part: str) -> float:
        return round(median([float(run[part]) for run in runs]), 2)

    totals = [float(run["total"]) for run in runs]
    row: Row = {"state": state, "runs": len(runs), "total_s": middle("total")}
    row["spread_s"] = spread(totals, digits=2)
    row |= {f"{part}_s": middle(part) for part in ("build", *_STEPS)}
    row |= {"ready_s": middle("server_ready"), "answer_s": middle("first_answer")}
    return row
