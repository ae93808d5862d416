"""The bash functions that scripts carry: exact edits, sources, downloads and archives."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from tritonbuild.plan.model import Command
from tritonbuild.render.bash import format_command, format_functions


def run_function(*argv: str, cwd: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    command = Command(tuple(argv))
    script = "\n".join(["set -e", *format_functions([command]), format_command(command), ""])
    env = {
        "PATH": f"/usr/bin:/bin:{os.environ['PATH']}", "HOME": str(cwd), "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, **extra,
    }  # fmt: skip
    return subprocess.run(
        [shutil.which("bash"), "-c", script], check=False, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, errors="surrogateescape",
    )  # fmt: skip


# --- tritonbuild_edit -------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "a b.txt"
    path.write_bytes(b"one\r\ntwo $X\none\n\xff\n")
    path.chmod(0o751)
    return path


def edit(source: Path, count: int, old: str, new: str) -> subprocess.CompletedProcess[str]:
    return run_function("tritonbuild_edit", str(source), str(count), old, new, cwd=source.parent)


@pytest.mark.parametrize(
    ("count", "old", "new", "after"),
    [
        pytest.param(2, "one", "1", b"1\r\ntwo $X\n1\n\xff\n", id="twice"),
        pytest.param(
            1, "two $X", "`$(a)` '\"\\", b"one\r\n`$(a)` '\"\\\none\n\xff\n", id="hostile"
        ),
        pytest.param(
            1, "two", "two two", b"one\r\ntwo two $X\none\n\xff\n", id="old inside of new"
        ),
        pytest.param(1, "two $X", "two", b"one\r\ntwo\none\n\xff\n", id="new inside of old"),
        pytest.param(1, "$X\none", "a\nb", b"one\r\ntwo a\nb\n\xff\n", id="lines"),
        pytest.param(1, "\udcff", "é", b"one\r\ntwo $X\none\n\xc3\xa9\n", id="bytes"),
    ],
)
def test_edit_applies_once_and_only_once(source, count, old, new, after):
    done = edit(source, count, old, new)
    assert done.returncode == 0, done.stderr
    assert f"edited {count} x" in done.stderr
    assert source.read_bytes() == after
    assert source.stat().st_mode & 0o777 == 0o751

    again = edit(source, count, old, new)
    assert (again.returncode, again.stdout) == (0, "")
    assert "edited before" in again.stderr
    assert source.read_bytes() == after
    assert [path.name for path in source.parent.iterdir()] == [source.name]


@pytest.mark.parametrize(
    ("count", "old", "new", "said"),
    [
        pytest.param(1, "one", "1", "there 2 times, the new one 0 times", id="too often"),
        pytest.param(3, "one", "1", "there 2 times", id="too seldom"),
        pytest.param(1, "absent", "1", "there 0 times", id="absent"),
        pytest.param(1, "absent", "one", "the new one 2 times", id="new there, but too often"),
        pytest.param(1, "absent", "", "there 0 times", id="deleted or never there: cannot be told"),
    ],
)
def test_edit_that_does_not_fit_changes_nothing(source, count, old, new, said):
    before = source.read_bytes()
    done = edit(source, count, old, new)
    assert done.returncode == 1
    assert f"tritonbuild_edit: {source}: " in done.stderr
    assert said in done.stderr
    assert f"wanted {count} x {old!r}" in done.stderr
    assert source.read_bytes() == before
    assert [path.name for path in source.parent.iterdir()] == [source.name]


def test_edit_refuses_what_would_fit_again_afterwards(source):
    source.write_text("abb")
    done = edit(source, 1, "ab", "a")
    assert done.returncode == 1
    assert "would still be there afterwards" in done.stderr
    assert source.read_text() == "abb"


def test_edit_of_missing_file_says_so(tmp_path):
    done = edit(tmp_path / "absent", 1, "a", "b")
    assert done.returncode == 1
    assert f"{tmp_path}/absent: No such file or directory" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_edit_is_not_misled_by_modules_in_the_working_folder(source):
    (source.parent / "tempfile.py").write_text("raise SystemExit('the wrong one')\n")
    done = edit(source, 1, "two", "2")
    assert done.returncode == 0, done.stderr


# --- tritonbuild_fetch ------------------------------------------------------------------------


@pytest.fixture
def upstream(tmp_path) -> Path:
    """A stand-in for the server's repository, with one tagged commit."""
    folder = tmp_path / "upstream"
    folder.mkdir()
    for name, text in (("TRITON_VERSION", "2.41.0\n"), ("CMakeLists.txt", "x"), ("README.md", "x")):
        (folder / name).write_text(text)
    for argv in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "a"],
        ["tag", "r23.12"],
    ):
        subprocess.run(["git", "-C", folder, *argv], check=True, capture_output=True)
    return folder


