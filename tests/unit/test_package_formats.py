""".deb and container images: their parts, read without the tools that they are for."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
import zstandard

from tritonbuild.errors import AssembleError, HostError, RecipeError, UsageError
from tritonbuild.paths import Workspace
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import Machine, Request
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import RecipeBook
from tritonbuild.stage.deb import Control, depends_on, make_deb
from tritonbuild.stage.image_base import base_spec_of
from tritonbuild.stage.manifest import make_manifest, write_manifest
from tritonbuild.stage.oci import ImageSpec, make_image

DATE = "2023-12-22"
MIDNIGHT = 1703203200
CONTENT = {
    "bin/tritonserver": b"server" * 100_000,
    "lib/libx.so.1": b"library" * 10_000,
    "lib/" + "long-name/" * 15 + "file.py": b"x = 1\n",
    "backends/naïve/größe.txt": "größe".encode(),
    "empty": b"",
}
CONTROL = Control(
    "2.41.0", "arm64", ("libc6 (>= 2.34)", "zlib1g"), "Triton", "More of it, and " + "more " * 50
)
SPEC = ImageSpec("tritonserver:2.41.0-x", "arm64", "2.41.0", {"tritonbuild.release": "r23.12"})


@pytest.fixture(autouse=True)
def no_epoch(monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)


@pytest.fixture(scope="session")
def plan():
    return make_plan(
        RecipeBook.open(), Request("generic-arm64", os="debian-12", provider=ProviderKind.WHEEL)
    )


@pytest.fixture
def make_stage(plan):
    def make(folder: Path, *, umask: int = 0o022, reverse: bool = False) -> Workspace:
        ws = Workspace(folder)
        before = os.umask(umask)
        try:
            for name in sorted(CONTENT, reverse=reverse):
                path = ws.tritonserver_dir / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(CONTENT[name])
                if name.startswith("bin/"):
                    path.chmod(0o755)
            (ws.tritonserver_dir / "lib/libx.so").symlink_to("libx.so.1")
        finally:
            os.umask(before)
        manifest = make_manifest(ws.tritonserver_dir, plan=plan, origins={}, tools={}, system={})
        write_manifest(ws.manifest_path, manifest)
        return ws

    return make


@pytest.fixture
def ws(tmp_path, make_stage):
    return make_stage(tmp_path / "work")


# --- .deb ---------------------------------------------------------------------------------------


def read_ar(path: Path) -> dict[str, bytes]:
    data = path.read_bytes()
    assert data[:8] == b"!<arch>\n"
    parts, offset = {}, 8
    while offset < len(data):
        header = data[offset : offset + 60].decode("ascii")
        assert header[58:] == "`\n"
        assert header[16:58].split() == [str(MIDNIGHT), "0", "0", "100644", header[48:58].strip()]
        size = int(header[48:58])
        parts[header[:16].rstrip()] = data[offset + 60 : offset + 60 + size]
        offset += 60 + size + size % 2
    return parts


def read_tar(data: bytes) -> tarfile.TarFile:
    return open_bytes(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read())


def open_bytes(data: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(data))


def test_deb_has_the_three_parts_in_order(ws):
    made = make_deb(ws, name="x", date=DATE, control=CONTROL)
    assert made.path.name == "x.deb"
    parts = read_ar(made.path)
    assert list(parts) == ["debian-binary", "control.tar.zst", "data.tar.zst"]
    assert parts["debian-binary"] == b"2.0\n"
    assert made.sha256 == hashlib.sha256(made.path.read_bytes()).hexdigest()
    names = sorted(path.name for path in ws.out_dir.iterdir())
    assert names == ["x.deb", "x.deb.sha256", "x.manifest.json"]


def test_deb_parts_begin_at_even_places(ws):
    sizes = set()
    for length in range(12):
        control = Control("1", "arm64", (), "x" * length, "")
        parts = read_ar(make_deb(ws, name="x", date=DATE, control=control).path)
        assert list(parts) == ["debian-binary", "control.tar.zst", "data.tar.zst"]
        sizes.add(len(parts["control.tar.zst"]) % 2)
    assert sizes == {0, 1}


def test_deb_control_says_what_it_needs(ws):
    parts = read_ar(make_deb(ws, name="x", date=DATE, control=CONTROL).path)
    control = read_tar(parts["control.tar.zst"])
    assert control.getnames() == [".", "./control", "./md5sums"]
    text = control.extractfile("./control").read().decode()
    fields = dict(line.split(": ", 1) for line in text.splitlines() if not line.startswith(" "))
    size = sum(map(len, CONTENT.values()))
    assert fields["Package"] == "tritonserver"
    assert fields["Version"] == "2.41.0"
    assert fields["Architecture"] == "arm64"
    assert fields["Depends"] == "libc6 (>= 2.34), zlib1g"
    assert int(fields["Installed-Size"]) == -(-size // 1024)
    assert all(len(line) < 80 for line in text.splitlines())


def test_deb_data_is_the_tree_and_belongs_to_root(ws):
    parts = read_ar(make_deb(ws, name="x", date=DATE, control=CONTROL).path)
    data = read_tar(parts["data.tar.zst"])
    members = {member.name: member for member in data.getmembers()}
    names = list(members)
    assert names[:3] == [".", "./opt", "./opt/tritonserver"]
    assert names[-1] == "./usr/share/doc/tritonserver/copyright"
    for folder in ("./usr", "./usr/share", "./usr/share/doc", "./usr/share/doc/tritonserver"):
        assert members[folder].isdir()
    for name, content in CONTENT.items():
        assert data.extractfile(f"./opt/tritonserver/{name}").read() == content
    assert members["./opt/tritonserver/lib/libx.so"].linkname == "libx.so.1"
    assert members["./opt/tritonserver/bin/tritonserver"].mode == 0o755
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members.values()} == {
        (0, 0, "root", "root", MIDNIGHT)
    }
    sums = read_tar(parts["control.tar.zst"]).extractfile("./md5sums").read().decode()
    listed = dict(reversed(line.split("  ", 1)) for line in sums.splitlines())
    assert set(listed) == {name[2:] for name, member in members.items() if member.isfile()}
    server = hashlib.md5(CONTENT["bin/tritonserver"]).hexdigest()
    assert listed["opt/tritonserver/bin/tritonserver"] == server


def test_deb_of_trees_made_differently_is_identical(tmp_path, ws, make_stage):
    other = make_stage(tmp_path / "some other" / "folder", umask=0o077, reverse=True)
    first = make_deb(ws, name="x", date=DATE, control=CONTROL)
    second = make_deb(other, name="x", date=DATE, control=CONTROL)
    assert first.path.read_bytes() == second.path.read_bytes()


@pytest.mark.parametrize("version", ["", "v1", "1:2", "1_2", "1\nDepends: evil", "1 2"])
def test_deb_refuses_what_is_no_version(ws, version):
    control = Control(version, "arm64", (), "s", "d")
    with pytest.raises(UsageError, match="not a version"):
        make_deb(ws, name="x", date=DATE, control=control)


def test_deb_fields_cannot_be_smuggled_in():
    text = Control("1", "arm64", (), "s\nDepends: evil", "d\n\nEssential: yes\n.").format(0)
    lines = text.splitlines()
    assert "Description: s Depends: evil" in lines
    assert lines[-1] == " d Essential: yes ."


VERIFIED = {
    "arch": "arm64",
    "system_libraries": {"libc.so.6": "libc6", "libm.so.6": "libc6", "libstdc++.so.6": "libstdc++6",
                         "libz.so.1": "zlib1g", "libodd.so": ""},
    "to_install": {"libre2.so.9": "libre2-9"},
    "highest": {"GLIBC": {"version": "GLIBC_2.34", "file": "x"},
                "GLIBCXX": {"version": "GLIBCXX_3.4.30", "file": "x"}},
}  # fmt: skip


def test_depends_come_from_what_was_verified():
    expected = ("libc6 (>= 2.34)", "libre2-9", "libstdc++6 (>= 12)", "zlib1g")
    assert depends_on(VERIFIED) == expected
    assert depends_on(VERIFIED, "3.11") == (
        *expected, "python3 (>= 3.11)", "python3 (<< 3.12)",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("glibcxx", "expected"),
    [("3.4.28", "libstdc++6 (>= 9.3)"), ("3.4.29", "libstdc++6 (>= 11)"),
     ("GLIBCXX_3.4.32", "libstdc++6 (>= 13.2)"), ("3.4.21", "libstdc++6"),
     ("odd", "libstdc++6"), ("", "libstdc++6")],
)  # fmt: skip
def test_version_of_libstdcxx_follows_from_its_symbols(glibcxx, expected):
    highest = {"GLIBCXX": {"version": glibcxx, "file": "x"}}
    assert expected in depends_on(VERIFIED | {"highest": highest})


# --- images -------------------------------------------------------------------------------------


@pytest.fixture
def base(tmp_path):
    """A root as an ordinary user with a strict umask would have unpacked it."""
    folder = tmp_path / "root"
    before = os.umask(0o077)
    try:
        for name in ("usr/bin", "etc", "tmp", "proc", "opt/tritonserver", "models"):
            (folder / name).mkdir(parents=True)
        (folder / "usr/bin/tool").write_text("#!/bin/sh\n")
        (folder / "usr/bin/tool").chmod(0o4700)
        (folder / "usr/bin/same").hardlink_to(folder / "usr/bin/tool")
        (folder / "bin").symlink_to("usr/bin")
        (folder / "etc/passwd").write_text("evil::0:0::/:/bin/sh\n")
        (folder / "etc/conf").write_text("x = 1\n")
    finally:
        os.umask(before)
    return folder


class Image:
    """An image, read back and checked along the way."""

    def __init__(self, path: Path) -> None:
        self.archive = open_bytes(path.read_bytes())
        self.index = self.json("index.json")
        (entry,) = self.index["manifests"]
        self.manifest = json.loads(self.blob(entry))
        self.config = json.loads(self.blob(self.manifest["config"]))
        # No time in gzip's header: two images made in one second would not show it.
        for layer in self.manifest["layers"]:
            assert self.blob(layer)[4:8] == bytes(4)
        self.layers = [gzip.decompress(self.blob(layer)) for layer in self.manifest["layers"]]

    def read(self, name: str) -> bytes:
        return self.archive.extractfile(name).read()

    def json(self, name: str):
        return json.loads(self.read(name))

    def blob(self, descriptor) -> bytes:
        digest = descriptor["digest"].removeprefix("sha256:")
        data = self.read(f"blobs/sha256/{digest}")
        assert hashlib.sha256(data).hexdigest() == digest
        assert len(data) == descriptor["size"]
        return data

    def members(self, number: int) -> dict[str, tarfile.TarInfo]:
        return {member.name: member for member in open_bytes(self.layers[number]).getmembers()}


@pytest.fixture
def image(ws, base):
    return Image(make_image(ws, name="x", date=DATE, base=base, spec=SPEC).path)


def test_image_is_an_oci_layout_with_dockers_manifest_beside_it(image):
    assert image.json("oci-layout") == {"imageLayoutVersion": "1.0.0"}
    assert image.manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in image.layers]
    assert image.config["rootfs"] == {"type": "layers", "diff_ids": diff_ids}
    assert len(image.config["history"]) == len(image.layers) == 2
    (docker,) = image.json("manifest.json")
    assert docker["RepoTags"] == ["tritonserver:2.41.0-x"]
    digest = image.manifest["config"]["digest"].removeprefix("sha256:")
    assert docker["Config"] == f"blobs/sha256/{digest}"
    assert docker["Layers"] == [
        f"blobs/sha256/{layer['digest'].removeprefix('sha256:')}"
        for layer in image.manifest["layers"]
    ]
    annotations = image.index["manifests"][0]["annotations"]
    assert annotations["org.opencontainers.image.ref.name"] == "2.41.0-x"


def test_image_runs_the_server_as_nobody_special(image):
    config = image.config["config"]
    assert config["User"] == "1000:1000"
    assert config["Entrypoint"] == ["/opt/tritonserver/bin/tritonserver"]
    assert set(config["ExposedPorts"]) == {"8000/tcp", "8001/tcp", "8002/tcp"}
    assert config["Labels"]["org.opencontainers.image.version"] == "2.41.0"
    assert config["Labels"]["tritonbuild.release"] == "r23.12"
    assert image.config["created"] == "2023-12-22T00:00:00Z"
    assert (image.config["architecture"], image.config["variant"]) == ("arm64", "v8")


def test_layers_are_the_root_and_the_tree(image):
    root, tree = image.members(0), image.members(1)
    assert root["usr/bin/tool"].mode == 0o755, "no set user id, and readable for all"
    assert root["usr/bin/same"].mode == 0o755
    assert {root["usr/bin/same"].type, root["usr/bin/tool"].type} == {
        tarfile.REGTYPE, tarfile.LNKTYPE,
    }  # fmt: skip
    assert root["etc/conf"].mode == 0o644
    assert root["tmp"].mode == 0o1777
    assert root["bin"].linkname == "usr/bin"
    layer = open_bytes(image.layers[0])
    assert b"triton:x:1000:" in layer.extractfile("etc/passwd").read()
    assert b"evil" not in layer.extractfile("etc/passwd").read()
    assert list(root).count("etc/passwd") == 1
    assert set(tree) >= {f"opt/tritonserver/{name}" for name in CONTENT}
    for members in (root, tree):
        assert {(m.uid, m.gid, m.uname, m.mtime) for m in members.values()} == {
            (0, 0, "root", MIDNIGHT)
        }


def test_image_is_the_same_each_time(tmp_path, ws, base, make_stage):
    other = make_stage(tmp_path / "other", umask=0o077, reverse=True)
    first = make_image(ws, name="x", date=DATE, base=base, spec=SPEC)
    os.utime(base / "etc/conf", (1, 1))
    second = make_image(other, name="x", date=DATE, base=base, spec=SPEC)
    assert first.path.read_bytes() == second.path.read_bytes()
    names = sorted(path.name for path in ws.out_dir.iterdir())
    assert names == ["x.manifest.json", "x.oci.tar", "x.oci.tar.sha256"]


def test_image_that_finds_no_room_leaves_nothing(ws, base, require_or_skip):
    require_or_skip(Path("/dev/full").exists(), "/dev/full")
    ws.out_dir.mkdir()
    (ws.out_dir / ".x.oci.tar.part").symlink_to("/dev/full")
    with pytest.raises(HostError, match="no room on disk"):
        make_image(ws, name="x", date=DATE, base=base, spec=SPEC)
    assert list(ws.out_dir.iterdir()) == []


@pytest.mark.parametrize("make", [make_deb, make_image])
def test_no_stage_is_an_error(tmp_path, base, make):
    options = {"control": CONTROL} if make is make_deb else {"base": base, "spec": SPEC}
    with pytest.raises(AssembleError, match="no finished stage"):
        make(Workspace(tmp_path / "none"), name="x", date=DATE, **options)


# --- what an image stands on ----------------------------------------------------------------------


def test_image_of_a_wheel_build_stands_on_the_root_it_was_checked_in(plan):
    step = plan.find_step("root")
    spec = base_spec_of(plan, VERIFIED | {"to_install": {}}, RecipeBook.open())
    assert list(spec.packages) == step.details["packages"]
    assert spec.bundled
    more = base_spec_of(plan, VERIFIED, RecipeBook.open())
    assert "libre2-9" in more.packages
    assert not more.bundled
    assert set(spec.packages) < set(more.packages)


def test_image_of_a_source_build_stands_on_the_system_of_the_machine():
    import dataclasses

    made = make_plan(RecipeBook.open(), Request("orangepi5b"))
    machine = Machine("amd64", "debian-12", "12.2.0", "3.25.1", "2.36", "3.11", "this machine")
    plan = dataclasses.replace(made, machine=machine)
    spec = base_spec_of(plan, VERIFIED | {"arch": "amd64"}, RecipeBook.open())
    assert (spec.suite, spec.arch) == ("bookworm", "amd64")
    assert set(spec.packages) == {
        "ca-certificates", "libgcc-s1", "libstdc++6", "python3", "zlib1g", "libc6", "libre2-9",
    }  # fmt: skip
    odd = dataclasses.replace(plan, machine=dataclasses.replace(machine, os="arch-2024"))
    with pytest.raises(RecipeError, match="arch-2024"):
        base_spec_of(odd, VERIFIED, RecipeBook.open())


# --- the command ----------------------------------------------------------------------------------


def test_unknown_format_is_a_usage_error(run_cli):
    done = run_cli("package", "--format", "dep")
    assert done.code == 2
    assert 'unknown value "dep"; did you mean "deb"?' in done.stderr
    assert "known: tar.zst, deb, oci" in done.stderr
