"""FetchContent_Declare and ExternalProject_Add: what their arguments say of where things come from."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild.plan.scope import is_true as is_on

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Made-up path of a component's build folder: a place below it is known before there is one.
BUILD = "/build"

# Keywords of ExternalProject_Add and FetchContent_Declare: each ends the values of the one before.
_KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        """
    PREFIX TMP_DIR STAMP_DIR LOG_DIR DOWNLOAD_DIR SOURCE_DIR BINARY_DIR INSTALL_DIR DOWNLOAD_COMMAND
    URL URL_HASH URL_MD5 DOWNLOAD_NAME DOWNLOAD_EXTRACT_TIMESTAMP DOWNLOAD_NO_EXTRACT
    DOWNLOAD_NO_PROGRESS TIMEOUT INACTIVITY_TIMEOUT HTTP_USERNAME HTTP_PASSWORD HTTP_HEADER
    TLS_VERSION TLS_VERIFY TLS_CAINFO NETRC NETRC_FILE GIT_REPOSITORY GIT_TAG GIT_REMOTE_NAME
    GIT_SUBMODULES GIT_SUBMODULES_RECURSE GIT_SHALLOW GIT_PROGRESS GIT_CONFIG
    GIT_REMOTE_UPDATE_STRATEGY SVN_REPOSITORY SVN_REVISION HG_REPOSITORY HG_TAG CVS_REPOSITORY
    CVS_MODULE CVS_TAG UPDATE_COMMAND UPDATE_DISCONNECTED PATCH_COMMAND CONFIGURE_COMMAND
    CMAKE_COMMAND CMAKE_GENERATOR CMAKE_GENERATOR_PLATFORM CMAKE_GENERATOR_TOOLSET
    CMAKE_GENERATOR_INSTANCE CMAKE_ARGS CMAKE_CACHE_ARGS CMAKE_CACHE_DEFAULT_ARGS SOURCE_SUBDIR
    CONFIGURE_HANDLED_BY_BUILD BUILD_COMMAND BUILD_IN_SOURCE BUILD_ALWAYS BUILD_BYPRODUCTS
    BUILD_JOB_SERVER_AWARE INSTALL_COMMAND INSTALL_BYPRODUCTS TEST_COMMAND TEST_BEFORE_INSTALL
    TEST_AFTER_INSTALL TEST_EXCLUDE_FROM_MAIN LOG_DOWNLOAD LOG_UPDATE LOG_PATCH LOG_CONFIGURE
    LOG_BUILD LOG_INSTALL LOG_TEST LOG_MERGED_STDOUTERR LOG_OUTPUT_ON_FAILURE USES_TERMINAL_DOWNLOAD
    USES_TERMINAL_UPDATE USES_TERMINAL_PATCH USES_TERMINAL_CONFIGURE USES_TERMINAL_BUILD
    USES_TERMINAL_INSTALL USES_TERMINAL_TEST DEPENDS EXCLUDE_FROM_ALL STEP_TARGETS
    INDEPENDENT_STEP_TARGETS LIST_SEPARATOR COMMAND FIND_PACKAGE_ARGS OVERRIDE_FIND_PACKAGE SYSTEM
    QUIET
