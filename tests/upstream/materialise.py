#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make git repositories and archives of the stand-ins for upstream, as a mirror would hold them.

    python tests/upstream/materialise.py DIR

    DIR/git/github.com/ORGANISATION/NAME.git     bare, with upstream's tags
    DIR/archives/HOST/PATH...                    at the path of their addresses
    DIR/recipes/mirrors/standins.yaml            for `tritonbuild ... --recipes DIR/recipes --mirror
                                                 standins`

Equal sources give equal commits and archives, whoever makes them and when, as long as compiler and
zlib are the same. docs/stand-ins.md says what they stand in for.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
GITHUB = "https://github.com/"

BOOST_URL = "https://archives.boost.io/release/1.79.0/source/boost_1_79_0.tar.gz"
# Answers with a web page since 2023-12-31; r23.12 still has it.
DEAD_BOOST_URL = (
    "https://boostorg.jfrog.io/artifactory/main/release/1.79.0/source/boost_1_79_0.tar.gz"
)
_BOOST_180 = "release/1.80.0/source/boost_1_80_0.tar.gz"
ORT_VERSION = "1.16.3"
ORT_URL = f"{GITHUB}microsoft/onnxruntime/releases/download/v{ORT_VERSION}/"

_DATE = 1703203200  # 2023-12-22, when r23.12 came out
_AUTHOR = f"Stand-in <stand-in@example.invalid> {_DATE} +0000"

# Third-party versions of both releases lie between those of third_party's mid-2023 and mid-2024.
RELEASES = {
    "r23.12": {
        "TRITON_VERSION": "2.41.0",
        "API_MINOR": "17",
        "BOOST_URL": DEAD_BOOST_URL,
        "BOOST_180_URL": f"https://boostorg.jfrog.io/artifactory/main/{_BOOST_180}",
        "LIBEVENT_VERSION": "2.1.8",
        "JSON_VERSION": "3.9.0",
        "OPENTELEMETRY_VERSION": "1.8.3",
    },
    "r24.01": {
        "TRITON_VERSION": "2.42.0",
        "API_MINOR": "18",
        "BOOST_URL": BOOST_URL,
        "BOOST_180_URL": f"https://archives.boost.io/{_BOOST_180}",
        "LIBEVENT_VERSION": "2.1.10",
        "JSON_VERSION": "3.11.3",
        "OPENTELEMETRY_VERSION": "1.13.0",
    },
}

_ADD_BYTES = """\
void
evutil_secure_rng_add_bytes(const char *buf, size_t n)
{
	arc4random_addrandom((unsigned char*)buf,
	    n>(size_t)INT_MAX ? INT_MAX : (int)n);
}"""
# As 2.1.12 has it: the function is not there where it could not be called.
_GUARDED_ADD_BYTES = (
    f"#if !defined(EVENT__HAVE_ARC4RANDOM)\n{_ADD_BYTES}\n#else\n"
    "void evutil_secure_rng_add_bytes(const char *buf, size_t n) { (void)buf, (void)n; }\n#endif"
)


@dataclass(frozen=True)
class Version:
    """One tag or branch of a repository.

    Attributes:
        values: What the @NAMES@ in its files become.
        submodules: Path in the repository to (repository, its tag).
        branch: It is a branch, not a tag.
        folder: Folder of its files, where it is not the one of the repository's name.
        overlays: Folders whose files are put over those, and where in the repository.
    """

    values: dict[str, str] = field(default_factory=dict)
    submodules: dict[str, tuple[str, str]] = field(default_factory=dict)
    branch: bool = False
    folder: str | None = None
    overlays: tuple[tuple[str, str], ...] = ()


def _releases() -> dict[str, Version]:
    return {tag: Version(dict(values)) for tag, values in RELEASES.items()}


def _with_2009(version: Version) -> dict[str, Version]:
    """Return the releases, and before them 20.09."""
    return {"r20.09": version, **_releases()}


# What was another version then; the rest is that of the first release above.
R2009 = {**RELEASES["r23.12"], "TRITON_VERSION": "2.3.0", "API_MINOR": "0"}
PROMETHEUS_URL = f"{GITHUB}jupp0r/prometheus-cpp/archive/v0.7.0.tar.gz"


