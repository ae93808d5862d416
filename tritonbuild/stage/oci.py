"""A container image of the tree, in one tar: an OCI image layout that `docker load` reads, too.

Docker reads `manifest.json` up to version 24 and `index.json` after it; both point to the same
blobs. https://github.com/opencontainers/image-spec/blob/main/image-layout.md

Nothing is run to make it, so an image for a board is made on any machine.
"""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import json
import stat
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from tritonbuild.stage.members import (
    add_members,
    list_members,
    make_file,
    make_info,
    open_tar,
    write_package,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import IO

    from tritonbuild.paths import Workspace
    from tritonbuild.stage.members import Contents, Member, Package

_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"

# Not root: whoever breaks out of the server is nobody.
_USER = 1000
_PORTS = (8000, 8001, 8002)
_PATH = "/opt/tritonserver/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Level 9 takes twice as long for a hundredth of the size.
_LEVEL = 6

# What a root unpacked without its packages' scripts lacks, and programs ask for.
_ETC = {
    "etc/passwd": f"root:x:0:0:root:/root:/bin/sh\ntriton:x:{_USER}:{_USER}::/tmp:/bin/sh\n",
    "etc/group": f"root:x:0:\ntriton:x:{_USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


@dataclass(frozen=True)
class ImageSpec:
    """What the image says of itself.

    Attributes:
        tag: Such as `tritonserver:2.41.0`.
        arch: Debian's name of the architecture, which is Go's and so OCI's.
        version: Triton's version.
        labels: More labels.
    """

    tag: str
    arch: str
    version: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class _Blob:
    """A file of the image, by its checksum."""

    path: Path
    digest: str
    size: int
    media_type: str

    @property
    def name(self) -> str:
        return f"blobs/sha256/{self.digest}"

    def describe(self) -> dict[str, Any]:
        """Return the OCI descriptor."""
        return {
            "mediaType": self.media_type,
            "digest": f"sha256:{self.digest}",
            "size": self.size,
        }


def make_image(ws: Workspace, *, name: str, date: str, base: Path, spec: ImageSpec) -> Package:
    """Pack a root and the stage over it into `out/<name>.oci.tar`.

    Args:
        ws: The work directory; its stage and manifest are there.
        name: File name without `.oci.tar`.
        date: The release's date; see `tritonbuild.stage.members.write_package`.
        base: Root of the system that the tree was made for; owners and times are not taken over.
        spec: What the image says of itself.

    Raises:
        UsageError: The name or the date is not one.
        AssembleError: There is no stage, or it is not what its manifest says.
        HostError: The package cannot be written.
    """

    def write(path: Path, contents: Contents) -> None:
        # Beside the package: the system's temporary folder may be in memory.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".image-") as folder:
            _write(path, contents, base=base, spec=spec, folder=Path(folder))

    return write_package(ws, name=name, suffix=".oci.tar", date=date, write=write)


def _write(path: Path, contents: Contents, *, base: Path, spec: ImageSpec, folder: Path) -> None:
    layers = []
    diff_ids = []
    for number, members in enumerate((_list_base(base, contents.mtime), list_members(contents))):
        layer, diff_id = _write_layer(folder / f"layer{number}", members)
        layers.append(layer)
        diff_ids.append(f"sha256:{diff_id}")
    config = _write_json(
        folder / "config", _make_config(spec, contents.mtime, diff_ids), _CONFIG_TYPE
    )
    manifest = _write_json(
        folder / "manifest",
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": config.describe(),
            "layers": [layer.describe() for layer in layers],
        },
        _MANIFEST_TYPE,
    )
    blobs = {blob.name: blob for blob in (*layers, config, manifest)}
    files = {
        "index.json": _make_index(spec, manifest),
        "manifest.json": [
            {
                "Config": config.name,
                "RepoTags": [spec.tag],
                "Layers": [layer.name for layer in layers],
            }
        ],
        "oci-layout": {"imageLayoutVersion": "1.0.0"},
    }
    with path.open("wb") as file, open_tar(file) as archive:
        add_members(archive, _list_image(blobs, files, contents.mtime))


def _list_image(
    blobs: Mapping[str, _Blob], files: Mapping[str, object], mtime: int
) -> Iterator[Member]:
    for folder in ("blobs", "blobs/sha256"):
        yield make_info(PurePosixPath(folder), mtime, kind=tarfile.DIRTYPE, mode=0o755), None
    for name, blob in sorted(blobs.items()):
        info = make_info(PurePosixPath(name), mtime, kind=tarfile.REGTYPE, mode=0o644)
        info.size = blob.size
        yield info, blob.path
    for name, content in files.items():
        yield make_file(name, _format(content), mtime)


def _make_config(spec: ImageSpec, mtime: int, diff_ids: list[str]) -> dict[str, Any]:
    """Return the image's configuration: its checksum is the image's id."""
    created = dt.datetime.fromtimestamp(mtime, dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    made_by = ["the system that the server was built for", "/opt/tritonserver"]
    return {
        "created": created,
        "architecture": spec.arch,
        "os": "linux",
        **({"variant": "v8"} if spec.arch == "arm64" else {}),
        "config": {
            "User": f"{_USER}:{_USER}",
            "ExposedPorts": {f"{port}/tcp": {} for port in _PORTS},
            "Env": [f"PATH={_PATH}", "LANG=C.UTF-8", f"TRITON_SERVER_VERSION={spec.version}"],
            "Entrypoint": ["/opt/tritonserver/bin/tritonserver"],
            "Cmd": ["--model-repository=/models"],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.created": created,
                "org.opencontainers.image.title": "tritonserver",
                "org.opencontainers.image.version": spec.version,
                "org.opencontainers.image.source": (
                    "https://github.com/triton-inference-server/server"
                ),
                **spec.labels,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created": created, "created_by": f"tritonbuild: {what}"} for what in made_by],
    }


def _make_index(spec: ImageSpec, manifest: _Blob) -> dict[str, Any]:
    tag = spec.tag.rpartition(":")[2]
    return {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                **manifest.describe(),
                "platform": {"architecture": spec.arch, "os": "linux"},
                "annotations": {
                    "io.containerd.image.name": f"docker.io/library/{spec.tag}",
                    "org.opencontainers.image.ref.name": tag,
                },
            }
        ],
    }


def _list_base(base: Path, mtime: int) -> Iterator[Member]:
    """Yield a root's files, sorted, all of them root's, with one of two modes.

    A root that an ordinary user unpacked has that user's umask in it, and what may set the user id
    has no place in an image like this one.
    """
    seen: dict[tuple[int, int], str] = {}
    for path in _walk(base):
        name = PurePosixPath(path.relative_to(base))
        status = path.lstat()
        if str(name) in _ETC:
            continue
        if stat.S_ISLNK(status.st_mode):
            info = make_info(name, mtime, kind=tarfile.SYMTYPE, mode=0o777)
            info.linkname = str(path.readlink())
            yield info, None
        elif stat.S_ISDIR(status.st_mode):
            mode = 0o1777 if str(name) in ("tmp", "var/tmp") else 0o755
            yield make_info(name, mtime, kind=tarfile.DIRTYPE, mode=mode), None
        elif stat.S_ISREG(status.st_mode):
            mode = 0o755 if status.st_mode & 0o100 else 0o644
            first = seen.setdefault((status.st_dev, status.st_ino), str(name))
            if first != str(name):
                info = make_info(name, mtime, kind=tarfile.LNKTYPE, mode=mode)
                info.linkname = first
                yield info, None
                continue
            info = make_info(name, mtime, kind=tarfile.REGTYPE, mode=mode)
            info.size = status.st_size
            yield info, path
    for file, text in _ETC.items():
        yield make_file(file, text.encode(), mtime)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield all that is in a folder, sorted, folders before what is in them."""
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def _write_layer(path: Path, members: Iterable[Member]) -> tuple[_Blob, str]:
    """Write a layer; return it and the checksum of what is compressed in it."""
    with path.open("wb") as file:
        outer = _Hashed(file)
        # No name and no time in gzip's header.
        with gzip.GzipFile("", "wb", _LEVEL, cast("IO[bytes]", outer), mtime=0) as packed:
            inner = _Hashed(packed)
            with open_tar(cast("IO[bytes]", inner)) as archive:
                add_members(archive, members)
    blob = _Blob(path, outer.digest.hexdigest(), outer.size, _LAYER_TYPE)
    return blob, inner.digest.hexdigest()


def _write_json(path: Path, content: object, media_type: str) -> _Blob:
    data = _format(content)
    path.write_bytes(data)
    return _Blob(path, hashlib.sha256(data).hexdigest(), len(data), media_type)


def _format(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


class _Hashed:
    """A file to write to that knows the checksum of what was written."""

    def __init__(self, file: Any) -> None:  # noqa: ANN401
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, block: bytes) -> int:
        self.digest.update(block)
        self.size += len(block)
        self._file.write(block)
        return len(block)

    def flush(self) -> None:
        self._file.flush()
