"""What other machines do for a build: helpers that compile, a cache of what was compiled already.

Neither decides a result: with them, without them, and when they go away in the middle, the same tree
comes out.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild.console import terminal
from tritonbuild.errors import HostError, UsageError
from tritonbuild.executors.distcc import (
    JOB_SECONDS,
    choose_helpers,
    find_distcc,
    format_hosts,
    require_distcc,
    write_launcher,
)
from tritonbuild.executors.machine import find_compiler, find_program
from tritonbuild.paths import make_dir, write_text
from tritonbuild.plan.model import Executor, StepKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tritonbuild.engine.toolchain import Toolchain
    from tritonbuild.executors.distcc import Helper
    from tritonbuild.executors.remotecache import RemoteCache
    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan, Step

# The second one is what ccache before 4.7 calls it.
_REMOTE_NAMES = ("CCACHE_REMOTE_STORAGE", "CCACHE_SECONDARY_STORAGE")


@dataclass(frozen=True)
class Machines:
    """The other machines of a build; all that were found wanting are left out.

    Attributes:
        helpers: Machines that compile.
        remote: The shared cache.
    """

    helpers: tuple[Helper, ...] = ()
    remote: RemoteCache | None = None

    @property
    def jobs(self) -> int:
        """Compilers that helpers may run at once."""
        return sum(helper.jobs for helper in self.helpers)

    def make_environment(
        self, plan: Plan, ws: Workspace, step: Step, toolchain: Toolchain
    ) -> dict[str, str]:
        """Return what a step's script needs in its environment besides all else."""
        environment = {}
        if self.remote:
            environment["CCACHE_STATSLOG"] = str(_cache_log(ws))
        if plan.selection.executor is not Executor.NATIVE:
            return environment
        launcher = _launcher(ws)
        # Also without helpers, for which it does nothing: CMake remembers launchers from the first
        # time that it runs, and helpers may be named later.
        for language in ("C", "CXX"):
            if not toolchain.ccache:
                environment[f"CMAKE_{language}_COMPILER_LAUNCHER"] = str(launcher)
            # A linker never goes to a helper, but waits for a place among what runs here.
            environment[f"CMAKE_{language}_LINKER_LAUNCHER"] = str(launcher)
        if not self.helpers:
            return environment
        # https://ccache.dev/manual/4.7.5.html#_using_ccache_with_other_compiler_wrappers
        if toolchain.ccache:
            environment["CCACHE_PREFIX"] = str(launcher)
            # A file is preprocessed once, by distcc, and not for ccache before that: half of what a
            # remote compilation costs this machine.
            environment["CCACHE_DEPEND"] = "1"
        if step.kind is StepKind.BUILD:
            local = next(job.count for job in plan.jobs if job.component == step.component)
            cores = plan.machine.cores if plan.machine and plan.machine.cores else local
            environment |= {
                "DISTCC_HOSTS": format_hosts(self.helpers, local=local, cores=cores),
                "DISTCC_DIR": str(_state_dir(ws)),
                "DISTCC_LOG": str(_helper_log(ws)),
                "DISTCC_IO_TIMEOUT": str(JOB_SECONDS),
                "DISTCC_PAUSE_TIME_MSEC": "100",
            }
        return environment

    def get_secrets(self, ws: Workspace) -> dict[str, Path]:
        """Return variables whose values no script may hold, each with the file that does."""
        return dict.fromkeys(_REMOTE_NAMES, ws.remote_cache_path) if self.remote else {}

    def report(self, ws: Workspace) -> None:
        """Say what they did, and where they failed."""
        if self.helpers:
            _report_helpers(_helper_log(ws))
        if self.remote:
            _report_cache(self.remote, _cache_log(ws))


def _launcher(ws: Workspace) -> Path:
    return ws.root / "tools" / "distcc"


def _state_dir(ws: Workspace) -> Path:
    return ws.root / "tools" / "distcc-state"


def _helper_log(ws: Workspace) -> Path:
    return ws.logs_dir / "distcc.log"


def _cache_log(ws: Workspace) -> Path:
    return ws.logs_dir / "ccache.log"