def _tagged(*tags: str) -> dict[str, Version]:
    return {tag: Version() for tag in tags}


_TRITON = "triton-inference-server"
# Repository, in an order in which submodules come before those that hold them: its versions.
# Its files are in the folder of its last name.
REPOSITORIES: dict[str, dict[str, Version]] = {
    "abseil/abseil-cpp": _tagged("20220623.0"),
    "c-ares/c-ares": _tagged("cares-1_17_2"),
    "google/googletest": _tagged("release-1.12.1"),
    "google/re2": _tagged("2022-04-01"),
    "protocolbuffers/protobuf": {
        tag: Version(submodules={"third_party/googletest": ("google/googletest", "release-1.12.1")})
        for tag in ("v3.8.0", "v22.3")
    },
    "grpc/grpc": {
        "v1.25.0": Version(
            submodules={
                "third_party/cares/cares": ("c-ares/c-ares", "cares-1_17_2"),
                "third_party/googletest": ("google/googletest", "release-1.12.1"),
                "third_party/protobuf": ("protocolbuffers/protobuf", "v3.8.0"),
            }
        ),
        "v1.54.3": Version(
            submodules={
                "third_party/abseil-cpp": ("abseil/abseil-cpp", "20220623.0"),
                "third_party/cares/cares": ("c-ares/c-ares", "cares-1_17_2"),
                "third_party/googletest": ("google/googletest", "release-1.12.1"),
                "third_party/protobuf": ("protocolbuffers/protobuf", "v22.3"),
                "third_party/re2": ("google/re2", "2022-04-01"),
            }
        ),
    },
    "curl/curl": _tagged("curl-7_86_0"),
    "nlohmann/json": {
        "v3.9.0": Version({"JSON_VERSION": "3.9.0", "JSON_CMAKE_MINIMUM": "3.1"}),
        "v3.11.3": Version({"JSON_VERSION": "3.11.3", "JSON_CMAKE_MINIMUM": "3.1...3.14"}),
    },
    "libevent/libevent": {
        "release-2.1.8-stable": Version({"LIBEVENT_ADD_BYTES": _ADD_BYTES}),
        "release-2.1.10-stable": Version({"LIBEVENT_ADD_BYTES": _ADD_BYTES}),
        "release-2.1.12-stable": Version({"LIBEVENT_ADD_BYTES": _GUARDED_ADD_BYTES}),
    },
    "jupp0r/prometheus-cpp": _tagged("v1.0.1"),
    "open-telemetry/opentelemetry-cpp": _tagged("v1.8.3", "v1.13.0"),
    "pybind/pybind11": _tagged("v2.10.0"),
    "dmlc/dlpack": _tagged("v0.8"),
    f"{_TRITON}/common": _with_2009(Version(R2009)),
    f"{_TRITON}/core": _with_2009(Version(R2009)),
    f"{_TRITON}/backend": _with_2009(Version(R2009, overlays=(("backend-20.09", ""),))),
    f"{_TRITON}/third_party": _with_2009(Version(R2009)),
    f"{_TRITON}/server": _with_2009(
        Version(
            R2009,
            folder="server-20.09",
            overlays=(
                ("core/src", "src/core"),
                ("server/src", "src/servers"),
                ("re2/re2", "src/re2"),
            ),
        )
    ),
    f"{_TRITON}/python_backend": _releases(),
    f"{_TRITON}/onnxruntime_backend": _releases(),
    "zjd1988/rknn_backend": {"r23.12": Version(branch=True)},
    "rockchip-linux/rknpu2": _tagged("v1.5.2"),
    "Tencent/TNN": _tagged("v0.3.0"),
    "t90tank/triton-tnn-serving": {"main": Version(branch=True)},
}

