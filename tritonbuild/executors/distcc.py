"""Helpers: other machines that compile for a native build, through distcc.

distcc preprocesses here, sends one file to a helper and gets its object back; it says of itself that
the result is that of a local compile as long as both have the same compiler
(https://www.distcc.org/, distcc(1)). That is not assumed: each helper compiles one file before it is
given any other, and the object has to be the same as ours.
"""

from __future__ import annotations

import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tritonbuild import proc
from tritonbuild.console import terminal
from tritonbuild.errors import HostError, UsageError
from tritonbuild.paths import data_dir, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

# Of distcc's host specifications what names one machine: TCP, or ssh with an @ (distcc(1)).
_HELPER = re.compile(
    r"(?P<host>(?:[\w.-]*@)?(?:[A-Za-z0-9](?:[\w.-]*\w)?|\[[0-9A-Fa-f:.]+\]))"
    r"(?P<port>:\d{1,5})?/(?P<jobs>[1-9]\d{0,2})"
)
_EXAMPLE = "for example --distcc laptop/8,192.168.1.7:3632/4; @laptop/8 goes through ssh"

# -fno-ident as in every build (`engine.toolchain`): a version string is not the code that is made.
_SAMPLE = ("-std=c++17", "-O2", "-fPIC", "-pthread", "-fno-ident", "-c", "sample.cc", "-o")
# GCC writes its version into an object's .comment.
_IDENT = re.compile(rb"GCC: (\([^)]*\) (\d+\.\d+[.\d]*))")

# How long a helper may take for the test file, and for a file of the build, in seconds; distcc's own
# limit is 300, in which a board compiles most files itself.
_TRIAL_SECONDS = 20
JOB_SECONDS = 120

# CMake's checks are small, and many of them are meant to fail. distcc takes that for a helper's fault
# and leaves it alone for a minute. Without helpers (a later build) it is as if this were not there.
_LAUNCHER = """\
#!/bin/sh
# Made by tritonbuild: hands compilers to distcc where there are helpers.
case $PWD in
  */CMakeFiles/CMakeScratch/* | */CMakeFiles/CMakeTmp*) exec "$@" ;;
esac
[ -n "$DISTCC_HOSTS" ] || exec "$@"
exec @distcc@ "$@"
"""


@dataclass(frozen=True)
class Helper:
    """A machine that compiles for this one.

    Attributes:
        host: As distcc is told: `NAME`, `NAME:PORT`, `USER@NAME` or `@NAME`.
        jobs: Compilers that it may run for us at once.
    """

    host: str
    jobs: int

    def __str__(self) -> str:
        return f"{self.host}/{self.jobs}"


def parse_helpers(text: str) -> tuple[Helper, ...]:
    """Return what `--distcc HOST/JOBS,...` names.

    Raises:
        UsageError: It is something else, or names this machine or one machine twice.
    """
    helpers = []
    for part in text.split(","):
        found = _HELPER.fullmatch(part.strip())
        if found is None or ("@" in found["host"] and found["port"]):
            msg = f"--distcc {text!r}: {part!r} is not HOST/JOBS"
            raise UsageError(msg, hint=_EXAMPLE)
        if found["host"] == "localhost":
            msg = "--distcc localhost: to distcc that is no helper but this machine itself"
            raise UsageError(msg, hint="how much is compiled here is said by --jobs")
        helpers.append(Helper(found["host"] + (found["port"] or ""), int(found["jobs"])))
    twice = {one.host for one in helpers if [each.host for each in helpers].count(one.host) > 1}
    if twice:
        msg = f"--distcc names {', '.join(sorted(twice))} more than once"
        raise UsageError(msg, hint="say once how many jobs it may have")
    return tuple(helpers)


def require_distcc() -> Path:
    """Return where distcc is.

    Raises:
        HostError: It is not installed.
    """
    return proc.require_tool(
        "distcc", reason="to compile on other machines (--distcc)", hint="apt-get install distcc"
    )


def find_distcc() -> Path:
    """Return the program, or what it would be called where it is not."""
    return proc.find_tool("distcc") or Path("distcc")


def format_hosts(helpers: Sequence[Helper], *, local: int, cores: int) -> str:
    """Return the value of DISTCC_HOSTS.

    Helpers come first, as they are quicker than the board or it would not ask them. What runs here
    is bounded by distcc's own locks: compilers (also those that a helper failed to run) and linkers
    by memory, preprocessors, which take little of it, by cores.

    Args:
        helpers: The helpers; the quickest first.
        local: Compilers that may run here at once.
        cores: Cores of this machine.
    """
    slots = [f"--localslots={local}", f"--localslots_cpp={max(local, cores)}"]
    return " ".join([*slots, *map(str, helpers), f"localhost/{local}"])


def write_launcher(path: Path, distcc: Path) -> None:
    """Write the program that stands before compilers; CMake and Ninja remember where it is."""
    text = _LAUNCHER.replace("@distcc@", proc.format_argv([str(distcc)]))
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text, executable=True)


# --- whether a helper compiles as this machine does -------------------------------------------


