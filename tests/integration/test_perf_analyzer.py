"""Triton's own perf_analyzer, out of its wheel, measures the server that smoke asks."""

from __future__ import annotations

import json
import shutil

import pytest

pytestmark = [pytest.mark.emulation, pytest.mark.network, pytest.mark.timeout(600)]


def test_smoke_measures_where_the_build_has_perf_analyzer(run_cli, tmp_path, require_or_skip):
    for program in ("bwrap", "mmdebstrap"):
        require_or_skip(shutil.which(program), program)
    work = tmp_path / "work"
    built = run_cli(
        "build", "--board", "orangepi5b", "--os", "debian-12", "--from", "wheel", "-c", "python",
        "-c", "perf_analyzer", "--work-dir", work, timeout=300,
    )  # fmt: skip
    assert built.code == 0, built.stderr
    outcome = run_cli("smoke", "--work-dir", work, "--json", timeout=300)
    assert outcome.code == 0, outcome.stderr
    results = {one["name"]: one for one in json.loads(outcome.stdout)["results"]}
    for name in ("perf-http", "perf-grpc", "perf-c-api"):
        assert results[name]["status"] == "pass"
        assert "inferences a second" in results[name]["detail"]