def fetch(server: Path, upstream: Path, version: str = "2.41.0"):
    return run_function(
        "tritonbuild_fetch", str(server), upstream.as_uri(), "r23.12", version, cwd=upstream.parent
    )


def test_fetch_fills_a_folder_that_holds_the_build_folder(tmp_path, upstream):
    server = tmp_path / "s $(x)"
    (server / "build").mkdir(parents=True)
    (server / "build" / "mine").write_text("mine")
    done = fetch(server, upstream)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in server.iterdir()) == [
        ".git", "CMakeLists.txt", "README.md", "TRITON_VERSION", "build",
    ]  # fmt: skip
    assert not (server / ".git" / "tritonbuild-unfinished").exists()
    (server / "README.md").write_text("edited by hand")
    (upstream / ".git").rename(upstream / "gone")
    again = fetch(server, upstream)
    assert again.returncode == 0, again.stderr
    assert (server / "README.md").read_text() == "edited by hand"


@pytest.mark.parametrize("stage", ["before init", "before checkout", "in checkout"])
def test_fetch_completes_what_an_interrupted_run_left(tmp_path, upstream, stage):
    server = tmp_path / "server"
    (server / ".git").mkdir(parents=True)
    marker = server / ".git" / "tritonbuild-unfinished"
    marker.write_text("checkout began\n" if stage == "in checkout" else "")
    if stage != "before init":
        subprocess.run(["git", "init", "-q", server], check=True, capture_output=True)
    if stage == "in checkout":
        (server / "CMakeLists.txt").write_text("hal")
        (server / "TRITON_VERSION").write_text("2.41.0\n")
        (server / ".git" / "index.lock").write_text("")
    done = fetch(server, upstream)
    assert done.returncode == 0, done.stderr
    assert (server / "CMakeLists.txt").read_text() == "x"
    assert (server / "README.md").is_file()
    assert not marker.exists()


def test_fetch_leaves_files_in_the_way_alone_each_time(tmp_path, upstream):
    server = tmp_path / "server"
    server.mkdir()
    (server / "README.md").write_text("mine")
    for _ in range(2):
        done = fetch(server, upstream)
        assert done.returncode != 0
        assert "would be overwritten by checkout" in done.stderr
        assert (server / "README.md").read_text() == "mine"
        assert not (server / "TRITON_VERSION").exists()
    (server / "README.md").unlink()
    assert fetch(server, upstream).returncode == 0


def test_fetch_leaves_another_repository_alone(tmp_path, upstream):
    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", other], check=True, capture_output=True)
    before = sorted(other.rglob("*"))
    done = fetch(other, upstream)
    assert done.returncode == 1
    assert "a git repository, but not of Triton's server" in done.stderr
    assert sorted(other.rglob("*")) == before


@pytest.mark.parametrize("text", ["2.42.0\n", "2.42.0", ""])
def test_fetch_refuses_sources_of_another_version(tmp_path, upstream, text):
    server = tmp_path / "server"
    server.mkdir()
    (server / "TRITON_VERSION").write_text(text)
    done = fetch(server, upstream)
    assert done.returncode == 1
    if text:
        assert "TRITON_VERSION is 2.42.0, not 2.41.0" in done.stderr


def test_fetch_that_cannot_reach_the_repository_can_be_run_again(tmp_path, upstream):
    server = tmp_path / "server"
    assert fetch(server, tmp_path / "absent").returncode != 0
    done = fetch(server, upstream)
    assert done.returncode == 0, done.stderr


# --- tritonbuild_download ---------------------------------------------------------------------

