"""What a second build of a work directory finds of the first: by step, whatever its number is."""

from __future__ import annotations

import json

import pytest

from tritonbuild.engine.build import renumber
from tritonbuild.engine.history import read_failure
from tritonbuild.engine.state import Done, read_done, write_done
from tritonbuild.paths import Workspace
from tritonbuild.plan.model import Plan, Selection, Step, StepKind
from tritonbuild.recipe.fields import ProviderKind

SELECTION = Selection(
    "b", "arm64", "o", "r", ProviderKind.SOURCE, None, ("core",), {}, "upstream", ()
)  # fmt: skip


def make_plan(*names: str) -> Plan:
    steps = tuple(Step(name, StepKind.BUILD, name, "w") for name in names)
    return Plan("0", SELECTION, steps, {}, (), (), ())


@pytest.fixture
def ws(tmp_path):
    workspace = Workspace(tmp_path / "w")
    workspace.make()
    return workspace


def leave(ws: Workspace, name: str) -> None:
    """Leave what a step leaves."""
    write_done(ws.state_dir / f"{name}.json", Done(name, {}, 1.0))
    for path in (ws.scripts_dir / f"{name}.sh", ws.logs_dir / f"{name}.log"):
        path.write_text(f"#!/bin/bash\n# {name}: run `bash {name}.sh`\n")
    (ws.logs_dir / f"{name}.json").write_text("{}")


def test_step_before_others_moves_what_they_left(ws):
    for name in ("01-a", "02-c.1"):
        leave(ws, name)
    renumber(make_plan("a", "b", "c.1"), ws)
    assert read_done(ws.state_dir / "03-c.1.json").key == "02-c.1"
    assert {path.name for path in ws.state_dir.iterdir()} == {"01-a.json", "03-c.1.json"}
    script = ws.scripts_dir / "03-c.1.sh"
    assert "# 03-c.1: run `bash 03-c.1.sh`" in script.read_text()
    assert script.stat().st_mode & 0o111
    assert {path.name for path in ws.logs_dir.iterdir()} == {
        "01-a.log", "01-a.json", "03-c.1.log", "03-c.1.json",
    }  # fmt: skip


def test_step_that_is_gone_leaves_its_log_only(ws):
    for name in ("01-a", "02-b"):
        leave(ws, name)
    (ws.scripts_dir / "notes.sh").write_text("mine")
    (ws.state_dir / ".02-b.json.k1ll").write_text("half")
    renumber(make_plan("a"), ws)
    assert [path.name for path in ws.state_dir.iterdir()] == ["01-a.json"]
    assert {path.name for path in ws.scripts_dir.iterdir()} == {"01-a.sh", "notes.sh"}
    assert (ws.logs_dir / "02-b.log").is_file()


def test_failed_step_is_found_under_its_new_number(ws):
    note = {"step": "01-b", "returncode": 3, "script": "/w/scripts/01-b.sh", "log": "l"}
    ws.failed_path.write_text(json.dumps(note))
    plan = make_plan("a", "b")
    renumber(plan, ws)
    assert read_failure(plan, ws).name == "02-b"
    renumber(make_plan("a"), ws)
    assert not ws.failed_path.exists(), "a step that is in the plan no more has not failed"
