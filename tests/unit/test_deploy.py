"""deploy's parts that need no board: paths, names, the service's unit, and what doctor says of one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from tritonbuild.arch import Arch
from tritonbuild.deploy.board import Board
from tritonbuild.deploy.check import check_machine
from tritonbuild.deploy.layout import Build, Contents, Layout
from tritonbuild.deploy.service import render_unit
from tritonbuild.doctor import Finding, Status, judge_board
from tritonbuild.errors import HostError, UsageError
from tritonbuild.hosts.facts import Device, Facts, GpuFacts, NpuFacts
from tritonbuild.hosts.here import Here
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Request
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import RecipeBook

GIB = 1 << 30

BOARD = Facts(
    machine="aarch64", arch=Arch.ARM64, os="debian-12", os_name="Debian GNU/Linux 12",
    kernel="5.10.160", glibc="2.36", cores=8, memory=8 * GIB, available=7 * GIB, swap=0,
    free=20 * GIB, writable=False, governors=("performance",), uid=1000, user="pi", sudo=True,
    python="3.11.2", systemd=True, ports=(),
    programs={"rsync": "/usr/bin/rsync", "flock": "/usr/bin/flock"},
    npu=NpuFacts(
        soc="xunlong,orangepi-5b rockchip,rk3588", driver="0.8.2", driver_from="dmesg",
        library="/usr/lib/librknnrt.so", library_version="1.5.2",
        devices=(Device("/dev/dri/renderD129", readable=True, writable=True),),
    ),
)  # fmt: skip


# --- where, and what --------------------------------------------------------------------------------


def test_paths_are_beside_the_link():
    layout = Layout.parse("/srv/triton")
    assert layout.versions_dir == PurePosixPath("/srv/triton.versions")
    assert layout.incoming_dir == PurePosixPath("/srv/triton.versions/.incoming")
    assert layout.service == "triton"
    assert Layout.parse("/srv/c++/triton").service == "triton"


@pytest.mark.parametrize(
    "text",
    ["", "/", "/opt", "opt/x", "/opt/", "/opt/../x", "/opt/a b", "/opt/-x", "/opt/x;y", "/opt/c++"],
)
def test_paths_that_are_none_are_refused(text):
    with pytest.raises(UsageError):
        Layout.parse(text)


@pytest.fixture(scope="module")
def plan():
    request = Request("orangepi5b", os="debian-12", provider=ProviderKind.WHEEL)
    return make_plan(RecipeBook.open(), request)


def test_build_says_what_is_to_be_checked(plan, tmp_path):
    files = [
        {"path": "a file", "sha256": "aa", "size": 5},
        {"path": "odd\\name\n", "sha256": "bb", "size": 7},
        {"path": "link", "link": "a file"},
    ]
    verified = {
        "highest": {"GLIBC": {"version": "GLIBC_2.34", "file": "x"}},
        "to_install": {"libb.so": "b", "liba.so": "a", "liba2.so": "a", "libc.so.6": ""},
    }
    build = Build(tmp_path, plan, {"files": files}, "{}", verified)
    assert build.contents.list_checksums() == "aa  ./a file\n\\bb  ./odd\\\\name\\n\n"
    assert (build.contents.files, build.contents.links, build.glibc) == (2, 1, "2.34")
    assert build.packages == ("a", "b")
    assert (build.measure(), build.measure({"bb"})) == (12, 5)
    assert build.name.startswith("2.41.0-")
    assert replace(build, text="[]").name != build.name


def test_checksums_are_coreutils_own(tmp_path, require_or_skip):
    require_or_skip(shutil.which("sha256sum"), "sha256sum")
    (tmp_path / "odd\\name\n").write_bytes(b"x")
    said = subprocess.run(
        ["sh", "-c", "sha256sum ./*"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    digest = said[1:].split(" ", 1)[0]
    files = [{"path": "odd\\name\n", "sha256": digest, "size": 1}]
    assert Contents(files).list_checksums() == said


# --- steps on a board, which this machine is here ----------------------------------------------------


def fill_busybox(folder):
    busybox = shutil.which("busybox")
    folder.mkdir()
    subprocess.run([busybox, "--install", "-s", str(folder)], check=True)
    # Not the one that tritonbuild starts programs with.
    (folder / "setpriv").unlink(missing_ok=True)
    # Debian's busybox is built without it.
    (folder / "flock").unlink(missing_ok=True)
    (folder / "flock").symlink_to(shutil.which("flock"))
    return folder


@pytest.mark.parametrize("system", ["gnu", "busybox"])
def test_steps_on_a_board(plan, tmp_path, system, require_or_skip, monkeypatch):
    if system == "busybox":
        require_or_skip(shutil.which("busybox"), "busybox")
        monkeypatch.setenv("PATH", str(fill_busybox(tmp_path / "bin")))
    board = Board(Here(), Layout.parse(str(tmp_path / "opt" / "triton")))
    assert board.read_state().store == "none"
    names = []
    with board.hold():
        for number in range(3):
            content = f"number {number}".encode()
            folder = tmp_path / "opt" / "triton.versions" / ".incoming"
            folder.mkdir(exist_ok=True)
            (folder / "a file").write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            files = [{"path": "a file", "sha256": digest, "size": len(content)}]
            build = Build(tmp_path, plan, {"files": files}, f'{{"n": {number}}}', {})
            assert board.verify(build.contents, ".incoming") is None
            (folder / "more").touch()
            assert "2 files and 0 links instead of 1 and 0" in str(
                board.verify(build.contents, ".incoming")
            )
            (folder / "more").unlink()
            board.finish(build, build.name)
            board.switch(build.name)
            names.append(build.name)
        state = board.read_state()
        assert (state.link, state.store) == ("ours", "ours")
        assert (state.current, state.previous) == (names[2], names[1])
        assert state.complete == set(names)
        assert (tmp_path / "opt/triton/a file").read_bytes() == b"number 2"
        assert board.prune(2) == (names[0],)
        board.switch(names[1], back=True)
        # What ran before it is gone.
        assert board.read_state().previous is None
        (tmp_path / "opt/triton/a file").write_bytes(b"number X")
        assert "a file: FAILED" in str(board.verify(build.contents, names[1]))
    with pytest.raises(HostError, match="lock"):
        board.switch(names[2])


@pytest.fixture
def store(tmp_path, plan):
    """Return a board, and a function that brings a version of one file there."""
    board = Board(Here(), Layout.parse(str(tmp_path / "opt" / "triton")))

    def bring(content: str, *, program: bool = False) -> Build:
        folder = tmp_path / "opt" / "triton.versions" / ".incoming"
        folder.mkdir(exist_ok=True)
        (folder / "file").write_text(content)
        (folder / "file").chmod(0o755 if program else 0o644)
        (folder / "a link").symlink_to("file")
        digest = hashlib.sha256(content.encode()).hexdigest()
        entry = {"path": "file", "sha256": digest, "size": len(content), "mode": "0755"}
        files = [entry if program else {**entry, "mode": "0644"}]
        files.append({"path": "a link", "link": "file"})
        manifest = {"files": files, "text": content}
        build = Build(tmp_path, plan, manifest, json.dumps(manifest), {})
        board.finish(build, build.name)
        return build

    return board, bring


def test_version_that_was_half_removed_does_not_block_its_own_return(store):
    board, bring = store
    with board.hold():
        name = bring("x").name
        there = board.layout.versions_dir / name
        (Path(there) / "manifest.json").unlink()
        assert name not in board.read_state().complete
        bring("x")
        assert name in board.read_state().complete


def test_what_is_removed_is_no_version_from_the_first_moment(store, tmp_path, monkeypatch):
    board, bring = store
    with board.hold():
        for content in ("1", "2"):
            build = bring(content)
            board.switch(build.name)
        # The power goes while it is removed.
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "rm").write_text('#!/bin/sh\n[ "$1" = -f ] || kill -9 $PPID\n')
        (tmp_path / "bin" / "rm").chmod(0o755)
        with monkeypatch.context() as patch:
            patch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
            with pytest.raises(HostError):
                board.prune(1)
        assert board.read_state().complete == {build.name}
        board.prune(1)
        left = {path.name for path in Path(board.layout.versions_dir).iterdir() if path.is_dir()}
        assert left == {build.name}


def test_links_and_programs_are_compared_too(store):
    board, bring = store
    with board.hold():
        build = bring("x", program=True)
        there = Path(board.layout.versions_dir) / build.name
        assert board.verify(build.contents, build.name) is None
        (there / "file").chmod(0o644)
        assert "./file: no program" in str(board.verify(build.contents, build.name))
        (there / "file").chmod(0o755)
        (there / "a link").unlink()
        (there / "a link").symlink_to("/etc/passwd")
        said = str(board.verify(build.contents, build.name))
        assert "./a link: leads to /etc/passwd instead of file" in said


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("flock", 'case " $* " in *" -w "*) exit 1 ;; esac', "flock -w (util-linux)"),
        ("mv", 'case " $* " in *" -T "*) exit 1 ;; esac; exec /bin/mv "$@"', "mv -T (coreutils)"),
    ],
)
def test_programs_that_can_less_are_told(store, tmp_path, monkeypatch, name, text, said):
    board, _ = store
    board.check_programs()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
    (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(HostError) as caught:
        board.check_programs()
    assert f"this machine has no {said}" in caught.value.message
    assert not Path(board.layout.versions_dir).exists()


def test_sender_that_still_writes_is_told(store, plan, tmp_path, monkeypatch, require_or_skip):
    require_or_skip(shutil.which("rsync"), "rsync")
    monkeypatch.setattr("tritonbuild.deploy.board._WRITER_WAIT", 0.2)
    board, _ = store
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("x")
    build = Build(tmp_path / "tree", plan, {"files": []}, "", {})
    with board.hold():
        lock = str(board.layout.versions_dir / ".incoming.lock")
        with Here().hold(["flock", lock, "sh", "-c", "echo held; cat >/dev/null"]) as other:
            assert other.read_line("held", 10)
            with pytest.raises(HostError, match="still writes to") as caught:
                board.send(build, None)
        assert f"fuser -k {lock}" in caught.value.hint
        assert board.send(build, None).files == 1


def test_what_is_linked_has_not_arrived(store):
    board, bring = store
    with board.hold():
        board.switch(bring("x" * 300_000).name)
        incoming = Path(board.layout.incoming_dir)
        incoming.mkdir()
        os.link(Path(board.layout.link) / "file", incoming / "file")
        (incoming / "new").write_text("x" * 100_000)
        assert 100_000 <= board.read_state().arrived < 150_000


def test_lock_is_held_by_one(tmp_path):
    layout = Layout.parse(str(tmp_path / "opt" / "triton"))
    with Board(Here(), layout).hold(), pytest.raises(HostError, match=f"process {os.getpid()}"):
        Board(Here(), layout).hold().__enter__()
    with Board(Here(), layout).hold():
        pass


# --- the service ------------------------------------------------------------------------------------


def render(name: str, facts: Facts, groups: tuple[str, ...] = ("render", "video")) -> str:
    board = Board(Here(), Layout.parse("/opt/tritonserver"))
    return render_unit(board, facts, groups, RecipeBook.open().board(name))


def test_service_may_use_the_npu_and_nothing_else():
    rknpu = Device("/dev/rknpu", readable=False, writable=False)
    facts = replace(BOARD, npu=replace(BOARD.npu, devices=(*BOARD.npu.devices, rknpu)))
    lines = render("orangepi5b", facts).splitlines()
    assert lines[0].startswith("# made by tritonbuild")
    assert [line for line in lines if line.startswith("Device")] == [
        "DevicePolicy=closed", "DeviceAllow=char-drm rw", "DeviceAllow=char-dma_heap rw",
        "DeviceAllow=/dev/rknpu rw",
    ]  # fmt: skip
    assert "SupplementaryGroups=render video" in lines
    for line in ("User=tritonserver", "NoNewPrivileges=yes", "ProtectSystem=strict"):
        assert line in lines


def test_service_of_a_board_without_an_accelerator_has_no_device():
    lines = render("generic-arm64", Facts()).splitlines()
    assert "PrivateDevices=yes" in lines
    assert not [line for line in lines if line.startswith(("DeviceAllow", "Supplementary"))]


@pytest.mark.parametrize("name", ["orangepi5b", "generic-arm64"])
def test_systemd_understands_the_unit(name, tmp_path, require_or_skip):
    require_or_skip(shutil.which("systemd-analyze"), "systemd-analyze")
    text = render(name, BOARD, groups=())
    unit = tmp_path / "tritonserver.service"
    # Neither the program nor the user is on this machine.
    unit.write_text(text.replace("/opt/tritonserver/bin/tritonserver", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    about = [line for line in done.stderr.splitlines() if "tritonserver.service" in line]
    assert not [line for line in about if "Unknown" in line or "Failed to parse" in line], about


# --- doctor of a board ------------------------------------------------------------------------------


def judge(facts: Facts, name: str = "orangepi5b", *components: str) -> dict[str, Finding]:
    book = RecipeBook.open()
    request = Request(name, os="debian-12", provider=ProviderKind.WHEEL, components=components)
    found = judge_board(
        facts, make_plan(book, request), book.board(name), book.operating_system("debian-12"),
        folder="/opt/tritonserver",
    )  # fmt: skip
    return {finding.tool: finding for finding in found}


def test_good_board_has_nothing_to_mend():
    found = judge(BOARD)
    assert {finding.status for finding in found.values()} == {Status.OK}
    assert found["NPU driver"].found == "0.8.2, from dmesg"
    assert found["NPU library"].found == "/usr/lib/librknnrt.so 1.5.2"


@pytest.mark.parametrize(
    ("changes", "tool", "status"),
    [
        ({"arch": Arch.AMD64}, "machine", Status.MISSING),
        ({"arch": None}, "machine", Status.MISSING),
        ({"os": "ubuntu-22.04"}, "system", Status.WARN),
        ({"glibc": "2.31"}, "glibc", Status.OLD),
        ({"glibc": None}, "glibc", Status.WARN),
        ({"cores": 4}, "cores", Status.WARN),
        ({"governors": ("ondemand",)}, "governor", Status.WARN),
        ({"available": GIB // 2}, "memory", Status.WARN),
        ({"memory": 2 * GIB}, "swap", Status.WARN),
        ({"free": 100 << 20}, "disk", Status.MISSING),
        ({"free": None}, "disk", Status.WARN),
        ({"python": None}, "python3", Status.MISSING),
        ({"python": "3.10.12"}, "python3", Status.WARN),
        ({"ports": (8000,)}, "ports 8000-8002", Status.WARN),
        ({"programs": {"flock": "/usr/bin/flock"}}, "rsync", Status.WARN),
        ({"sudo": False}, "rights", Status.WARN),
        ({"systemd": False}, "systemd", Status.WARN),
    ],
)
def test_board_that_lacks_something(changes, tool, status):
    found = judge(replace(BOARD, **changes))
    assert found.pop(tool).status is status
    assert {finding.status for finding in found.values()} == {Status.OK}


@pytest.mark.parametrize(
    ("changes", "tool"),
    [
        ({"soc": "friendlyarm,nanopi rockchip,rk3399"}, "soc"),
        ({"driver": None}, "NPU driver"),
        ({"library": None}, "NPU library"),
        ({"devices": ()}, "NPU device"),
    ],
)
def test_npu_is_needed_by_its_backend_only(changes, tool):
    facts = replace(BOARD, npu=replace(BOARD.npu, **changes))
    assert judge(facts)[tool].status is Status.MISSING
    assert judge(facts, "orangepi5b", "core", "python")[tool].status is Status.WARN
    assert tool not in judge(facts, "generic-arm64")


def test_device_without_the_right_gets_the_groups():
    device = Device("/dev/dri/renderD129", readable=False, writable=False)
    found = judge(replace(BOARD, npu=replace(BOARD.npu, devices=(device,))))["NPU device"]
    assert found.status is Status.WARN
    assert found.fix == ("usermod", "-aG", "render,video", "pi")


def test_board_that_tells_nothing_only_lacks_what_was_looked_for():
    stops = {tool for tool, finding in judge(Facts()).items() if finding.stops}
    assert stops == {"machine", "python3", "NPU driver", "NPU library", "NPU device"}


@pytest.mark.parametrize(
    ("l4t", "status"), [("36.4.0", Status.OK), ("35.4.1", Status.MISSING), (None, Status.WARN)]
)
def test_jetpack_has_to_be_the_board_recipe_s(l4t, status):
    book = RecipeBook.open()
    board = book.board("jetson-orin-jetpack6")
    plan = make_plan(book, Request(board.name, provider=ProviderKind.SOURCE))
    found = judge_board(
        replace(BOARD, gpu=GpuFacts(l4t=l4t)), plan, board, book.operating_system("ubuntu-22.04"),
        folder="/opt/tritonserver",
    )  # fmt: skip
    told = {finding.tool: finding for finding in found}
    assert told["GPU driver"].status is status
    assert told["GPU driver"].needed == "Jetson Linux 36"
    # The plan has the tensorrt backend, which does not load without its library.
    assert told["TensorRT"].status is Status.MISSING


def test_tree_for_another_jetpack_is_refused_before_anything_is_sent(tmp_path, capsys):
    book = RecipeBook.open()
    recipe = book.board("jetson-orin-jetpack6")
    plan = make_plan(book, Request(recipe.name, provider=ProviderKind.SOURCE))
    build = Build(tmp_path, plan, {"files": []}, "{}", {"arch": "arm64", "highest": {}})

    def check(l4t: str | None) -> None:
        facts = replace(BOARD, os="ubuntu-22.04", gpu=GpuFacts(l4t=l4t))
        check_machine(facts, build, recipe, "nano")

    with pytest.raises(HostError, match=r"Jetson Linux is 36, and nano has 35\.4\.1") as refused:
        check("35.4.1")
    assert "tritonbuild list boards" in str(refused.value.hint)
    check("36.4.0")
    assert "Jetson Linux" not in capsys.readouterr().err
    check(None)
    assert "no Jetson Linux was found on nano" in capsys.readouterr().err