def choose_helpers(helpers: Sequence[Helper], distcc: Path, compiler: Path) -> tuple[Helper, ...]:
    """Return the helpers that compile as this machine does; warn of the others.

    Args:
        helpers: All that were asked for.
        distcc: The program.
        compiler: The C++ compiler, under a name that means the same on a helper.

    Raises:
        HostError: This machine's own compiler does not work.
    """
    with tempfile.TemporaryDirectory(prefix="tritonbuild-distcc-") as name:
        trial = _Trial(distcc, compiler, Path(name))
        with ThreadPoolExecutor(len(helpers)) as threads:
            problems = list(threads.map(trial.find_problem, helpers))
    for helper, problem in zip(helpers, problems, strict=True):
        if problem:
            terminal.warning(f"{helper.host} is left out: {problem}")
    return tuple(one for one, problem in zip(helpers, problems, strict=True) if not problem)


class _Trial:
    """One file, compiled here and by each helper."""

    def __init__(self, distcc: Path, compiler: Path, folder: Path) -> None:
        self._distcc = distcc
        self._compiler = compiler
        self._folder = folder
        sample = data_dir("templates") / "compilers" / "sample.cc"
        (folder / "sample.cc").write_bytes(sample.read_bytes())
        (folder / "version.cc").write_text("int version;\n", encoding="utf-8")
        self._object = self._compile_here([*_SAMPLE, "here.o"], "here.o")
        self._ident = _find_ident(self._compile_here(_name_version("version.o"), "version.o"))

    def _compile_here(self, arguments: Sequence[str], output: str) -> bytes:
        argv = ["env", "-C", str(self._folder), str(self._compiler), *arguments]
        done = proc.capture(argv)
        if done.returncode != 0:
            msg = f"{self._compiler} cannot compile a small file: {done.output.strip()[-300:]}"
            raise HostError(msg, hint="install g++ and the C library's headers")
        return (self._folder / output).read_bytes()

    def find_problem(self, helper: Helper) -> str | None:
        """Return why a helper cannot be used; None where it can."""
        name = re.sub(r"\W", "-", helper.host)
        for arguments, output in (
            ([*_SAMPLE, f"{name}.o"], f"{name}.o"),
            (_name_version(f"{name}-version.o"), f"{name}-version.o"),
        ):
            problem = self._compile_there(helper, name, arguments)
            if problem:
                return problem
            if not (self._folder / output).is_file():
                return f"it left no object of {self._compiler.name}"
        theirs = _find_ident((self._folder / f"{name}-version.o").read_bytes())
        same = (self._folder / f"{name}.o").read_bytes() == self._object
        return self._judge(helper, theirs, same=same)

    def _compile_there(self, helper: Helper, name: str, arguments: Sequence[str]) -> str | None:
        argv = ["env", "-C", str(self._folder), str(self._distcc), str(self._compiler), *arguments]
        state = self._folder / f"{name}-state"
        state.mkdir(exist_ok=True)
        done = proc.capture(
            argv,
            env={
                "DISTCC_HOSTS": str(helper),
                "DISTCC_DIR": str(state),
                "DISTCC_FALLBACK": "0",
                "DISTCC_IO_TIMEOUT": str(_TRIAL_SECONDS),
            },
        )
        return None if done.returncode == 0 else describe_trouble(done.output, self._compiler.name)

    def _judge(self, helper: Helper, theirs: tuple[str, str], *, same: bool) -> str | None:
        name = self._compiler.name
        if not same or theirs[1] != self._ident[1]:
            return (
                f"its {name} {theirs[0]} does not make the same of a test file as this machine's "
                f"{self._ident[0]}; they have to be the same"
            )
        if theirs != self._ident:
            terminal.detail(
                f"{helper.host}: {name} {theirs[0]} makes the same of a test file as {self._ident[0]}"
            )
        return None


def _name_version(output: str) -> list[str]:
    return ["-c", "version.cc", "-o", output]


def _find_ident(content: bytes) -> tuple[str, str]:
    """Return how the compiler of an object calls itself, and the number in that."""
    found = _IDENT.search(content)
    return (found[1].decode(), found[2].decode()) if found else ("(of no version)", "")


def describe_trouble(said: str, compiler: str) -> str:
    """Return what distcc says that went wrong first: what it says afterwards follows from that.

    Args:
        said: What it printed.
        compiler: The name of the compiler that it was to run there.
    """
    if re.search(r"failed with exit code 110$", said, re.MULTILINE):
        return f"it has no {compiler}, or distccd may not run it (a link in its /usr/lib/distcc)"
    found = re.search(r"^distcc\[\d+\] (?:\(\w+\) )?ERROR: (.*)$", said, re.MULTILINE)
    lines = [line for line in said.splitlines() if line.strip()]
    text = found[1] if found else (lines[-1] if lines else "distcc does not say why")
    if text.startswith("compile "):
        first = next((line for line in lines if "rror: " in line), lines[0])
        return f"its {compiler} fails on a small file: {first}"
    if "reset by peer" in text or "server provided no answer" in text:
        return f"{text.partition('. ')[0]}; does its distccd --allow this machine?"
    return text
