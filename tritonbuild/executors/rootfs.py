"""The board's operating system as a folder: made by mmdebstrap in seconds, cached, never changed.

`--variant=extract` unpacks packages without running their maintainer scripts, so nothing is
emulated while a root is made, and an ordinary user can make one (mmdebstrap's unshare mode). The
files end up owned by whoever runs tritonbuild, so that a cache can be deleted like any folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tritonbuild import proc
from tritonbuild.arch import Arch
from tritonbuild.console import terminal
from tritonbuild.errors import HostError, SourceError, UnreachableError, UsageError
from tritonbuild.paths import data_dir, make_dir, write_text
from tritonbuild.plan.layout import HOST_PROGRAMS
from tritonbuild.plan.root import BUILD_MACHINE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from filelock import BaseFileLock

    from tritonbuild.plan.model import Step

# Counts up when a root of the same packages would come out differently.
_ROOT_VERSION = 4

# Folders that a sandbox mounts something on; a read-only root cannot get them later.
_MOUNT_POINTS = (
    "opt/tritonserver", "opt/native", "models", "proc", "sys", "dev", "tmp", "run", "root",
    "sysroot", "var/cache/ccache",
)  # fmt: skip

# /bin and the like are links, as on every system that is installed today.
_MERGE_USR = (
    'for name in bin sbin lib lib64; do mkdir -p "$1/usr/$name"; ln -s "usr/$name" "$1/$name"; done'
)

_HOST = Arch.AMD64

# What base-passwd's maintainer script copies: programs ask for names of users.
_USERS = ("passwd", "group")

# Documentation is a third of a root's files and nothing that runs reads it.
_LEFT_OUT = ("./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./dev", "./var/cache")

_LISTING = ".tritonbuild-packages"

# Runs inside mmdebstrap once packages are unpacked; $1 is the root. It holds no value of ours.
_LIST_PACKAGES = (
    'for deb in "$1"/var/cache/apt/archives/*.deb; do '
    "printf '= %s\\n' \"$(dpkg-deb -W --showformat='${Package} ${Version}' \"$deb\")\"; "
    'dpkg-deb --fsys-tarfile "$deb" | tar -t; '
    f'done > "$1/{_LISTING}"'
)


@dataclass(frozen=True)
class RootSpec:
    """What a root is made of; two equal specs share one cached root.

    Attributes:
        distribution: `debian` or `ubuntu`.
        suite: The archive's suite.
        arch: Debian's architecture name.
        packages: Packages besides the Essential ones.
        bundled: Packages that are unpacked beside the root, and their libraries.
        mirror: Archive address; None for the one that mmdebstrap knows for the suite.
        alternatives: Links that maintainer scripts would set up, and what each leads to; those
            that would lead nowhere are left out.
        essential: Whether the Essential packages are in it.
        links: More links, wherever they lead: something may be mounted there.
        image: Container image that it is taken from; None unpacks packages.
    """

    distribution: str
    suite: str
    arch: str
    packages: tuple[str, ...]
    bundled: Mapping[str, tuple[str, ...]]
    mirror: str | None
    alternatives: Mapping[str, str] = field(default_factory=dict)
    essential: bool = True
    links: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None

    def with_packages(self, packages: Collection[str]) -> RootSpec:
        """Return a root with more packages, and nothing taken out of it; itself if it has them."""
        if not set(packages) - set(self.packages):
            return self
        every = tuple(sorted({*self.packages, *packages}))
        return replace(self, packages=every, bundled={})

    @property
    def key(self) -> str:
        """The folder's name in the cache."""
        content = json.dumps([_ROOT_VERSION, asdict(self)], sort_keys=True, default=list)
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        return f"{self.suite}-{self.arch}-{digest}"


def root_spec_of(step: Step) -> RootSpec:
    """Return what a plan's root step asks for."""
    details: dict[str, Any] = step.details
    return RootSpec(
        distribution=details["distribution"],
        suite=details["suite"],
        arch=_find_arch(details["arch"]),
        packages=tuple(details["packages"]),
        bundled={name: tuple(libs) for name, libs in details["bundled"].items()},
        mirror=details["mirror"],
        alternatives=dict(details["alternatives"]),
        links=dict(details.get("links", {})),
        image=details.get("image"),
    )


