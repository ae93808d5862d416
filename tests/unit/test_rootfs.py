"""Roots made by the real mmdebstrap: as root, as a user, killed, and from an archive that lies."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tritonbuild.errors import HostError, SourceError
from tritonbuild.executors.rootfs import RootSpec, find_root, make_root

pytestmark = pytest.mark.network

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("ca-certificates", "libgcc-s1", "libstdc++6", "python3", "zlib1g")
BUNDLED = {"libpython3.11": ("libpython3.11.so.1.0",)}


def make_spec(**changes) -> RootSpec:
    values = {
        "distribution": "debian",
        "suite": "bookworm",
        "arch": "arm64",
        "packages": PACKAGES,
        "bundled": BUNDLED,
        "mirror": None,
    }
    return RootSpec(**(values | changes))


def test_root_is_arm64_and_has_what_was_asked_for(made_root):
    libc = made_root.tree / "lib/aarch64-linux-gnu/libc.so.6"
    assert libc.read_bytes()[18:20] == b"\xb7\x00", "e_machine of AArch64"
    assert (made_root.tree / "usr/bin/python3").exists()
    for name in ("opt/tritonserver", "models", "proc", "sys", "dev", "tmp", "run"):
        assert (made_root.tree / name).is_dir()
        assert not list((made_root.tree / name).iterdir()), f"{name} is a mount point"


def test_packages_list_says_version_and_files_of_what_is_there(made_root):
    packages = json.loads(made_root.packages_path.read_text())["packages"]
    assert set(PACKAGES) <= set(packages)
    assert "lib/aarch64-linux-gnu/libc.so.6" in packages["libc6"]["files"]
    assert packages["libc6"]["version"].startswith("2.36-")
    assert made_root.read_versions()["libc6"] == packages["libc6"]["version"]
    left_out = ("usr/share/doc/", "usr/share/man/", "usr/share/locale/", "var/cache/")
    for name, package in packages.items():
        for file in package["files"]:
            path = made_root.tree / file
            assert path.is_symlink() or path.exists() or file.startswith(left_out), (name, file)


def test_bundled_library_is_beside_the_root_and_not_in_it(made_root):
    library = made_root.find_bundled("libpython3.11", "libpython3.11.so.1.0")
    assert library.read_bytes()[:4] == b"\x7fELF"
    assert not list(made_root.tree.glob("usr/lib/*/libpython3.11.so*"))
    assert "libpython3.11" not in json.loads(made_root.packages_path.read_text())["packages"]


def test_no_file_belongs_to_somebody_else(made_root):
    me = os.geteuid()
    assert all(path.lstat().st_uid == me for path in made_root.tree.rglob("*"))


def test_second_call_takes_what_is_there(made_root, shared_cache, tmp_path):
    started = time.monotonic()
    again = make_root(make_spec(), shared_cache, tmp_path / "never.log")
    assert again == made_root
    assert time.monotonic() - started < 0.5
    assert not (tmp_path / "never.log").exists()


def test_every_difference_is_another_root():
    specs = [
        make_spec(),
        make_spec(suite="trixie"),
        make_spec(arch="amd64"),
        make_spec(packages=PACKAGES[1:]),
        make_spec(bundled={}),
        make_spec(mirror="http://x.invalid/"),
        make_spec(distribution="ubuntu"),
    ]
    assert len({spec.key for spec in specs}) == len(specs)
    assert make_spec().key == make_spec().key


def test_suite_that_does_not_exist_is_a_source_error_with_the_archives_words(need, tmp_path):
    need(shutil.which("mmdebstrap"), "mmdebstrap")
    spec = make_spec(suite="bokworm")
    with pytest.raises((SourceError, HostError)) as caught:
        make_root(spec, tmp_path, tmp_path / "root.log")
    assert "bokworm" in caught.value.message
    assert caught.value.hint
    assert find_root(spec, tmp_path) is None
    assert not list((tmp_path / "roots").glob(".new-*"))


def test_missing_mmdebstrap_is_a_host_error(tmp_path, monkeypatch, require_or_skip):
    monkeypatch.setenv("PATH", str(tmp_path))
    in_sbin = any(Path(folder, "mmdebstrap").exists() for folder in ("/usr/sbin", "/sbin"))
    require_or_skip(not in_sbin, "a machine whose mmdebstrap does not lie in sbin")
    with pytest.raises(HostError, match="mmdebstrap not found") as caught:
        make_root(make_spec(), tmp_path / "cache", tmp_path / "root.log")
    assert caught.value.hint == "run `tritonbuild doctor --fix`"


MAKER = """
import sys
from pathlib import Path
from tritonbuild.executors.rootfs import RootSpec, make_root
spec = RootSpec("debian", "bookworm", "arm64", ("libc6",), {}, None)
print(make_root(spec, Path(sys.argv[1]), Path(sys.argv[1]) / "root.log").folder)
"""


def test_killed_maker_leaves_no_root_and_no_process_and_the_next_one_works(
    need, tmp_path, processes
):
    need(shutil.which("mmdebstrap"), "mmdebstrap")
    list_descendants, wait_until, _ = processes
    argv = [sys.executable, "-c", MAKER, str(tmp_path)]
    child = subprocess.Popen(argv, cwd=REPOSITORY, start_new_session=True)
    wait_until(lambda: list(tmp_path.glob("roots/.new-*/made/mmdebstrap.*/var")))
    below = list_descendants(child.pid)
    assert below
    child.send_signal(signal.SIGKILL)
    child.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), timeout=10)
    assert not list(tmp_path.glob("roots/bookworm-*"))
    done = subprocess.run(
        argv, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=120
    )
    assert Path(done.stdout.strip(), "root/lib/aarch64-linux-gnu/libc.so.6").exists()
    assert not list(tmp_path.glob("roots/.new-*"))
    shutil.rmtree(tmp_path / "roots")


# In a mount namespace of its own: `nobody` gets subordinate ids there, and nowhere else.
AS_NOBODY = """
mount --bind "$1/subordinate-ids" /etc/subuid
mount --bind "$1/subordinate-ids" /etc/subgid
shift
exec setpriv --reuid nobody --regid nogroup --clear-groups "$@"
"""


def test_ordinary_user_makes_a_root_of_their_own(need):
    need(shutil.which("mmdebstrap"), "mmdebstrap")
    need(shutil.which("newuidmap"), "newuidmap (package uidmap)")
    need(os.geteuid() == 0, "root, to become somebody else")
    need(Path("/etc/subuid").exists() and Path("/etc/subgid").exists(), "/etc/subuid, /etc/subgid")
    with tempfile.TemporaryDirectory(prefix="tritonbuild-user-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "subordinate-ids").write_text("nobody:200000:65536\n")
        home = folder / "home"
        home.mkdir()
        shutil.chown(home, "nobody", "nogroup")
        user = ["unshare", "-m", "sh", "-ec", AS_NOBODY, "sh", name]
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
        probe = subprocess.run(
            [*user, sys.executable, "-c", "import tritonbuild"],
            cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        need(probe.returncode == 0, f"the right to become nobody: {probe.stderr[-200:]}")
        done = subprocess.run(
            [*user, sys.executable, "-c", MAKER, str(home)],
            cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        log = home / "root.log"
        assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
        made = Path(done.stdout.strip())
        assert (made / "root/lib/aarch64-linux-gnu/libc.so.6").exists()
        nobody = pwd.getpwnam("nobody").pw_uid
        assert all(path.lstat().st_uid == nobody for path in made.rglob("*"))


def test_root_has_the_links_that_maintainer_scripts_would_set_up(shared_cache, tmp_path):
    """And all links lead to the same files where the root is mounted as a sysroot."""
    alternatives = {
        "usr/bin/awk": "usr/bin/mawk",
        "usr/bin/cc": "usr/bin/gcc",  # which is not in it
    }
    packages = ("mawk", "zlib1g-dev", "base-passwd")
    spec = make_spec(packages=packages, bundled={}, alternatives=alternatives)
    tree = make_root(spec, shared_cache, tmp_path / "root.log").tree
    assert (tree / "usr/bin/awk").readlink() == Path("mawk")
    assert not os.path.lexists(tree / "usr/bin/cc")
    assert "root:" in (tree / "etc/passwd").read_text()
    libz = tree / "usr/lib/aarch64-linux-gnu/libz.so"
    assert libz.is_symlink()
    assert libz.resolve().is_file()
    for name in ("bin", "sbin", "lib"):
        assert (tree / name).readlink() == Path("usr", name)
    own = [path for path in tree.rglob("*") if path.is_symlink() and path.readlink().is_absolute()]
    assert {str(path.readlink()).split("/")[1:3][-1] for path in own} == {"native"}
