"""What a user is told when a step fails: what failed, the lines that matter, why, and what to do."""

from __future__ import annotations

import json
import re
import shutil
import signal
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritonbuild.engine.excerpt import MOST_LINES, Excerpt, read_excerpt
from tritonbuild.errors import (
    BuildError,
    HostError,
    PatchError,
    RecipeError,
    SourceError,
    TritonBuildError,
)
from tritonbuild.paths import data_dir
from tritonbuild.plan.model import StepKind
from tritonbuild.proc import format_argv
from tritonbuild.recipe.failures import FailureClass, load_rules
from tritonbuild.recipe.load import RecipeBook

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tritonbuild.recipe.failures import FailureRule, Retry

_ERRORS: dict[FailureClass, type[TritonBuildError]] = {
    FailureClass.HOST: HostError,
    FailureClass.SOURCE: SourceError,
    FailureClass.PATCH: PatchError,
    FailureClass.BUILD: BuildError,
}
# What a step's failure is where no rule says more.
_CLASS_OF_KIND = {
    StepKind.ROOT: FailureClass.HOST,
    StepKind.SOURCES: FailureClass.SOURCE,
    StepKind.FETCH: FailureClass.SOURCE,
    StepKind.CHECK: FailureClass.PATCH,
    StepKind.PATCH: FailureClass.PATCH,
}

_HINT = (
    "`tritonbuild shell --failed` opens a shell with the same environment; "
    "the same build goes on from this step"
)
# BuildKit lets nobody into the container of a script that failed.
_CONTAINERS = (StepKind.CONTAINER, StepKind.IMAGE)
_IN_CONTAINERS = (
    "`tritonbuild logs --failed` shows all that BuildKit said; "
    "the same build goes on from the script that failed"
)

# With less room than that, in bytes, whatever failed may have failed for it.
_FULL = 16 << 20

# More causes than that are guesses.
_MOST_HITS = 2
# A message is one screen, and the hint stands under it.
_SCREEN = 22

_SIGNALS = {
    "SIGKILL": "the kernel does that when memory is full",
    "SIGTERM": "it was asked to end",
    "SIGINT": "Ctrl-C",
    "SIGSEGV": "it read or wrote where nothing is",
    "SIGILL": "an instruction that this processor lacks",
    "SIGBUS": "a file under it shrank, or an address was misaligned",
    "SIGABRT": "it gave up by itself",
    "SIGXFSZ": "a file grew beyond the limit (ulimit -f)",
    "SIGHUP": "its terminal went away",
}


@dataclass(frozen=True)
class Hit:
    """A rule that fits, and the line in which it does."""

    rule: FailureRule
    line: str


@dataclass(frozen=True)
class Diagnosis:
    """What a log says of a failure.

    Attributes:
        lines: The lines that matter, at most 15.
        hits: Rules that fit, the likeliest first.
        command: The command that failed, where the log shows it.
    """

    lines: tuple[str, ...]
    hits: tuple[Hit, ...]
    command: str | None = None

    @property
    def retry(self) -> Retry | None:
        """What is worth trying once by itself, after what the likeliest rule says."""
        return self.hits[0].rule.retry if self.hits else None

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "command": self.command,
            "lines": list(self.lines),
            "causes": [
                {
                    "rule": hit.rule.name,
                    "line": hit.line,
                    "cause": hit.rule.cause,
                    "action": hit.rule.action,
                    "links": list(hit.rule.links),
                }
                for hit in self.hits
            ],
        }


def diagnose(log: Path, kind: StepKind, *, rules: Sequence[FailureRule] | None = None) -> Diagnosis:
    """Read what went wrong from the end of a log.

    Args:
        log: The log, of any size; one that does not exist says nothing.
        kind: The step's kind: some rules count in some kinds only.
        rules: The rules; those within reach of the working folder where none are given.

    Raises:
        RecipeError: The rules within reach are not valid.
    """
    if rules is None:
        rules = load_rules(RecipeBook.open())
    excerpt = read_excerpt(log)
    hits = _find_hits(excerpt, kind, rules)
    lines = excerpt.shown
    if hits and not excerpt.recognised:
        first = excerpt.searched.index(hits[0].line)
        lines = excerpt.searched[first : first + MOST_LINES]
    return Diagnosis(lines, tuple(hits), excerpt.command)


