"""The NPU's part of the smoke test: preflight, the vendor's demo, the same model served by Triton."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tritonbuild.errors import SmokeTestError, TritonBuildError
from tritonbuild.hosts.facts import Facts
from tritonbuild.smoke.client import AnswerError
from tritonbuild.smoke.rknn.judge import judge
from tritonbuild.smoke.rknn.model_file import read_model
from tritonbuild.smoke.rknn.picture import read_pixels
from tritonbuild.smoke.rknn.preflight import examine_npu, read_library_version, tell_trouble
from tritonbuild.smoke.rknn.serve import ask_served, write_repository
from tritonbuild.smoke.run import read_subject
from tritonbuild.smoke.server import run_server
from tritonbuild.smoke.trial import CheckResult, CheckSkippedError, Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan
    from tritonbuild.plan.npu import BoardNpu
    from tritonbuild.recipe.npu import Demo
    from tritonbuild.smoke.rknn.demo import BuiltDemo
    from tritonbuild.smoke.rknn.judge import Verdict
    from tritonbuild.smoke.rknn.place import DemoPlace
    from tritonbuild.smoke.rknn.preflight import Finding
    from tritonbuild.smoke.server import Place

REPORT_VERSION = 1


@dataclass
class RknnReport:
    """What the NPU's smoke test found.

    Attributes:
        results: One for each check, in the order in which they ran.
        verdict: What the demo's run proves; None where it proves nothing.
        hints: What to do, by the name of the check.
        log: Where what the demo printed is; None where it did not run.
    """

    results: list[CheckResult] = field(default_factory=list)
    verdict: Verdict | None = None
    hints: dict[str, str] = field(default_factory=dict)
    log: Path | None = None

    @property
    def failed(self) -> list[CheckResult]:
        """The checks that failed."""
        return [result for result in self.results if result.status == "fail"]

    @property
    def passed(self) -> bool:
        """Whether the objects were found and nothing failed."""
        return self.verdict is not None and not self.failed

    def note(self, name: str, proves: str, started: float, status: Status, detail: str) -> None:
        """Add a check's result."""
        seconds = time.monotonic() - started
        self.results.append(CheckResult(name, status, seconds, detail, proves))

    def note_failure(self, name: str, proves: str, started: float, err: TritonBuildError) -> None:
        """Add a check that failed, and what to do about it."""
        self.note(name, proves, started, "fail", err.message)
        if err.hint:
            self.hints[name] = err.hint

    def take_findings(self, findings: Sequence[Finding], *, must_pass: bool) -> None:
        """Add what the preflight found, one result each; what fails only warns if it need not pass."""
        for one in findings:
            status = "warn" if one.status == "fail" and not must_pass else one.status
            self.results.append(CheckResult(one.what, status, 0.0, one.detail, "NPU preflight"))
            if one.fix:
                self.hints[one.what] = one.fix

    def take_verdict(self, verdict: Verdict, started: float, facts: Facts) -> None:
        """Add what the demo's run proves."""
        self.verdict = verdict
        self.note("rknn-demo", "the NPU finds the objects", started, "pass", verdict.describe())
        if verdict.output.complaint:
            proves = "the NPU's library tells no error"
            self.note("rknn-errors", proves, time.monotonic(), "warn", verdict.output.complaint)
        proves = "a run is as fast as it should be"
        if verdict.slow:
            self.note("rknn-time", proves, time.monotonic(), "warn", verdict.slow)
            self.hints["rknn-time"] = _explain_slowness(facts)
        else:
            self.note("rknn-time", proves, time.monotonic(), "pass", verdict.describe_time())

    def to_json(self) -> str:
        """Return the report as `rknn.json` holds it."""
        content: dict[str, Any] = {
            "version": REPORT_VERSION,
            "passed": self.passed,
            "seconds": round(sum(result.seconds for result in self.results), 3),
            "log": str(self.log) if self.log else None,
            "demo": self.verdict.to_dict() if self.verdict else None,
            "results": [result.to_dict() for result in self.results],
            "hints": self.hints,
        }
        return json.dumps(content, indent=2) + "\n"

    def raise_if_failed(self) -> None:
        """Raise what is wrong.

        Raises:
            SmokeTestError: A check failed, or nothing was proved.
        """
        if self.passed:
            return
        lines = [f"{result.name}: {result.detail}" for result in self.failed]
        if self.log:
            lines.append(f"  log: {self.log}")
        msg = "\n".join(lines or ["the demo did not run: nothing is proved"])
        hints = [self.hints[one.name] for one in self.failed if one.name in self.hints]
        hint = hints[0] if hints else "docs/npu.md says what each check proves"
        raise SmokeTestError(msg, hint=hint)


def judge_recorded(demo: Demo, text: str, npu: BoardNpu | None) -> RknnReport:
    """Return what a run proves that was recorded elsewhere.

    Args:
        demo: The demo.
        text: What it printed.
        npu: The NPU that it ran on; None where that is not known.
    """
    report = RknnReport()
    _judge(report, demo, text, npu, Facts())
    return report


