"""Machines: how boards are named, what ssh's complaints mean, and what this machine tells of itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from tritonbuild.errors import HostError, UsageError
from tritonbuild.hosts.address import check_address, host_part
from tritonbuild.hosts.facts import Device, Facts, GpuFacts, NpuFacts, parse_facts, read_facts
from tritonbuild.hosts.failures import explain_connect, explain_loss
from tritonbuild.hosts.here import Here
from tritonbuild.hosts.rsync import explain_rsync, read_sent

# --- names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("board", "board"),
        ("pi@board.local", "board.local"),
        ("root@192.168.1.7", "192.168.1.7"),
        ("root@fe80::1%eth0", "fe80::1%eth0"),
        ("ssh://pi@board:2222", "board"),
        ("ssh://board/", "board"),
        ("ssh://pi@[fe80::1%eth0]:22", "fe80::1%eth0"),
    ],
)
def test_boards_are_named_as_ssh_names_them(text, host):
    assert host_part(check_address(text)) == host


@pytest.mark.parametrize(
    "text",
    [
        "", "-oProxyCommand=x", "pi@-x", "-l@x", "a b", "a;b", "$(x)", "a'b", "a\nb", "pi@", "a@b@c",
        "ssh://", "ssh://a:0", "ssh://a:70000", "ssh://a:b", "rsync://a", "ssh:x",
    ],
)  # fmt: skip
def test_names_that_could_mean_more_are_refused(text):
    with pytest.raises(UsageError) as caught:
        check_address(text)
    assert caught.value.hint


# --- what ssh says, as OpenSSH 9.2 has it -----------------------------------------------------------

CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Offending ED25519 key in /home/u/.ssh/known_hosts:12
  remove with:
  ssh-keygen -f "/home/u/.ssh/known_hosts" -R "board"
Host key for board has changed and you have requested strict checking.
Host key verification failed.
"""


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        (CHANGED, "host key has changed", 'ssh-keygen -f "/home/u/.ssh/known_hosts" -R "board"'),
        ("Host key verification failed.", "not known yet", "log in once with `ssh pi@board`"),
        (
            "No ED25519 host key is known for board and you have requested strict checking.",
            "not known yet", "log in once",
        ),
        ("pi@board: Permission denied (publickey,password).", "does not let us in", "ssh-copy-id"),
        (
            "ssh: Could not resolve hostname board: Name or service not known",
            "board: no such host name", "address",
        ),
        ("ssh: connect to host board port 22: Connection refused", "refuses", "systemctl"),
        ("ssh: connect to host board port 22: No route to host", "no way to pi@board", "on"),
        ("ssh: connect to host board port 22: Connection timed out", "does not answer", "on"),
        ("/home/u/.ssh/config: line 3: Bad configuration option: hots", "settings", "config"),
        ("something new", "cannot connect to pi@board", "ssh -v pi@board"),
        ("", "cannot connect to pi@board", "ssh -v pi@board"),
    ],
)  # fmt: skip
def test_reasons_not_to_connect_are_named(said, message, hint):
    error = explain_connect("pi@board", said)
    assert isinstance(error, HostError)
    assert message in error.message
    assert hint in error.hint
    assert len(error.message.splitlines()) < 6


def test_lost_connection_says_what_runs():
    error = explain_loss("board", "Timeout, server board not responding.\n")
    assert error.message.splitlines()[-1] == "  | Timeout, server board not responding."
    assert "goes on where it stopped" in error.hint


# --- rsync ------------------------------------------------------------------------------------------


def test_what_was_sent_is_read():
    said = "Number of regular files transferred: 12\nTotal bytes sent: 3456\n"
    assert (read_sent(said).files, read_sent(said).size) == (12, 3456)
    assert read_sent("").files == 0


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        (11, 'rsync: write failed on "x": No space left on device (28)', "no room on board"),
        (127, "sh: 1: rsync: not found", "board has no rsync"),
        (12, "bash: line 1: rsync: command not found", "board has no rsync"),
        (23, "rsync: [receiver] mkdir failed: Permission denied (13)", "exit code 23"),
    ],
)
def test_rsync_failures_are_named(code, said, expected):
    assert expected in explain_rsync("board", code, said).message


# --- this machine, as a host ------------------------------------------------------------------------


def test_commands_are_arguments_here():
    answer = Here().run(["cat"], given="a\nb")
    assert (answer.returncode, answer.output) == (0, "a\nb")
    answer = Here().run(["sh", "-c", 'echo "$1$X" >&2; exit 3', "sh", "$(id)"], env={"X": "; x"})
    assert (answer.returncode, answer.errors, answer.said) == (3, "$(id); x\n", "$(id); x")


def test_command_that_hangs_is_ended():
    with pytest.raises(HostError, match="longer than 0 s"):
        Here().run(["sleep", "60"], timeout=0.2)


