"""How programs of the board are started, and what is said when that cannot work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from tritonbuild import proc
from tritonbuild.arch import Arch
from tritonbuild.errors import HostError
from tritonbuild.executors import sandbox as module
from tritonbuild.executors.sandbox import Sandbox, check_emulation, check_sandbox, find_binfmt

ARM64_MAGIC = "7f454c460201010000000000000000000200b700"
RISCV_MAGIC = "7f454c460201010000000000000000000200f300"
MASK = "ffffffffffffff00fffffffffffffffffeffffff"


def write_rule(folder, name, *, state="enabled", flags="PF", magic=ARM64_MAGIC, mask=MASK):
    text = f"{state}\ninterpreter /usr/bin/qemu\nflags: {flags}\noffset 0\nmagic {magic}\n"
    (folder / name).write_text(text + (f"mask {mask}\n" if mask else ""))


@pytest.fixture
def binfmt(tmp_path):
    """A folder that looks like a mounted binfmt_misc."""
    folder = tmp_path / "binfmt_misc"
    folder.mkdir()
    (folder / "status").write_text("enabled\n")
    (folder / "register").write_text("")
    return folder


@pytest.fixture
def foreign(monkeypatch):
    """Another machine than an arm64 one, whatever runs the tests, with every program installed."""
    monkeypatch.setattr(module, "needs_root", lambda _arch: True)
    monkeypatch.setattr(proc, "find_tool", lambda name: Path("/usr/bin") / name)


# --- command lines ----------------------------------------------------------------------------


def test_without_a_root_the_command_runs_as_it_is():
    bound = Sandbox(None).with_bind(Path("/work/tree"), PurePosixPath("/opt/tritonserver"))
    assert bound.argv(["/work/tree/bin/tritonserver", "--help"]) == [
        "/work/tree/bin/tritonserver",
        "--help",
    ]
    assert bound.locate(Path("/work/tree"), PurePosixPath("/opt/tritonserver")) == "/work/tree"


@pytest.fixture
def root(tmp_path):
    """A folder that looks like a board's root."""
    folder = tmp_path / "root"
    for name in ("usr/bin", "usr/lib", "etc", "opt/tritonserver", "root", "tmp", "dev", "proc"):
        (folder / name).mkdir(parents=True)
    (folder / "bin").symlink_to("usr/bin")
    return folder


def test_with_a_root_everything_is_private_and_dies_with_us(root):
    sandbox = Sandbox(root, qemu_cpu="cortex-a76")
    sandbox = sandbox.with_bind(Path("/w/a b"), PurePosixPath("/opt/tritonserver"))
    sandbox = sandbox.with_bind(Path("/w/out"), PurePosixPath("/out"), writable=True)
    argv = sandbox.argv(["/opt/tritonserver/bin/tritonserver", "-x"])
    text = " ".join(argv)
    assert argv[0] == "bwrap"
    assert argv[-3:] == ["--", "/opt/tritonserver/bin/tritonserver", "-x"]
    assert text.startswith("bwrap --tmpfs / ")
    for name in ("etc", "opt", "root", "usr"):
        assert f"--ro-bind {root}/{name} /{name} " in text
    for name in ("bin", "dev", "proc", "tmp"):
        assert f"{root}/{name}" not in text
    assert "--symlink usr/bin /bin " in text
    assert "--remount-ro / " in text
    assert argv[argv.index("/w/a b") - 1] == "--ro-bind"
    assert argv[argv.index("/w/out") - 1] == "--bind"
    for part in ("--tmpfs /dev/shm", "--tmpfs /tmp", "--ro-bind /sys /sys", "--unshare-pid",
                 "--die-with-parent", "--clearenv", "--setenv LANG C.UTF-8",
                 "--setenv QEMU_CPU cortex-a76"):  # fmt: skip
        assert part in text
    assert "--new-session" not in text, "who kills the process group would miss it"
    # bubblewrap mounts in this order: what is bound must not be covered by a later tmpfs.
    assert argv.index("/tmp") < argv.index("/w/out")


def test_qemu_cpu_is_left_out_where_it_is_not_known(root):
    assert "QEMU_CPU" not in Sandbox(root).argv(["/bin/true"])


def test_folder_of_the_root_is_opened_only_for_a_mount_that_it_has_no_place_for(root):
    sandbox = Sandbox(root).with_bind(Path("/h"), PurePosixPath("/root/work"), writable=True)
    text = " ".join(sandbox.argv(["true"]))
    assert f"--ro-bind {root}/root /root" not in text
    assert "--dir /root " in text
    assert f"--ro-bind {root}/usr /usr " in text
    inside = Sandbox(root).with_bind(Path("/h"), PurePosixPath("/usr/lib/work"))
    text = " ".join(inside.argv(["true"]))
    assert f"--ro-bind {root}/usr /usr" not in text
    assert f"--ro-bind {root}/usr/bin /usr/bin " in text
    assert "--dir /usr/lib " in text