def _find_hits(excerpt: Excerpt, kind: StepKind, rules: Sequence[FailureRule]) -> list[Hit]:
    """Return the rules that fit: by priority, then those in the lines that are shown."""
    text = "\n".join(excerpt.searched)
    shown = "\n".join(excerpt.shown)
    found: list[tuple[int, bool, int, Hit]] = []
    for number, rule in enumerate(rules):
        if rule.steps and kind.value not in rule.steps:
            continue
        match = re.search(rule.pattern, text, re.MULTILINE)
        if match is None or (rule.also and not re.search(rule.also, text, re.MULTILINE)):
            continue
        start = text.rfind("\n", 0, match.start()) + 1
        line = text[start:].split("\n", 1)[0]
        is_shown = re.search(rule.pattern, shown, re.MULTILINE) is not None
        found.append((-rule.priority, not is_shown, number, Hit(rule, line)))
    hits: dict[str, Hit] = {}
    for *_, hit in sorted(found, key=lambda one: one[:3]):
        hits.setdefault(hit.line, hit)  # what a lower rule says of the same line is less exact
    return list(hits.values())


def describe_step_failure(
    *,
    step: str,
    title: str,
    kind: StepKind,
    returncode: int,
    log: Path,
    script: Path,
    entry: Path | None = None,
    rules: Sequence[FailureRule] | None = None,
) -> TritonBuildError:
    """Return the error that tells of a failed step, on one screen.

    Its class follows from the rule that fits best, else from the step's kind.

    Args:
        step: `NN-<step>`.
        title: What the step does, for people.
        kind: Its kind.
        returncode: Exit code; negative is the signal that ended it.
        log: Its log.
        script: What ran.
        entry: What runs a command in the root that the script ran in; None where it ran here.
        rules: See `diagnose`.
    """
    remark = None
    try:
        found = diagnose(log, kind, rules=rules)
    except RecipeError as err:
        # A slip in the user's own rules must not hide what failed.
        remark = f"rules that cannot be read: {err.message.splitlines()[0]}"
        found = diagnose(log, kind, rules=load_rules(RecipeBook((data_dir("recipes"),))))
    head = [f"step {step} failed: {title}"]
    command = found.command or _read_command(log)
    if command:
        head.append(f"  command: {_cut(command, 300)}")
    head.append(f"  {describe_exit(returncode)}")
    kind_of_error = next(
        (hit.rule.error for hit in found.hits[:1] if hit.rule.error),
        _CLASS_OF_KIND.get(kind, FailureClass.BUILD),
    )
    tail = [line for hit in _choose_hits(found.hits) for line in _format_hit(hit)]
    told = any(word in line.lower() for line in tail for word in ("disk", "space"))
    if not told and (full := _describe_full_disk(log.parent)):
        kind_of_error, tail = FailureClass.HOST, full
    tail += [f"  {remark}"] if remark else []
    by_hand = f"{entry} bash {script}" if entry else str(script)
    tail += [f"  log: {log}", f"  script: {by_hand}"]
    room = max(5, _SCREEN - len(head) - len(tail))
    lines = [f"  | {line}" for line in found.lines[:room]]
    message = "\n".join([*head, *lines, *tail])
    return _ERRORS[kind_of_error](message, hint=_IN_CONTAINERS if kind in _CONTAINERS else _HINT)


def _describe_full_disk(folder: Path) -> list[str]:
    """Return what to say of a full disk; nothing where there is room.

    Not every program says that it could not write: CMake and Ninja then miss a file of their own.
    """
    free = shutil.disk_usage(folder).free
    if free >= _FULL:
        return []
    cause = f"The disk of {folder.parent} is full: {free >> 10} KiB are free."
    return [
        *_wrap("  cause: ", cause),
        *_wrap("  do: ", "Free some space, then run the same command again."),
    ]


def describe_exit(returncode: int) -> str:
    """Return an exit code in words; shells say 128 + N for the signal N, Python says -N."""
    number = -returncode if returncode < 0 else returncode - 128 if returncode > 128 else 0
    name = signal.Signals(number).name if number in set(signal.Signals) else None
    if name is None:
        known = {126: "cannot be executed", 127: "no such command"}.get(returncode)
        return f"exit code {returncode}" + (f": {known}" if known else "")
    why = _SIGNALS.get(name)
    shown = f"ended by {name}" + (f": {why}" if why else "")
    return shown if returncode < 0 else f"exit code {returncode}, {shown}"


def _choose_hits(hits: Sequence[Hit]) -> list[Hit]:
    """Return the causes that are told: the likeliest, and what is nearly as likely."""
    return [hit for hit in hits[:_MOST_HITS] if hit.rule.priority >= hits[0].rule.priority - 10]


def _format_hit(hit: Hit) -> list[str]:
    lines = [*_wrap("  cause: ", hit.rule.cause), *_wrap("  do: ", hit.rule.action)]
    return lines + [f"  see: {link}" for link in hit.rule.links[:1]]


def _wrap(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, 98, initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False
    )


def _read_command(log: Path) -> str | None:
    """Return the command that the log's JSON twin holds."""
    try:
        twin = json.loads(log.with_suffix(".json").read_text(encoding="utf-8"))
        return format_argv([str(word) for word in twin["argv"]])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"
