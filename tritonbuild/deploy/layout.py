"""Where things are on a board: a link, and a folder beside it with the versions it may lead to."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from tritonbuild.errors import AssembleError, UsageError
from tritonbuild.stage.manifest import read_manifest
from tritonbuild.stage.members import require_stage
from tritonbuild.stage.naming import version_of
from tritonbuild.stage.verified import packages_to_install, read_verified

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan

# It stands in a unit file and in scripts: nothing that means something there. The last part names
# the unit, whose name may have no plus (systemd.unit(5)).
_TARGET = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9._+-]*)+/[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Layout:
    """The paths of one installation on a board.

    Attributes:
        link: What is used, such as /opt/tritonserver: a link to the version that runs.
    """

    link: PurePosixPath

    @classmethod
    def parse(cls, text: str) -> Layout:
        """Return the layout around a path.

        Raises:
            UsageError: It is not one that a tree can be put at.
        """
        if not _TARGET.fullmatch(text):
            msg = f"--to {text!r}: an absolute path with at least two plain parts is wanted"
            raise UsageError(msg, hint="as in --to /opt/tritonserver")
        return cls(PurePosixPath(text))

    @property
    def versions_dir(self) -> PurePosixPath:
        """The folder that holds the versions."""
        return self.link.with_name(f"{self.link.name}.versions")

    @property
    def incoming_dir(self) -> PurePosixPath:
        """What is being sent."""
        return self.versions_dir / ".incoming"

    @property
    def lock_path(self) -> PurePosixPath:
        """Held while a deploy runs."""
        return self.versions_dir / ".lock"

    @property
    def holder_path(self) -> PurePosixPath:
        """Says who holds it."""
        return self.versions_dir / ".lock.holder"

    @property
    def service(self) -> str:
        """Name of the systemd service."""
        return self.link.name

    @property
    def unit(self) -> str:
        """Name of its unit."""
        return f"{self.service}.service"


@dataclass(frozen=True)
class Contents:
    """What a tree holds, by its manifest.

    Attributes:
        entries: The manifest's list of files and links.
    """

    entries: Sequence[Mapping[str, Any]]

    @classmethod
    def parse(cls, text: str) -> Contents:
        """Return what a manifest's text says.

        Raises:
            ValueError: It is none.
        """
        try:
            contents = cls(json.loads(text)["files"])
            contents.format()
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            msg = f"no manifest: {err}"
            raise ValueError(msg) from err
        return contents

    @property
    def files(self) -> int:
        """Number of files, without the manifest."""
        return sum("link" not in entry for entry in self.entries)

    @property
    def links(self) -> int:
        """Number of links."""
        return sum("link" in entry for entry in self.entries)

    def format(self) -> str:
        """Return what the board's script reads to compare a tree with it.

        Links, two lines for each, then programs, an empty line after both, then checksums.
        """
        links = [
            f"./{entry['path']}\n{entry['link']}\n" for entry in self.entries if "link" in entry
        ]
        programs = [f"./{entry['path']}\n" for entry in self.entries if entry.get("mode") == "0755"]
        # Names with a line's end in them are counted only.
        links = [lines for lines in links if lines.count("\n") == 2]
        programs = [line for line in programs if line.count("\n") == 1]
        return "".join([*links, "\n", *programs, "\n", self.list_checksums()])

    def list_checksums(self) -> str:
        """Return a line for each file, for `sha256sum -c`."""
        return "".join(
            _format_checksum(entry["sha256"], entry["path"])
            for entry in self.entries
            if "link" not in entry
        )


@dataclass(frozen=True)
class Build:
    """What is deployed.

    Attributes:
        tree: The tree, which is what its manifest says.
        plan: What it was made by.
        manifest: Its manifest.
        text: The manifest's own bytes.
        verified: What the ELF check found.
    """

    tree: Path
    plan: Plan
    manifest: Mapping[str, Any]
    text: str
    verified: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The version's name on a board: Triton's version, and the beginning of a checksum."""
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        return f"{version_of(self.plan)}-{digest[:12]}"

    @property
    def glibc(self) -> str | None:
        """The C library's version that the tree needs; None where it needs none in particular."""
        found = self.verified.get("highest", {}).get("GLIBC", {}).get("version", "")
        number = str(found).rpartition("_")[2]
        return number if re.fullmatch(r"\d+(\.\d+)+", number) else None

    @property
    def packages(self) -> tuple[str, ...]:
        """Debian packages that the board needs, besides what every image of its system has."""
        return packages_to_install(self.verified)

    @property
    def contents(self) -> Contents:
        """What its manifest says that it holds."""
        return Contents(self.manifest["files"])

    def measure(self, there: Collection[str] = ()) -> int:
        """Return the bytes of the files whose checksums are not among those that are there."""
        return sum(
            entry.get("size", 0)
            for entry in self.manifest["files"]
            if entry.get("sha256") not in there
        )


def _format_checksum(digest: str, path: str) -> str:
    """Return a line as coreutils has it, which writes a leading backslash where it escapes."""
    if "\n" in path or "\\" in path:
        escaped = path.replace("\\", "\\\\").replace("\n", "\\n")
        return f"\\{digest}  ./{escaped}\n"
    return f"{digest}  ./{path}\n"


def read_build(ws: Workspace, plan: Plan) -> Build:
    """Return what a work directory has to deploy, after comparing it with its manifest.

    Raises:
        AssembleError: There is no finished tree, or it was changed.
    """
    text = require_stage(ws)
    manifest = read_manifest(ws.manifest_path)
    if not manifest["files"]:
        msg = f"{ws.root}: the tree is empty"
        raise AssembleError(msg, hint="run `tritonbuild build` again")
    return Build(ws.tritonserver_dir, plan, manifest, text, read_verified(ws))
