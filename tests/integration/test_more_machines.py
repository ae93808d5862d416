"""Other machines that compile or keep results: real distccd, Redis and HTTP servers on loopback."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest
from servers import find_port, serve, wait_for

from tritonbuild import proc
from tritonbuild.arch import Arch
from tritonbuild.executors.machine import find_compiler
from tritonbuild.executors.rootfs import RootSpec, make_root
from tritonbuild.executors.sandbox import Sandbox
from tritonbuild.paths import Workspace, make_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RKNN = ("--component", "rknn")
PASSWORD = "not-for-everybody"


@pytest.fixture(scope="module")
def built(world, tmp_path_factory) -> tuple[Workspace, dict[str, str]]:
    """A build without other machines, and its tree; tests compile its rknn again."""
    work = tmp_path_factory.mktemp("machines") / "work"
    outcome = world.build(work, *RKNN)
    assert outcome.code == 0, outcome.stderr
    return Workspace(work), world.sums(work)


@pytest.fixture
def build_again(world, built, tmp_path, request) -> Callable[..., object]:
    """Return a function that configures and compiles rknn anew, with a ccache of the test's own."""
    count = iter(range(1000))

    def build(*options: object, cache: str = "cache", **more: object):
        ws, _ = built
        again = f"rknn.AGAIN={request.node.name}-{next(count)}"
        env = {"CCACHE_DIR": str(tmp_path / cache), **more.pop("env", {})}
        outcome = world.build(ws.root, *RKNN, "--set", again, *options, env=env, **more)
        assert outcome.code == 0, outcome.stderr
        return outcome

    return build


@pytest.fixture
def is_same(world, built) -> Callable[[], bool]:
    """Return a function that says whether the tree is the one without other machines."""
    ws, sums = built
    return lambda: world.sums(ws.root) == sums


# --- helpers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Daemon:
    """A distccd.

    Attributes:
        host: As `--distcc` names it, without jobs.
        log: What it says: a line for each file that it compiled.
        pid: Its process group.
    """

    host: str
    log: Path
    pid: int

    def list_compiled(self) -> list[str]:
        found = re.findall(r"COMPILE_OK .* (\S+) (\S+)$", self.log.read_text(), re.MULTILINE)
        return [file for _, file in found if file not in ("sample.cc", "version.cc")]


@pytest.fixture
def run_distccd(tmp_path, require_or_skip) -> Iterator[Callable[..., Daemon]]:
    require_or_skip(shutil.which("distccd"), "distccd")
    require_or_skip(shutil.which("distcc"), "distcc")
    with contextlib.ExitStack() as stack:

        def run(*, allow: str = "127.0.0.1", prefix: tuple[str, ...] = ()) -> Daemon:
            port = find_port()
            log = tmp_path / f"distccd-{port}.log"
            argv = [
                "distccd", "--daemon", "--no-detach", "--listen", "127.0.0.1", "--port", str(port),
                "--allow", allow, "--jobs", "4", "--user", "nobody", "--log-stderr",
            ]  # fmt: skip
            pid = stack.enter_context(serve(argv, port, log, prefix))
            return Daemon(f"127.0.0.1:{port}", log, pid)

        yield run


def make_other(compiler: Path, other: Path) -> tuple[str, ...]:
    """Return what starts a program on a machine whose compiler is another one."""
    return (
        "bwrap", "--unshare-user", "--uid", "65534", "--gid", "65534", "--unshare-pid",
        "--die-with-parent", "--dev-bind", "/", "/", "--proc", "/proc",
        "--ro-bind", str(other), str(compiler), "--",
    )  # fmt: skip


@pytest.mark.parametrize("ccache", ["--ccache", "--no-ccache"])
def test_helpers_compile_and_decide_nothing(run_distccd, build_again, built, is_same, ccache):
    helper = run_distccd()
    outcome = build_again("--distcc", f"{helper.host}/4", ccache)
    compiled = helper.list_compiled()
    assert len(compiled) >= 4, "the rest found no room at the helper"
    assert f"helpers compiled {len(compiled)} of 7 files" in outcome.stderr
    assert "because a helper failed" not in outcome.stderr
    assert str(find_compiler("c++")) in helper.log.read_text()
    assert is_same()
    script = next(built[0].scripts_dir.glob("*-build-rknn.sh")).read_text()
    local = re.search(r"build rknn with (\d+) jobs", outcome.stdout)
    assert local
    assert f"--localslots={local[1]} " in script
    assert f" {helper.host}/4 localhost/{local[1]}'" in script


