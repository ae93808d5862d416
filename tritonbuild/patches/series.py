"""A whole series of patches against sources, in memory: nothing is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from tritonbuild.errors import PatchError
from tritonbuild.patches.explain import explain_misfit
from tritonbuild.patches.text import State, encode, judge
from tritonbuild.recipe.changes import GUARD, Change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tritonbuild.recipe.patch import Patch


class Unknown(Enum):
    """What a reader answers where a file cannot be known yet."""

    UNKNOWN = "not known yet"


UNKNOWN = Unknown.UNKNOWN
# A file's content; None where there is none.
Content: TypeAlias = "bytes | Unknown | None"
# Called with component and path below its sources.
Reader: TypeAlias = "Callable[[str, str], Content]"


@dataclass(frozen=True)
class PatchInSeries:
    """One patch, and whose sources it changes.

    Attributes:
        component: The component.
        name: Its path below patches/.
        summary: Its one line.
        changes: What it changes, in order.
    """

    component: str
    name: str
    summary: str
    changes: tuple[Change, ...]

    @classmethod
    def of(cls, component: str, name: str, patch: Patch) -> PatchInSeries:
        """Return a patch as `load_patch` has read it."""
        return cls(component, name, patch.summary, patch.changes)


@dataclass(frozen=True)
class PatchReport:
    """How a patch stands to the sources.

    Attributes:
        problems: Why it does not fit, one or more lines each.
        note: What else there is to know.
    """

    component: str
    name: str
    summary: str
    state: State
    problems: tuple[str, ...] = ()
    note: str = ""


class Files:
    """The files of all components as they are after the patches so far."""

    def __init__(self, read: Reader) -> None:
        self._read = read
        self._before: dict[tuple[str, str], Content] = {}
        self._now: dict[tuple[str, str], Content] = {}

    def get(self, component: str, path: str) -> Content:
        """Return a file's content now."""
        key = (component, path)
        if key not in self._now:
            self._before[key] = self._now[key] = self._read(component, path)
        return self._now[key]

    def put(self, component: str, path: str, content: bytes | None) -> None:
        """Change a file."""
        self._now[component, path] = content

    def changed(self) -> dict[tuple[str, str], bytes | None]:
        """Return what differs from what was read."""
        return {
            key: content
            for key, content in self._now.items()
            if content is not UNKNOWN and content != self._before[key]
        }


def check_series(
    series: Sequence[PatchInSeries], read: Reader, *, pristine: bool = True
) -> list[PatchReport]:
    """Check each patch against the sources as those before it leave them.

    Args:
        series: The patches of all components, in the order in which they are applied.
        read: Returns a file, None where there is none, UNKNOWN where that cannot be said yet.
        pristine: The sources are upstream's own: what is in them already, upstream has fixed.

    Raises:
        PatchError: Some do not fit; all of them are told at once.
    """
    reports = inspect_series(series, read, pristine=pristine)
    raise_misfits(reports)
    return reports


def raise_misfits(reports: Iterable[PatchReport]) -> None:
    """Raise one error for all patches that do not fit.

    Raises:
        PatchError: There are any.
    """
    wrong = [report for report in reports if report.state is State.MISFIT]
    if not wrong:
        return
    lines = [f"{len(wrong)} patches do not fit:" if len(wrong) > 1 else "a patch does not fit:"]
    for report in wrong:
        lines.append(f"  patches/{report.name} ({report.component})")
        for problem in report.problems:
            lines += [f"    {line}" for line in problem.split("\n")]
    hint = (
        f"`tritonbuild show patches/{wrong[0].name}` prints it; a corrected copy in "
        "<your recipes>/patches/ takes its place"
    )
    raise PatchError("\n".join(lines), hint=hint)


def inspect_series(
    series: Sequence[PatchInSeries], read: Reader, *, pristine: bool = True
) -> list[PatchReport]:
    """Return the state of each patch; see `check_series`, but nothing is raised."""
    return apply_series(series, Files(read), pristine=pristine)


def apply_series(
    series: Sequence[PatchInSeries], files: Files, *, pristine: bool
) -> list[PatchReport]:
    """Apply each patch in memory as far as it applies, and return its state before."""
    reports: list[PatchReport] = []
    settled: list[tuple[PatchInSeries, Change]] = []
    for patch in series:
        report, done = _apply(patch, files, pristine=pristine)
        settled += [(patch, change) for change in done]
        problems = _find_undone(patch, settled, files)
        if problems:
            report = replace(report, state=State.MISFIT, problems=(*report.problems, *problems))
        reports.append(report)
    return reports


def _apply(
    patch: PatchInSeries, files: Files, *, pristine: bool
) -> tuple[PatchReport, list[Change]]:
    """Return the state of a patch, and the changes that are in the files now."""
    guard = find_guard(patch, files)
    if guard:
        note = f"{guard.file} holds what upstream put there"
        return PatchReport(*_head(patch), State.UPSTREAM, note=note), []
    states = []
    problems = []
    done = []
    for change in patch.changes:
        if change.where == GUARD:
            continue
        content = files.get(patch.component, change.file)
        if isinstance(content, Unknown):
            states.append(State.UNKNOWN)
            continue
        verdict = judge(change, content)
        states.append(verdict.state)
        if verdict.state is State.MISFIT:
            problems.append(explain_misfit(change, content))
            continue
        if verdict.state is State.APPLIES:
            files.put(patch.component, change.file, verdict.result)
        done.append(change)
    guard = find_guard(patch, files)
    if guard:
        states.append(State.MISFIT)
        problems.append(
            f"{guard.file}: once the patch is there, so is the text that stands for upstream's "
            "own repair: choose another for `fixed`"
        )
    state = _sum_up(states, pristine=pristine)
    note = ""
    if state is State.APPLIES and State.APPLIED in states:
        note = f"{states.count(State.APPLIED)} of {len(states)} changes are there already"
    return PatchReport(*_head(patch), state, tuple(problems), note), done


def _head(patch: PatchInSeries) -> tuple[str, str, str]:
    return patch.component, patch.name, patch.summary


def find_guard(patch: PatchInSeries, files: Files) -> Change | None:
    """Return the text by which upstream's own repair is known, None where it is not there."""
    for change in patch.changes:
        if change.where == GUARD:
            content = files.get(patch.component, change.file)
            if isinstance(content, bytes) and encode(change.old) in content:
                return change
    return None


def _sum_up(states: Sequence[State], *, pristine: bool) -> State:
    for state in (State.MISFIT, State.UNKNOWN, State.APPLIES):
        if state in states:
            return state
    return State.UPSTREAM if pristine else State.APPLIED


def _find_undone(
    patch: PatchInSeries, settled: list[tuple[PatchInSeries, Change]], files: Files
) -> list[str]:
    """Return what a patch did to the work of those before it.

    A script that is run again could not tell that they were applied.
    """
    problems = []
    for earlier, change in list(settled):
        if earlier.component != patch.component:
            continue
        content = files.get(patch.component, change.file)
        assert not isinstance(content, Unknown)
        if judge(change, content).state is not State.APPLIED:
            settled.remove((earlier, change))
            whose = "another of its changes" if earlier is patch else f"patches/{earlier.name}"
            problems.append(
                f"{change.file}: touches what {whose} wrote: make one change of the two"
            )
    return problems