def _find_arch(name: str) -> str:
    native = Arch.native()
    return native.value if name == BUILD_MACHINE and native else name


@dataclass(frozen=True)
class Root:
    """A root in the cache."""

    folder: Path

    @property
    def tree(self) -> Path:
        """The root folder itself."""
        return self.folder / "root"

    @property
    def packages_path(self) -> Path:
        """Version and files of every package in the root."""
        return self.folder / "packages.json"

    def find_bundled(self, package: str, library: str) -> Path:
        """Return where a bundled library lies."""
        return self.folder / "bundled" / package / library

    def read_versions(self) -> dict[str, str]:
        """Return the version of every package in the root."""
        packages = json.loads(self.packages_path.read_text(encoding="utf-8"))["packages"]
        return {name: package["version"] for name, package in packages.items()}


def find_root(spec: RootSpec, cache: Path) -> Root | None:
    """Return the cached root, None where it has not been made."""
    root = Root(cache / "roots" / spec.key)
    return root if root.packages_path.is_file() and root.tree.is_dir() else None


def make_root(spec: RootSpec, cache: Path, log: Path, builder: str | None = None) -> Root:
    """Return a root, made if the cache has none.

    Args:
        spec: What it is made of.
        cache: The user's cache.
        log: For what is run.
        builder: BuildKit's builder for one of an image; None takes Docker's usual one.

    Raises:
        HostError: mmdebstrap is missing or cannot work here.
        UnreachableError: The distribution's archive cannot be used from here.
        SourceError: The archive lacks something that the recipe names.
    """
    found = find_root(spec, cache)
    if found:
        return found

    def make(folder: Path) -> None:
        archive = folder / "root.tar"
        if spec.image:
            _export_image(spec, archive, log, builder)
        else:
            _run_mmdebstrap(spec, archive, log)
        _unpack(spec, archive, log)
        _index(spec, folder)

    make_cached(
        cache / "roots" / spec.key, make, is_there=lambda: find_root(spec, cache) is not None
    )
    return Root(cache / "roots" / spec.key)