# Where the libraries of Rockchip's that are binaries in the repositories come from.
_RKNN_SOURCE = HERE.parent / "backends" / "standin_rknnrt.c"
_RGA_SOURCE = HERE / "shared" / "standin_rga.c"
_RKNPU2_RGA = "examples/3rdparty/rga/{soc}/lib/Linux/aarch64/librga.so"
_RKNPU2_API = "runtime/{soc}/Linux/librknn_api"
# What the demo's model holds here: what a run with the real one printed.
_RKNPU2_MODEL = "examples/rknn_yolov5_demo/model/{models}/yolov5s-640-640.rknn"
# Folder of each SoC's libraries, that of its models, and what the models say that they are for.
_RKNPU2_SOCS = (("RK3588", "RK3588", "rk3588"), ("RK356X", "RK3566_RK3568", "rk3566"))
_RECORDING = HERE.parent / "recordings" / "rknn_yolov5_demo" / "sdk-1.5.2.txt"


@dataclass(frozen=True)
class Standins:
    """Where everything is.

    Attributes:
        commits: Repository to the commit of each tag and branch.
        sha256: Checksum of each archive, by its address.
    """

    root: Path
    commits: dict[str, dict[str, str]]
    sha256: dict[str, str]

    @property
    def recipes_dir(self) -> Path:
        """The folder for --recipes."""
        return self.root / "recipes"

    def repository(self, name: str) -> Path:
        """Return the bare repository of `organisation/name`."""
        return self.root / "git" / "github.com" / f"{name}.git"

    def archive(self, url: str) -> Path:
        """Return the file behind an address."""
        return self.root / "archives" / url.removeprefix("https://")

    def git_environment(self) -> dict[str, str]:
        """Return what makes git take GitHub's addresses from here, in nested clones too."""
        return {
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": f"url.file://{self.root}/git/github.com/.insteadOf",
            "GIT_CONFIG_VALUE_0": GITHUB,
            "GIT_CONFIG_KEY_1": "protocol.file.allow",
            "GIT_CONFIG_VALUE_1": "always",
            "GIT_TERMINAL_PROMPT": "0",
        }


def materialise(
    root: Path, *, with_rknn_api: bool = True, machine: str = platform.machine()
) -> Standins:
    """Make everything in `root`; what is there and complete stays.

    Args:
        root: A folder of its own, without blanks in its path.
        with_rknn_api: Whether rknn_backend has librknn_api.so, or only librknnrt.so as newer
            runtimes do.
        machine: Whose the libraries are that upstream has ready-made, as `uname -m` says it; a
            cross compiler makes another machine's.
    """
    root = root.absolute()
    if any(character.isspace() for character in str(root)):
        msg = f"addresses cannot have blanks: {root}"
        raise ValueError(msg)
    stamp = root / "stamp"
    key = _key(root, machine, with_rknn_api=with_rknn_api)
    try:
        done = stamp.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        done = []
    if done[:1] == [key]:
        return _read_stamp(root, done[1:])
    for part in ("git", "archives", "recipes", "libraries"):
        shutil.rmtree(root / part, ignore_errors=True)
    stamp.unlink(missing_ok=True)
    root.mkdir(parents=True, exist_ok=True)
    sha256 = {BOOST_URL: _write_boost(root), PROMETHEUS_URL: _write_prometheus(root)}
    for theirs, name in (("aarch64", "aarch64"), ("x86_64", "x64")):
        file = f"onnxruntime-linux-{name}-{ORT_VERSION}.tgz"
        sha256[ORT_URL + file] = _write_onnxruntime(root, theirs, file)
    binaries = _compile_rknn(root / "libraries", machine, with_rknn_api=with_rknn_api)
    commits: dict[str, dict[str, str]] = {}
    for name, versions in REPOSITORIES.items():
        values = {
            "BOOST_SHA256": sha256[BOOST_URL],
            "PROMETHEUS_SHA256": sha256[PROMETHEUS_URL],
            "PYBIND11_COMMIT": commits.get("pybind/pybind11", {}).get("v2.10.0", ""),
        }
        commits[name] = _make_repository(root, name, versions, values, commits, binaries)
    _write_recipe(root)
    made = Standins(root, commits, sha256)
    _write(stamp, "\n".join([key, *_stamp_lines(made)]) + "\n")
    return made


