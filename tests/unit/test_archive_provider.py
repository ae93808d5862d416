"""`--from archive` on trees of a few files: what is unpacked, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import textwrap
from typing import TYPE_CHECKING

import pytest

from tritonbuild.errors import SourceError
from tritonbuild.sources.tarball import Tarball

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "bin/tritonserver": b"#!/bin/sh\necho tiny\n",
    "lib/note.txt": b"a library folder\n",
    "backends/python/model.py": b"pass\n",
    "clients/bin/simple": b"#!/bin/sh\n",
}
RELEASE = """\
    name: {name}
    summary: trees ready-made
    date: "2024-01-01"
    tag: t1
    triton_version: {version}
    container_version: "1"
    upstream_container_version: "1"
    repo_tags: {{common: t, core: t, backend: t, third_party: t}}
    server_repository: https://tiny.invalid/server.git
    providers: [archive]
    trees:
      - platform: {platform}
        summary: {summary}
        license: BSD-3-Clause
        arch: arm64
        os: [{os}]
        cuda: {cuda}
        url: {url}
"""
CORE = """\
    name: core
    summary: a core for tests
    kind: core
    archive: {}
    artefacts: {archive: [bin/tritonserver]}
"""
URL = "https://github.example/v1.0.0/tritonserver1.0.0-igpu.tar.gz"


def member(name, content=b"", *, kind=tarfile.REGTYPE, link="", mode=0o644):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mode = len(content), kind, link, mode
    return info, content


def pack(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return path


def good(top="tritonserver/"):
    yield member("./", kind=tarfile.DIRTYPE)
    if top:
        yield member(top.rstrip("/"), kind=tarfile.DIRTYPE, mode=0o700)
    for name, content in FILES.items():
        # Owners alone may read what some archives hold.
        yield member(top + name, content, mode=0o700 if "bin/" in name else 0o600)


class ArchiveWorld:
    """The small world with a release whose tree is an archive, which a mirror serves."""

    def __init__(self, tiny_world):
        self.tiny = tiny_world
        self.folder = tiny_world.recipes.parent / "archives"
        self.file = self.folder / "v1.0.0/tritonserver1.0.0-igpu.tar.gz"
        self.write("components/core", CORE)
        self.write("mirrors/near", f"""\
            name: near
            summary: a folder
            archives: [{{from: "https://github.example/", to: "{self.folder.as_uri()}/"}}]
        """)  # fmt: skip
        self.write_release()
        pack(self.file, good())

    def write(self, name, text):
        path = self.tiny.recipes / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")

    def write_backend(self, name):
        self.write(f"components/{name}", f"""\
            name: {name}
            summary: a backend for tests
            kind: backend
            archive: {{}}
            artefacts: {{archive: [backends/{name}/libtriton_{name}.so]}}
        """)  # fmt: skip

    def write_release(self, name="tiny-1", **changes):
        values = {
            "name": name, "version": "1.0.0", "platform": "igpu", "summary": "JetPack 6",
            "os": "tiny-os", "cuda": "false", "url": URL, **changes,
        }  # fmt: skip
        self.write(f"releases/{name}", RELEASE.format(**values))

    def run(self, verb, *more, **options):
        chosen = ("--board", "tiny", "--from", "archive", "--recipes", self.tiny.recipes)
        return self.tiny.cli(verb, *chosen, "--mirror", "near", *more, **options)

    def build(self, *more, **options):
        work = () if "--work-dir" in more else ("--work-dir", self.tiny.work)
        return self.run("build", *work, *more, **options)

    @property
    def tree(self) -> Path:
        return self.tiny.work / "stage/opt/tritonserver"

    def names(self):
        return sorted(str(p.relative_to(self.tree)) for p in self.tree.rglob("*") if not p.is_dir())


@pytest.fixture
def archives(tiny_world):
    return ArchiveWorld(tiny_world)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- what is unpacked -------------------------------------------------------------------------


@pytest.mark.parametrize("top", ["tritonserver/", "", "some/where/triton-2/", "./"])
def test_whole_tree_is_taken_whatever_its_folder_is_called(archives, top):
    pack(archives.file, good(top))
    done = archives.build("--json")
    assert done.code == 0, done.text
    assert archives.names() == sorted([*FILES, "TRITON_VERSION"])
    assert [s["name"] for s in json.loads(done.out)["steps"]] == [
        "01-root", "02-sources", "03-assemble", "04-verify",
    ]  # fmt: skip


def test_of_rights_only_the_run_bit_is_kept(archives):
    assert archives.build().code == 0
    modes = {name: (archives.tree / name).stat().st_mode & 0o7777 for name in FILES}
    assert modes == {name: 0o755 if "bin/" in name else 0o644 for name in FILES}


def test_what_lies_beside_the_tree_comes_along(archives):
    beside = [member("tritonserver-1/qa/run.sh", b"#!/bin/sh\n", mode=0o755)]
    pack(archives.file, [*good("tritonserver-1/tritonserver/"), *beside])
    assert archives.build().code == 0
    assert archives.names() == sorted([*FILES, "TRITON_VERSION", "qa/run.sh"])


def test_links_stay_links_and_hard_links_become_files(archives):
    top = "tritonserver/"
    links = [
        member(top + "lib/a.so", kind=tarfile.SYMTYPE, link="note.txt"),
        member(top + "backends/python/up.so", kind=tarfile.SYMTYPE, link="../../lib/note.txt"),
        member(top + "lib/twin.txt", kind=tarfile.LNKTYPE, link=top + "lib/note.txt"),
    ]
    pack(archives.file, [*good(top), *links])
    done = archives.build()
    assert done.code == 0, done.text
    assert str((archives.tree / "lib/a.so").readlink()) == "note.txt"
    assert (archives.tree / "backends/python/up.so").read_bytes() == FILES["lib/note.txt"]
    assert (archives.tree / "lib/twin.txt").read_bytes() == FILES["lib/note.txt"]
    assert not (archives.tree / "lib/twin.txt").is_symlink()


def test_manifest_says_which_archive_it_was(archives):
    assert archives.build().code == 0
    manifest = json.loads((archives.tiny.work / "manifest.json").read_text())
    assert manifest["sources"] == [
        {"component": "core", "name": "tritonserver", "url": URL, "sha256": sha256(archives.file)}
    ]
    origins = {entry["path"]: entry["origin"] for entry in manifest["files"]}
    assert origins["bin/tritonserver"] == archives.file.name
    assert manifest["selection"]["provider"] == "archive"


def test_second_build_keeps_everything_and_a_lost_file_comes_back(archives):
    assert archives.build().code == 0
    done = archives.build("--json")
    assert {step["status"] for step in json.loads(done.out)["steps"]} == {"kept"}
    (archives.tree / "lib/note.txt").unlink()
    assert archives.build().code == 0
    assert (archives.tree / "lib/note.txt").is_file()


# --- where it comes from ----------------------------------------------------------------------


def test_checksum_that_nobody_knew_is_noted_and_held(archives):
    done = archives.build()
    assert "nobody publishes a checksum" in done.err
    first = sha256(archives.file)
    assert first in (archives.tiny.work / "tritonbuild.lock").read_text()
    pack(archives.file, [*good(), member("tritonserver/more", b"x")])
    assert sha256(archives.file) != first
    (archives.tiny.work / "sources/archives/tritonserver" / archives.file.name).unlink()
    for kept in archives.tiny.cache.glob("archives/*/tritonserver*"):
        kept.unlink()
    done = archives.build()
    assert done.code == 5
    assert first in done.err


def test_pinned_checksum_is_checked(archives):
    text = RELEASE + "        sha256: " + "0" * 64 + "\n"
    archives.write("releases/tiny-1", text.format(
        name="tiny-1", version="1.0.0", platform="igpu", summary="JetPack 6", os="tiny-os",
        cuda="false", url=URL,
    ))  # fmt: skip
    done = archives.build()
    assert done.code == 5
    assert "sha256 is not what it should be" in done.err
    assert not archives.tree.exists()


def test_fetch_makes_what_builds_without_a_network(archives):
    bundle = archives.folder / "bundle"
    assert archives.run("fetch", "--output", bundle).code == 0
    archives.file.unlink()
    for kept in archives.tiny.cache.glob("archives/*/tritonserver*"):
        kept.unlink()
    done = archives.build("--offline", bundle)
    assert done.code == 0, done.text
    assert archives.names() == sorted([*FILES, "TRITON_VERSION"])


def test_lock_holds_the_archive(archives):
    done = archives.run("lock", "--output", archives.folder / "held.lock")
    assert done.code == 0, done.text
    assert sha256(archives.file) in (archives.folder / "held.lock").read_text()


def test_an_archive_of_ones_own_takes_its_place(archives):
    own = pack(archives.folder / "mine.tar.gz", [*good(), member("tritonserver/mine", b"x")])
    archives.file.unlink()
    done = archives.build("--archive", f"tritonserver={own}")
    assert done.code == 0, done.text
    assert "mine" in archives.names()


# --- what does not fit ------------------------------------------------------------------------


def test_an_archive_of_ones_own_has_its_boards_libraries(cli, tmp_path):
    """NVIDIA's archive of the board's release is not known here; those of others for its JetPack are."""
    file = tmp_path / "tritonserver2.41.0-igpu.tar.gz"
    file.touch()
    done = cli(
        "plan", "--board", "jetson-orin-jetpack6", "--from", "archive", "--json",
        "--archive", f"tritonserver={file}",
    )  # fmt: skip
    assert done.code == 0, done.err
    steps = {step["id"]: step for step in json.loads(done.out)["steps"]}
    libraries = steps["verify"]["details"]["libraries"]
    assert libraries["libcudart.so.12"] == "cuda-cudart-12-2"
    assert libraries["libnvinfer.so.8"] == "libnvinfer8"


def test_archive_for_another_jetpack_is_named_with_what_would_fit(archives):
    archives.write_release("tiny-2", version="2.0.0")
    archives.write_release(platform="jetpack5.1", summary="JetPack 5.1", os="ubuntu-20.04")
    done = archives.run("plan")
    assert done.code == 2
    assert (
        "the archive of tiny-1 is for JetPack 5.1 (ubuntu-20.04, arm64); this is tiny" in done.err
    )
    assert "one that fits has --release tiny-2" in done.err


def test_board_without_a_gpu_is_told(archives):
    archives.write_release(cuda="true")
    done = archives.run("plan")
    assert done.code == 2
    assert "with a CUDA GPU); this is tiny with tiny-os, without a CUDA GPU" in done.err
    assert "no release here has one that fits; use --from wheel or source" in done.err


def test_own_archive_of_another_version_is_refused_by_its_name(archives):
    own = pack(archives.folder / "tritonserver2.34.0-jetpack5.1.tgz", good())
    done = archives.build("--archive", f"tritonserver={own}")
    assert done.code == 2
    assert "tritonserver2.34.0-jetpack5.1.tgz is Triton 2.34.0; tiny-1 is 1.0.0" in done.err
    assert "say --release r23.05" in done.err


@pytest.mark.parametrize("name", ["tritonserver1.0.0-jetpack5.1.tgz", "tritonserver-1.0.0-jetpack5.1-update-2.tar.gz"])  # fmt: skip
def test_own_archive_for_another_jetpack_is_refused_by_its_name(archives, name):
    own = pack(archives.folder / name, good())
    done = archives.build("--archive", f"tritonserver={own}")
    assert done.code == 2
    assert f"{name} is for JetPack 5.1 (ubuntu-20.04); this is tiny with tiny-os" in done.err
    assert "one that fits has --release tiny-1" in done.err


def test_archive_that_says_another_version_inside_is_refused(archives):
    pack(archives.file, [*good(), member("tritonserver/TRITON_VERSION", b"9.9.9\n")])
    done = archives.build()
    assert done.code == 5
    assert "is Triton '9.9.9', not 1.0.0" in done.err


def test_archive_without_a_server_says_what_it_holds(archives):
    files = [member("qa/run.sh", b"x"), member("clients/bin/simple", b"x")]
    pack(archives.file, files)
    done = archives.build()
    assert done.code == 5
    assert "holds no bin/tritonserver, only clients, qa" in done.err
    archives.tiny.assert_nothing_half_written()


def test_component_that_the_archive_lacks_is_named(archives):
    archives.write_backend("python")
    done = archives.build("-c", "core", "-c", "python")
    assert done.code == 9
    assert "python: backends/python/libtriton_python.so is missing" in done.err


@pytest.fixture
def with_pytorch(archives, tmp_path, require_or_skip):
    """An archive with a backend whose library is not in it, as PyTorch's is not in NVIDIA's."""
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    require_or_skip(compiler, "aarch64-linux-gnu-gcc")
    libtorch, backend = tmp_path / "libtorch.so", tmp_path / "libtriton_pytorch.so"
    for out, needed in ((libtorch, ()), (backend, (libtorch,))):
        argv = [compiler, "-shared", "-nostdlib", f"-Wl,-soname,{out.name}", "-Wl,--no-as-needed"]
        argv += ["-x", "c", "-o", str(out), "-", "-x", "none", *(str(path) for path in needed)]
        subprocess.run(argv, input="", text=True, check=True)
    name = "tritonserver/backends/pytorch/libtriton_pytorch.so"
    pack(archives.file, (*good(), member(name, backend.read_bytes())))
    archives.write_backend("pytorch")
    return archives


def test_backend_that_nobody_asked_for_may_lack_its_library(with_pytorch):
    done = with_pytorch.build()
    assert done.code == 0, done.text
    said = "warning: the pytorch backend, which was not asked for, will not load: needs libtorch.so"
    assert said in done.err


def test_backend_that_was_asked_for_may_not(with_pytorch):
    done = with_pytorch.build("-c", "core", "-c", "pytorch")
    assert done.code == 9
    assert "backends/pytorch/libtriton_pytorch.so: needs libtorch.so" in done.err


def test_component_that_no_archive_has_is_refused(archives):
    done = archives.run("plan", "-c", "rknn")
    assert done.code == 2
    assert "rknn does not come from archive" in done.err
    assert "use --from source or wheel, or leave rknn out" in done.err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--set", "core.A=B"), "--set core.A does not go with --from archive"),
        (("--variant", "core=x"), "--variant core=x does not go with --from archive"),
        (("--source", "core=."), "--source core=. does not go with --from archive"),
        (("--executor", "native"), "--executor does not go with --from archive"),
        (("--archive", "onnxruntime=/bin/sh"), 'takes no archive "onnxruntime"'),
        (("--release", "r23.12"), "no archive of r23.12 (2.41.0) is known here"),
    ],
)
def test_options_that_do_not_go_with_it_are_named(archives, option, said):
    done = archives.run("plan", *option)
    assert done.code == 2
    assert said in done.err


def test_release_that_has_archives_alone_comes_in_no_other_way(archives):
    done = archives.run("plan", "--from", "source")
    assert done.code == 2
    assert "tiny-1 does not come from source" in done.err
    assert "use --from archive, or --release r20.09 or r23.12 or r24.01" in done.err


# --- archives that are damaged, or made to do harm --------------------------------------------

_LINK = tarfile.SYMTYPE
HOSTILE = {
    "absolute": ("would leave its folder", [member("/etc/cron.d/x", b"x")]),
    "parent": ("would leave its folder", [member("tritonserver/../../x", b"x")]),
    "backslash": ("would leave its folder", [member("tritonserver\\..\\x", b"x")]),
    "newline": ("a\\nb", [member("tritonserver/a\nb", b"x")]),
    "absolute-link": ("out of its folder", [member("tritonserver/l", kind=_LINK, link="/etc/x")]),
    "link-out": ("out of its folder", [member("tritonserver/l", kind=_LINK, link="../../x")]),
    "link-through-links": ("the link 'tritonserver/l' to 'd/d/../../x'", [
        member("tritonserver/d", kind=_LINK, link="."),
        member("tritonserver/l", kind=_LINK, link="d/d/../../x"),
    ]),
    "below-link": ("below the link 'tritonserver/d'", [
        member("tritonserver/d", kind=_LINK, link="lib"),
        member("tritonserver/d/x", b"x"),
    ]),
    "below-later-link": ("below the link 'tritonserver/d'", [
        member("tritonserver/d/x", b"x"),
        member("tritonserver/d", kind=_LINK, link="lib"),
    ]),
    "below-file": ("below the file 'tritonserver/lib/note.txt'", [
        member("tritonserver/lib/note.txt/x", b"x")
    ]),
    "file-for-folder": ("as a file and as a folder", [
        member("tritonserver/d", kind=tarfile.DIRTYPE),
        member("tritonserver/d", b"x"),
    ]),
    "twice": ("twice", [member("tritonserver/lib/note.txt", b"other")]),
    "hard-link-out": ("which is not in it", [
        member("tritonserver/h", kind=tarfile.LNKTYPE, link="/etc/passwd")
    ]),
    "hard-link-to-link": ("which is not in it", [
        member("tritonserver/l", kind=_LINK, link="lib/note.txt"),
        member("tritonserver/h", kind=tarfile.LNKTYPE, link="tritonserver/l"),
    ]),
    "device": ("neither file, folder nor link", [member("tritonserver/null", kind=tarfile.CHRTYPE)]),
    "fifo": ("neither file, folder nor link", [member("tritonserver/p", kind=tarfile.FIFOTYPE)]),
    "file-without-name": ("the path '.'", [member(".", b"x")]),
}  # fmt: skip


@pytest.mark.parametrize(("said", "more"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_archive_is_refused(tmp_path, said, more):
    file = pack(tmp_path / "tree.tar.gz", [*good(), *more])
    with pytest.raises(SourceError) as caught:
        Tarball(file)
    assert f"{file.name} holds" in caught.value.message
    assert said in caught.value.message


def test_hostile_archive_is_refused_before_anything_is_written(archives):
    pack(archives.file, [*good(), member("tritonserver/../../x", b"x")])
    done = archives.build()
    assert done.code == 5, done.text
    assert f"{archives.file.name} holds the path 'tritonserver/../../x'" in done.err
    archives.tiny.assert_nothing_half_written()


def test_link_out_of_the_tree_is_refused(archives):
    # It stays inside of the archive, and what lies there is not where it was any more.
    link = member("pack/tritonserver/lib/l", kind=_LINK, link="../../notes.txt")
    pack(archives.file, [*good("pack/tritonserver/"), member("pack/notes.txt", b"x"), link])
    done = archives.build()
    assert done.code == 9, done.text
    assert "lib/l" in done.err


def test_tree_that_claims_more_than_the_disk_holds_is_refused(archives):
    info = tarfile.TarInfo("tritonserver/huge")
    info.size = 1 << 60
    with tarfile.open(archives.file, "w:gz") as archive:
        for entry, content in good():
            archive.addfile(entry, io.BytesIO(content) if entry.isreg() else None)
        archive.fileobj.write(info.tobuf())
    done = archives.build()
    assert done.code in (4, 5), done.text
    archives.tiny.assert_nothing_half_written()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[: len(data) // 2], id="cut"),
        pytest.param(lambda _: b"<!doctype html><title>Not Found</title>", id="page"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: gzip.compress(b"no tar at all" * 99), id="no-tar"),
        pytest.param(lambda data: gzip.compress(gzip.decompress(data)[:1300]), id="cut-inside"),
        pytest.param(lambda data: data[:30] + bytes(9) + data[39:], id="bits"),
    ],
)
def test_damaged_archive_is_refused(archives, damage):
    archives.file.write_bytes(damage(archives.file.read_bytes()))
    done = archives.build()
    assert done.code == 5, done.text
    archives.tiny.assert_nothing_half_written()


def test_damaged_archive_leaves_the_tree_before_it_alone(archives):
    assert archives.build().code == 0
    before = archives.names()
    own = archives.folder / "mine.tar.gz"
    own.write_bytes(gzip.compress(b"no tar at all" * 99))
    assert archives.build("--archive", f"tritonserver={own}").code == 5
    assert archives.names() == before