def check_machines(
    plan: Plan, helpers: Sequence[Helper], remote: RemoteCache | None, *, use_ccache: bool
) -> None:
    """Refuse what does not go together, before anything is made.

    Raises:
        UsageError: Options that this build could not heed.
    """
    executor = plan.selection.executor
    if executor is None and (helpers or remote):
        option = "--distcc" if helpers else "--ccache-remote"
        msg = f"{option} does not go with --from wheel"
        raise UsageError(msg, hint=f"wheels come compiled; {option} needs --from source")
    if helpers and executor is not Executor.NATIVE:
        msg = f"--distcc does not go with --executor {executor}"
        raise UsageError(
            msg,
            hint="helpers compile for a build on a board (--executor native); here the compilers "
            "come from the board's system and run in a root; --ccache-remote works there",
        )
    if remote and executor is Executor.BUILDX:
        msg = "--ccache-remote does not go with --executor buildx"
        raise UsageError(msg, hint="containers keep results with --cache-to and --cache-from")
    if remote and not use_ccache:
        msg = "--ccache-remote does not go with --no-ccache"
        raise UsageError(msg, hint="leave one of them out")


def find_machines(
    plan: Plan, ws: Workspace, helpers: Sequence[Helper], remote: RemoteCache | None
) -> Machines:
    """Return those of the machines asked for that can be used; warn of the others.

    Args:
        plan: The plan.
        ws: The work directory, which is told of them.
        helpers: Machines to compile on.
        remote: A shared cache.

    Raises:
        HostError: This machine lacks distcc or ccache, or a compiler with a full name.
    """
    found = Machines(_find_helpers(ws, helpers), _find_remote(plan, remote))
    if plan.selection.executor is Executor.NATIVE:
        write_launcher(_launcher(ws), find_distcc())
    for log in (_helper_log(ws), _cache_log(ws)):
        log.unlink(missing_ok=True)
    if found.remote:
        write_text(ws.remote_cache_path, found.remote.value, private=True)
    else:
        ws.remote_cache_path.unlink(missing_ok=True)
    return found


def _find_helpers(ws: Workspace, helpers: Sequence[Helper]) -> tuple[Helper, ...]:
    if not helpers:
        return ()
    distcc = require_distcc()
    compilers = [find_compiler("cc"), find_compiler("c++")]
    if None in compilers or compilers[1] is None:
        msg = "--distcc needs GCC under its full name, such as /usr/bin/aarch64-linux-gnu-g++-12"
        raise HostError(msg, hint="apt-get install g++, and let /usr/bin/c++ lead to it")
    usable = choose_helpers(helpers, distcc, compilers[1])
    if not usable:
        terminal.warning("no helper can be used: everything is compiled on this machine")
        return ()
    # Whom distcc left alone for a while in an earlier build.
    shutil.rmtree(_state_dir(ws), ignore_errors=True)
    make_dir(_state_dir(ws))
    terminal.info(f"helpers that compile, too: {', '.join(map(str, usable))}")
    return usable


def _find_remote(plan: Plan, remote: RemoteCache | None) -> RemoteCache | None:
    if remote is None:
        return None
    if not plan.selection.runs_in_root and find_program("ccache") is None:
        msg = "ccache not found: --ccache-remote is a storage of its"
        raise HostError(msg, hint="apt-get install ccache")
    problem = remote.find_problem()
    if problem:
        terminal.warning(f"{remote} is not used: {problem}; ccache keeps to this machine's cache")
        return None
    return remote


# --- what became of it ------------------------------------------------------------------------

# distcc's own words (src/compile.c, src/exec.c); `(null)` is what is no compilation, such as a linker.
_TRIED = re.compile(r"^distcc\[\d+\] exec on (\S+): ", re.MULTILINE)
_ENDED = re.compile(
    r"^distcc\[\d+\] (?:ERROR: )?compile (?!\(null\))\S+ on (\S+) (completed ok|failed)",
    re.MULTILINE,
)


def _report_helpers(log: Path) -> None:
    text = _read(log)
    ended = Counter(_ENDED.findall(text))
    done = {host: count for (host, how), count in ended.items() if how == "completed ok"}
    here = done.pop("localhost", 0)
    there = sum(done.values())
    if there + here:
        terminal.info(f"helpers compiled {there} of {there + here} files")
    tried = sum(host != "localhost" for host in _TRIED.findall(text))
    # What does not compile here either is no helper's fault.
    failed = tried - there - ended["localhost", "failed"]
    if failed > 0:
        files = "1 file was" if failed == 1 else f"{failed} files were"
        terminal.warning(f"{files} compiled here because a helper failed: {log} says why")


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""


def _report_cache(remote: RemoteCache, log: Path) -> None:
    counts = Counter(line for line in _read(log).splitlines() if not line.startswith("#"))
    hits, misses = counts["remote_storage_hit"], counts["remote_storage_miss"]
    if hits + misses:
        terminal.info(f"{remote}: {hits} of {hits + misses} results found")
    troubles = counts["remote_storage_error"] + counts["remote_storage_timeout"]
    if troubles:
        terminal.warning(f"{remote} failed {troubles} times; this machine's own cache was used")