def test_build_that_knew_helpers_goes_on_without_them(run_distccd, build_again, world, built):
    """CMake keeps the program that stands before compilers; it must not find others by itself."""
    helper = run_distccd()
    ws, sums = built
    build_again("--distcc", f"{helper.host}/4", "--no-ccache")
    before = len(helper.list_compiled())
    for path in (ws.root / "build/rknn/build").rglob("*.o"):
        path.unlink()
    again = next(ws.state_dir.glob("*-build-rknn.json"))
    again.unlink()
    script = next(ws.scripts_dir.glob("*-configure-rknn.sh")).read_text()
    name = re.search(r"AGAIN=([\w\[\]-]+)", script)
    assert name
    outcome = world.build(ws.root, *RKNN, "--set", f"rknn.AGAIN={name[1]}", "--no-ccache", "--json")
    assert outcome.code == 0, outcome.stderr
    assert world.statuses(outcome)["configure-rknn"] == "kept"
    assert world.statuses(outcome)["build-rknn"] == "done"
    assert len(helper.list_compiled()) == before
    assert world.sums(ws.root) == sums


def test_helper_that_goes_away_costs_time_only(run_distccd, build_again, is_same):
    helper = run_distccd()

    def kill() -> None:
        wait_for(helper.list_compiled, "it compiles", 60)
        os.killpg(helper.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        # With this many of its jobs all files are under way there when the first one is done.
        outcome = build_again("--distcc", f"{helper.host}/9", "--no-ccache")
    finally:
        killer.join()
    said = re.search(r"(\d+) files? (?:was|were) compiled here because a helper failed: (.*) says",
                     outcome.stderr)  # fmt: skip
    assert said, outcome.stderr
    assert helper.host in Path(said[2]).read_text()
    assert is_same()


def test_helpers_that_cannot_be_used_are_named_and_left_out(
    run_distccd, world, built, require_or_skip, tmp_path
):
    require_or_skip(shutil.which("bwrap"), "bwrap stands for another machine")
    require_or_skip(Arch.native() is Arch.AMD64, "a cross compiler stands for another compiler")
    compiler = find_compiler("c++")
    assert compiler
    other = shutil.which("aarch64-linux-gnu-g++")
    require_or_skip(other, "aarch64-linux-gnu-g++ is another compiler")
    ws, _ = built
    good = run_distccd()
    denied = run_distccd(allow="192.0.2.1")
    foreign = run_distccd(prefix=make_other(compiler, Path(str(other)).resolve()))
    lazy = tmp_path / "lazy"
    lazy.write_text(f'#!/bin/sh\nexec {find_compiler("cc")} "$@" -O0\n')
    lazy.chmod(0o755)
    different = run_distccd(prefix=make_other(compiler, lazy))
    without = run_distccd(prefix=make_other(compiler, Path("/dev/null")))
    gone = f"127.0.0.1:{find_port()}"
    hosts = [one.host for one in (good, denied, foreign, different, without)]
    outcome = world.build(
        ws.root, *RKNN, "--distcc", ",".join(f"{host}/2" for host in [*hosts, gone])
    )
    assert outcome.code == 0, outcome.stderr
    told = dict(re.findall(r"^warning: (\S+) is left out: (.*)$", outcome.stderr, re.MULTILINE))
    assert set(told) == {denied.host, foreign.host, different.host, without.host, gone}
    assert "--allow" in told[denied.host]
    assert f"its {compiler.name} fails" in told[foreign.host]
    assert "does not make the same of a test file" in told[different.host]
    assert f"it has no {compiler.name}" in told[without.host]
    assert "Connection refused" in told[gone]
    assert f"helpers that compile, too: {good.host}/2\n" in outcome.stderr
    outcome = world.build(ws.root, *RKNN, "--distcc", f"{gone}/2")
    assert outcome.code == 0, outcome.stderr
    assert "everything is compiled on this machine" in outcome.stderr


def test_distcc_that_is_not_installed_is_told(world, built, require_or_skip):
    require_or_skip(shutil.which("bwrap"), "bwrap hides it")
    distcc = shutil.which("distcc")
    require_or_skip(distcc, "distcc")
    hidden = ("bwrap", "--dev-bind", "/", "/", "--ro-bind", "/dev/null", distcc, "--")
    outcome = world.build(built[0].root, *RKNN, "--distcc", "192.0.2.1/2", prefix=hidden)
    assert outcome.code == 4
    assert "distcc not found" in outcome.stderr
    assert "apt-get install distcc" in outcome.stderr


SOURCE = """\
#include <cmath>
#include <vector>
std::vector<double> f(double x, int n) {
  std::vector<double> v;
  for (int i = 0; i < n; ++i) v.push_back(std::sin(x * i));
  return v;
}
"""


@pytest.mark.emulation
@pytest.mark.network
@pytest.mark.timeout(300)
def test_x86_helper_makes_the_objects_of_an_arm64_board(run_distccd, arm64_world, tmp_path):
    """The board is a root under QEMU with Debian's own distcc and GCC in it."""
    packages = ("distcc", "g++", "libc6-dev")
    spec = RootSpec("debian", "bookworm", "arm64", packages, {}, None)
    root = make_root(spec, make_dir(arm64_world.cache), tmp_path / "root.log")
    helper = run_distccd()
    work = tmp_path / "board"
    (work / "state").mkdir(parents=True)
    (work / "a.cc").write_text(SOURCE)
    board = Sandbox(root.tree, qemu_cpu="cortex-a76", folder=PurePosixPath("/work"))
    board = board.with_bind(work, PurePosixPath("/work"), writable=True)
    compiler = "/usr/bin/aarch64-linux-gnu-g++-12"
    env = {"DISTCC_HOSTS": f"{helper.host}/2", "DISTCC_DIR": "/work/state", "DISTCC_FALLBACK": "0"}
    for name, argv in (("own", [compiler]), ("helper", ["distcc", compiler])):
        done = proc.capture(
            board.argv([*argv, "-O2", "-fPIC", "-fno-ident", "-c", "a.cc", "-o", f"{name}.o"], env)
        )
        assert done.returncode == 0, done.output
    assert helper.list_compiled() == ["a.cc"]
    assert (work / "own.o").read_bytes() == (work / "helper.o").read_bytes()


# --- a shared cache ---------------------------------------------------------------------------


def count_found(stderr: str, url: str) -> tuple[int, int]:
    """Return how many results were found on a server, of how many."""
    found = re.search(rf"^{re.escape(url)}: (\d+) of (\d+) results found", stderr, re.MULTILINE)
    assert found, stderr
    return int(found[1]), int(found[2])


def test_results_are_found_in_redis_and_the_password_is_nowhere(
    run_redis, build_again, built, is_same
):
    ws, _ = built
    port = run_redis("--requirepass", PASSWORD)
    shown = f"redis://127.0.0.1:{port}"
    env = {"TRITONBUILD_CCACHE_REMOTE": f"redis://{PASSWORD}@127.0.0.1:{port}"}
    first = build_again(env=env, cache="of-one-machine")
    found, of = count_found(first.stderr, shown)
    assert (found, of >= 7) == (0, True)
    second = build_again(env=env, cache="of-another")
    assert count_found(second.stderr, shown) == (of, of)
    assert is_same()
    holders = [
        path for path in ws.root.rglob("*")
        if path.is_file() and not path.is_symlink() and PASSWORD.encode() in path.read_bytes()
    ]  # fmt: skip
    assert holders == [ws.remote_cache_path]
    assert ws.remote_cache_path.stat().st_mode & 0o077 == 0
    assert PASSWORD not in first.stdout + first.stderr + second.stdout + second.stderr


def test_cache_that_cannot_be_used_is_named_and_left_out(run_redis, world, built):
    ws, _ = built
    port = run_redis("--requirepass", PASSWORD)
    for url, why in (
        (f"redis://wrong@127.0.0.1:{port}", "WRONGPASS"),
        (f"redis://127.0.0.1:{port}", "NOAUTH"),
        (f"http://127.0.0.1:{find_port()}/x", "Connection refused"),
    ):
        outcome = world.build(ws.root, *RKNN, "--ccache-remote", url)
        assert outcome.code == 0, outcome.stderr
        assert re.search(rf"^warning: \S+ is not used: .*{why}", outcome.stderr, re.MULTILINE)
        assert "wrong@" not in outcome.stderr
        assert not ws.remote_cache_path.exists()


class Liar(BaseHTTPRequestHandler):
    """Keeps what it is given; once it lies, it gives something else back."""

    kept: dict[str, bytes]
    spoil: Callable[[bytes], bytes]
    asked: int
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.kept[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(201)

    def do_GET(self) -> None:
        content = self.kept.get(self.path)
        if content is not None:
            type(self).asked += 1
        self._answer(404) if content is None else self._answer(200, type(self).spoil(content))

    def do_DELETE(self) -> None:
        self._answer(200 if self.kept.pop(self.path, None) else 404)

    def _answer(self, status: int, content: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def http_cache() -> Iterator[tuple[type[Liar], str]]:
    handler = type("Handler", (Liar,), {"kept": {}, "asked": 0, "spoil": staticmethod(bytes)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield handler, f"http://127.0.0.1:{server.server_address[1]}/cache"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def flip_one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_server_that_lies_never_changes_what_comes_out(http_cache, build_again, is_same):
    handler, url = http_cache
    build_again("--ccache-remote", url, cache="of-one-machine")
    honest = build_again("--ccache-remote", url, cache="honest")
    found, of = count_found(honest.stderr, url)
    assert found == of >= 7
    assert is_same()
    lies = itertools.cycle(
        [flip_one_bit, lambda content: content[: len(content) // 2], lambda _: b"garbage"]
    )

    def spoil(content: bytes) -> bytes:
        return next(lies)(content)

    handler.spoil, handler.asked = staticmethod(spoil), 0
    build_again("--ccache-remote", url, cache="lied-to")
    assert handler.asked >= 7, "it was believed to have something"
    assert is_same()