# --- what was made before --------------------------------------------------------------------


def _key(root: Path, machine: str, *, with_rknn_api: bool) -> str:
    """Return a checksum of everything that decides what is made."""
    digest = hashlib.sha256(f"{root} {with_rknn_api} {platform.machine()} {machine}".encode())
    for path in [_RKNN_SOURCE, _RECORDING, *sorted(HERE.rglob("*"))]:
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.name} {path.stat().st_mode}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _stamp_lines(made: Standins) -> list[str]:
    lines = [f"sha256 {url} {digest}" for url, digest in made.sha256.items()]
    for name, versions in made.commits.items():
        lines += [f"commit {name} {tag} {commit}" for tag, commit in versions.items()]
    return lines


def _read_stamp(root: Path, lines: list[str]) -> Standins:
    made = Standins(root, {}, {})
    for line in lines:
        kind, name, *rest = line.split(" ")
        if kind == "sha256":
            made.sha256[name] = rest[0]
        else:
            made.commits.setdefault(name, {})[rest[0]] = rest[1]
    return made


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(path.name + ".new").write_text(text, encoding="utf-8")
    path.with_name(path.name + ".new").replace(path)


# --- git -------------------------------------------------------------------------------------

# Mode and content of each file.
Tree = dict[str, tuple[str, bytes]]


def _run(*argv: str, cwd: Path | None = None, data: bytes | None = None) -> bytes:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}
    done = subprocess.run(argv, cwd=cwd, env=env, input=data, capture_output=True, check=False)
    if done.returncode != 0:
        msg = f"{' '.join(argv)}: {done.stderr.decode(errors='replace')}"
        raise RuntimeError(msg)
    return done.stdout


def _read_tree(
    folder: Path, values: dict[str, str], overlays: tuple[tuple[str, str], ...] = ()
) -> Tree:
    """Return a stand-in's files, with what every one of them has."""
    shared = HERE / "shared"
    tree: Tree = {"LICENSE": ("100644", (shared / "LICENSE").read_bytes())}
    record = shared / "standin_record.cmake"
    tree["cmake/standin_record.cmake"] = ("100644", record.read_bytes())
    for source, place in ((folder, ""), *((HERE / name, place) for name, place in overlays)):
        for path in sorted(source.rglob("*")):
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            content = path.read_bytes()
            for name, value in values.items():
                content = content.replace(f"@{name}@".encode(), value.encode())
            mode = "100755" if path.stat().st_mode & 0o100 else "100644"
            tree[(Path(place) / path.relative_to(source)).as_posix()] = (mode, content)
    return tree


def _make_repository(
    root: Path,
    name: str,
    versions: dict[str, Version],
    values: dict[str, str],
    commits: dict[str, dict[str, str]],
    binaries: dict[str, Tree],
) -> dict[str, str]:
    """Make a bare repository and return the commit of each version; `main` is the last one."""
    repository = root / "git" / "github.com" / f"{name}.git"
    folder = HERE / name.rpartition("/")[2]
    stream = io.BytesIO()
    previous = ""
    for mark, (tag, version) in enumerate(versions.items(), start=1):
        own = HERE / version.folder if version.folder else folder
        tree = _read_tree(own, {**values, **version.values}, version.overlays)
        tree |= binaries.get(name, {})
        gitlinks = {path: commits[sub][ref] for path, (sub, ref) in version.submodules.items()}
        if gitlinks:
            tree[".gitmodules"] = ("100644", _format_gitmodules(version).encode())
        _write_commit(stream, mark, f"{name} {tag}", tree, gitlinks, previous)
        previous = f"from :{mark}\n"
        ref = f"refs/heads/{tag}" if version.branch else f"refs/tags/{tag}"
        stream.write(f"reset {ref}\nfrom :{mark}\n\n".encode())
    repository.mkdir(parents=True)
    _run(
        "git",
        "init",
        "--quiet",
        "--bare",
        "--template=",
        "--initial-branch=main",
        ".",
        cwd=repository,
    )
    # As GitHub does: every commit can be asked for, and only what is missing is sent.
    with (repository / "config").open("a", encoding="utf-8") as config:
        config.write("[uploadpack]\n\tallowAnySHA1InWant = true\n\tallowFilter = true\n")
    marks = repository / "marks"
    _run("git", "fast-import", "--quiet", f"--export-marks={marks}", cwd=repository,
         data=stream.getvalue())  # fmt: skip
    made = dict(line.split() for line in marks.read_text(encoding="ascii").splitlines())
    marks.unlink()
    return {tag: made[f":{mark}"] for mark, tag in enumerate(versions, start=1)}


