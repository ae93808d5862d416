"""Packages in the hands of dpkg and Docker: a small server, compiled for this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from engines import run

from tritonbuild.arch import Arch
from tritonbuild.executors.sandbox import find_binfmt
from tritonbuild.paths import Workspace, data_dir
from tritonbuild.plan.model import Executor, Machine, Plan, Selection, Step, StepKind
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.stage.elf import check_tree
from tritonbuild.stage.host import read_host_libraries
from tritonbuild.stage.manifest import check_manifest, make_manifest, read_manifest, write_manifest

# Answers `/v2/health/ready` as Triton does; `--version` and `--who` for a look from outside.
SERVER = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
const char* answer(void);
int main(int argc, char** argv) {
  if (argc > 1 && !strcmp(argv[1], "--version")) return puts(answer()) < 0;
  if (argc > 1 && !strcmp(argv[1], "--who")) return printf("%d %d\n", getuid(), getgid()) < 0;
  struct sockaddr_in to = {AF_INET, htons(8000), {0}};
  int one = 1, s = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(s, (struct sockaddr*)&to, sizeof to) || listen(s, 5)) { perror("8000"); return 1; }
  puts(argc > 1 ? argv[1] : "ready");
  fflush(stdout);
  for (;;) {
    char in[4096], out[200];
    int c = accept(s, 0, 0);
    if (read(c, in, sizeof in) > 0) {
      const char* ok = strstr(in, "/v2/health/ready") ? "200 OK" : "404 Not Found";
      int n = snprintf(out, sizeof out, "HTTP/1.0 %s\r\nContent-Length: 0\r\n\r\n", ok);
      if (write(c, out, n) < 0) perror("write");
    }
    close(c);
  }
}
"""
LIBRARY = 'const char* answer(void) { return "tritonserver 2.41.0"; }\n'

CHOSEN = Selection(
    board="tiny", arch=str(Arch.native()), os="debian-12", release="r23.12",
    provider=ProviderKind.SOURCE, executor=Executor.NATIVE, components=("core",), added={},
    mirror="upstream", settings=(),
)  # fmt: skip
MACHINE = Machine(
    str(Arch.native()), "debian-12", "12.2.0", "3.25.1", "2.36", "3.11", "this machine"
)
DETAILS = {"triton_version": "2.41.0", "date": "2023-12-22"}
PLAN = Plan(
    "0", CHOSEN,
    (
        Step("assemble", StepKind.ASSEMBLE, "assemble", "w", details=DETAILS),
        Step("verify", StepKind.VERIFY, "verify", "w"),
    ),
    {}, (), (), (), MACHINE,
)  # fmt: skip
NAME = "tritonserver-2.41.0-tiny-debian-12-source"
TAG = "tritonserver:2.41.0-tiny-debian-12-source"


@pytest.fixture(scope="session")
def built(tmp_path_factory, require_or_skip) -> Workspace:
    """A finished build of a server that takes a library from the tree, and libc from the system."""
    require_or_skip(shutil.which("gcc"), "gcc")
    folder = tmp_path_factory.mktemp("packages")
    ws = Workspace(folder / "work dir")
    ws.make()
    tree = ws.tritonserver_dir
    for name in ("bin", "lib"):
        (tree / name).mkdir(parents=True)
    (folder / "server.c").write_text(SERVER)
    (folder / "answer.c").write_text(LIBRARY)
    run("gcc", "-shared", "-fPIC", "-o", tree / "lib/libanswer.so", folder / "answer.c")
    run("gcc", "-o", tree / "bin/tritonserver", folder / "server.c",
        "-L", tree / "lib", "-lanswer", "-Wl,-rpath,$ORIGIN/../lib")  # fmt: skip
    (tree / "LICENSE").write_text("free\n")
    system = read_host_libraries(Arch.native(), ws.root / "system.json")
    report = check_tree(tree, arch=Arch.native(), system=system)
    assert not report.problems
    ws.verify_path.write_text(report.to_json())
    ws.plan_path.write_text(PLAN.to_json())
    manifest = make_manifest(tree, plan=PLAN, origins={}, tools={}, system={})
    write_manifest(ws.manifest_path, manifest)
    return ws