def test_held_command_ends_when_it_is_released():
    with Here().hold(
        ["sh", "-c", "echo welcome; echo held; cat >/dev/null; echo done >&2"]
    ) as session:
        assert session.read_line("held", 10) == "held"
        assert session.poll() is None
        session.release()
        assert session.read_errors() == "done\n"
        assert session.read_line("", 0.1) is None
    assert session.poll() == 0


def test_held_command_writes_to_its_log(tmp_path):
    log = tmp_path / "log"
    with Here().hold(["sh", "-c", "echo out; echo err >&2; cat >/dev/null"], log=log):
        pass
    assert sorted(log.read_text().split()) == ["err", "out"]


def test_folder_is_sent_here(tmp_path, require_or_skip):
    require_or_skip(shutil.which("rsync"), "rsync")
    source = tmp_path / "a folder"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_text("x")
    (source / "sub" / "link").symlink_to("file")
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").write_text("old")
    assert Here().send(source, PurePosixPath(target)).files == 1
    assert sorted(path.name for path in target.rglob("*")) == ["file", "link", "sub"]
    assert Here().send(source, PurePosixPath(target)).files == 0


# --- facts ------------------------------------------------------------------------------------------


def write(root: Path, path: str, content: str | bytes) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def run_facts(root: Path, folder: str = "/opt/tritonserver") -> Facts:
    return read_facts(Here(), PurePosixPath(folder), root=str(root))


@pytest.fixture
def rk3588(tmp_path):
    """The files of a board with an NPU."""
    root = tmp_path / "a board"
    files = {
        "/etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.3 LTS"\nID=ubuntu\nVERSION_ID="22.04"\n',
        "/proc/cpuinfo": "".join(f"processor\t: {n}\nBogoMIPS\t: 48.00\n\n" for n in range(8)),
        "/proc/meminfo": "MemTotal:  8041516 kB\nMemFree: 1 kB\nMemAvailable: 7000000 kB\n"
        "SwapTotal:  1024 kB\n",
        "/proc/uptime": "1234.56 99.00\n",
        "/proc/device-tree/compatible": b"xunlong,orangepi-5b\0rockchip,rk3588\0",
        "/proc/net/tcp": "  sl  local_address rem_address   st\n"
        "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000\n"
        "   1: 00000000:1F41 00000000:0000 01 00000000:00000000\n",
        "/proc/net/tcp6": "  sl  local_address\n"
        "   0: 00000000000000000000000000000000:1F42 00000000000000000000000000000000:0000 0A 0\n",
        "/sys/kernel/debug/rknpu/version": "RKNPU driver: v0.8.2\n",
        "/sys/kernel/debug/rknpu/load": "NPU load:  Core0:  0%, Core1:  3%, Core2:  0%,\n",
        "/usr/lib/librknnrt.so": b"\x7fELF\0\0librknnrt version: 1.5.2 (c6b7b351a@2023)\0\xff",
        "/dev/dri/renderD128": "",
        "/dev/dri/renderD129": "",
    }
    for path, content in files.items():
        write(root, path, content)
    for policy, governor in ((0, "ondemand"), (4, "performance"), (6, "ondemand")):
        path = f"/sys/devices/system/cpu/cpufreq/policy{policy}/scaling_governor"
        write(root, path, f"{governor}\n")
    return root


def test_board_with_an_npu(rk3588):
    facts = run_facts(rk3588)
    assert facts.os == "ubuntu-22.04"
    assert facts.os_name == "Ubuntu 22.04.3 LTS"
    assert (facts.cores, facts.memory, facts.available) == (8, 8041516 << 10, 7000000 << 10)
    assert (facts.swap, facts.uptime) == (1 << 20, 1234)
    assert facts.governors == ("ondemand", "performance")
    # 8001 is in use by a connection, which is no listener.
    assert facts.ports == (8000, 8002)
    assert facts.systemd is False
    assert facts.npu == NpuFacts(
        soc="xunlong,orangepi-5b rockchip,rk3588",
        driver="0.8.2",
        driver_from="/sys/kernel/debug/rknpu/version",
        library="/usr/lib/librknnrt.so",
        library_version="1.5.2",
        devices=(
            Device("/dev/dri/renderD128", True, True),
            Device("/dev/dri/renderD129", True, True),
        ),
        load="NPU load:  Core0:  0%, Core1:  3%, Core2:  0%,",
    )
    assert facts.gpu == GpuFacts()


def test_device_of_the_npu_is_told_from_the_gpus_where_the_kernel_names_it(rk3588):
    folder = rk3588 / "dev/dri/by-path"
    folder.mkdir()
    (folder / "platform-fb000000.gpu-render").symlink_to("../renderD128")
    (folder / "platform-fdab0000.npu-render").symlink_to("../renderD129")
    assert run_facts(rk3588).npu.devices == (Device("/dev/dri/renderD129", True, True),)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/proc/rknpu/version", "RKNPU driver: v0.9.8\n"),
        ("/sys/module/rknpu/version", "0.9.8\n"),
    ],
)
def test_driver_is_read_from_the_next_file(rk3588, path, text):
    shutil.rmtree(rk3588 / "sys/kernel/debug/rknpu")
    write(rk3588, path, text)
    npu = run_facts(rk3588).npu
    assert (npu.driver, npu.driver_from, npu.load) == ("0.9.8", path, None)


