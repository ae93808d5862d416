"""Where things are: the shipped data, the user's cache, and every path of one work directory."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tritonbuild
from tritonbuild.errors import HostError, UsageError

# Of what is read at once.
_BLOCK = 1 << 20

# Every environment variable that tritonbuild itself reads, with what it means.
ENVIRONMENT = {
    "TRITONBUILD_CACHE_DIR": "folder for downloads and roots (default: the user's cache folder)",
    "SOURCE_DATE_EPOCH": "time stamp of every file in a package (default: the release's date)",
    "TRITONBUILD_CCACHE_REMOTE": "the value of --ccache-remote, which may hold a password",
    "TRITONBUILD_SSH_CONFIG": "settings file for ssh, instead of the user's own and the machine's",
    "TRITONBUILD_STATE_DIR": "folder that remembers the last build of each working folder",
}


def data_dir(kind: str) -> Path:
    """Return the shipped `recipes`, `patches` or `templates` folder.

    An installed wheel carries them inside the package; a checkout has them beside it.
    """
    package = Path(tritonbuild.__file__).parent
    installed = package / "_data" / kind
    return installed if installed.is_dir() else package.parent / kind


def cache_dir() -> Path:
    """Return the folder for downloads and roots; it can be deleted at any time."""
    override = os.environ.get("TRITONBUILD_CACHE_DIR")
    if override:
        return Path(override).resolve()
    import platformdirs

    return Path(platformdirs.user_cache_dir("tritonbuild"))


def find_ssh_config() -> Path | None:
    """Return the settings file that ssh is to read; None where it is to find its own."""
    override = os.environ.get("TRITONBUILD_SSH_CONFIG")
    return Path(override).resolve() if override else None


def make_short_dir() -> Path:
    """Make a private temporary folder whose path has room for a socket's name, and no blanks.

    A socket's path may have 107 bytes, and ssh writes 17 more while it makes one.
    """
    for base in (os.environ.get("XDG_RUNTIME_DIR"), "/tmp"):
        fits = base and len(base) < 40 and " " not in base
        if base and fits and Path(base).is_dir() and os.access(base, os.W_OK):
            return Path(tempfile.mkdtemp(prefix="tritonbuild-", dir=base))
    return Path(tempfile.mkdtemp(prefix="tritonbuild-"))


def _state_file() -> Path:
    override = os.environ.get("TRITONBUILD_STATE_DIR")
    if override:
        return Path(override).resolve() / "last.json"
    import platformdirs

    return Path(platformdirs.user_state_dir("tritonbuild")) / "last.json"


def make_dir(path: Path) -> Path:
    """Make a folder with its parents and return it.

    Raises:
        HostError: It cannot be made (rights, a file in the way, a full disk).
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        msg = f"cannot make the folder {path}: {err.strerror}"
        hint = "choose another place with --work-dir; for the cache, set TRITONBUILD_CACHE_DIR"
        raise HostError(msg, hint=hint) from err
    return path


def write_text(path: Path, text: str, *, executable: bool = False, private: bool = False) -> None:
    """Write a file so that it appears whole or not at all; a private one is for its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as out:
            out.write(text)
        Path(name).chmod((0o755 if executable else 0o644) & (0o700 if private else 0o777))
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Return a file's checksum in hexadecimal, by one of hashlib's algorithms."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb", buffering=0) as source:
        while block := source.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class Workspace:
    """Every path of one work directory (one board, release and way of building)."""

    root: Path

    @property
    def plan_path(self) -> Path:
        """The plan that was built, with the options that it came from."""
        return self.root / "plan.json"

    @property
    def manifest_path(self) -> Path:
        """Every file of the stage with its sha256, and where it came from."""
        return self.root / "manifest.json"

    @property
    def verify_path(self) -> Path:
        """What the ELF check found."""
        return self.root / "verify.json"

    @property
    def logs_dir(self) -> Path:
        """`NN-<step>.log` with a JSON twin each."""
        return self.root / "logs"

    @property
    def scripts_dir(self) -> Path:
        """`NN-<step>.sh`: what ran, to be run again by hand."""
        return self.root / "scripts"

    @property
    def state_dir(self) -> Path:
        """What is done: a file a step, written when the step is complete."""
        return self.root / "state"

    @property
    def failed_path(self) -> Path:
        """The step that failed last, for `logs` and `shell`."""
        return self.state_dir / "failed.json"

    @property
    def durations_path(self) -> Path:
        """How many seconds each step took the last time, by its id: for estimates."""
        return self.root / "durations.json"

    @property
    def sources_dir(self) -> Path:
        """What came from outside for a source build: git repositories and archives."""
        return self.root / "sources"

    @property
    def entry_path(self) -> Path:
        """Runs a command where the scripts run, if that is a root."""
        return self.root / "enter"

    @property
    def remote_cache_path(self) -> Path:
        """Address of the compiler cache that machines share, for its owner alone; none without."""
        return self.root / "ccache-remote"

    @property
    def source_lock_path(self) -> Path:
        """What the sources were resolved to."""
        return self.root / "tritonbuild.lock"

    @property
    def context_dir(self) -> Path:
        """What BuildKit is given: a Dockerfile, `docker-bake.json`, and all that they name."""
        return self.root / "context"

    @property
    def trees_dir(self) -> Path:
        """What each component of a source build installed."""
        return self.root / "trees"

    @property
    def stage_dir(self) -> Path:
        """The tree being assembled; `tritonserver_dir` is inside it."""
        return self.root / "stage"

    @property
    def tritonserver_dir(self) -> Path:
        """The tree that becomes /opt/tritonserver on the board."""
        return self.stage_dir / "opt" / "tritonserver"

    @property
    def out_dir(self) -> Path:
        """Packages."""
        return self.root / "out"

    @property
    def lock_path(self) -> Path:
        """Held while a verb changes this work directory."""
        return self.root / ".lock"

    def make(self) -> None:
        """Make the folders; mark the whole as a cache that backups may leave out."""
        for folder in (self.root, self.logs_dir, self.scripts_dir, self.state_dir):
            make_dir(folder)
        tag = self.root / "CACHEDIR.TAG"
        if not tag.exists():
            # https://bford.info/cachedir/
            write_text(tag, "Signature: 8a477f597d28d172789f06886806bc55\n# made by tritonbuild\n")


def remember(work_dir: Path) -> None:
    """Note the work directory of the last build made from the current folder."""
    from filelock import FileLock

    path = _state_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock"), timeout=10):
        known = _read_state(path)
        known[str(Path.cwd())] = str(work_dir)
        write_text(path, json.dumps(known, indent=2) + "\n")


def recall() -> Path:
    """Return the work directory of the last build made from the current folder.

    Raises:
        UsageError: There is none.
    """
    found = _read_state(_state_file()).get(str(Path.cwd()))
    if found is None or not Path(found).is_dir():
        msg = "no build was made from this folder yet"
        raise UsageError(msg, hint="run `tritonbuild build` first, or say --work-dir DIR")
    return Path(found)


def _read_state(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