# --- dpkg ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def deb(built, session_cli, require_or_skip) -> Path:
    require_or_skip(shutil.which("dpkg-deb"), "dpkg-deb")
    done = session_cli(
        "package", "--format", "deb", "--work-dir", built.root, "--json", cwd=built.root
    )
    assert done.code == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["format"] == "deb"
    return Path(made["path"])


def test_dpkg_reads_what_the_package_says(deb, built):
    assert deb.name == f"{NAME}.deb"
    fields = run("dpkg-deb", "--field", deb).stdout
    assert "Package: tritonserver\nVersion: 2.41.0\n" in fields
    assert f"Architecture: {Arch.native()}\n" in fields
    depends = run("dpkg-deb", "--field", deb, "Depends").stdout.strip()
    least = json.loads(built.verify_path.read_text())["highest"]["GLIBC"]["version"]
    assert depends == f"libc6 (>= {least.removeprefix('GLIBC_')})"
    listing = run("dpkg-deb", "--contents", deb).stdout
    assert all(line.split()[1] == "root/root" for line in listing.splitlines())
    assert "./opt/tritonserver/bin/tritonserver" in listing
    assert not run("dpkg-deb", "--info", deb).stdout.count("postinst")


def test_dpkg_unpacks_the_tree(deb, tmp_path):
    run("dpkg-deb", "--extract", deb, tmp_path)
    tree = tmp_path / "opt/tritonserver"
    assert check_manifest(tree, read_manifest(tree / "manifest.json")) == []
    run("dpkg-deb", "--control", deb, tmp_path / "control")
    run("md5sum", "--check", "--strict", "--quiet", tmp_path / "control/md5sums", cwd=tmp_path)
    assert run(tree / "bin/tritonserver", "--version").stdout == "tritonserver 2.41.0\n"
    run("sha256sum", "-c", f"{deb.name}.sha256", cwd=deb.parent)


def test_dpkg_installs_verifies_and_removes_it(deb, tmp_path, require_or_skip):
    require_or_skip(os.geteuid() == 0, "root, for dpkg --install")
    root = tmp_path / "root"
    for name in ("updates", "info", "triggers"):
        (root / "var/lib/dpkg" / name).mkdir(parents=True)
    for name in ("status", "available"):
        (root / "var/lib/dpkg" / name).touch()
    dpkg = ("dpkg", f"--root={root}", "--log=/dev/null", "--force-not-root")
    assert "depends on libc6" in run(*dpkg, "--install", deb, check=False).stdout
    run(*dpkg, "--force-depends", "--install", deb)
    run(*dpkg, "--verify", "tritonserver")
    server = root / "opt/tritonserver/bin/tritonserver"
    assert (server.stat().st_uid, server.stat().st_mode & 0o777) == (0, 0o755)
    # The same version again, as after another build.
    run(*dpkg, "--force-depends", "--install", deb)
    run(*dpkg, "--purge", "tritonserver")
    left = {path.relative_to(root).parts[0] for path in root.rglob("*")}
    assert "opt" not in left
    assert not (root / "usr/share/doc/tritonserver").exists()


def test_this_system_has_what_the_package_needs(deb, require_or_skip):
    require_or_skip(os.geteuid() == 0, "root, for dpkg --install")
    done = run("dpkg", "--dry-run", "--install", deb)
    assert "dependency problems" not in done.stdout


# --- Docker -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def image(built, session_cli, require_or_skip) -> Path:
    require_or_skip(shutil.which("mmdebstrap"), "mmdebstrap makes the image's root")
    arguments = ("package", "--format", "oci", "--work-dir", built.root, "--json")
    done = session_cli(*arguments, cwd=built.root, timeout=280)
    assert done.code == 0, done.stderr
    return Path(json.loads(done.stdout)["path"])


@pytest.fixture(scope="session")
def loaded(image, docker) -> str:
    """The name of the image in Docker."""
    done = docker("load", "--input", image)
    assert f"Loaded image: {TAG}" in done.stdout
    return TAG