def _format_gitmodules(version: Version) -> str:
    return "".join(
        f'[submodule "{path}"]\n\tpath = {path}\n\turl = {GITHUB}{name}.git\n'
        for path, (name, _) in version.submodules.items()
    )


def _write_commit(
    stream: io.BytesIO,
    mark: int,
    message: str,
    tree: Tree,
    gitlinks: dict[str, str],
    previous: str,
) -> None:
    head = f"commit refs/heads/main\nmark :{mark}\nauthor {_AUTHOR}\ncommitter {_AUTHOR}\n"
    stream.write(f"{head}data {len(message)}\n{message}\n{previous}deleteall\n".encode())
    changes = [
        f"M {mode} inline {path}\ndata {len(content)}\n".encode() + content
        for path, (mode, content) in sorted(tree.items())
    ]
    changes += [f"M 160000 {commit} {path}".encode() for path, commit in gitlinks.items()]
    stream.write(b"\n".join(changes) + b"\n\n")


# --- archives and libraries ------------------------------------------------------------------


def _write_archive(root: Path, url: str, entries: dict[str, bytes | str]) -> str:
    """Write a tar.gz, where text is the target of a link; return its checksum."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, content in sorted(entries.items()):
            info = tarfile.TarInfo(path)
            info.mtime = _DATE
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                info.mode = 0o755 if ".so" in path else 0o644
                archive.addfile(info, io.BytesIO(content))
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as stream:
        stream.write(buffer.getvalue())
    data = packed.getvalue()
    target = root / "archives" / url.removeprefix("https://")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _read_folder(folder: Path) -> dict[str, bytes | str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _write_boost(root: Path) -> str:
    entries = {f"boost_1_79_0/{p}": data for p, data in _read_folder(HERE / "boost").items()}
    return _write_archive(root, BOOST_URL, entries)


def _write_prometheus(root: Path) -> str:
    files = {f"prometheus-cpp-0.7.0/{p}": data
             for p, data in _read_folder(HERE / "prometheus-cpp").items()}  # fmt: skip
    record = (HERE / "shared" / "standin_record.cmake").read_bytes()
    files["prometheus-cpp-0.7.0/cmake/standin_record.cmake"] = record
    return _write_archive(root, PROMETHEUS_URL, files)


def _compiler(machine: str, name: str) -> str:
    """Return a compiler for a machine: the host's own where there is none for another one."""
    cross = shutil.which(f"{machine}-linux-gnu-{name}")
    if machine == platform.machine() or cross is None:
        return os.environ.get({"g++": "CXX", "gcc": "CC"}[name]) or name
    return cross


def _link(compiler: str, source: Path, library: Path, soname: str, *options: str) -> bytes:
    """Compile one file to a library, the same wherever that is done; return its content."""
    library.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-O1", "-g0", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
    _run(compiler, *flags, f"-ffile-prefix-map={source.parent}=.", "-Wl,--build-id=none",
         f"-Wl,-soname,{soname}", *options, "-o", str(library), source.name,
         cwd=source.parent)  # fmt: skip
    return library.read_bytes()