def put_program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    "line",
    [
        "[    4.412345] [drm] Initialized rknpu 0.8.8 20230428 for fdab0000.npu on minor 1",
        "[    4.412345] RKNPU fdab0000.npu: RKNPU: Initialized RKNPU driver: v0.8.8 for 20230428",
    ],
    ids=["drm", "plain"],
)
def test_driver_is_read_from_the_kernels_log_at_last(rk3588, tmp_path, monkeypatch, line):
    shutil.rmtree(rk3588 / "sys/kernel/debug/rknpu")
    put_program(tmp_path / "bin", "dmesg", f"echo '{line}'")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    npu = run_facts(rk3588).npu
    assert (npu.driver, npu.driver_from) == ("0.8.8", "dmesg")


def test_library_is_the_one_that_the_loader_takes(rk3588, tmp_path, monkeypatch):
    write(rk3588, "/opt/npu/librknnrt.so", b"librknnrt version: 2.3.0 (x)\0")
    lines = "\tlibc.so.6 (libc6) => /lib/libc.so.6\n\tlibrknnrt.so (libc6,AArch64) => /opt/npu/librknnrt.so"
    put_program(tmp_path / "bin", "ldconfig", f"printf '%s\\n' '{lines}'")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    npu = run_facts(rk3588).npu
    assert (npu.library, npu.library_version) == ("/opt/npu/librknnrt.so", "2.3.0")


def test_board_with_a_gpu(tmp_path):
    text = "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref\n"
    write(tmp_path, "/etc/nv_tegra_release", text)
    write(tmp_path, "/usr/lib/aarch64-linux-gnu/libnvinfer.so.8.5.2", b"")
    (tmp_path / "usr/lib/aarch64-linux-gnu/libnvinfer.so.8").symlink_to("libnvinfer.so.8.5.2")
    write(tmp_path, "/usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1", b"")
    gpu = run_facts(tmp_path).gpu
    assert (gpu.l4t, gpu.tensorrt) == ("35.4.1", "8.5.2")
    assert gpu.libcuda == "/usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1"


def test_empty_board_has_no_facts_and_no_error(tmp_path):
    facts = run_facts(tmp_path)
    assert (facts.os, facts.memory, facts.ports, facts.governors) == (None, None, None, ())
    assert facts.npu == NpuFacts()
    assert facts.gpu == GpuFacts()
    assert facts.free
    assert facts.writable


def test_this_machine_has_facts():
    facts = read_facts(Here(), PurePosixPath("/no/such/folder"))
    assert facts.machine == os.uname().machine
    assert facts.cores == os.cpu_count()
    assert (facts.uid, facts.is_root) == (os.getuid(), os.getuid() == 0)
    assert facts.kernel == os.uname().release
    assert facts.programs["sha256sum"]


@pytest.mark.parametrize("shell", ["dash", "busybox", "bash"])
def test_script_is_for_any_shell(shell, rk3588, require_or_skip, tmp_path, monkeypatch):
    require_or_skip(shutil.which(shell), shell)
    line = "exec busybox sh" if shell == "busybox" else f"exec {shell}"
    put_program(tmp_path / "bin", "sh", f'{line} "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert run_facts(rk3588).npu.driver == "0.8.2"


def test_script_needs_no_more_than_busybox(rk3588, require_or_skip, tmp_path, monkeypatch):
    require_or_skip(shutil.which("busybox"), "busybox")
    monkeypatch.setenv("PATH", str(install_busybox(tmp_path / "bin")))
    facts = run_facts(rk3588)
    assert facts.os == "ubuntu-22.04"
    assert facts.ports == (8000, 8002)
    assert facts.free
    assert (facts.npu.driver, facts.npu.library_version) == ("0.8.2", "1.5.2")


def install_busybox(folder: Path) -> Path:
    """Make a folder of busybox's programs, and of nothing else."""
    busybox = shutil.which("busybox")
    assert busybox
    folder.mkdir()
    subprocess.run([busybox, "--install", "-s", str(folder)], check=True)
    # Not the one that tritonbuild starts programs with.
    (folder / "setpriv").unlink(missing_ok=True)
    return folder


def test_programs_of_32_bits_are_another_architecture():
    facts = parse_facts("Welcome to your board!\nmachine=aarch64\nbits=32\nx\n")
    assert (facts.machine, facts.arch) == ("aarch64", None)


def test_login_shell_that_runs_nothing_is_told():
    class Mute(Here):
        def run(self, argv, **options):  # noqa: ARG002
            return Here.run(self, ["echo", "This account is not available"])

    with pytest.raises(HostError, match="This account is not available"):
        read_facts(Mute())