""",
    )
)

# What ExternalProject unpacks, by the end of the name; others need DOWNLOAD_NAME.
_ARCHIVE_NAME = re.compile(r"\.(7z|tar|tgz|tbz2|txz|zip|tar\.(bz2|gz|xz|zst))$", re.IGNORECASE)


@dataclass(frozen=True)
class External:
    """One FetchContent_Declare or ExternalProject_Add.

    Attributes:
        name: As it is declared.
        content: It becomes part of the project itself (FetchContent).
        repository: Address of its git repository; None where it has none, or it cannot be told.
        tag: Tag, branch or commit.
        submodules: Paths of the submodules that are fetched; None for all.
        urls: Addresses of its archive, in the order in which they are tried.
        digest: Checksum of the archive as URL_HASH has it: kind and value.
        seed: Where CMake looks for the archive before it downloads it, below the build folder.
        root_dir: Where its sources will be, below the build folder of the component.
        source_dir: Where its CMakeLists.txt will be: there, or below.
        binary_dir: Where its build folder will be.
        variables: CMake variables that it is given.
        certain: CMake will fetch it, as far as that can be told without running it.
        origin: Where it is declared, for messages.
        problem: Why it cannot be fetched beforehand.
    """

    name: str
    content: bool
    repository: str | None
    tag: str | None
    submodules: tuple[str, ...] | None
    urls: tuple[str, ...]
    digest: tuple[str, str] | None
    seed: str | None
    root_dir: str | None
    source_dir: str | None
    binary_dir: str | None
    variables: Mapping[str, str | None]
    certain: bool
    origin: str
    problem: str | None = None


@dataclass(frozen=True)
class Defaults:
    """Where CMake puts things that a declaration does not place."""

    prefix: str
    source_dir: str | None = None
    binary_dir: str | None = None


def make_external(
    name: str,
    words: Sequence[str | None],
    defaults: Defaults,
    *,
    folder: str,
    certain: bool,
    origin: str,
) -> External:
    """Return what a declaration says.

    Args:
        name: Its name.
        words: The arguments after the name; None for those that only CMake can tell.
        defaults: Places that it does not name; what has a source folder there is FetchContent's.
        folder: The build folder that relative places start from.
        certain: CMake surely comes by.
        origin: Where it stands.
    """
    options = _split_options(words)

    def place(key: str, default: str) -> str | None:
        value: str | None = default
        if key in options:
            value = _single(options, key)
        return None if value is None else posixpath.normpath(posixpath.join(folder, value))

    prefix = place("PREFIX", defaults.prefix)
    source = place("SOURCE_DIR", defaults.source_dir or f"{prefix}/src/{name}")
    binary = place("BINARY_DIR", defaults.binary_dir or f"{prefix}/src/{name}-build")
    urls = tuple(url for url in options.get("URL", []) if url and "://" in url)
    repository = _single(options, "GIT_REPOSITORY")
    subdir = _single(options, "SOURCE_SUBDIR")
    root = source
    if subdir and root:
        source = posixpath.normpath(posixpath.join(root, subdir))
    return External(
        name=name,
        content=defaults.source_dir is not None,
        repository=repository,
        # Without a tag, both take the branch `master`.
        tag=(_single(options, "GIT_TAG") if "GIT_TAG" in options else "master")
        if repository else None,
        submodules=_submodules(options),
        urls=urls,
        digest=_digest(options),
        seed=_seed(place("DOWNLOAD_DIR", f"{prefix}/src"), options, urls),
        root_dir=root,
        source_dir=source,
        binary_dir=binary,
        variables=_given(options),
        certain=certain and "FIND_PACKAGE_ARGS" not in options,
        origin=origin,
        problem=_find_problem(options, urls),
    )  # fmt: skip


def _find_problem(options: Mapping[str, list[str | None]], urls: Sequence[str]) -> str | None:
    repository, tag = _single(options, "GIT_REPOSITORY"), _single(options, "GIT_TAG")
    if "GIT_REPOSITORY" in options and (repository is None or ("GIT_TAG" in options and not tag)):
        return "its address or tag cannot be told before CMake runs"
    if "URL" in options and not urls and None in options["URL"]:
        return "its address cannot be told before CMake runs"
    return None


def _split_options(words: Sequence[str | None]) -> dict[str, list[str | None]]:
    options: dict[str, list[str | None]] = {}
    current: list[str | None] = []
    for word in words:
        if word in _KEYWORDS and word is not None:
            current = options.setdefault(word, [])
        else:
            current.append(word)
    return options


def _single(options: Mapping[str, list[str | None]], key: str) -> str | None:
    values = options.get(key) or [None]
    return values[0]


def _submodules(options: Mapping[str, list[str | None]]) -> tuple[str, ...] | None:
    """Return the submodules that are wanted; an empty value means none since CMake 3.16."""
    if "GIT_SUBMODULES" not in options or None in options["GIT_SUBMODULES"]:
        return None
    return tuple(path for path in options["GIT_SUBMODULES"] if path)


def _digest(options: Mapping[str, list[str | None]]) -> tuple[str, str] | None:
    value = _single(options, "URL_HASH")
    if value and "=" in value:
        kind, _, digest = value.partition("=")
        return kind.strip().upper(), digest.strip().lower()
    md5 = _single(options, "URL_MD5")
    return ("MD5", md5.strip().lower()) if md5 else None


def _seed(
    download: str | None, options: Mapping[str, list[str | None]], urls: Sequence[str]
) -> str | None:
    """Return where ExternalProject keeps what it downloads, below the build folder."""
    if download is None or not urls or not download.startswith(f"{BUILD}/"):
        return None
    name = _single(options, "DOWNLOAD_NAME")
    if name is None:
        name = re.sub(r"[?#].*", "", urls[0]).rpartition("/")[2]
        if not _ARCHIVE_NAME.search(name):
            return None
    place = posixpath.normpath(posixpath.join(download, name))
    inside = place.removeprefix(f"{BUILD}/")
    return inside if place.startswith(f"{BUILD}/") and not inside.startswith("-") else None


def _given(options: Mapping[str, list[str | None]]) -> dict[str, str | None]:
    """Return the variables that an ExternalProject hands on."""
    found: dict[str, str | None] = {}
    for key in ("CMAKE_CACHE_DEFAULT_ARGS", "CMAKE_ARGS", "CMAKE_CACHE_ARGS"):
        for word in options.get(key, []):
            match = re.fullmatch(r"-D\s*([^:=\s]+)(?::[A-Z]+)?=(.*)", word or "", re.DOTALL)
            if match:
                found[match[1]] = match[2]
    return found


def is_switched_off(
    external: External, externals: Mapping[str, str], variables: Mapping[str, str]
) -> bool:
    """Return whether a recipe says that something is fetched only with a switch that is off."""
    switches = {name.lower(): variable for name, variable in externals.items()}
    variable = switches.get(external.name.lower())
    return variable is not None and not is_on(variables.get(variable, ""))