PAYLOAD = b"\x1f\x8b" + bytes(range(256)) * 400
SUM = hashlib.sha256(PAYLOAD).hexdigest()


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves PAYLOAD as the path says; `server.asked` is what was asked for."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        count = len(self.server.asked)
        if self.path == "/absent" or (self.path == "/busy" and count < 3):
            self._answer(404 if self.path == "/absent" else 503, b"no")
        elif self.path == "/page":
            self._answer(200, b"\n <!DOCTYPE html>\n<html>moved</html>")
        elif self.path == "/drops" and count == 1:
            self._answer(200, PAYLOAD[:1000], length=len(PAYLOAD))
        elif start and self.path != "/norange":
            if start >= len(PAYLOAD):
                self._answer(416, b"")
            else:
                span = f"bytes {start}-{len(PAYLOAD) - 1}/{len(PAYLOAD)}"
                self._answer(206, PAYLOAD[start:], **{"Content-Range": span})
        else:
            self._answer(200, PAYLOAD)

    def _answer(self, status, body, length=None, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": length or len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def mirror():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.asked = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(params=["curl", "wget"])
def tool(request, tmp_path, require_or_skip):
    """A PATH on which only one of the two programs is."""
    require_or_skip(shutil.which(request.param), f"{request.param} fetches what scripts need")
    folder = tmp_path / "tools"
    folder.mkdir()
    names = ("bash", "dirname", "mkdir", "mv", "rm", "head", "grep", "sha256sum", "sleep")
    for name in (request.param, *names):
        (folder / name).symlink_to(shutil.which(name))
    return folder


def download(url: str, file: Path, tool: Path, wanted: str = SUM):
    return run_function(
        "tritonbuild_download", url, wanted, str(file), cwd=tool.parent,
        PATH=str(tool), TRITONBUILD_RETRY_SECONDS="0",
    )  # fmt: skip


@pytest.mark.parametrize("wanted", [SUM, "-"])
@pytest.mark.parametrize("path", ["/good", "/drops", "/busy"])
def test_download_arrives_whole(mirror, tool, tmp_path, path, wanted):
    file = tmp_path / "new folder" / "a $(b).tgz"
    done = download(mirror.url + path, file, tool, wanted)
    assert done.returncode == 0, done.stderr
    assert file.read_bytes() == PAYLOAD
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    assert (f"no checksum is known; this one has {SUM}" in done.stderr) == (wanted == "-")
    asked = len(mirror.asked)
    if path == "/drops":
        assert mirror.asked[1] == ("/drops", "bytes=1000-")
    assert download(mirror.url + path, file, tool, wanted).returncode == 0
    assert len(mirror.asked) == asked, "what is there is not fetched again"


@pytest.mark.parametrize("path", ["/good", "/norange"])
@pytest.mark.parametrize("part", [PAYLOAD[:5000], PAYLOAD, b"another file" * 10])
def test_download_goes_on_with_what_is_there_or_begins_anew(mirror, tool, tmp_path, part, path):
    file = tmp_path / "a.tgz"
    file.with_name("a.tgz.part").write_bytes(part)
    done = download(mirror.url + path, file, tool)
    assert done.returncode == 0, done.stderr
    assert file.read_bytes() == PAYLOAD


def test_download_replaces_a_file_that_is_another_one(mirror, tool, tmp_path):
    file = tmp_path / "a.tgz"
    file.write_bytes(b"cut off")
    assert download(mirror.url + "/good", file, tool).returncode == 0
    assert file.read_bytes() == PAYLOAD


@pytest.mark.parametrize(
    ("path", "wanted", "said"),
    [
        ("/good", "0" * 64, f"sha256 is {SUM}, not 000"),
        ("/page", SUM, "a web page came instead of the file"),
        ("/page", "-", "a web page came instead of the file"),
        ("/absent", SUM, "cannot be fetched"),
    ],
)
def test_download_leaves_nothing_of_what_is_wrong(mirror, tool, tmp_path, path, wanted, said):
    folder = tmp_path / "out"
    done = download(mirror.url + path, folder / "a.tgz", tool, wanted)
    assert done.returncode == 1
    assert said in done.stderr
    assert not (folder / "a.tgz").exists()
    if said != "cannot be fetched":
        assert list(folder.iterdir()) == []
        assert len(mirror.asked) == 1


def test_download_needs_a_program(tmp_path):
    done = download("http://127.0.0.1:1/x", tmp_path / "x", _make_tools(tmp_path))
    assert done.returncode == 1
    assert "neither curl nor wget is there" in done.stderr


def _make_tools(tmp_path: Path) -> Path:
    folder = tmp_path / "none"
    folder.mkdir()
    for name in ("bash", "dirname", "mkdir", "rm", "sleep"):
        (folder / name).symlink_to(shutil.which(name))
    return folder


# --- tritonbuild_unpack -----------------------------------------------------------------------


def make_archive(path: Path, members: list[tuple[str, object]], mode: str = "w:gz") -> Path:
    """Make a tar of names and texts; ("-> x") is a link, ("=> x") a hard link, None a folder."""
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.uid, info.gid, info.uname = 12345, 12345, "nobody"
            info.mode = 0o4755 if name.endswith(".so.1") else 0o600
            data = b""
            if content is None:
                info.type = tarfile.DIRTYPE
            elif content == "fifo":
                info.type = tarfile.FIFOTYPE
            elif str(content).startswith(("-> ", "=> ")):
                info.type = tarfile.SYMTYPE if content[0] == "-" else tarfile.LNKTYPE
                info.linkname = content[3:]
            else:
                data = content.encode()
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


GOOD = [
    ("./", None),
    ("./ort-1/", None),
    ("ort-1/include/a.h", "flat"),
    ("ort-1/include/core/session/a.h", "nested"),
    ("ort-1/include/core/session/b.h", "b"),
    ("ort-1/include/core/c.hpp", "c"),
    ("ort-1/lib/libx.so", "-> libx.so.1"),
    ("ort-1/lib/libx.so.1", "elf"),
    ("ort-1/lib/copy", "=> ort-1/lib/libx.so.1"),
    ("ort-1/up", "-> lib/../include/a.h"),
]


def unpack(archive: Path, folder: Path):
    return run_function("tritonbuild_unpack", str(archive), str(folder), cwd=archive.parent)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2", "w"])
def test_unpack_drops_the_top_folder_and_flattens_headers(tmp_path, mode):
    archive = make_archive(tmp_path / "a b.tgz", GOOD, mode)
    folder = tmp_path / "archives" / "$(x)"
    for _ in range(2):
        done = unpack(archive, folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()) == [
            "include/a.h", "include/b.h", "include/core/c.hpp", "include/core/session/a.h",
            "include/core/session/b.h", "lib/copy", "lib/libx.so", "lib/libx.so.1", "up",
        ]  # fmt: skip
        assert (folder / "include/a.h").read_text() == "flat"
        assert (folder / "include/b.h").read_text() == "b"
        assert (folder / "lib/libx.so").readlink() == Path("libx.so.1")
        assert (folder / "lib/libx.so.1").stat().st_mode & 0o7777 == 0o755
        assert (folder / "include/a.h").stat().st_uid == os.getuid()
        assert [path.name for path in folder.parent.iterdir()] == ["$(x)"]
        (folder / "include/b.h").write_text("of an earlier run")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        pytest.param([("top/../../evil", "x")], "outside of the folder", id="dots"),
        pytest.param([("/evil", "x")], "outside of the folder", id="absolute"),
        pytest.param([("top/l", "-> /etc"), ("top/l/evil", "x")], "exist", id="through a link"),
        pytest.param([("top/l", "-> ../../..")], "leads out", id="link out"),
        pytest.param([("top/l", "-> /etc/passwd")], "leads out", id="absolute link"),
        pytest.param(
            [("top/d/s", "-> .."), ("top/d/l", "-> s/../../x")], "leads out", id="link by a link"
        ),
        pytest.param([("top/h", "=> ../../etc/passwd")], "outside of the folder", id="hard link"),
        pytest.param([("top/p", "fifo")], "neither file, folder nor link", id="fifo"),
        pytest.param([("a/x", "x"), ("b/x", "x")], "one top folder", id="two folders"),
        pytest.param([("file", "x")], "no folder in it", id="no folder"),
        pytest.param([], "one top folder", id="empty"),
    ],
)
def test_unpack_refuses_and_leaves_what_was_there(tmp_path, members, said):
    box = tmp_path / "a" / "b" / "c"
    (box / "kept").mkdir(parents=True)
    (box / "kept" / "file").write_text("before")
    archive = make_archive(tmp_path / "bad.tgz", members)
    before = sorted(tmp_path.rglob("*"))
    done = unpack(archive, box / "kept")
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.startswith(f"tritonbuild_unpack: {archive}: ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("size", [0, 10, 150])
def test_unpack_of_a_cut_off_archive_is_an_error(tmp_path, size):
    archive = make_archive(tmp_path / "whole.tgz", GOOD)
    archive.write_bytes(archive.read_bytes()[:size])
    done = unpack(archive, tmp_path / "out")
    assert done.returncode == 1
    assert "tritonbuild_unpack: " in done.stderr
    assert not (tmp_path / "out").exists()