def _write_onnxruntime(root: Path, machine: str, file: str) -> str:
    """Write an archive with the layout of Microsoft's."""
    folder = HERE / "onnxruntime"
    top = file.removesuffix(".tgz")
    entries: dict[str, bytes | str] = {
        f"{top}/include/{p}": data for p, data in _read_folder(folder / "include").items()
    }
    entries[f"{top}/lib/libonnxruntime.so.{ORT_VERSION}"] = _link(
        _compiler(machine, "g++"), folder / "onnxruntime.cc",
        root / "libraries" / f"libonnxruntime-{machine}.so", f"libonnxruntime.so.{ORT_VERSION}",
        "-std=c++11", "-Iinclude",
    )  # fmt: skip
    entries[f"{top}/lib/libonnxruntime.so"] = f"libonnxruntime.so.{ORT_VERSION}"
    entries[f"{top}/VERSION_NUMBER"] = f"{ORT_VERSION}\n".encode()
    entries[f"{top}/LICENSE"] = (HERE / "shared" / "LICENSE").read_bytes()
    return _write_archive(root, ORT_URL + file, entries)


def _compile_rknn(folder: Path, machine: str, *, with_rknn_api: bool) -> dict[str, Tree]:
    """Return Rockchip's libraries for a machine, at their paths in the repositories."""
    names = ["librknnrt.so", *(["librknn_api.so"] if with_rknn_api else [])]
    compiler = _compiler(machine, "gcc")
    built = {name: ("100755", _link(compiler, _RKNN_SOURCE, folder / name, name)) for name in names}
    rga = _link(compiler, _RGA_SOURCE, folder / "librga.so", "librga.so")
    header = HERE / "rknpu2" / _RKNPU2_API.format(soc="RK3588") / "include" / "rknn_api.h"
    recording = _RECORDING.read_text(encoding="utf-8")
    rknpu2: Tree = {}
    for soc, models, made_for in _RKNPU2_SOCS:
        api = _RKNPU2_API.format(soc=soc)
        rknpu2.update({f"{api}/aarch64/{name}": entry for name, entry in built.items()})
        rknpu2[f"{api}/include/rknn_api.h"] = ("100644", header.read_bytes())
        rknpu2[_RKNPU2_RGA.format(soc=soc)] = ("100755", rga)
        model = make_rknn_model(recording, platform=made_for)
        rknpu2[_RKNPU2_MODEL.format(models=models)] = ("100644", model)
    return {
        "zjd1988/rknn_backend": {f"rknpu2/lib/{name}": entry for name, entry in built.items()},
        "rockchip-linux/rknpu2": rknpu2,
    }


def make_rknn_model(
    recording: str, *, toolkit: str = "1.5.2", form: int = 6, platform: str = "rk3588"
) -> bytes:
    """Return a file with the frame of an RKNN model, and a recorded run in the model's place.

    Args:
        recording: What the demo printed.
        toolkit: The version that the file says it was made with.
        form: Version of the file's format.
        platform: The SoC that the file says it was made for.
    """
    body = b"STANDIN\n" + recording.encode() + b"\0"
    told = json.dumps({"version": f"{toolkit}-stand-in", "target_platform": [platform]}).encode()
    header = struct.pack("<8sQQ", b"RKNN", form, len(body)).ljust(64, b"\0")
    return header + body + struct.pack("<Q", len(told)) + told


def _write_recipe(root: Path) -> None:
    hosts = ["archives.boost.io", "github.com"]
    lines = [
        "schema: 1",
        "name: standins",
        "summary: The stand-ins for upstream of tritonbuild's own tests",
        "git:",
        f"  - from: {GITHUB}",
        f"    to: file://{root}/git/github.com/",
        "archives:",
    ]
    for host in hosts:
        lines += [f"  - from: https://{host}/", f"    to: file://{root}/archives/{host}/"]
    _write(root / "recipes" / "mirrors" / "standins.yaml", "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=Path)
    parser.add_argument("--without-rknn-api", action="store_true",
                        help="rknn_backend has only librknnrt.so")  # fmt: skip
    parser.add_argument("--machine", default=platform.machine(), metavar="ARCH",
                        help="whose ready-made libraries: x86_64 or aarch64 [this machine's]")  # fmt: skip
    args = parser.parse_args()
    made = materialise(args.dir, with_rknn_api=not args.without_rknn_api, machine=args.machine)
    sys.stdout.write(f"{made.recipes_dir}\n")


if __name__ == "__main__":
    main()
