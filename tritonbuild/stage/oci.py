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
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from tritonbuild.stage.image_base import COMMAND, ENTRYPOINT, PATH, PORTS, USER, list_base
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

# Level 9 takes twice as long for a hundredth of the size.
_LEVEL = 6


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
    for number, members in enumerate((list_base(base, contents.mtime), list_members(contents))):
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
            "User": f"{USER}:{USER}",
            "ExposedPorts": {f"{port}/tcp": {} for port in PORTS},
            "Env": [f"PATH={PATH}", "LANG=C.UTF-8", f"TRITON_SERVER_VERSION={spec.version}"],
            "Entrypoint": list(ENTRYPOINT),
            "Cmd": list(COMMAND),
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