def make_cached(
    target: Path, make: Callable[[Path], None], *, is_there: Callable[[], bool]
) -> None:
    """Make a folder of the cache whole or not at all, and once, whoever else is at it.

    Args:
        target: The folder.
        make: Fills an empty folder beside it.
        is_there: Whether somebody made it meanwhile.
    """
    from filelock import FileLock

    around = make_dir(target.parent)
    with _wait_for(FileLock(around / f".{target.name}.lock")):
        if is_there():
            return
        # The lock is ours, so whatever bears this key's name was left by a run that was killed.
        for leftover in around.glob(f".new-{target.name}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=around, prefix=f".new-{target.name}-") as name:
            folder = Path(name) / "made"
            folder.mkdir()
            make(folder)
            if target.exists():  # half of it, because somebody deleted parts
                target.replace(Path(name) / "broken")
            folder.replace(target)


@contextmanager
def _wait_for(lock: BaseFileLock) -> Iterator[None]:
    """Hold a lock; say once that another build has it, and go on listening to Ctrl-C."""
    from filelock import Timeout

    said = False
    while not lock.is_locked:
        proc.check_stopping()
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            if not said:
                terminal.info("waiting for another tritonbuild, which is making the same root")
            said = True
    try:
        yield
    finally:
        lock.release()


def mmdebstrap_argv(spec: RootSpec, mmdebstrap: Path, target: Path) -> list[str]:
    """Return the command that writes a root as a tar file."""
    packages = [*spec.packages, *spec.bundled]
    return [
        str(mmdebstrap), f"--arch={spec.arch}", "--variant=extract", "--format=tar",
        *(["--include=?essential"] if spec.essential else []), f"--include={','.join(packages)}",
        f"--setup-hook={_MERGE_USR}", f"--extract-hook={_LIST_PACKAGES}",
        "--", spec.suite, str(target), *([spec.mirror] if spec.mirror else []),
    ]  # fmt: skip


def _run_mmdebstrap(spec: RootSpec, archive: Path, log: Path) -> None:
    mmdebstrap = proc.require_tool(
        "mmdebstrap",
        reason=f"to unpack a root of {spec.suite} for {spec.arch}",
        hint="run `tritonbuild doctor --fix`",
    )
    # mmdebstrap's own temporary folder goes with ours, even after SIGKILL. In unshare mode it
    # works under another user id that could not enter a folder which is the user's alone.
    is_root = os.geteuid() == 0
    # As root it also mounts proc, sys and dev: in namespaces of its own nothing stays behind.
    argv = [*(proc.contain() if is_root else []), *mmdebstrap_argv(spec, mmdebstrap, archive)]
    folder = str(archive.parent) if is_root else None
    result = proc.run(argv, log=log, check=False, env={"TMPDIR": folder})
    if result.returncode != 0:
        raise _explain_failure(spec, result.output, log)


def _export_image(spec: RootSpec, archive: Path, log: Path, builder_name: str | None) -> None:
    """Write an image's files, with the packages installed that it lacked, as a tar."""
    from tritonbuild.executors.buildx import find_builder
    from tritonbuild.render.containers import SYSTEM_SCRIPTS, render_system

    arch = Arch(spec.arch)
    builder = find_builder(builder_name, arch)
    packages = [*spec.packages, *spec.bundled]
    with tempfile.TemporaryDirectory(dir=archive.parent) as name:
        context = Path(name)
        assert spec.image
        text = render_system(
            spec.image, arch,
            distribution=spec.distribution, suite=spec.suite, mirror=spec.mirror,
            listing=f"/{_LISTING}", packages=packages,
        )  # fmt: skip
        write_text(context / "Dockerfile", text)
        for script in SYSTEM_SCRIPTS:
            shutil.copyfile(data_dir("templates") / "containers" / script, context / script)
        output = f"--output=type=tar,dest={archive}"
        argv = builder.build(arch, context, f"--network={builder.network}", output)
        result = proc.run(argv, log=log, check=False)
    if result.returncode != 0:
        raise _explain_failure(spec, result.output, log)


def _unpack(spec: RootSpec, archive: Path, log: Path) -> None:
    tree = archive.parent / "root"
    tree.mkdir()
    excluded = [f"--exclude={name}" for name in _LEFT_OUT]
    if spec.image:  # names begin without a dot there
        excluded = [f"--exclude={name.removeprefix('./')}" for name in _LEFT_OUT]
    proc.run(
        [
            "tar",
            "-x",
            "-f",
            str(archive),
            "-C",
            str(tree),
            "--no-same-owner",
            "--anchored",
            *excluded,
        ],
        log=log.with_name(log.stem + "-tar.log"),
    )
    archive.unlink()
    for name in _MOUNT_POINTS:
        (tree / name).mkdir(parents=True, exist_ok=True)
    _configure(spec, tree)


def _configure(spec: RootSpec, tree: Path) -> None:
    """Do what programs need of what maintainer scripts would do, and what host programs need."""
    for name in _USERS:
        master = tree / "usr/share/base-passwd" / f"{name}.master"
        if master.is_file() and not (tree / "etc" / name).exists():
            shutil.copyfile(master, tree / "etc" / name)
    for link, target in spec.alternatives.items():
        # Not followed: an absolute target is one inside the root.
        if os.path.lexists(tree / target):
            _link(tree / link, PurePosixPath("/") / target)
    _make_links_relative(tree)
    for link, target in spec.links.items():
        _link(tree / link, PurePosixPath(target))
    if spec.arch != _HOST.value:
        for name in (f"usr/lib64/{_HOST.to_loader()}", f"usr/lib/{_HOST.to_multiarch()}"):
            _link(tree / name, HOST_PROGRAMS / name)


def _make_links_relative(tree: Path) -> None:
    """Let links lead to the same files wherever the root is mounted, as a sysroot is.

    zlib1g-dev's libz.so, for one, leads to /lib/<triplet>/libz.so.1.
    """
    for folder, names, files in os.walk(tree):
        here = PurePosixPath("/") / Path(folder).relative_to(tree)
        for name in (*names, *files):
            path = Path(folder) / name
            if path.is_symlink() and (target := path.readlink()).is_absolute():
                path.unlink()
                path.symlink_to(os.path.relpath(target, here))


def _link(path: Path, target: PurePosixPath) -> None:
    if not os.path.lexists(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


_UNREACHABLE = re.compile(
    r"Could not resolve|Temporary failure resolving|Could not connect|Connection failed|"
    r"Network is unreachable|Failed to fetch|NO_PUBKEY|not signed|dial tcp|TLS handshake timeout",
    re.IGNORECASE,
)


_NO_BASH = re.compile(r"""exec: "bash": executable file not found|bash: no such file""")
_NO_IMAGE = re.compile(
    r"manifest unknown|not found|access denied|authorization failed|no match for platform",
    re.IGNORECASE,
)

_LACKING = re.compile("Unable to locate package|has no installation candidate", re.IGNORECASE)


def _explain_failure(spec: RootSpec, output: str, log: Path) -> Exception:
    lines = [line for line in output.splitlines() if not line.startswith("I: ")]
    tail = "\n".join(f"  | {line}" for line in lines[-6:])
    if "No space left on device" in output:
        msg = f"no room on disk for a root of {spec.suite}"
        hint = "free some space, or set TRITONBUILD_CACHE_DIR elsewhere"
        hint += "; `docker buildx prune` frees the engine's" if spec.image else ""
        return HostError(msg, hint=hint)
    if _UNREACHABLE.search(output):
        msg = f"the archive of {spec.distribution} {spec.suite} for {spec.arch} cannot be used"
        if spec.image:
            msg = f"the image {spec.image}, or the archive of its packages, cannot be used"
        return UnreachableError(
            f"{msg}:\n{tail}\n  log: {log}",
            hint=f"check the network, choose a --mirror, or install {spec.distribution}'s keyring",
        )
    if spec.image and _NO_BASH.search(output):
        output += "\ntritonbuild: the image has no bash: it is none of Debian or Ubuntu"
    if found := re.search(r"tritonbuild: (the image .*)", output):
        return UsageError(
            f"--base-image {spec.image}: {found[1]}",
            hint=f"name an image of {spec.distribution} {spec.suite} for linux/{spec.arch}",
        )
    maker = f"the image {spec.image}" if spec.image else "mmdebstrap"
    msg = f"{maker} could not be made a root of {spec.suite}:\n{tail}\n  log: {log}"
    if spec.image and _NO_IMAGE.search(output):
        return SourceError(msg, hint="is the name right, and `docker login` done?")
    if _LACKING.search(output):
        return SourceError(msg, hint="mend the packages that the recipes name")
    return HostError(msg, hint="`tritonbuild doctor` says what this machine lacks")


def _index(spec: RootSpec, folder: Path) -> None:
    """Write packages.json, and take the bundled packages out of the root.

    The root then holds what an image of the board holds, so that smoke tests show whether the
    tree really brings the rest.
    """
    tree = folder / "root"
    listing = tree / _LISTING
    packages = _read_listing(listing.read_text(encoding="utf-8"))
    listing.unlink()
    for name, libraries in spec.bundled.items():
        if name not in packages:
            msg = f"{spec.suite} has no package {name}"
            raise SourceError(msg, hint="mend bundled_packages in the os recipe")
        files = packages.pop(name)["files"]
        assert isinstance(files, list)
        for library in libraries:
            path = next((tree / file for file in files if Path(file).name == library), None)
            if path is None or path.is_symlink() or not path.is_file():
                msg = f"package {name} of {spec.suite} has no {library}"
                raise SourceError(msg, hint="mend bundled_packages in the os recipe")
            target = folder / "bundled" / name / library
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        for file in files:
            path = tree / file
            if path.is_symlink() or path.is_file():
                path.unlink()
    write_text(folder / "packages.json", json.dumps({"packages": packages}, sort_keys=True))


def _read_listing(text: str) -> dict[str, dict[str, object]]:
    packages: dict[str, dict[str, object]] = {}
    files: list[str] = []
    for line in text.splitlines():
        if line.startswith("= ") and line != "= ":
            name, version = line[2:].split(" ", 1)
            files = []
            packages[name] = {"version": version, "files": files}
        elif not line.endswith("/"):
            files.append(line.removeprefix("./"))
    return packages