@pytest.mark.network
def test_docker_knows_the_image_for_what_it_is(loaded, docker):
    (found,) = json.loads(docker("image", "inspect", loaded).stdout)
    assert found["Architecture"] == str(Arch.native())
    assert found["Config"]["User"] == "1000:1000"
    assert found["Config"]["Labels"]["org.opencontainers.image.version"] == "2.41.0"
    assert found["Created"].startswith("2023-12-22T00:00:00")
    assert len(found["RootFS"]["Layers"]) == 2


@pytest.mark.network
def test_server_runs_in_the_container_as_nobody_special(loaded, docker):
    offline = ("run", "--rm", "--network", "none", "--read-only")
    assert docker(*offline, loaded, "--version").stdout == "tritonserver 2.41.0\n"
    assert docker(*offline, loaded, "--who").stdout == "1000 1000\n"
    done = docker(*offline, "--entrypoint", "/bin/sh", loaded, "-c",
                  "touch /opt/tritonserver/x 2>/dev/null || id -un; command -v tritonserver")  # fmt: skip
    assert done.stdout.splitlines() == ["triton", "/opt/tritonserver/bin/tritonserver"]


@pytest.mark.network
def test_server_in_the_container_is_ready(loaded, docker):
    """Asked from inside: the container has a loopback and nothing else."""
    name = docker("run", "--detach", "--network", "none", loaded).stdout.strip()
    ask = (
        "import urllib.request; "
        "print(urllib.request.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=10).status)"
    )
    try:
        deadline = time.monotonic() + 30
        while "--model-repository=/models" not in docker("logs", name).stdout:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert docker("exec", name, "python3", "-c", ask).stdout == "200\n"
    finally:
        docker("rm", "--force", name)


@pytest.mark.network
def test_image_is_the_same_each_time(image, built, session_cli, tmp_path):
    before = image.read_bytes()
    copy = tmp_path / "elsewhere"
    shutil.copytree(built.root, copy, ignore=shutil.ignore_patterns("out"))
    arguments = ("package", "--format", "oci", "--format", "tar.zst", "--work-dir", copy)
    done = session_cli(*arguments, cwd=tmp_path, timeout=280)
    assert done.code == 0, done.stderr
    assert (copy / "out" / image.name).read_bytes() == before
    assert (copy / "out" / f"{NAME}.tar.zst").is_file()
    assert f"docker load -i {image.name}" in done.stderr


@pytest.mark.network
@pytest.mark.emulation
def test_real_arm64_server_serves_from_its_image(
    wheel_build, docker, session_cli, tmp_path, require_or_skip
):
    """Everything that a user does with an image, under QEMU where this is no arm64 machine."""
    rule = find_binfmt(Arch.ARM64)
    runs_here = Arch.native() is Arch.ARM64 or (rule is not None and rule.works_in_root)
    require_or_skip(runs_here, "QEMU with binfmt")
    arguments = ("package", "--format", "oci", "--work-dir", wheel_build.root, "--json")
    done = session_cli(*arguments, cwd=tmp_path, timeout=280)
    assert done.code == 0, done.stderr
    tag = "tritonserver:2.41.0-orangepi5b-debian-12-wheel"
    assert tag in docker("load", "--input", json.loads(done.stdout)["path"]).stdout
    models = data_dir("templates") / "smoke/models"
    ask = (
        "import urllib.request; print(urllib.request.urlopen("
        "'http://127.0.0.1:8000/v2/models/add_sub/ready', timeout=10).status)"
    )
    name = docker(
        "run", "--detach", "--network", "none", "--volume", f"{models}/add_sub:/models/add_sub:ro",
        tag, "--model-repository=/models", "--allow-grpc=false",
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ).stdout.strip()  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while "Started HTTPService" not in docker("logs", name).stdout:
            assert time.monotonic() < deadline, docker("logs", name).stdout
            time.sleep(1)
        assert docker("exec", name, "python3", "-c", ask).stdout.splitlines()[-1] == "200"
    finally:
        docker("rm", "--force", name)
