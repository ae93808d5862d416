"""The smoke test from start to end: models, server, checks, report."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tritonbuild import proc
from tritonbuild.console import terminal
from tritonbuild.errors import SmokeTestError, UsageError
from tritonbuild.paths import write_text
from tritonbuild.plan.model import Plan
from tritonbuild.smoke.checks import CHECKS, QUESTIONS
from tritonbuild.smoke.checks.in_process import start_in_process
from tritonbuild.smoke.checks.measuring import COMPONENT, MEASURING, write_repository
from tritonbuild.smoke.client import AnswerError, Client
from tritonbuild.smoke.models import MODELS, find_missing, write_models
from tritonbuild.smoke.own import ask_own, check_own_models, make_own_checks, write_own_models
from tritonbuild.smoke.server import Server, ServerFlags, run_server, tail_log
from tritonbuild.smoke.soak import Soak, run_soak
from tritonbuild.smoke.trial import NO_ANSWER, Check, CheckResult, Trial, run_check

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tritonbuild.paths import Workspace
    from tritonbuild.smoke.server import Place

REPORT_VERSION = 1

DEFAULT_TIMEOUT = 120.0

# How long a server that does not answer is watched for its end.
_DEATH_SECONDS = 3.0

# Components that the checks cover, or that need no check of their own.
_COVERED = (
    "core",
    "backend",
    "python",
    "onnxruntime",
    "ensemble",
    "checksum",
    "local",
    "tnn-library",
    COMPONENT,
)
# Components that run on hardware which only the board has.
_ON_HARDWARE = {"rknn": "needs the NPU: smoke --rknn", "tensorrt": "needs a GPU"}


@dataclass(frozen=True)
class Subject:
    """What a plan says about the server that it made.

    Attributes:
        components: The build's components.
        triton_version: Version that the server must report; None where the plan does not say.
        without: `grpc` or `metrics` where the core was built without it.
        flags: What its command line is like.
    """

    components: tuple[str, ...]
    triton_version: str | None
    without: frozenset[str] = frozenset()
    flags: ServerFlags = field(default_factory=ServerFlags)


@dataclass(frozen=True)
class SmokeReport:
    """What the smoke test found.

    Attributes:
        results: One for each check, in the order in which they ran.
        server_version: What the server said; None where it did not get that far.
        ready_seconds: From the server's start until it was ready.
        first_answer_seconds: From the server's start to the first right inference.
        seconds: The whole smoke test.
        log: Everything that the server said.
    """

    results: tuple[CheckResult, ...]
    server_version: str | None
    ready_seconds: float | None
    first_answer_seconds: float | None
    seconds: float
    log: Path

    @property
    def passed(self) -> bool:
        """Whether no check failed and at least one inference was right."""
        return not self.failed and self.first_answer_seconds is not None

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(result for result in self.results if result.status == "fail")

    def to_json(self) -> str:
        """Return the report as `smoke.json` holds it."""
        content = {
            "version": REPORT_VERSION,
            "passed": self.passed,
            "server_version": self.server_version,
            "ready_seconds": _round(self.ready_seconds),
            "first_answer_seconds": _round(self.first_answer_seconds),
            "seconds": _round(self.seconds),
            "log": str(self.log),
            "results": [result.to_dict() for result in self.results],
        }
        return json.dumps(content, indent=2) + "\n"

    def raise_if_failed(self) -> None:
        """Raise what is wrong, with the end of the server's log.

        Raises:
            SmokeTestError: A check failed, or nothing was inferred.
        """
        if self.passed:
            return
        count = len(self.failed)
        lines = [f"{count} of {len(self.results)} checks failed"]
        lines += [f"  {result.name}: {result.detail}" for result in self.failed[:10]]
        if not count:
            lines = ["no model of this build could be asked: nothing is proved"]
        if count > 10:
            lines.append(f"  and {count - 10} more")
        lines += [f"  | {line}" for line in tail_log(self.log)]
        lines.append(f"  log: {self.log}")
        raise SmokeTestError("\n".join(lines), hint="docs/smoke.md says what each check proves")


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def read_subject(plan: Plan | Mapping[str, Any]) -> Subject:
    """Return what a plan (or plan.json's content) says about its server.

    Raises:
        UsageError: The server was built without HTTP, so nobody can ask it.
    """
    content = json.loads(plan.to_json()) if isinstance(plan, Plan) else plan
    components = tuple(content["selection"]["components"])
    switches = {flag["name"]: flag["value"] for flag in content.get("flags", {}).get("core", ())}
    version = switches.get("TRITON_VERSION")
    flags = ServerFlags()
    for step in content.get("steps", ()):
        details = step.get("details", {})
        version = version or details.get("triton_version")
        if "server" in details:
            said = details["server"]
            flags = ServerFlags(said["model_repository"], frozenset(said["lacks"]))
    off = {name for name in ("http", "grpc", "metrics")
           if switches.get(f"TRITON_ENABLE_{name.upper()}") == "OFF"}  # fmt: skip
    if "http" in off:
        msg = "this server was built without HTTP, which smoke asks it through"
        raise UsageError(msg, hint="build it without --set core.TRITON_ENABLE_HTTP=OFF")
    return Subject(components, version, frozenset(off), flags)


def run_smoke(
    ws: Workspace,
    plan: Plan | Mapping[str, Any],
    *,
    place: Place,
    timeout: float = DEFAULT_TIMEOUT,
    http_port: int | None = None,
    templates: Path | None = None,
    own_models: Sequence[Path] = (),
    soak: Soak | None = None,
) -> SmokeReport:
    """Start the assembled server, ask it everything, stop it; the report is also in smoke.json.

    Args:
        ws: A work directory with a finished tree.
        plan: The plan that was built, or plan.json's content.
        place: Where the server is started; the models are brought there.
        timeout: Seconds until the server must be ready.
        http_port: Port for HTTP; a free one where it is None.
        templates: Folder of the models; the shipped one where it is None.
        own_models: Folders of the user's models, which are asked, too.
        soak: How long the server is asked over and over in the end; None leaves it out.

    Raises:
        UsageError: There is no assembled server, or a folder is no model.
        HostError: That place cannot run it, or `http_port` is taken.
    """
    place.check(ws.tritonserver_dir)
    check_own_models(own_models)
    subject = read_subject(plan)
    started = time.monotonic()
    models_dir = ws.root / "smoke" / "models"
    models = write_models(models_dir, subject.components, template=templates)
    log = ws.logs_dir / "smoke-server.log"
    if COMPONENT in subject.components:
        write_repository(models_dir)
    own = write_own_models(models_dir, own_models)
    at_start = [*(name for name in models if MODELS[name].at_start), *own]
    checks = _list_checks(subject, own, soak)
    results: list[CheckResult] = []
    trial: Trial | None = None
    # The pool is left last: calls that still wait for the server end when it is stopped.
    with ThreadPoolExecutor(2) as pool:
        try:
            with run_server(
                place, ws.tritonserver_dir, models_dir, load=at_start, log=log,
                timeout=timeout, http_port=http_port, without=subject.without,
                flags=subject.flags,
            ) as server:  # fmt: skip
                trial = _make_trial(server, subject)
                _run_checks(checks, trial, subject, pool, results)
        except SmokeTestError as err:
            results += _explain_no_start(checks, err, time.monotonic() - started)
        except BaseException:
            with proc.stopped():  # Ctrl-C: what waits for its turn in the pool is not begun
                pool.shutdown(cancel_futures=True)
            raise
    report = _make_report(results, trial, log, time.monotonic() - started)
    write_text(ws.root / "smoke.json", report.to_json())
    return report


def _make_trial(server: Server, subject: Subject) -> Trial:
    return Trial(server, Client(server.http_url), subject.triton_version, without=subject.without)


def _list_checks(subject: Subject, own: Sequence[str], soak: Soak | None) -> tuple[Check, ...]:
    """Return all checks in order: those that every build has, and what the user wants on top."""
    *usual, stop = CHECKS
    more = list(MEASURING) if COMPONENT in subject.components else []
    if soak is not None:

        def run(trial: Trial) -> str:
            answered = trial.client.answered
            questions = [
                *(partial(one.run, trial) for one in QUESTIONS if answered.get(one.models[0])),
                *(partial(ask_own, trial.client, name) for name in own),
            ]
            return run_soak(trial, soak, questions)

        more.append(Check("soak", "memory levels off while it is asked over and over", run))
    return (*usual, *make_own_checks(own), *more, stop)


def _run_checks(
    checks: Sequence[Check],
    trial: Trial,
    subject: Subject,
    pool: ThreadPoolExecutor,
    results: list[CheckResult],
) -> None:
    """Run every check that this build has models for; a dead server fails all that are left."""
    unloaded = _find_unloaded(trial.client)
    death: str | None = None
    try:
        for check in checks:
            if check.name.startswith("load-") and trial.c_api is None:
                # Not before: while a model loads, the server lets other requests on the same
                # thread wait, and the first answer should not.
                _start_loads(trial, subject, pool)
                trial.c_api = pool.submit(start_in_process, trial)
            terminal.progress(f"smoke: {check.name}")
            result = _skip_or_fail(check, subject, unloaded, death) or run_check(check, trial)
            if result.status == "fail" and check.name.startswith("load-"):
                unloaded.update(dict.fromkeys(check.models, result.detail))
            results.append(result)
            if death is None and check.name != "stop":
                silent = result.detail.startswith(NO_ANSWER)
                how = trial.server.find_death(wait=_DEATH_SECONDS if silent else 0.0)
                if how:
                    death = f"the server died during {check.name}: {how}"
                    results[-1] = replace(result, status="fail", detail=death)
    finally:
        trial.close()
    results += [
        CheckResult(name, "skip", 0.0, _explain_no_check(name))
        for name in subject.components
        if name not in _COVERED
    ]


# In this order, while checks run; an ensemble brings its own models. Those whose checks send several
# requests at once come last.
_LOADED_LATER = (
    "affine_auto",
    "pipeline",
    "broken",
    "bls",
    "running_sum",
    "cached",
    "countdown",
    "batched",
    "instances",
)


def _explain_no_check(component: str) -> str:
    return _ON_HARDWARE.get(component, "asked with a model of yours: --model DIR")


def _start_loads(trial: Trial, subject: Subject, pool: ThreadPoolExecutor) -> None:
    """Start loading what was not loaded at the start."""
    for name in _LOADED_LATER:
        if not find_missing([name], subject.components):
            trial.loads[name] = pool.submit(trial.client.load, name)


def _find_unloaded(client: Client) -> dict[str, str]:
    """Return the models that could not be loaded when the server started, and why."""
    try:
        index = client.list_models()
    except AnswerError:
        return {}
    return {
        entry["name"]: entry.get("reason") or "no reason given"
        for entry in index
        if entry.get("state") == "UNAVAILABLE"
    }


def _skip_or_fail(
    check: Check, subject: Subject, unloaded: Mapping[str, str], death: str | None
) -> CheckResult | None:
    """Return the result of a check that need not or cannot be run, None for the others."""
    missing = find_missing(check.models, subject.components)
    if missing:
        detail = f"needs {' and '.join(missing)}, which this build does not have"
        return CheckResult(check.name, "skip", 0.0, detail, check.proves)
    if death:
        return CheckResult(check.name, "fail", 0.0, death, check.proves)
    for model in check.models:
        if model in unloaded and not check.name.startswith("load-"):
            reason = " ".join(unloaded[model].split())
            detail = f"{model} could not be loaded: {reason}"
            return CheckResult(check.name, "fail", 0.0, detail, check.proves)
    return None


def _explain_no_start(
    checks: Sequence[Check], err: SmokeTestError, seconds: float
) -> list[CheckResult]:
    first, *_ = err.message.splitlines()
    start = CheckResult("start", "fail", seconds, first, "the server starts")
    why = "the server did not start"
    return [start, *(CheckResult(c.name, "skip", 0.0, why, c.proves) for c in checks)]


def _make_report(
    results: list[CheckResult], trial: Trial | None, log: Path, seconds: float
) -> SmokeReport:
    if trial is None:
        return SmokeReport(tuple(results), None, None, None, seconds, log)
    return SmokeReport(
        tuple(results),
        trial.reported_version,
        trial.server.ready_seconds,
        trial.first_answer_seconds,
        seconds,
        log,
    )