def test_programs_in_a_root_get_what_they_are_given_and_nothing_else(root, monkeypatch):
    monkeypatch.setenv("CC", "mine")
    sandbox = replace(Sandbox(root), network=False).with_folder(PurePosixPath("/work"))
    sandbox = sandbox.with_path(PurePosixPath("/opt/native/compilers"))
    text = " ".join(sandbox.argv(["true"], {"MAKEFLAGS": "-j2"}))
    assert "--setenv MAKEFLAGS -j2 " in text
    assert "--setenv PATH /opt/native/compilers:/usr/local/sbin:" in text
    assert "--unshare-net" in text
    assert "--chdir /work " in text
    assert " CC " not in text
    assert "--unshare-net" not in " ".join(Sandbox(root).argv(["true"]))


# --- binfmt -----------------------------------------------------------------------------------


def test_rule_is_found_by_what_it_matches_not_by_its_name(binfmt):
    write_rule(binfmt, "qemu-riscv64", magic=RISCV_MAGIC)
    write_rule(binfmt, "some-arm-runner")
    rule = find_binfmt(Arch.ARM64, binfmt)
    assert rule.path.name == "some-arm-runner"
    assert rule.works_in_root
    assert rule.interpreter == "/usr/bin/qemu"
    assert find_binfmt(Arch.AMD64, binfmt) is None


def test_rule_that_works_is_preferred(binfmt):
    write_rule(binfmt, "a-without-f", flags="P")
    write_rule(binfmt, "b-disabled", state="disabled")
    write_rule(binfmt, "c-good", flags="POCF")
    assert find_binfmt(Arch.ARM64, binfmt).path.name == "c-good"


@pytest.mark.parametrize("text", ["", "enabled\n", "enabled\nextension .exe\nflags: \n"])
def test_odd_rules_are_passed_over(binfmt, text):
    (binfmt / "odd").write_text(text)
    assert find_binfmt(Arch.ARM64, binfmt) is None


def test_good_rule_is_enough(binfmt, foreign):
    write_rule(binfmt, "qemu-aarch64")
    check_emulation(Arch.ARM64, binfmt)


def test_disabled_rule_is_told(binfmt, foreign):
    write_rule(binfmt, "qemu-aarch64", state="disabled")
    with pytest.raises(HostError, match="disabled") as caught:
        check_emulation(Arch.ARM64, binfmt)
    assert "update-binfmts --enable qemu-aarch64" in caught.value.hint


def test_binfmt_that_is_switched_off_as_a_whole_is_told(binfmt, foreign):
    write_rule(binfmt, "qemu-aarch64")
    (binfmt / "status").write_text("disabled\n")
    with pytest.raises(HostError, match="disabled"):
        check_emulation(Arch.ARM64, binfmt)


def test_rule_without_f_is_told(binfmt, foreign):
    write_rule(binfmt, "qemu-aarch64", flags="P")
    with pytest.raises(HostError, match="flags P, and without F"):
        check_emulation(Arch.ARM64, binfmt)


def test_missing_rule_is_told(binfmt, foreign):
    with pytest.raises(HostError, match="no binfmt rule") as caught:
        check_emulation(Arch.ARM64, binfmt)
    assert "--enable qemu-aarch64" in caught.value.hint


def test_binfmt_that_is_not_mounted_is_told(tmp_path, foreign):
    with pytest.raises(HostError, match="is not mounted") as caught:
        check_emulation(Arch.ARM64, tmp_path / "none")
    assert "mount -t binfmt_misc" in caught.value.hint


def test_missing_qemu_is_told(binfmt, foreign, monkeypatch):
    tools = {"bwrap": Path("/usr/bin/bwrap")}
    monkeypatch.setattr(proc, "find_tool", tools.get)
    with pytest.raises(HostError, match="QEMU is not installed") as caught:
        check_emulation(Arch.ARM64, binfmt)
    assert "qemu-user-static" in caught.value.hint


def test_missing_bubblewrap_is_told(binfmt, foreign, monkeypatch):
    monkeypatch.setattr(proc, "find_tool", lambda _name: None)
    with pytest.raises(HostError, match="bwrap not found") as caught:
        check_emulation(Arch.ARM64, binfmt)
    assert "bubblewrap" in caught.value.hint


def test_missing_root_is_told(tmp_path):
    with pytest.raises(HostError, match="not there"):
        check_sandbox(Sandbox(tmp_path / "none"))


def test_without_a_root_there_is_nothing_to_enter():
    check_sandbox(Sandbox(None))