def run_checks(
    ws: Workspace,
    plan: Plan,
    npu: BoardNpu,
    demo: BuiltDemo,
    facts: Facts,
    *,
    place: DemoPlace,
    servers: Place,
    must_pass: bool = True,
    timeout: float = 120,
) -> RknnReport:
    """Look at the NPU, run the demo and then Triton with its model, and return what that proves.

    Args:
        ws: The build's work directory.
        plan: What was built in it.
        npu: The board's NPU.
        demo: The demo.
        facts: What was found on the board.
        place: Where the demo runs.
        servers: Where servers are started.
        must_pass: Run nothing where the preflight says that it cannot work.
        timeout: Seconds until the server must be ready.
    """
    report = RknnReport()
    started = time.monotonic()
    model = None
    try:
        model = read_model(demo.model)
    except SmokeTestError as err:
        report.note_failure("npu-model", "the model can be read", started, err)
    libraries = _find_libraries(ws, npu, demo, facts)
    found = examine_npu(npu, facts, libraries=libraries, model=model)
    report.take_findings(found, must_pass=must_pass)
    if model is None:
        return report
    if must_pass and report.failed:
        return report
    report.log = ws.logs_dir / "smoke-rknn-demo.log"
    started = time.monotonic()
    try:
        text = place.run(npu, demo, report.log)
    except TritonBuildError as err:
        report.note_failure("rknn-demo", "the NPU finds the objects", started, err)
        return report
    _judge(report, npu.family.demo, text, npu, facts)
    if report.verdict is not None:
        _serve(report, report.verdict, ws, plan, npu, demo, servers, timeout)
    return report


def _serve(
    report: RknnReport,
    verdict: Verdict,
    ws: Workspace,
    plan: Plan,
    npu: BoardNpu,
    demo: BuiltDemo,
    servers: Place,
    timeout: float,
) -> None:
    """Let Triton serve the demo's model, on one core and on all, and note what it finds."""
    import requests

    started = time.monotonic()
    proves = "the same model, served by Triton's rknn backend, finds the same objects"
    try:
        pixels = read_pixels(demo.image, verdict.output.model_size[:2])
    except CheckSkippedError as err:
        report.note("rknn-triton", proves, started, "warn", f"Triton was not asked: {err}")
        return
    labels = (demo.folder / npu.family.demo.labels).read_text(encoding="utf-8").split("\n")
    labels = [label.strip() for label in labels if label.strip()]
    models_dir = ws.root / "smoke" / "rknn-models"
    models = write_repository(models_dir, npu, demo, verdict, plan.selection.provider)
    log = ws.logs_dir / "smoke-rknn-server.log"
    subject = read_subject(plan)
    try:
        with run_server(
            servers, ws.tritonserver_dir, models_dir, load=(), log=log, timeout=timeout,
            without=subject.without,
        ) as server:  # fmt: skip
            for count, model in models.items():
                started = time.monotonic()
                served = ask_served(
                    server, model, count, verdict, pixels=pixels, labels=labels,
                    tolerances=npu.family.demo.tolerances,
                )  # fmt: skip
                report.note(f"rknn-triton-{count}", proves, started, "pass", served.describe())
    except TritonBuildError as err:
        report.note_failure("rknn-triton", proves, started, err)
    except (AnswerError, requests.RequestException) as err:
        report.note("rknn-triton", proves, started, "fail", f"{err}\n  log: {log}")


def _find_libraries(
    ws: Workspace, npu: BoardNpu, demo: BuiltDemo, facts: Facts
) -> dict[str, tuple[str, str | None]]:
    """Return path and version of the vendor's library that the demo and the backend load."""
    own = ws.tritonserver_dir / "backends" / "rknn" / npu.family.library
    if own.is_file():
        backend: tuple[str, str | None] = (str(own), read_library_version(own))
    else:
        backend = (facts.npu.library or "", facts.npu.library_version)
    return {
        "demo": (str(demo.library), read_library_version(demo.library)),
        "backend": backend,
    }


def _judge(report: RknnReport, demo: Demo, text: str, npu: BoardNpu | None, facts: Facts) -> None:
    started = time.monotonic()
    try:
        verdict = judge(demo, text, npu.name if npu else None)
    except SmokeTestError as err:
        report.note_failure("rknn-demo", "the NPU finds the objects", started, err)
        return
    report.take_verdict(verdict, started, facts)
    if npu and facts.npu.driver is None:
        # Only root may read it beforehand, on most boards; the demo prints it to everybody.
        told = replace(facts, npu=replace(facts.npu, driver=verdict.output.driver))
        report.take_findings(list(tell_trouble(npu, told, {})), must_pass=False)


def _explain_slowness(facts: Facts) -> str:
    """Return the likely reasons of a slow run, the likeliest first."""
    governor = (
        "the processor's governor: the search for boxes runs there, and `powersave` or `ondemand` "
        "make it slow (write `performance` to /sys/devices/system/cpu/cpufreq/policy*/"
        "scaling_governor)"
    )
    reasons = [
        governor,
        "the NPU's own (/sys/class/devfreq/*npu*/governor)",
        "an old driver",
        "something else on the NPU (/sys/kernel/debug/rknpu/load)",
    ]
    governors = sorted(set(facts.governors))
    if governors and governors != ["performance"]:
        reasons[0] = f"the governor is {', '.join(governors)}: " + reasons[0]
    return "; ".join(reasons)
